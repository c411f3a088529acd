"""A user's own data: what is accepted, and one line for each thing that is wrong, before anything trains."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from benchmarks.manifest import identity, write_manifest
from benchmarks.own import OwnData, OwnSplit, image_suffix
from benchmarks.own_check import check_own
from benchmarks.own_splits import Needs
from tests import trees
from tests.conftest import read
from tests.trees import DETECTION, HEIGHT, INSTANCE, SEGMENTATION, WIDTH, edit, image, label_map, refused


@pytest.fixture
def boxes(tmp_path):
    """A detection set."""
    return trees.own_coco(tmp_path)


@pytest.fixture
def maps(tmp_path):
    """A segmentation set."""
    return trees.own_label_maps(tmp_path)


def annotation(coco, index=0, **values):
    """Change an annotation of a COCO file."""
    coco["annotations"][index].update(values)


@pytest.mark.parametrize("task", ["detection", "instance"])
def test_a_detection_set_is_accepted(boxes, task):
    """With and without outlines; three annotation files are hashed."""
    found = check_own(boxes, Needs((task,)))

    assert (found.name, found.num_images) == ("own", {"train": 3, "tune": 3, "test": 3})
    assert sorted(found.annotations) == ["test.json", "train.json", "tune.json"]


def test_a_segmentation_set_is_accepted(maps):
    """Images and label maps in folders, 255 ignored."""
    found = check_own(maps, SEGMENTATION)

    assert found.num_images == {"train": 3, "tune": 3, "test": 3}
    assert sorted(found.annotations) == ["test_labels/*.png", "train_labels/*.png", "tune_labels/*.png"]
    assert image_suffix(maps.folder / "train") == ".jpg"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["images"][1].update(id=10), "image id 10 "),
        (lambda c: c["images"][1].update(file_name="0.jpg"), "image 0.jpg "),
        (lambda c: annotation(c, 1, id=100), "annotation id 100 "),
        (lambda c: annotation(c, 0, image_id=7), "annotation 100 is of an image"),
        (lambda c: annotation(c, 2, category_id=3), "annotation 102 is of a category"),
        (lambda c: annotation(c, 0, bbox=[0, 0, 0, 4]), "annotation 100 of image 0.jpg, box [0.0, 0.0, 0.0, 4.0], "),
        (lambda c: annotation(c, 0, bbox=[0, 0, 14, 8]), "annotation 100 of image 0.jpg, box [0.0, 0.0, 14.0, 8.0], "),
        (lambda c: annotation(c, 0, bbox=[-2, 0, 4, 4]), "annotation 100 of image 0.jpg, box [-2.0, 0.0, 4.0, 4.0], "),
        (
            lambda c: c["categories"][0].update(name="dog") or c["categories"][1].update(name="cat"),
            "order dog, cat",
        ),
        (lambda c: c["categories"].pop(), "own.classes but without dog"),
        (lambda c: c["categories"].append({"id": 3, "name": "cow"}), "own.classes but with cow "),
        (lambda c: c["categories"].append({"id": 3, "name": "dog"}), "own.classes but with one of them twice"),
        (lambda c: c["categories"][1].update(id=1), "category id 1 "),
        (lambda c: c["images"][2].update(file_name="lost.jpg"), "lost.jpg is not in"),
        (lambda c: c["images"][0].update(width=8, height=12), "image 0.jpg of 12x8 pixels, listed as 8x12"),
        (lambda c: c.update(annotations=[]), "no annotations"),
        (lambda c: c.update(images=[], annotations=[]), "no images"),
        (lambda c: annotation(c, 0, bbox=[0, 0, 4]), "annotation 100 has [0, 0, 4] as bbox: give [left, top, width, height]"),
        (lambda c: annotation(c, 0, bbox=[0, 0, 4, float("nan")]), "annotation 100 has [0, 0, 4, NaN] as bbox: "),
        (lambda c: annotation(c, 0, id=[1]), "annotations.0 has [1] as id: "),
        (
            lambda c: [image.pop("width") for image in c["images"]],
            "image 0.jpg (and 2 more) has no width: give its width in pixels",
        ),
        (lambda c: c.pop("categories"), "has no list 'categories'"),
    ],
)
def test_faults_of_annotations(boxes, change, told):
    """File, first culprit and remedy."""
    path = boxes.folder / "train.json"
    edit(path, change)
    line = refused(check_own, boxes, DETECTION)

    assert line.startswith(str(path))
    assert told in line


def test_boxes_rounded_to_whole_pixels_are_accepted(boxes):
    """Up to one pixel beyond the edge is rounding."""
    edit(boxes.folder / "train.json", lambda c: annotation(c, 0, bbox=[-1, -1, 14, 10]))

    assert check_own(boxes, DETECTION).num_images["train"] == 3


def test_all_faults_in_one_line_with_their_number(boxes):
    """Two files, two kinds: the first of each kind and how many more."""
    edit(boxes.folder / "train.json", lambda c: [annotation(c, index, bbox=[1, 1, 0, 1]) for index in (1, 3, 5)])
    edit(boxes.folder / "test.json", lambda c: c["images"][1].update(id=10))
    line = refused(check_own, boxes, DETECTION)

    assert "train.json: annotation 101 of image 0.jpg, box [1.0, 1.0, 0.0, 1.0], (and 2 more)" in line
    assert "test.json: image id 10 " in line


@pytest.mark.parametrize("outline", [None, [], [[0, 0, 4, 4]], {"size": [8, 12], "counts": ""}])
def test_instance_masks_need_outlines(boxes, outline):
    """A polygon has three corners at least, an RLE has counts; detection does not care."""

    def change(coco):
        annotation(coco, 3, segmentation=outline)
        if outline is None:
            del coco["annotations"][3]["segmentation"]

    edit(boxes.folder / "tune.json", change)

    assert "tune.json: annotation 103 has no outline" in refused(check_own, boxes, INSTANCE)
    assert check_own(boxes, DETECTION).name == "own"


def test_an_annotation_file_that_is_no_json(boxes):
    """Cut off in the middle."""
    path = boxes.folder / "tune.json"
    path.write_text(path.read_text()[:100])

    assert f"{path}: is not JSON from line 1, column" in refused(check_own, boxes, DETECTION)


def test_images_that_cannot_be_read(boxes):
    """No image at all in any place; a cut one among those that are read whole."""
    (boxes.folder / "train/2.jpg").write_bytes(b"<html>")
    assert f"{boxes.folder / 'train/2.jpg'} cannot be read" in refused(check_own, boxes, DETECTION)

    image(boxes.folder / "train/2.jpg", 2)
    content = (boxes.folder / "train/1.jpg").read_bytes()
    (boxes.folder / "train/1.jpg").write_bytes(content[: content.index(b"\xff\xda") + 20])  # header and a few pixels
    assert f"{boxes.folder / 'train/1.jpg'} cannot be read" in refused(check_own, boxes, DETECTION)


def test_a_picture_taken_upright_has_the_size_that_is_shown(boxes):
    """EXIF orientation 6 turns 12x8 pixels into 8x12, as OpenCV reads them."""
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(boxes.folder / "train/0.jpg", exif=exif)
    assert "image 0.jpg of 8x12 pixels, listed as 12x8" in refused(check_own, boxes, DETECTION)

    def turn(coco):
        coco["images"][0].update(width=8, height=12)
        annotation(coco, 0, bbox=[0, 0, 8, 12])

    edit(boxes.folder / "train.json", turn)
    assert check_own(boxes, DETECTION).num_images["train"] == 3


def test_an_image_in_two_splits(boxes):
    """The same file under two splits, be it through a link; the same name in two folders is no fault."""
    shutil.rmtree(boxes.folder / "test")
    (boxes.folder / "test").symlink_to(boxes.folder / "train")
    line = refused(check_own, boxes, DETECTION)

    assert f"{boxes.folder}/train/0.jpg of own.train (and 2 more) is in own.test, too" in line


@pytest.mark.parametrize(("gone", "split"), [("train", "train"), ("tune.json", "tune")])
def test_a_missing_folder_or_file(boxes, gone, split):
    """Named with what to correct."""
    path = boxes.folder / gone
    path.rename(path.with_name("moved"))

    line = refused(check_own, boxes, DETECTION)
    assert f"{path} is missing" in line
    assert f"own.{split} in params.yaml" in line


def test_a_missing_label_map(maps):
    """Every image needs one."""
    path = maps.folder / "tune_labels/more/2.png"
    path.unlink()

    assert f"{path} is missing" in refused(check_own, maps, SEGMENTATION)


def test_label_values_out_of_range(maps):
    """The line has the file, the value and the number of further ones."""
    label_map(maps.folder / "train_labels/0.png", 2, 255)
    label_map(maps.folder / "train_labels/1.png", 254)
    line = refused(check_own, maps, SEGMENTATION)

    assert f"{maps.folder / 'train_labels/0.png'}, value 2, (and 1 more) is out of range 0-1" in line


def test_a_label_map_of_another_size(maps):
    """Both sizes are told."""
    path = maps.folder / "test_labels/1.png"
    Image.new("L", (6, 4)).save(path)

    assert f"{path} of 6x4 pixels, its image of 12x8" in refused(check_own, maps, SEGMENTATION)


@pytest.mark.parametrize("mode", ["RGB", "1", "I;16"])
def test_a_label_map_without_class_indices(maps, mode):
    """Colours, bits and 16-bit values are not what MMSegmentation reads as classes."""
    path = maps.folder / "test_labels/1.png"
    Image.new(mode, (WIDTH, HEIGHT)).save(path)

    assert f"{path}, mode {mode}, " in refused(check_own, maps, SEGMENTATION)


def test_a_palette_is_read_as_indices(maps):
    """A coloured PNG of mode P holds indices, whatever its colours."""
    labels = Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).convert("P")
    labels.putpalette([200] * 768)
    labels.save(maps.folder / "test_labels/1.png")

    assert check_own(maps, SEGMENTATION).num_images["test"] == 3


def test_a_label_map_that_cannot_be_read(maps):
    """Named, and not a crash."""
    path = maps.folder / "test_labels/1.png"
    path.write_bytes(path.read_bytes()[:45])

    assert f"{path} cannot be read" in refused(check_own, maps, SEGMENTATION)


def test_images_of_two_endings(maps):
    """MMSegmentation would read one kind and pass over the other."""
    image(maps.folder / "train/3.png")

    assert "train has images with the endings .jpg, .png" in refused(check_own, maps, SEGMENTATION)
    shutil.rmtree(maps.folder / "train")
    (maps.folder / "train").mkdir()
    assert "train has no images" in refused(check_own, maps, SEGMENTATION)


def test_a_task_that_the_format_cannot_serve(boxes, maps):
    """Boxes are no label maps."""
    assert re.search(r"own\.format coco .*segmentation", refused(check_own, boxes, SEGMENTATION))
    assert re.search(r"own\.format label_maps .*detection", refused(check_own, maps, DETECTION))


def test_digest_follows_annotations_classes_and_images(boxes, tmp_path):
    """A copy elsewhere has the same digest; other content of any kind another one."""
    digest = check_own(boxes, DETECTION).digest
    shutil.copytree(boxes.folder, tmp_path / "copy")
    copy = boxes.model_copy(update={"root": str(tmp_path / "copy")})
    assert check_own(copy, DETECTION).digest == digest

    (copy.folder / "train/0.jpg").write_bytes((copy.folder / "train/0.jpg").read_bytes() + b"\0")
    changed = check_own(copy, DETECTION).digest
    edit(copy.folder / "test.json", lambda coco: coco["annotations"].pop())
    assert len({digest, changed, check_own(copy, DETECTION).digest}) == 3


def test_identity_of_a_users_data(maps, tmp_path):
    """An edited label map is noticed when a training begins."""
    found = check_own(maps, SEGMENTATION)
    write_manifest(tmp_path / "data", [found])
    assert identity(tmp_path / "data", "own", maps.folder) == ("own", found.digest)
    assert str(tmp_path) not in json.dumps(read(tmp_path / "data/manifest.json"))

    label_map(maps.folder / "tune_labels/0.png", 1, 1)
    assert "tune_labels/*.png has changed since prepare checked it" in refused(identity, tmp_path / "data", "own")


@pytest.mark.parametrize("path", ["/data/train", "../train", "", "train/*"])
def test_paths_below_the_root_only(path):
    """Manifests hold these paths and must hold no machine's."""
    with pytest.raises(ValidationError, match="below own"):
        OwnSplit(images=path, annotations="train.json")


def test_classes_named_twice(boxes):
    """A class has one number."""
    with pytest.raises(ValidationError, match="names a class twice"):
        OwnData(**{**boxes.model_dump(), "classes": ["cat", "cat"]})
