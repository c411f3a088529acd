"""The data that configs read: synthetic, published at any path, a user's own."""

import re

import pytest

from benchmarks.synthetic import CLASSES
from pipelines.engine.compose import compose_test, compose_training
from pipelines.engine.data_configs import data_source, dicts
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.setting import Setting
from pipelines.params import load_pair, load_tier
from tests import trees
from tests.conftest import ROOT, setting
from tests.published import RUNNABLE, SEGMENTATION
from tests.trees import refused

ROOTS = {"coco": "/elsewhere/coco", "voc": "/elsewhere/voc", "cityscapes": "/elsewhere/cityscapes"}
MASKS = ["solo_r101_r50", "cascade_mask_x101dcn_mask_rcnn_r50"]
KEYS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root; the environment names no data set."""
    monkeypatch.chdir(ROOT)
    for name in ("KD_COCO", "KD_VOC", "KD_CITYSCAPES"):
        monkeypatch.delenv(name, raising=False)
    prepare_process()


def published(pair_name, roots=ROOTS):
    """A pair at tier paper."""
    pair, tier = load_pair(pair_name), load_tier("paper")
    return Setting(pair, tier, data_source(pair, tier, ROOT, roots=roots))


def own(pair_name, data, **changes):
    """A pair on a user's data, models and schedule as published."""
    pair, tier = load_pair(pair_name), load_tier("paper").model_copy(update={"data": "own"})
    return Setting(pair, tier, data_source(pair, tier, ROOT, own=data.model_copy(update=changes)))


def texts(config):
    """Every string that a config's data part holds."""
    keys = [*KEYS, "test_evaluator", "val_evaluator"]
    return [
        value
        for key in keys
        if config.get(key)
        for part in dicts(config[key])
        for value in part.values()
        if isinstance(value, str)
    ]


def steps(dataloader):
    """Names of a pipeline's steps."""
    return [step["type"] for step in dataloader.dataset.pipeline]


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_published_data_are_read_where_they_lie(pair_name):
    """Training and test data and evaluators of both sides: every path is under the user's folder, none under the configs' own."""
    at = published(pair_name)
    root = ROOTS[at.pair.dataset]
    configs = [compose_training(at, side, seed=0) for side in ("teacher", "student")]
    configs.append(compose_test(at, "student", ROOT / "w.pth", ROOT / "predictions"))
    for config in configs:
        folders = [part["data_root"] for key in KEYS if config.get(key) for part in dicts(config[key]) if "data_root" in part]

        assert not [text for text in texts(config) if text.startswith("data/")]
        assert folders
        assert all(folder.startswith(f"{root}/") for folder in folders)


@pytest.mark.parametrize(
    ("pair_name", "train", "test"),
    [
        ("gfl_r101_r50", "annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        ("faster_rcnn_r101_r50_voc", "VOC2012/ImageSets/Main/trainval.txt", "VOC2007/ImageSets/Main/test.txt"),
    ],
)
def test_annotations_of_published_data(pair_name, train, test):
    """The files that the catalogue knows, below the root that is named."""
    config = compose_training(published(pair_name), "student", seed=0)
    found = {key: [part["ann_file"] for part in dicts(config[key]) if "ann_file" in part] for key in (KEYS[0], KEYS[2])}

    assert train in found["train_dataloader"]
    assert found["test_dataloader"] == [test]


def test_evaluators_of_published_data():
    """COCO's reads its file below the user's folder; Cityscapes' takes the loader's label maps, which lie there too."""
    coco = compose_test(published("gfl_r101_r50"), "student", ROOT / "w.pth", ROOT / "predictions")
    pixels = compose_test(published("pspnet_r101_pspnet_r18"), "student", ROOT / "w.pth", ROOT / "predictions")
    voc = compose_test(published("faster_rcnn_r101_r50_voc"), "student", ROOT / "w.pth", ROOT / "predictions")

    assert coco.test_evaluator.ann_file == "/elsewhere/coco/annotations/instances_val2017.json"
    assert (coco.test_evaluator.outfile_prefix, coco.test_evaluator.format_only) == (str(ROOT / "predictions"), True)
    assert (pixels.test_evaluator.output_dir, pixels.test_evaluator.format_only) == (str(ROOT / "predictions"), True)
    assert pixels.test_dataloader.dataset.data_root == "/elsewhere/cityscapes/"
    assert voc.test_evaluator == {"type": "VOCMetric", "metric": "mAP", "eval_mode": "11points"}


def test_truth_of_published_data():
    """The annotations that stage ``evaluate`` compares with."""
    expected = {
        "gfl_r101_r50": "/elsewhere/coco/annotations/instances_val2017.json",
        "pspnet_r101_pspnet_r18": "/elsewhere/cityscapes/gtFine/val",
        "faster_rcnn_r101_r50_voc": "/elsewhere/voc/VOCdevkit/VOC2007/Annotations",
    }

    assert {name: str(published(name).origin.truth()) for name in expected} == expected


def test_the_environment_comes_first(monkeypatch):
    """A folder in the environment stands before the one in params.yaml; none at all is one line."""
    monkeypatch.setenv("KD_COCO", "/mine")

    assert str(published("gfl_r101_r50").origin.root) == "/mine"
    assert "data set 'cityscapes'" in refused(published, "pspnet_r101_pspnet_r18", {})


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_scenes_are_loaded_resized_and_no_more(pair_name):
    """One plain pipeline for all pairs: no flips and no crops; masks where a head learns them, label maps where pixels count."""
    at = setting(pair_name, "mini")
    for side in ("teacher", "student"):
        config = compose_training(at, side, seed=0)
        train = config.train_dataloader.dataset
        with_masks = any(step.get("with_mask", False) for step in train.pipeline)

        assert {name.replace("Seg", "Det") for name in steps(config.train_dataloader)} == {
            "LoadImageFromFile", "LoadAnnotations", "Resize", "PackDetInputs",
        }  # fmt: skip
        assert with_masks == (pair_name in MASKS or (side == "teacher" and pair_name.startswith("cascade_mask")))
        assert [step["scale"] for step in train.pipeline if "scale" in step] == [(64, 64)]
        assert len(train.metainfo.classes) == len(CLASSES) + (pair_name in SEGMENTATION)
        assert (config.train_dataloader.num_workers, config.train_dataloader.drop_last) == (0, True)


def test_scenes_are_three_splits():
    """Training, tuning and test data are different files, for boxes and for label maps."""
    boxes = compose_training(setting("gfl_r101_r50", "mini"), "student", seed=0)
    pixels = compose_training(setting("pspnet_r101_pspnet_r18", "mini"), "student", seed=0)

    assert [boxes[key].dataset.ann_file for key in KEYS] == ["train.json", "tune.json", "test.json"]
    assert boxes.val_evaluator.ann_file == "data/tune.json"
    assert [pixels[key].dataset.data_prefix.seg_map_path for key in KEYS] == ["train_labels", "tune_labels", "test_labels"]


@pytest.mark.parametrize("pair_name", [name for name in RUNNABLE if name not in SEGMENTATION])
def test_own_boxes_under_the_published_augmentation(pair_name, tmp_path):
    """Steps of the published pipelines, files and classes of the user, on every loader."""
    data = trees.own_coco(tmp_path)
    at, reference = own(pair_name, data), published(pair_name)
    config, as_published = (compose_training(setting, "student", seed=0) for setting in (at, reference))
    inner = next(part for part in dicts(as_published.train_dataloader.dataset) if "pipeline" in part)

    assert steps(config.train_dataloader) == [step["type"] for step in inner["pipeline"]]
    assert steps(config.test_dataloader) == steps(config.val_dataloader) == steps(as_published.test_dataloader)
    for key, split in zip(KEYS, ("train", "tune", "test"), strict=True):
        dataset = config[key].dataset
        assert (dataset.type, dataset.data_root, dataset.ann_file) == ("UserCocoDataset", f"{tmp_path}/", f"{split}.json")
        assert dataset.metainfo.classes == ("cat", "dog")
    assert config.train_dataloader.batch_size == at.pair.batch_size
    assert {part["num_classes"] for part in dicts(config.model) if "num_classes" in part} == {2}
    assert config.val_evaluator.ann_file == str(tmp_path / "tune.json")


@pytest.mark.parametrize("pair_name", SEGMENTATION)
def test_own_label_maps_under_the_published_augmentation(pair_name, tmp_path):
    """The same for pixels: crops as published, the ending of the user's images found."""
    at = own(pair_name, trees.own_label_maps(tmp_path))
    config, as_published = (compose_training(setting, "student", seed=0) for setting in (at, published(pair_name)))
    train = config.train_dataloader.dataset

    assert steps(config.train_dataloader) == steps(as_published.train_dataloader)
    assert "RandomCrop" in steps(config.train_dataloader)
    assert steps(config.test_dataloader) == steps(as_published.test_dataloader)
    assert (train.type, train.img_suffix, train.seg_map_suffix) == ("BaseSegDataset", ".jpg", ".png")
    assert train.data_prefix == {"img_path": "train", "seg_map_path": "train_labels"}
    assert {part["num_classes"] for part in dicts(config.model) if "num_classes" in part} == {2}


@pytest.mark.parametrize("pair_name", ["gfl_r101_r50", "pspnet_r101_pspnet_r18"])
def test_own_data_at_a_size(pair_name, tmp_path):
    """With ``image_px`` images are resized to it, without augmentation, at the published models and schedule too."""
    data = (trees.own_label_maps if pair_name in SEGMENTATION else trees.own_coco)(tmp_path)
    config = compose_training(own(pair_name, data, image_px=96), "student", seed=0)
    names = steps(config.train_dataloader)

    assert len(names) == 4
    assert [step["scale"] for key in KEYS for step in config[key].dataset.pipeline if "scale" in step] == [(96, 96)] * 3
    assert config.model.backbone.depth == load_depth(pair_name)


def load_depth(pair_name):
    """Depth of the student's ResNet, from its name."""
    return int(pair_name.rsplit("_r", 1)[-1])


def test_own_data_that_a_pair_cannot_read(tmp_path):
    """Boxes for a segmenter, or no data named at all: one line with the remedy."""
    data = trees.own_coco(tmp_path)
    pair, tier = load_pair("pspnet_r101_pspnet_r18"), load_tier("paper").model_copy(update={"data": "own"})

    line = refused(own, "pspnet_r101_pspnet_r18", data)
    assert re.search(r"own\.format .*coco.*'PSPNet ResNet-101 to PSPNet ResNet-18'.*label_maps", line), line
    assert "'own:'" in refused(data_source, pair, tier, ROOT)
