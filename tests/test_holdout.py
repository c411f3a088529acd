"""The published data that trials of stage ``tune`` read: two parts of the training images, and nothing of the test split."""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.registry import DATASETS, METRICS, DefaultScope

from benchmarks.dataset import datasets
from benchmarks.manifest import write_manifest
from benchmarks.own_check import check_own
from benchmarks.published_data import check_published
from pipelines.engine import holdout
from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.data_configs import data_source, dicts
from pipelines.engine.holdout import hold_out
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.setting import Distillation, Setting, VerifiedData, Weights, verified_data
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_parts
from tests import trees
from tests.conftest import ROOT, read
from tests.trees import edit, label_map, refused, small_catalogue

PAIRS = {
    "gfl_r101_r50": "coco", "solo_r101_r50": "coco", "cascade_mask_x101dcn_mask_rcnn_r50": "coco",
    "faster_rcnn_r101_r50_voc": "voc", "pspnet_r101_pspnet_r18": "cityscapes", "deeplabv3_r101_deeplabv3_r18": "cityscapes",
}  # fmt: skip
ONE_EACH = ["gfl_r101_r50", "faster_rcnn_r101_r50_voc", "pspnet_r101_pspnet_r18"]
# What of a tree is the test split's alone, and a file that is trained on.
TEST = {
    "coco": ["val2017", "annotations/instances_val2017.json"],
    "voc": ["VOCdevkit/VOC2007/ImageSets/Main/test.txt", *(f"VOCdevkit/VOC2007/Annotations/00000{n}.xml" for n in (4, 5)),
            *(f"VOCdevkit/VOC2007/JPEGImages/00000{n}.jpg" for n in (4, 5))],
    "cityscapes": ["leftImg8bit/val", "gtFine/val"],
}  # fmt: skip
TRAIN = {
    "coco": "annotations/instances_train2017.json",
    "voc": "VOCdevkit/VOC2007/Annotations/000002.xml",
    "cityscapes": "gtFine/train/bochum/bochum_1_gtFine_labelTrainIds.png",
}
# Cityscapes' training images by city, as its devkit has them.
CITIES = {
    "aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221, "erfurt": 109, "hamburg": 248,
    "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94, "strasbourg": 365, "stuttgart": 196, "tubingen": 144,
    "ulm": 95, "weimar": 142, "zurich": 122,
}  # fmt: skip


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Pairs are found; images are large enough to be trained on; the environment names no data set."""
    monkeypatch.chdir(ROOT)
    for name in ("KD_COCO", "KD_VOC", "KD_CITYSCAPES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(trees, "WIDTH", 48)
    monkeypatch.setattr(trees, "HEIGHT", 40)
    prepare_process()


def tree(name, root):
    """A made-up published data set with the framework's classes."""
    if name == "coco":
        from mmdet.datasets import CocoDataset  # noqa: PLC0415 (seconds)

        return trees.coco(root, CocoDataset.METAINFO["classes"])
    return {"voc": trees.voc, "cityscapes": trees.cityscapes}[name](root)


def at_paper(pair_name, root):
    """A pair at tier paper, its data below ``root``."""
    pair, tier = load_pair(pair_name), load_tier("paper")
    return Setting(pair, tier, data_source(pair, tier, ROOT, roots={PAIRS[pair_name]: str(root)}))


def held_out(pair_name, root, folder):
    """A student's config after its data were parted."""
    at = at_paper(pair_name, root)
    config = compose_training(at, "student", seed=0)
    hold_out(config, at, folder)
    return config


def loaded(config, key):
    """A config's data set as the Runner builds it."""
    with quiet(), DefaultScope.overwrite_default_scope(config.default_scope):
        return DATASETS.build(config[key].dataset)


def images(dataset):
    """Paths of a data set's images."""
    return [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]


@pytest.mark.parametrize("pair_name", PAIRS)
def test_parts_load_without_the_test_split(pair_name, tmp_path):
    """With the test split gone, both parts load by MMLab; together they are the training images, and none is in both."""
    name = PAIRS[pair_name]
    root = tree(name, tmp_path / "data")
    for path in TEST[name]:
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()
    config = held_out(pair_name, root, tmp_path / "tuning")
    train, tune = (loaded(config, key) for key in ("train_dataloader", "val_dataloader"))
    there = {str(path) for path in root.rglob("*") if path.suffix in (".jpg", ".png") and "gtFine" not in path.parts}

    assert set(images(train)) | set(images(tune)) == there
    assert not set(images(train)) & set(images(tune))
    assert len(set(images(tune))) == 1
    assert {"inputs", "data_samples"} <= train[0].keys() & tune[0].keys()


@pytest.mark.parametrize("pair_name", PAIRS)
def test_published_test_pipeline_and_metric(pair_name, tmp_path):
    """The held-out part is read and measured as the published config does with its test split, by train's own folders."""
    root = tree(PAIRS[pair_name], tmp_path / "data")
    published = compose_training(at_paper(pair_name, root), "student", seed=0)
    config = held_out(pair_name, root, tmp_path / "tuning")
    inner = next(part for part in dicts(config.val_dataloader.dataset) if "pipeline" in part)
    before, after = published.test_evaluator.to_dict(), config.val_evaluator.to_dict()

    assert inner.pipeline == published.test_dataloader.dataset.pipeline
    assert before | {"ann_file": None} == after | {"ann_file": None}
    assert config.val_dataloader.sampler == published.test_dataloader.sampler
    assert config.val_cfg == {"type": "ValLoop"}
    if PAIRS[pair_name] == "coco":
        with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
            truth = METRICS.build(config.val_evaluator)._coco_api
        assert [root / "train2017" / image["file_name"] for image in truth.imgs.values()] == [
            Path(path) for path in images(loaded(config, "val_dataloader"))
        ]


def shape(dataset):
    """Types and repetitions of wrappers, from outside in."""
    inside = dataset.get("datasets") or ([dataset.dataset] if "dataset" in dataset else [])
    return [dataset.type, dataset.get("times"), [shape(part) for part in inside]]


@pytest.mark.parametrize("pair_name", PAIRS)
def test_the_test_split_is_named_nowhere(pair_name, tmp_path):
    """Neither in the config, a distilled cell's included, nor in a file that was written; wrappers stay."""
    root = tree(PAIRS[pair_name], tmp_path / "data")
    at, folder = at_paper(pair_name, root), tmp_path / "tuning"
    parts, _ = cell_parts("none", pair_name, at.pair, "paper")
    config = compose_cell(at, Distillation(parts, Weights(Path("teacher.pth"), "0"), None), seed=0)
    wrappers = shape(config.train_dataloader.dataset)
    hold_out(config, at, folder)
    text = "\n".join([config.pretty_text, *(path.read_text() for path in folder.rglob("*") if path.is_file())])

    assert not [word for word in ("val2017", "test.txt", "gtFine/val", "leftImg8bit/val", "000004", "000005") if word in text]
    assert (config.test_dataloader, config.test_evaluator, config.test_cfg) == (None, None, None)
    assert shape(config.train_dataloader.dataset) == wrappers
    assert f"{root}/" in text


def test_other_data_are_left_alone(tmp_path):
    """Scenes and a user's own data have a tune split already."""
    pair = load_pair("gfl_r101_r50")
    scenes, own = load_tier("smoke"), load_tier("paper").model_copy(update={"data": "own"})
    for at in (
        Setting(pair, scenes, data_source(pair, scenes, Path("data"))),
        Setting(pair, own, data_source(pair, own, ROOT, own=trees.own_coco(tmp_path / "own"))),
    ):
        config = compose_training(at, "student", seed=0)
        before = config.pretty_text
        hold_out(config, at, tmp_path / "tuning")

        assert config.pretty_text == before
    assert not (tmp_path / "tuning").exists()


# --- which images ------------------------------------------------------------------------------------------------------------


def first(names, number):
    """The names that come first by the sha256 of ``0 <name>``."""
    return sorted(names, key=lambda name: hashlib.sha256(b"0 " + name.encode()).digest())[:number]


def coco_parts(tmp_path, names):
    """Images of both parts of a COCO file that has these."""
    trees.write_json(tmp_path / "data/annotations/instances_train2017.json", trees.coco_json(names, ["cat"]))
    config = held_out("gfl_r101_r50", tmp_path / "data", tmp_path / "tuning")
    return [read(Path(config[key].dataset.ann_file)) for key in ("train_dataloader", "val_dataloader")]


def names_of(coco):
    """An annotation file's images."""
    return [image["file_name"] for image in coco["images"]]


def test_numbers():
    """Numbers of images held out of the published data sets; of small copies a fifth, at least one."""
    published = {"coco": 118_287, "voc": 16_551, "cityscapes": 2_975}

    assert {name: holdout._number(Path(), there, name) for name, there in published.items()} == {
        "coco": 5_000, "voc": 1_000, "cityscapes": 300,
    }  # fmt: skip
    assert [holdout._number(Path(), there, "coco") for there in (2, 14, 15)] == [1, 2, 3]


@pytest.mark.parametrize(("there", "most", "held"), [(4, 5000, 1), (23, 5000, 4), (40, 6, 6)])
def test_coco_is_parted_by_digest(there, most, held, tmp_path, monkeypatch):
    """A fifth, or the most; each box goes with its image; classes and order stay; the order of the file is no matter."""
    monkeypatch.setitem(datasets(), "coco", replace(datasets()["coco"], held_out=most))
    names = [f"{number:06d}.jpg" for number in range(there)]
    train, tune = coco_parts(tmp_path, names)

    assert set(names_of(tune)) == set(first(names, held))
    assert names_of(train) == [name for name in names if name not in set(names_of(tune))]
    for part in (train, tune):
        assert Counter(box["image_id"] for box in part["annotations"]) == {image["id"]: 2 for image in part["images"]}
        assert part["categories"] == [{"id": 1, "name": "cat"}]
    assert set(names_of(coco_parts(tmp_path, names[::-1])[1])) == set(names_of(tune))


def test_voc_as_published_gives_a_thousand(tmp_path):
    """1000 of the 5011 and 11540 names, each in the list of its year, in the order of the published list."""
    names = {2007: [f"{n:06d}" for n in range(1, 5012)], 2012: [f"2008_{n:06d}" for n in range(1, 11541)]}
    for year, listed in names.items():
        path = tmp_path / f"data/VOCdevkit/VOC{year}/ImageSets/Main/trainval.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(listed) + "\n")
    config = held_out("faster_rcnn_r101_r50_voc", tmp_path / "data", tmp_path / "tuning")
    tune, train = ([Path(d.ann_file).read_text().split() for d in dicts(config[key].dataset) if "ann_file" in d]
                   for key in ("val_dataloader", "train_dataloader"))  # fmt: skip
    held = set(first([f"VOC{year}/{name}" for year in names for name in names[year]], 1000))

    assert tune == [[name for name in names[year] if f"VOC{year}/{name}" in held] for year in names]
    assert train == [[name for name in names[year] if f"VOC{year}/{name}" not in held] for year in names]
    assert [d.data_prefix.sub_data_root for d in config.val_dataloader.dataset.datasets] == [
        f"{tmp_path}/data/VOCdevkit/VOC{year}/" for year in names
    ]


def test_voc_of_both_years_is_joined_and_measured(tmp_path, monkeypatch):
    """With half held out both years are: MMDetection joins them, and its metric takes them for VOC."""
    monkeypatch.setattr(holdout, "_LEAST_REST", 2)
    config = held_out("faster_rcnn_r101_r50_voc", tree("voc", tmp_path / "data"), tmp_path / "tuning")
    tune, train = loaded(config, "val_dataloader"), loaded(config, "train_dataloader")
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        metric = METRICS.build(config.val_evaluator)

    assert {path.split("/")[-3] for path in images(tune)} == {"VOC2007", "VOC2012"}
    assert (len(tune), len(train)) == (3, 3 * 3)  # the training part is repeated three times
    assert (metric.eval_mode, tune.metainfo["dataset_type"]) == ("11points", "VOC2007")


def test_cityscapes_as_published_gives_three_cities(tmp_path):
    """Three of 18 cities are held out whole, with 300 images together."""
    for city, number in CITIES.items():
        folder = tmp_path / f"data/leftImg8bit/train/{city}"
        folder.mkdir(parents=True)
        for frame in range(number):
            (folder / f"{city}_{frame:06d}_000019_leftImg8bit.png").touch()
    config = held_out("pspnet_r101_pspnet_r18", tmp_path / "data", tmp_path / "tuning")
    train, tune = (Path(config[key].dataset.ann_file).read_text().split() for key in ("train_dataloader", "val_dataloader"))
    cities = {name.split("/")[0] for name in tune}

    assert (len(tune), len(train), len(cities)) == (300, 2675, 3)
    assert not cities & {name.split("/")[0] for name in train}
    assert Counter(name.split("/")[0] for name in tune) == {city: CITIES[city] for city in cities}


def test_cities_by_hand():
    """A fifth of 260 is 52: of all threes 10 + 20 + 30 is nearest.  Of two cities one is taken, the nearer to 6 of 30."""
    assert holdout._cities(Path("train"), Counter(a=30, b=200, c=10, d=20), "cityscapes") == {"a", "c", "d"}
    assert holdout._cities(Path("train"), Counter(a=22, b=8), "cityscapes") == {"b"}
    assert "images of 1 cities" in refused(holdout._cities, Path("train"), Counter(a=22), "cityscapes")


def test_too_few_images(tmp_path):
    """One line that names the file."""
    line = refused(coco_parts, tmp_path, ["0.jpg"])

    assert "instances_train2017.json: 1 training images" in line


# --- how it is written -------------------------------------------------------------------------------------------------------


def files(folder):
    """Content by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("pair_name", ONE_EACH)
def test_written_once_and_the_same_everywhere(pair_name, tmp_path, monkeypatch):
    """Elsewhere the same bytes under the same names, without a machine's path; a second trial writes nothing."""
    name = PAIRS[pair_name]
    one, other = tree(name, tmp_path / "one"), tree(name, tmp_path / "other")
    held_out(pair_name, one, tmp_path / "tuning")
    held_out(pair_name, other, tmp_path / "elsewhere")
    written = files(tmp_path / "tuning")
    assert written == files(tmp_path / "elsewhere")
    assert str(tmp_path) not in str(written)

    monkeypatch.setattr(holdout, "check_writable", lambda _: pytest.fail("written again"))
    held_out(pair_name, one, tmp_path / "tuning")


def test_other_annotations_are_parted_anew(tmp_path):
    """An earlier split is not taken for one of the present annotations."""
    _, before = coco_parts(tmp_path, [f"{n}.jpg" for n in range(10)])
    _, after = coco_parts(tmp_path, [f"{n}.jpg" for n in range(100, 120)])

    assert (len(before["images"]), len(after["images"])) == (2, 4)


def test_two_processes_at_once(tmp_path):
    """While one writes another has finished: its folder stands, and nothing half written is left."""

    def slow():
        holdout._write_once(tmp_path, "coco", "x", lambda: {"train.json": "1"})
        return {"train.json": "1"}

    target = holdout._write_once(tmp_path, "coco", "x", slow)

    assert files(tmp_path) == {f"{target.name}/train.json": b"1"}


def test_a_failure_leaves_nothing(tmp_path):
    """Files are there whole or not at all, and the next attempt begins anew."""

    def fails():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        holdout._write_once(tmp_path, "coco", "x", fails)
    assert not list(tmp_path.iterdir())
    assert holdout._write_once(tmp_path, "coco", "x", lambda: {"train.json": "1"}).is_dir()


# --- the data set's digest without the test split ----------------------------------------------------------------------------


@pytest.mark.parametrize("pair_name", ONE_EACH)
def test_identity_without_the_test_split(pair_name, tmp_path, monkeypatch):
    """The manifest's digest although the test split is gone; a change of what is trained on is noticed still."""
    small_catalogue(monkeypatch)
    name = PAIRS[pair_name]
    root = tree(name, tmp_path / "data")
    write_manifest(tmp_path, [check_published(name, root)])
    digest, at = read(tmp_path / "manifest.json")["sets"][name]["digest"], at_paper(pair_name, root)
    expected = VerifiedData(name, digest, tmp_path)

    assert verified_data(at, tmp_path) == verified_data(at, tmp_path, without=("test",)) == expected

    for path in TEST[name]:
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()
    refused(verified_data, at, tmp_path)
    assert verified_data(at, tmp_path, without=("test",)) == expected
    (root / TRAIN[name]).write_bytes(b"another")
    assert "has changed" in refused(verified_data, at, tmp_path, ("test",))
    (root / TRAIN[name]).unlink()
    refused(verified_data, at, tmp_path, ("test",))


def own_setting(pair_name, own):
    """A pair on a user's data."""
    pair, tier = load_pair(pair_name), load_tier("paper").model_copy(update={"data": "own"})
    return Setting(pair, tier, data_source(pair, tier, ROOT, own=own))


def test_identity_of_own_boxes_without_the_test_split(tmp_path):
    """The test split's file is not opened; an edited tune file is noticed."""
    own = trees.own_coco(tmp_path / "own")
    write_manifest(tmp_path, [check_own(own, trees.DETECTION)])
    at = own_setting("gfl_r101_r50", own)
    (own.folder / "test.json").unlink()

    assert "test.json cannot be read" in refused(verified_data, at, tmp_path)
    assert verified_data(at, tmp_path, without=("test",)).name == "own"
    edit(own.folder / "tune.json", lambda coco: coco["annotations"].pop())
    assert "tune.json has changed" in refused(verified_data, at, tmp_path, ("test",))


@pytest.mark.parametrize("shared", [False, True])
def test_identity_of_own_label_maps_without_the_test_split(shared, tmp_path):
    """The same for label maps, in a folder a split or all in one folder."""
    own = trees.own_label_maps(tmp_path / "own")
    if shared:
        for split in ("train", "tune", "test"):
            for kind, ending in ((split, "jpg"), (f"{split}_labels", "png")):
                for number, path in enumerate(sorted((own.folder / kind).rglob(f"*.{ending}"))):
                    target = own.folder / ("labels" if ending == "png" else split) / f"{split}{number}.{ending}"
                    target.parent.mkdir(exist_ok=True)
                    path.rename(target)
        own = own.model_copy(
            update={s: getattr(own, s).model_copy(update={"annotations": "labels"}) for s in ("train", "tune", "test")}
        )
    write_manifest(tmp_path, [check_own(own, trees.SEGMENTATION)])
    at = own_setting("pspnet_r101_pspnet_r18", own)
    labels = [own.folder / ("labels/{0}0.png" if shared else "{0}_labels/0.png").format(split) for split in ("train", "test")]
    labels[1].unlink()

    refused(verified_data, at, tmp_path)
    assert verified_data(at, tmp_path, without=("test",)).name == "own"
    label_map(labels[0], 1, 1)
    assert "has changed" in refused(verified_data, at, tmp_path, ("test",))


def test_records_without_single_files(tmp_path, monkeypatch):
    """If ``prepare`` recorded folders as a whole only, one line says to run it again."""
    small_catalogue(monkeypatch)
    root = trees.cityscapes(tmp_path / "data")
    write_manifest(tmp_path, [check_published("cityscapes", root)])
    edit(tmp_path / "verified.json", lambda content: content["sets"]["cityscapes"].pop("files"))
    at = at_paper("pspnet_r101_pspnet_r18", root)

    assert verified_data(at, tmp_path).name == "cityscapes"
    assert "dvc repro -f prepare" in refused(verified_data, at, tmp_path, ("test",))
    assert json.loads((tmp_path / "verified.json").read_text())["sets"]["cityscapes"].keys() == {"root", "stamps", "annotations"}
