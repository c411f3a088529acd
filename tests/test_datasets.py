"""Published data sets: what is accepted, one line for each thing that is wrong, and what is recorded of them."""

import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import manifest
from benchmarks.dataset import _record, checkable, datasets
from benchmarks.manifest import compare_with_earlier, identity, write_manifest
from benchmarks.pair import Pair
from benchmarks.published_data import check_published, data_root
from pipelines.grid import Grid
from tests import trees
from tests.conftest import ROOT, read
from tests.trees import edit, label_map, refused, small_catalogue

MAKE = {"coco": trees.coco, "voc": trees.voc, "cityscapes": trees.cityscapes}


@pytest.fixture
def small(monkeypatch):
    """A catalogue of tiny data sets."""
    small_catalogue(monkeypatch)
    return monkeypatch


# --- published data sets -----------------------------------------------------------------------------------------------------


def test_catalogue_agrees_with_the_frameworks():
    """As many classes as MMDetection and MMSegmentation know of each data set."""
    from mmdet.datasets import CocoDataset, VOCDataset  # noqa: PLC0415 (seconds)
    from mmseg.datasets import CityscapesDataset  # noqa: PLC0415

    known = {"coco": CocoDataset, "voc": VOCDataset, "cityscapes": CityscapesDataset}

    assert {name: len(dataset.METAINFO["classes"]) for name, dataset in known.items()} == {
        name: datasets()[name].num_classes for name in checkable()
    }


def test_catalogue_states_the_published_counts():
    """The data sets' own figures; and a digest of the right length for each archive and annotation file."""
    counts = {name: {split: part.num_images for split, part in datasets()[name].splits.items()} for name in checkable()}
    coco, voc = datasets()["coco"], datasets()["voc"]

    assert counts == {
        "coco": {"train": 118287, "val": 5000},
        "voc": {"train2007": 5011, "train2012": 11540, "test2007": 4952},
        "cityscapes": {"train": 2975, "val": 500},
    }
    assert {len(digest) for digest in [*coco.sha256.values(), *(archive.sha256 for archive in coco.archives)]} == {64}
    assert {len(archive.md5) for archive in voc.archives} == {32}


@pytest.mark.parametrize("name", MAKE)
def test_a_whole_tree_is_accepted(small, tmp_path, name):
    """Counts by split, and digests of what is annotated, computed here by hand."""
    root = MAKE[name](tmp_path)
    found = check_published(name, root)

    assert sum(found.num_images.values()) == {"coco": 5, "voc": 8, "cityscapes": 5}[name]
    assert found.bytes == sum(size for size, _ in found.annotations.values()) > 0
    if name == "coco":
        content = (root / "annotations/instances_val2017.json").read_bytes()
        assert found.annotations["annotations/instances_val2017.json"] == (len(content), hashlib.sha256(content).hexdigest())
        assert len(found.annotations) == 2
    if name == "cityscapes":
        paths = sorted((root / "gtFine/val").rglob("*.png"))
        lines = "".join(f"{p.relative_to(root)} {hashlib.sha256(p.read_bytes()).hexdigest()}\n" for p in paths)
        assert found.annotations["gtFine/val/*_gtFine_labelTrainIds.png"] == (
            sum(path.stat().st_size for path in paths), hashlib.sha256(lines.encode()).hexdigest(),
        )  # fmt: skip
    if name == "voc":
        assert sorted(found.annotations) == [
            "VOCdevkit/VOC2007/Annotations/*.xml", "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
            "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", "VOCdevkit/VOC2012/Annotations/*.xml",
            "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "gone", "told"),
    [
        ("coco", "train2017/000000000001.jpg", ["train2017 has 2 of 3 images", "zips/train2017.zip (19 GB)", "add --download"]),
        ("coco", "val2017", ["val2017 has 0 of 2 images", "val2017.zip (0.82 GB)"]),
        ("coco", "annotations/instances_val2017.json", ["instances_val2017.json is missing", "annotations_trainval2017.zip"]),
        ("voc", "VOCdevkit/VOC2012", ["VOC2012/ImageSets/Main/trainval.txt is missing", "VOCtrainval_11-May-2012.tar (2 GB)"]),
        ("voc", "VOCdevkit/VOC2007/JPEGImages/000004.jpg", ["has 1 of the 2 images", "VOCtest_06-Nov-2007.tar"]),
        ("voc", "VOCdevkit/VOC2007/Annotations/000004.xml", ["VOC2007/Annotations has 1 of the 2 "]),
        ("cityscapes", "leftImg8bit/val", ["leftImg8bit/val has 0 of 2 images", "make an account at https://www.cityscapes"]),
        ("cityscapes", "gtFine/train/bochum", ["gtFine/train has 2 of 3 *_gtFine_labelTrainIds.png", "make an account"]),
    ],
)
def test_what_is_missing_and_where_to_get_it(small, tmp_path, name, gone, told):
    """The line names root, layout, part and source; archives that are not needed are not named."""
    root = MAKE[name](tmp_path)
    path = root / gone
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    line = refused(check_published, name, root)

    assert str(root) in line
    assert datasets()[name].layout in line
    for part in told:
        assert part in line
    assert ("train2017.zip" in line) == gone.startswith("train2017")
    assert ("VOCtrainval_11-May-2012.tar" in line) == gone.endswith("VOC2012")


def test_a_root_that_is_not_there(small, tmp_path):
    """It is said to be no folder, with all that it should hold."""
    line = refused(check_published, "coco", tmp_path / "typo")

    assert re.search(rf"{tmp_path / 'typo'}.* no folder.*train2017 has 0 of 3 images", line)
    assert all(archive.url in line for archive in datasets()["coco"].archives)


def test_cityscapes_without_train_ids(small, tmp_path):
    """If there are labelIds alone, the line has the command that makes the training labels of them."""
    root = trees.cityscapes(tmp_path)
    for path in (root / "gtFine/train").rglob("*_labelTrainIds.png"):
        path.rename(path.with_name(path.name.replace("labelTrainIds", "labelIds")))
    line = refused(check_published, "cityscapes", root)

    assert "*_gtFine_labelIds.png" in line
    assert f"pip install cityscapesscripts and CITYSCAPES_DATASET={root} cs" in line


def test_an_annotation_file_that_is_not_the_published_one(small, tmp_path):
    """A known digest decides before the content is read; then the publisher's boxes are taken as they are."""
    root = trees.coco(tmp_path)
    edit(root / "annotations/instances_train2017.json", lambda coco: coco["annotations"][0].update(bbox=[1, 1, 3, 0]))
    digests = {
        f: hashlib.sha256((root / f).read_bytes()).hexdigest()
        for f in [s.annotations for s in datasets()["coco"].splits.values()]
    }
    assert "has no area" in refused(check_published, "coco", root)

    small.setitem(datasets(), "coco", replace(datasets()["coco"], sha256=digests))
    assert check_published("coco", root).num_images == {"train": 3, "val": 2}

    edit(root / "annotations/instances_val2017.json", lambda coco: coco.update(info="edited"))
    line = refused(check_published, "coco", root)
    val = "annotations/instances_val2017.json"
    assert re.search(rf"{root / val} .*sha256 .*{digests[val][:12]}", line)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["categories"].pop(), "79 categories, not 80"),
        (lambda c: c["images"][1].update(id=10), "image id 10 "),
        (lambda c: c["images"].pop(), "2 images, the published one 3"),
        (lambda c: c["images"][2].update(file_name="x.jpg"), "x.jpg is not in"),
        (lambda c: c["annotations"][0].update(bbox=[0, 0, 14, 2]), "box [0.0, 0.0, 14.0, 2.0]"),
    ],
)
def test_content_of_coco(small, tmp_path, change, told):
    """An unknown copy of COCO's annotations is checked as a user's are."""
    path = trees.coco(tmp_path) / "annotations/instances_train2017.json"
    edit(path, change)
    line = refused(check_published, "coco", tmp_path)

    assert str(path) in line
    assert told in line


def test_a_list_of_another_length(small, tmp_path):
    """VOC's lists are counted."""
    path = trees.voc(tmp_path) / "VOCdevkit/VOC2007/ImageSets/Main/test.txt"
    path.write_text("000004\n")

    assert f"{path} lists 1 images" in refused(check_published, "voc", tmp_path)


def test_cityscapes_labels_out_of_range(small, tmp_path):
    """Values of labelIds under the name of labelTrainIds are found."""
    path = trees.cityscapes(tmp_path) / "gtFine/val/aachen/aachen_0_gtFine_labelTrainIds.png"
    label_map(path, 3, 33)

    assert f"{path}, value 33, is out of range 0-18" in refused(check_published, "cityscapes", tmp_path)


def test_a_root_comes_from_the_environment_first(monkeypatch):
    """Then from params.yaml; else the line says how to name it and where the data are to be had."""
    monkeypatch.delenv("KD_VOC", raising=False)
    line = refused(data_root, "voc", {"coco": "/data/coco"})

    assert "export KD_VOC=" in line
    assert "data: {voc: /path/to/it} in params.yaml" in line
    assert line.count("http://host.robots.ox.ac.uk/pascal/VOC/") == 3
    assert str(data_root("voc", {"voc": "/mine"})) == "/mine"
    monkeypatch.setenv("KD_VOC", "/theirs")
    assert str(data_root("voc", {"voc": "/mine"})) == "/theirs"
    assert "'imagenet'" in refused(data_root, "imagenet", {})


# --- manifest ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(small, tmp_path):
    """COCO and its manifest's folder."""
    root = trees.coco(tmp_path / "coco")
    write_manifest(tmp_path / "data", [check_published("coco", root)])
    return root, tmp_path / "data"


def test_manifest_is_the_same_for_a_copy_elsewhere(prepared, tmp_path):
    """No path of the machine, no time stamp."""
    root, folder = prepared
    shutil.copytree(root, tmp_path / "elsewhere")
    write_manifest(tmp_path / "other", [check_published("coco", tmp_path / "elsewhere")])
    content = (folder / "manifest.json").read_bytes()

    assert content == (tmp_path / "other/manifest.json").read_bytes()
    assert str(tmp_path).encode() not in content
    assert read(folder / "manifest.json")["sets"]["coco"].keys() == {"digest", "num_images", "annotations"}


def test_identity_of_what_was_checked(prepared, small, tmp_path):
    """Untouched files are not read again; a copy elsewhere with the same content is the same data set."""
    root, folder = prepared
    digest = read(folder / "manifest.json")["sets"]["coco"]["digest"]
    shutil.copytree(root, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert identity(folder, "coco", tmp_path / "elsewhere") == ("coco", digest)

    small.setattr(manifest, "_measure", lambda *_: pytest.fail("hashed again"))
    assert identity(folder, "coco") == ("coco", digest)


def test_identity_after_a_change(prepared):
    """A touched file is hashed and accepted, an edited and a missing one are refused, and so is an unknown data set."""
    root, folder = prepared
    path = root / "annotations/instances_train2017.json"
    os.utime(path, ns=(1, 1))
    assert identity(folder, "coco")[0] == "coco"

    content = path.read_bytes()
    path.write_bytes(content.replace(b"class 1", b"class 9"))
    assert f"{path} has changed" in refused(identity, folder, "coco")
    path.unlink()
    assert f"{path} cannot be read (No such file or directory)" in refused(identity, folder, "coco")
    assert re.search(r"manifest\.json .*'voc'", refused(identity, folder, "voc"))
    (folder / "manifest.json").unlink()
    assert re.search(r"manifest\.json cannot be read.*dvc repro -f prepare", refused(identity, folder, "coco"))


def test_identity_of_folders(small, tmp_path):
    """One label map more, less or changed among many is noticed."""
    root = trees.cityscapes(tmp_path / "cityscapes")
    write_manifest(tmp_path / "data", [check_published("cityscapes", root)])
    path = root / "gtFine/val/aachen/aachen_0_gtFine_labelTrainIds.png"
    label_map(path, 17, 255)

    assert "gtFine/val/*_gtFine_labelTrainIds.png has changed" in refused(identity, tmp_path / "data", "cityscapes")
    label_map(path, 18, 255)
    assert identity(tmp_path / "data", "cityscapes")[0] == "cityscapes"
    shutil.copy(path, path.with_name("aachen_9_gtFine_labelTrainIds.png"))
    assert "gtFine/val/*_gtFine_labelTrainIds.png has changed" in refused(identity, tmp_path / "data", "cityscapes")


def test_a_published_file_that_changes_between_checks(prepared):
    """The first record decides until it is removed."""
    root, folder = prepared
    edit(root / "annotations/instances_val2017.json", lambda coco: coco["annotations"].pop())
    found = check_published("coco", root)
    line = refused(compare_with_earlier, folder, found)

    assert "instances_val2017.json has changed" in line
    (folder / "verified.json").unlink()
    compare_with_earlier(folder, found)


def test_an_interrupted_writing_leaves_the_earlier_manifest(prepared, monkeypatch):
    """The manifest is written last and in one piece."""
    root, folder = prepared
    before = (folder / "manifest.json").read_bytes()
    edit(root / "annotations/instances_val2017.json", lambda coco: coco["annotations"].pop())
    found = check_published("coco", root)
    real = Path.replace

    def stop(self, target):
        if self.name.startswith("manifest"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(folder, [found])

    assert (folder / "manifest.json").read_bytes() == before


# --- a data set is one record ------------------------------------------------------------------------------------------------

OTHER = """
title: Other
format: label_maps
variable: KD_OTHER
layout: images/ and maps/
num_classes: 19
image_suffix: _leftImg8bit.png
label_suffix: _gtFine_labelTrainIds.png
config_root: data/cityscapes/
truth: gtFine/val
splits:
  train: {images: leftImg8bit/train, annotations: gtFine/train, num_images: 3}
  val: {images: leftImg8bit/val, annotations: gtFine/val, num_images: 2}
held_out: 1
account: ask its authors
margins: [{metric: mIoU, margin: 0.4, planning_sd: 0.2, why: made up for a test}]
"""


def test_a_new_data_set_is_a_record_alone(monkeypatch, tmp_path):
    """One YAML file: a pair on it is checked, composed, parted for trials, counted, and has its title and margin."""
    from pipelines.engine.compose import compose_training  # noqa: PLC0415 (seconds)
    from pipelines.engine.data_configs import data_source  # noqa: PLC0415
    from pipelines.engine.holdout import hold_out  # noqa: PLC0415
    from pipelines.engine.setting import Setting  # noqa: PLC0415
    from pipelines.estimation.lengths import num_images, trial_images  # noqa: PLC0415
    from pipelines.params import load_pair, load_tier  # noqa: PLC0415
    from pipelines.reporting.collect import margins  # noqa: PLC0415

    monkeypatch.chdir(ROOT)
    (tmp_path / "other.yaml").write_text(OTHER)
    monkeypatch.setitem(datasets(), "other", _record(tmp_path / "other.yaml"))
    root, tier = trees.cityscapes(tmp_path / "tree"), load_tier("paper")
    pair = Pair.model_validate({**load_pair("pspnet_r101_pspnet_r18").model_dump(), "dataset": "other"})
    grid = Grid(tier="paper", grid={"pair": ["none"]}, seeds=1, data={"other": str(root)})
    at = Setting(pair, tier, data_source(pair, tier, tmp_path, roots=grid.data))
    config = compose_training(at, "student", seed=0)
    hold_out(config, at, tmp_path)

    assert check_published("other", root).num_images == {"train": 3, "val": 2}
    assert config.val_dataloader.dataset.ann_file.startswith(f"{tmp_path}/other-")
    assert trial_images(tier, pair, num_images(tier, pair, tmp_path)) == (2, 1, 2)
    assert margins()["Other", "mIoU"].margin == 0.4
    assert "export KD_OTHER=" in refused(data_root, "other", {})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("held_outs: 1", r"held_outs: "),
        ("margins: [{metric: IoU, margin: 1, planning_sd: 1, why: x}]", r"margins\.0\.metric: Input should be 'box AP'"),
        ("splits: {train: {}}", r"key 'splits\.train\.images' is missing"),
    ],
)
def test_a_wrong_record_is_one_line(tmp_path, change, told):
    """The file and the key."""
    (tmp_path / "other.yaml").write_text(f"title: Other\n{change}\n")

    with pytest.raises(ValueError, match=rf"^benchmarks/datasets/other\.yaml: .*{told}"):
        _record(tmp_path / "other.yaml")
