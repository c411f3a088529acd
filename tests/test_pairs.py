"""The pair files against the installed packages; nothing is built."""

import json
import re
from functools import cache
from pathlib import Path

import mmdet
import mmseg
import pytest
import yaml
from mmengine.hub import hub

from pipelines import params
from pipelines.params import load_pair
from pipelines.recipes import impossible_reason
from tests.conftest import ROOT
from tests.published import DETECTION, RUNNABLE, SEGMENTATION, changed, installed, read_once, unknown_keys

SIDES = ("teacher", "student")
PACKAGES = {"mmdet": mmdet, "mmseg": mmseg}
HUB = {"torchvision": "torchvision_0.12", "open-mmlab": "openmmlab", "mmcls": "mmcls"}  # by the scheme of a name


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root; each is read once, for what it holds is frozen."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(params, "load_yaml", read_once)


@cache
def listed(config: str) -> dict[str, dict]:
    """Results in the metafile beside a config: metrics by name, by the address of the weights."""
    package, folder, name = re.split("::|/", config)
    (metafile,) = (Path(PACKAGES[package].__file__).parent / ".mim/configs" / folder).glob("metafile.y*ml")
    models = [m for m in yaml.safe_load(metafile.read_text())["Models"] if m["Config"] == f"configs/{folder}/{name}"]
    results = {m["Weights"]: m["Results"] if isinstance(m["Results"], list) else [m["Results"]] for m in models}
    return {url: {key: value for part in parts for key, value in part["Metrics"].items()} for url, parts in results.items()}


def test_all_published_pairs_are_there():
    """One file per published pair, and no other but a pair once more under a second teacher."""
    files = {path.stem for path in (ROOT / "benchmarks/pairs").glob("*.yaml") if load_pair(path.stem).repeats is None}

    assert {*RUNNABLE, "resnet34_resnet18"} == files


@pytest.mark.parametrize("name", RUNNABLE)
def test_lengths_are_the_configs(name):
    """The student's schedule, data that an epoch repeats counted as often."""
    pair = load_pair(name)
    config = changed(pair.student.config, pair.student.changes)
    repeated = config.train_dataloader.dataset.get("times", 1)

    assert (pair.iterations, pair.epochs) == (
        (config.train_cfg.max_iters, None) if "max_iters" in config.train_cfg else (None, config.train_cfg.max_epochs * repeated)
    )


@pytest.mark.parametrize("name", RUNNABLE)
def test_configs_take_the_changes(name):
    """Both configs are installed, have every key that is changed in them, and have the new values afterwards."""
    pair = load_pair(name)
    for side in SIDES:
        model = getattr(pair, side)
        config = changed(model.config, model.changes)

        assert unknown_keys(installed(model.config), model.changes) == []
        assert all(_at(config, key) == value for key, value in model.changes.items())


def _at(config, key):
    for part in key.split("."):
        config = config[int(part)] if isinstance(config, (list, tuple)) else config[part]
    return config


@pytest.mark.parametrize(
    "key", ["model.neck.in_chanels", "model.bbox_head.norm_on_box", "optim_wrapper.clip", "param_scheduler.0.ends"]
)
def test_a_misspelt_key_is_seen(key):
    """The check above would find it, also where keys may be added."""
    config = installed(load_pair("fcos_r101_r50").student.config)

    assert unknown_keys(config, {key: 1}) == [key]


@pytest.mark.parametrize("name", RUNNABLE)
def test_what_the_publisher_states(name):
    """Address and figure are the metafile's for that config; where there are no weights, nothing is stated."""
    pair = load_pair(name)
    if pair.teacher.checkpoint is None:
        assert pair.teacher.stated is None
        return

    assert listed(pair.teacher.config)[pair.teacher.checkpoint.url][pair.metric] == pair.teacher.stated


@pytest.mark.parametrize("name", [*RUNNABLE, "resnet34_resnet18"])
def test_digests_are_in_the_names(name):
    """OpenMMLab and PyTorch put the first digits into the file name; Swin's publisher does not."""
    pair = load_pair(name)
    files = [f for f in (pair.teacher.checkpoint, pair.teacher.initialisation, pair.student.initialisation) if f is not None]
    for file in files:
        named = re.search(r"-([0-9a-f]{8})\.pth$", file.url)

        assert len(file.sha256) == 64 if named is None else file.sha256.startswith(named[1])


@pytest.mark.parametrize("name", RUNNABLE)
def test_initialisation_is_the_configs(name):
    """The file is the one that the config's own name for it stands for, at whichever host; none where it has no name."""
    pair = load_pair(name)
    for side in SIDES:
        model = getattr(pair, side)
        config = changed(model.config, model.changes).model
        meant = (config.backbone.get("init_cfg") or {}).get("checkpoint") or config.get("pretrained")
        trained_here = side == "student" or pair.teacher.checkpoint is None
        if not trained_here or meant is None:
            assert model.initialisation is None
            continue
        scheme, _, alias = meant.partition("://")
        address = json.loads((Path(hub.__file__).parent / f"{HUB[scheme]}.json").read_text())[alias] if scheme in HUB else meant

        assert address.rsplit("/", 1)[-1] == model.initialisation.url.rsplit("/", 1)[-1]


@pytest.mark.parametrize("name", DETECTION)
def test_batch_of_detectors(name):
    """The batch that the config's learning rate belongs to."""
    pair = load_pair(name)

    assert installed(pair.student.config).auto_scale_lr.base_batch_size == pair.batch_size


@pytest.mark.parametrize("name", SEGMENTATION)
def test_batch_of_segmenters(name):
    """MMSegmentation has 2 images on each of 4 GPUs, the authors of all these pairs had 8."""
    pair = load_pair(name)
    images_a_gpu = int(re.search(r"_4xb(\d)-", pair.student.config)[1])

    assert 8 * images_a_gpu == 8 * installed(pair.student.config).train_dataloader.batch_size == pair.batch_size


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_schedule_in_words(name):
    """The first number of the prose is the length of the changed config."""
    pair = load_pair(name)
    config = changed(pair.student.config, pair.student.changes)
    dataset = config.train_dataloader.dataset
    length = config.train_cfg.get("max_epochs", 0) * dataset.get("times", 1) or config.train_cfg.max_iters
    words = {12: "12 epochs", 24: "24 epochs", 40000: "40k iterations"}[length]
    decay = config.param_scheduler[-1]

    assert words in pair.schedule
    assert decay.get("milestones") is None or all(str(m * dataset.get("times", 1)) in pair.schedule for m in decay["milestones"])
    assert decay["end"] in (config.train_cfg.get("max_epochs"), config.train_cfg.get("max_iters"))


def test_the_classifier_says_why():
    """Its cells carry the pair's reason."""
    pair = load_pair("resnet34_resnet18")

    assert "ImageNet" in impossible_reason("resnet34_resnet18", pair, "mgd", "mini")
