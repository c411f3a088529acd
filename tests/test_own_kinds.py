"""Data that other tools wrote: what has one meaning is used, the rest is one line before anything trains."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import images as images_module
from benchmarks.coco_faults import coco_faults, left_out
from benchmarks.coco_file import read_coco
from benchmarks.images import Seen, of_image, of_label_map, vanishes
from benchmarks.manifest import changed_image, identity, write_manifest
from benchmarks.own_check import check_own, told
from benchmarks.own_splits import Needs
from benchmarks.rle import mask_area, run_lengths
from pipelines.engine.coco_index import coco_index
from pipelines.engine.metrics import coco_ap, reading
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


def change(own, split, how):
    """Change every annotation of a split."""
    edit(own.folder / f"{split}.json", lambda coco: [how(one) for one in coco["annotations"]])


def perfect(path):
    """The truth itself as detections in COCO's result format, of what COCO's evaluation counts."""
    return [
        {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": 1.0}
        for one in read_coco(path)["annotations"]
        if not one["ignore"] and not one["iscrowd"]
    ]


@pytest.mark.parametrize(
    "how",
    [
        lambda a: a.pop("area"),
        lambda a: a.update(area=None),
        lambda a: a.pop("iscrowd"),
        lambda a: a.update(iscrowd=None, ignore=None),
        lambda a: a.update(iscrowd=False),
        lambda a: a.pop("segmentation"),
        lambda a: a.update(segmentation=None),
        lambda a: a.pop("id"),
        lambda a: a.update(id=a["id"] - 100),
        lambda a: a.update(id=-a["id"]),
        lambda a: a.update(id=float(a["id"]), image_id=float(a["image_id"]), category_id=str(a["category_id"])),
        lambda a: a.update(id=f"object {a['id']}", image_id=str(a["image_id"])),
    ],
)
def test_what_tools_leave_out_or_write_otherwise(boxes, how):
    """The truth itself has AP 100 and every object is found, whatever the ids and whichever optional field is missing."""
    for split in ("train", "tune", "test"):
        change(boxes, split, how)
    found = check_own(boxes, DETECTION)
    truth = boxes.folder / "test.json"

    assert found.usable["test"]["by class"] == {"cat": 3, "dog": 3}
    assert coco_ap(truth, perfect(truth), (30, 80), "bbox")[0].AP == 100
    assert reading(truth, perfect(truth), "bbox").right == 100


def test_text_as_ids_of_images_and_categories(boxes):
    """Images named by text are numbered, and objects stay with their image."""

    def rename(coco):
        for one in coco["images"]:
            one["id"] = f"picture-{one['id']}"
        for one in coco["annotations"]:
            one["image_id"] = f"picture-{one['image_id']}"

    before = [(one["file_name"]) for one in read_coco(boxes.folder / "test.json")["images"]]
    edit(boxes.folder / "test.json", rename)
    coco = read_coco(boxes.folder / "test.json")
    names = {one["id"]: one["file_name"] for one in coco["images"]}

    assert [names[one["image_id"]] for one in coco["annotations"]] == [name for name in before for _ in range(2)]
    assert coco_faults(coco, ["cat", "dog"]) == []


def test_a_missing_area_is_the_boxs_or_the_outlines(boxes):
    """A box of 12x8 is 96; its outline, half of it, 48, where masks are judged."""
    change(boxes, "test", lambda one: one.pop("area"))
    path = boxes.folder / "test.json"

    assert read_coco(path)["annotations"][0]["area"] == WIDTH * HEIGHT
    assert read_coco(path, masks=True)["annotations"][0]["area"] == WIDTH * HEIGHT / 2


def test_ignored_objects_are_not_missed(boxes):
    """In pycocotools ``iscrowd`` would replace the mark, and an object that no training sees would count."""
    edit(boxes.folder / "test.json", lambda coco: coco["annotations"][0].update(ignore=1))
    truth = boxes.folder / "test.json"
    line = told("test", check_own(boxes, DETECTION).usable["test"], "object")

    assert coco_ap(truth, perfect(truth), (30, 80), "bbox")[0].AP == 100
    assert len(perfect(truth)) == 5
    assert "1 marked ignore" in line
    assert "1 objects are marked ignore: no training uses them" in line


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda a: a.update(iscrowd=1), "crowd"),
        (lambda a: a.update(ignore=True), "marked ignore"),
        (lambda a: a.update(bbox=[1, 1, 0.5, 4]), "thinner than 1 pixel"),
        (lambda a: a.update(area=0), "area 0"),
        (lambda a: a.update(bbox=[WIDTH, 1, 1, 4]), "outside its image"),
    ],
)
def test_what_no_training_uses(boxes, how, reason):
    """MMDetection's loader passes over it: a split of such objects alone is refused with the reason, one among others is counted."""
    edit(boxes.folder / "train.json", lambda coco: how(coco["annotations"][2]))
    found = check_own(boxes, DETECTION)

    assert found.usable["train"]["left out"] == {reason: 1}
    assert sum(found.usable["train"]["by class"].values()) == 5

    change(boxes, "train", how)
    line = refused(check_own, boxes, DETECTION)
    assert f"own.train: no object of it is usable (6 {reason})" in line


def test_the_loaders_own_rules(boxes):
    """The count is what MMDetection's data set itself keeps, object by object."""
    from mmdet.datasets import CocoDataset  # noqa: PLC0415 (seconds)

    def damage(coco):
        one = coco["annotations"]
        one[0].update(iscrowd=1)
        one[1].update(bbox=[1, 1, 0.5, 4])
        one[2].update(area=0)
        one[3].update(ignore=1)

    edit(boxes.folder / "train.json", damage)
    dataset = CocoDataset(
        data_root=str(boxes.folder), ann_file="train.json", data_prefix={"img": "train/"}, metainfo={"classes": ("cat", "dog")},
        pipeline=[],
    )  # fmt: skip
    kept = [one for info in (dataset.get_data_info(index) for index in range(3)) for one in info["instances"]]
    reasons = left_out(read_coco(boxes.folder / "train.json"))

    assert sum(not one["ignore_flag"] for one in kept) == reasons.count(None) == 2


def test_a_class_without_an_object(boxes):
    """Refused where it is to be trained; where it is only measured it is named."""
    edit(boxes.folder / "test.json", lambda c: [one.update(category_id=1) for one in c["annotations"]])
    assert "class dog: no object, so no score" in check_own(boxes, DETECTION).usable["test"]["notes"]

    edit(boxes.folder / "train.json", lambda c: [one.update(category_id=1) for one in c["annotations"]])
    assert "class dog has no usable object in own.train" in refused(check_own, boxes, DETECTION)


def test_fractions_and_corners(boxes):
    """Both are said for what they are; images must be larger than a fraction."""
    change(boxes, "train", lambda a: a.update(bbox=[0.1, 0.2, 0.5, 0.4]))
    assert "(and 5 more) looks like fractions of the image: multiply boxes by" in refused(check_own, boxes, DETECTION)

    change(boxes, "train", lambda a: a.update(bbox=[6, 4, 11, 7]))
    assert "boxes look like [left, top, right, bottom]" in refused(check_own, boxes, DETECTION)


@pytest.mark.parametrize(
    ("encode", "line"),
    [
        (lambda text: text.encode("utf-8-sig"), None),
        (lambda text: text.encode("utf-16"), None),
        (lambda text: text.encode("utf-32"), None),
        (lambda text: text.replace(", ", ",\r\n").encode(), None),
        (lambda text: text.encode("latin-1"), "is not UTF-8: byte 0xe4 at "),
        (lambda text: text.encode()[:-40], "as a file is that was cut off"),
        (lambda _: b"", "is empty"),
        (lambda _: b" \n", "is empty"),
        (lambda _: b"[" * 100_000, "nested too deeply"),
        (lambda _: b'[{"image_id": 1}]', "is a list, not the object"),
        (lambda text: text.replace("100", "1" * 5000, 1).encode(), "a number that is too long"),
        (lambda text: text.replace("images", "imgs", 1).encode(), "has no list 'images'"),
    ],
)
def test_files_as_tools_write_them(boxes, encode, line):
    """Marks and wide encodings are read; what cannot be read names the file and the remedy."""
    own = boxes.model_copy(update={"classes": ["cat", "b\u00e4r"]})
    for split in ("train", "tune", "test"):
        path = own.folder / f"{split}.json"
        edit(path, lambda coco: coco["categories"][1].update(name="b\u00e4r"))
        path.write_bytes(encode(json.dumps(json.loads(path.read_text()), ensure_ascii=False)))
    if line is None:
        assert check_own(own, DETECTION).name == "own"
    else:
        told_line = refused(check_own, own, DETECTION)
        assert told_line.startswith(str(own.folder / "train.json"))
        assert line in told_line


@pytest.mark.parametrize(
    ("how", "line"),
    [
        (lambda c: c["annotations"].append(None), "annotations.6 is a null"),
        (lambda c: c["annotations"][1].update(bbox=None), "annotation 101 has no bbox"),
        (lambda c: c["annotations"][1].update(bbox="1 2 3 4"), 'annotation 101 has "1 2 3 4" as bbox'),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, True]), "annotation 101 has [1, 2, 3, true] as bbox"),
        (lambda c: c["annotations"][1].update(area="large"), 'annotation 101 has "large" as area'),
        (lambda c: c["annotations"][1].update(iscrowd=7), "annotation 101 has 7 as iscrowd"),
        (lambda c: c["annotations"][1].pop("image_id"), "annotation 101 has no image_id"),
        (lambda c: c["annotations"][1].update(category_id=None), "annotation 101 has no category_id"),
        (lambda c: c["images"][1].update(width=0), "image 1.jpg has 0 as width"),
        (lambda c: c["images"][1].update(width=12.5), "image 1.jpg has 12.5 as width"),
        (lambda c: c["images"][1].pop("file_name"), "images.1 has no file_name"),
        (lambda c: c["images"][1].update(file_name="train\\1.jpg"), "the folder has 1.jpg; write file_name relative to it"),
        (lambda c: c["categories"][0].update(name=None), "categories.0 has no name"),
        (lambda c: c["categories"].append("dog"), "categories.2 is a text"),
    ],
)
def test_entries_of_another_kind(boxes, how, line):
    """File, entry and what to give; no sentence of a library."""
    edit(boxes.folder / "train.json", how)
    found = refused(check_own, boxes, DETECTION)

    assert str(boxes.folder / "train.json") in found
    assert line in found


def test_a_model_with_masks_decides_not_the_task(boxes):
    """A detection pair whose teacher has a mask head needs outlines in every split."""
    change(boxes, "tune", lambda one: one.pop("segmentation"))

    assert check_own(boxes, DETECTION).name == "own"
    needs = Needs(("detection",), masks=True)
    assert "tune.json: annotation 100 (and 5 more) has no outline" in refused(check_own, boxes, needs)


def test_which_pairs_have_a_model_with_masks():
    """The teacher is a Cascade Mask R-CNN though the pair is judged by boxes."""
    from pipelines.engine.data_configs import needs_masks  # noqa: PLC0415 (seconds)
    from pipelines.engine.published import published_config  # noqa: PLC0415 (as above)
    from pipelines.params import load_pair  # noqa: PLC0415

    pair = load_pair("cascade_mask_x101_faster_rcnn_r50")

    assert [needs_masks(published_config(side.config)) for side in (pair.teacher, pair.student)] == [True, False]


def test_run_lengths(boxes):
    """Encoded by pycocotools, decoded by the definition: pixels are counted down the columns; another size or sum is no mask."""
    from pycocotools import mask  # noqa: PLC0415

    pixels = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH), np.uint8)
    columns = pixels.T.reshape(-1).tolist()
    runs, value = [0], 0
    for pixel in columns:
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = pixel
    text = mask.encode(np.asfortranarray(pixels))["counts"].decode()
    size = [HEIGHT, WIDTH]

    assert run_lengths(text) == run_lengths(runs) == runs
    assert mask_area({"size": size, "counts": text}, HEIGHT, WIDTH) == mask_area({"size": size, "counts": runs}, HEIGHT, WIDTH)
    assert mask_area({"size": size, "counts": runs}, HEIGHT, WIDTH) == pixels.sum()
    for wrong in (
        {"size": [WIDTH, HEIGHT], "counts": text},
        {"size": size, "counts": [1, 2]},
        {"size": size, "counts": "\u00e4"},
    ):
        assert mask_area(wrong, HEIGHT, WIDTH) is None
        edit(boxes.folder / "test.json", lambda coco, wrong=wrong: coco["annotations"][0].update(segmentation=wrong))
        assert "annotation 100 of image 0.jpg has a run-length encoding" in refused(check_own, boxes, INSTANCE)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_an_image_is_read_as_training_reads_it(tmp_path, suffix, orientation):
    """Whatever MMCV's loader makes of an orientation in any format is the size that must be listed."""
    from mmcv.transforms import LoadImageFromFile  # noqa: PLC0415 (seconds)

    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"image{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path, **({} if suffix == ".bmp" else {"exif": exif}))
    loaded = LoadImageFromFile()({"img_path": str(path)})["img"]

    assert of_image(path).size == loaded.shape[1::-1]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_a_cut_image_anywhere_in_a_split(boxes, suffix, kept):
    """OpenCV fills what is missing with grey; the last image of a split is as good a place as the first."""
    rng = np.random.default_rng(1)
    path = boxes.folder / f"train/2{suffix}"
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(path)
    if suffix != ".jpg":
        (boxes.folder / "train/2.jpg").unlink()
    edit(boxes.folder / "train.json", lambda c: c["images"][2].update(file_name=path.name, width=96, height=64))
    assert check_own(boxes, DETECTION).name == "own"

    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert f"{path} cannot be read as an image" in refused(check_own, boxes, DETECTION)


def test_a_picture_in_two_splits_under_another_name(boxes):
    """By its pixels: copied, linked, or saved without loss in another format."""
    source, copy = boxes.folder / "train/1.jpg", boxes.folder / "test/2.jpg"
    for how in (shutil.copy, os.link):
        copy.unlink()
        how(source, copy)
        line = refused(check_own, boxes, DETECTION)
        assert f"{source} of own.train is in own.test, too, the first as {copy}" in line
    copy.unlink()
    cv2.imwrite(str(copy.with_suffix(".png")), cv2.imread(str(source)))
    edit(boxes.folder / "test.json", lambda c: c["images"][2].update(file_name="2.png"))

    assert f"{source} of own.train is in own.test" in refused(check_own, boxes, DETECTION)


def test_an_image_of_which_nothing_is_left(boxes):
    """mmcv.imrescale rounds a side of less than half a pixel to none; one of half a pixel stays."""
    import mmcv  # noqa: PLC0415 (seconds)

    for size in ((127, 1), (128, 1), (129, 1), (1, 300)):
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        if vanishes(size, 64, 64):
            with pytest.raises(cv2.error):
                mmcv.imrescale(pixels, (64, 64))
        else:
            assert min(mmcv.imrescale(pixels, (64, 64)).shape[:2]) == 1
    assert [vanishes((side, 1), 64, 64) for side in (127, 128, 129)] == [False, False, True]
    thin = boxes.folder / "tune/0.jpg"
    Image.fromarray(np.zeros((2, 400, 3), np.uint8)).save(thin)
    edit(boxes.folder / "tune.json", lambda c: c["images"][0].update(width=400, height=2))
    change(boxes, "tune", lambda one: one.update(bbox=[0, 0, 2, 2]))
    own = boxes.model_copy(update={"image_px": 64})

    assert f"{thin} of 400x2 pixels has no pixel left at own.image_px 64" in refused(check_own, own, DETECTION)


def test_a_batch_needs_usable_images(boxes):
    """Images without anything to learn do not count."""
    needs = Needs(("detection",), batches={"small": 2, "large": 3})
    assert check_own(boxes, needs).name == "own"

    edit(boxes.folder / "train.json", lambda c: [a.update(iscrowd=1) for a in c["annotations"] if a["image_id"] == 10])
    line = refused(check_own, boxes, needs)
    assert "pair large with batches of 3 needs more images with a usable object than the 2 of own.train (2 crowd)" in line


def test_a_batch_needs_images_with_a_pixel(maps):
    """One whose label map is ignored as a whole does not count."""
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(maps.folder / "train_labels/0.png")
    needs = Needs(("segmentation",), batches={"large": 3})

    assert "than the 2 of own.train (1 image is all 255)" in refused(check_own, maps, needs)


def test_label_maps_of_0_and_255(maps):
    """The class that such maps mean has no pixel; a split of ignored pixels alone has nothing at all."""
    for name in ("0", "1", "more/2"):
        label_map(maps.folder / f"train_labels/{name}.png", 255, 255)
    line = refused(check_own, maps, SEGMENTATION)
    assert "class dog has no usable pixel in own.train" in line
    assert "the values 0, 255, and 255 is ignored; write 1 for its pixels" in line

    for name in ("0", "1", "more/2"):
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(maps.folder / f"train_labels/{name}.png")
    assert "own.train: no pixel of it is usable (3 images are all 255)" in refused(check_own, maps, SEGMENTATION)


def test_label_maps_counted_from_1(maps):
    """The value out of range comes with the likely reason."""
    for name in ("0", "1", "more/2"):
        Image.fromarray(np.full((HEIGHT, WIDTH), 2, np.uint8)).save(maps.folder / f"train_labels/{name}.png")

    assert "value 2, (and 2 more) is out of range 0-1; classes are counted from 0, and no pixel is 0" in refused(
        check_own, maps, SEGMENTATION
    )


def test_pixels_are_counted_by_class(maps):
    """One pixel of 1 and one of 255 in each of three maps of 96."""
    found = check_own(maps, SEGMENTATION).usable["train"]

    assert found["by class"] == {"cat": 3 * (WIDTH * HEIGHT - 2), "dog": 3}
    assert found["images"] == 3


def test_what_was_seen_is_not_read_again(boxes, tmp_path, monkeypatch):
    """The second check decodes what changed; a damaged or foreign record is made again."""
    seen = tmp_path / "work/seen.json"
    digest = check_own(boxes, DETECTION, seen).digest
    opened = []
    monkeypatch.setattr(images_module, "_is_cut", lambda path, _: bool(opened.append(path)))
    image(boxes.folder / "train/1.jpg", 77)

    assert check_own(boxes, DETECTION, seen).digest != digest
    assert opened == [boxes.folder / "train/1.jpg"]

    for content in ("", "{}", '{"version": 0, "found": {}, "results": {}}', "[1]"):
        seen.write_text(content)
        assert Seen(seen).look([boxes.folder / "train/0.jpg"], of_image, "images")[boxes.folder / "train/0.jpg"].size == (
            WIDTH,
            HEIGHT,
        )


def test_an_image_that_changes_after_the_check(boxes, tmp_path):
    """A training is refused; a copy of the data with other times is not."""
    found = check_own(boxes, DETECTION)
    write_manifest(tmp_path / "data", [found])
    assert identity(tmp_path / "data", "own", boxes.folder) == ("own", found.digest)
    assert read(tmp_path / "data/manifest.json")["sets"]["own"]["usable"]["train"]["images"] == 3

    os.utime(boxes.folder / "train/0.jpg", (0, 0))
    assert changed_image(tmp_path / "data", "own", boxes.folder) is None
    image(boxes.folder / "test/0.jpg", 99)
    assert changed_image(tmp_path / "data", "own", boxes.folder, ["test"]) is None
    assert "test/0.jpg is missing or has changed" in refused(identity, tmp_path / "data", "own", boxes.folder)


def test_a_label_map_is_read_by_pillow(maps):
    """Indices of a palette, as MMSegmentation's loader has them."""
    from mmseg.datasets.transforms import LoadAnnotations  # noqa: PLC0415 (seconds)

    path = maps.folder / "test_labels/1.png"
    labels = Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).convert("P")
    labels.putpalette([200] * 768)
    labels.save(path)
    loaded = LoadAnnotations()({"seg_map_path": str(path), "reduce_zero_label": False, "seg_fields": []})["gt_seg_map"]

    assert of_label_map(path).counts == {int(value): int((loaded == value).sum()) for value in np.unique(loaded)}


def test_objects_are_numbered_from_1(boxes):
    """In every index that pycocotools counts by."""
    edit(boxes.folder / "test.json", lambda c: [one.update(id=number) for number, one in enumerate(c["annotations"])])

    assert sorted(coco_index(boxes.folder / "test.json").anns) == [1, 2, 3, 4, 5, 6]
