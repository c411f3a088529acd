"""Malformed files of settings by rules, each with its verdict by the rule: nonsense, or to be read.

A file is changed in a copy of the project and checked as stage check does, in this process.  Right is: nonsense is refused by one line
that names the file and, where one key is changed, the key; all else is accepted; nothing takes longer than :data:`LIMIT_S` of a processor.
"""

import copy
import importlib
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
LIMIT_S = 20.0
GFL, PSPNET = "gfl_r101_r50", "pspnet_r101_pspnet_r18"
_LONGEST_LINE = 3000


@dataclass(frozen=True)
class Case:
    """One file as somebody might write it.

    Args:
        rule: what was done to it.
        path: of the file in the project.
        content: its bytes; None for a folder of that name.
        refused: whether it is nonsense.
        key: that the line must name, or else the line's number.
        value: that was written, in short.
    """

    rule: str
    path: str
    content: bytes | None
    refused: bool
    key: str = ""
    value: str = ""


class Raw(str):
    """Text that is put into a file as it is."""

    __slots__ = ()


def written(content: Any) -> bytes:
    """A file's bytes: JSON, which is YAML, with :class:`Raw` text in it as it is."""
    raws: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw):
            raws.append(value)
            return f"@{len(raws) - 1}@"
        if isinstance(value, dict):
            return {key: marked(one) for key, one in value.items()}
        return [marked(one) for one in value] if isinstance(value, list) else value

    text = json.dumps(marked(content), indent=1)
    for number, raw in enumerate(raws):
        text = text.replace(f'"@{number}@"', raw)
    return text.encode()


def at(content: Any, path: str) -> Any:
    """A part of a content, named by dots."""
    for name in filter(None, path.split(".")):
        content = content[int(name) if isinstance(content, list) else name]
    return content


def with_value(content: Any, path: str, value: Any) -> Any:
    """A copy of a content with another value at a path; ``...`` for none."""
    found = copy.deepcopy(content)
    above, _, last = path.rpartition(".")
    parent = at(found, above)
    if value is ...:
        del parent[last]
    else:
        parent[int(last) if isinstance(parent, list) else last] = value
    return found


def renamed(content: Any, path: str) -> Any:
    """A copy of a content with a key misspelt."""
    above, _, last = path.rpartition(".")
    found = with_value(content, path, ...)
    at(found, above)[last[:-1] + "zz"] = at(content, path)
    return found


# What no value of a kind is, and what one is.
_NO_NUMBER = ("3", "0.5", "1,5", Raw("yes"), Raw("1:30"), True, False, [1], {"a": 1}, Raw(".nan"), Raw(".inf"), Raw("-.inf"))
_HUGE = (10**30, Raw("1e400"), Raw("9" * 5000))
BAD: dict[str, tuple[Any, ...]] = {
    "count": (*_NO_NUMBER, *_HUGE, 0, -1, 1.5, 1.0, 10**12, "x", ""),
    "whole": (*_NO_NUMBER, *_HUGE, -1, 1.5, 0.0, 10**12, "x"),
    "positive": (*_NO_NUMBER, *_HUGE, 0, -1, -0.5, 1e30, "x", ""),
    "number": (*_NO_NUMBER, *_HUGE, -1, -0.5, 1e30, "x"),
    "fraction": (*_NO_NUMBER, *_HUGE, -0.1, 1.1, 2, "x"),
    "text": ("", "  ", 5, 1.5, True, ["a"], {"a": "b"}, "\0"),
    "truth": (1, 0, 1.0, "true", "yes", Raw("on"), [True], {"a": True}),
    "name": ("", "no such", "../smoke", "a/b", "nothing_like_it", 5, True, ["a"], {"a": "b"}, "smoke.yaml", "A", "x" * 5000),
    "range": ([2, 1], [1], [1, 2, 3], [], 5, "1, 2", {"a": 1}, [-1, 2], ["1", "2"], [True, 2], [1.5, 2], [1, 10**30], [0, 0]),
    "counts": ([], [0, 2], [-1, 2], ["1"], [1.5], [True], 5, "x", {"a": 1}, [10**9], [[1]], [Raw(".nan")]),
    "words": (5, "neck", {"a": "b"}, [5], [True], [""], [["a"]], [None]),
    "keys": (5, "x", ["a"], True),
    "bytes": (*_NO_NUMBER, *_HUGE, 0, -1, 1.5, 1.0, 10**13, "x", ""),
}
GOOD: dict[str, tuple[Any, ...]] = {
    "count": (1, 2, Raw("0x2"), Raw("02")),
    "whole": (0, 2),
    "positive": (1, 0.5, Raw("2e-5"), Raw("1e-3"), Raw(".5")),
    "number": (0, 1, 0.5, Raw("2e-5")),
    "fraction": (0, 1, 0.5),
    "text": ("a title", "no", "1:30", "a: b # c"),
    "truth": (True, False, Raw("True")),
}


@dataclass(frozen=True)
class File:
    """A file of settings: a content that is in order, how it is checked, and the kinds of its keys.

    Args:
        path: in the project.
        content: in order.
        check: of the file, given its path; ValueError where it is wrong.
        kinds: key -> a kind of :data:`BAD`.
        needed: keys that must be there.
        optional: keys that may be null or missing.
        others: rule -> further changes (key, value) that are nonsense.
        fine: changes that are none.
    """

    path: str
    content: Any
    check: Callable[[Path], object]
    kinds: dict[str, str]
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    others: tuple[tuple[str, str, Any], ...] = ()
    fine: tuple[tuple[str, Any], ...] = ()


def _loaded(path: str) -> Any:
    return YAML(typ="safe").load((ROOT / path).read_text())


def _all(_: Path) -> None:
    from pipelines.params import load_grid  # noqa: PLC0415
    from pipelines.stages.check import check_all  # noqa: PLC0415

    check_all(load_grid())


def _schema(path: Path, module: str, name: str) -> None:
    from pipelines.params import load_yaml  # noqa: PLC0415

    load_yaml(path, getattr(importlib.import_module(module), name))


def _record(path: Path) -> None:
    from benchmarks import dataset  # noqa: PLC0415

    dataset._record(path)


PARAMS = {
    "tier": "smoke",
    "grid": {GFL: ["none", "mgd", "crosskd"], PSPNET: ["none", "mgd_seg"]},
    "seeds": [0, 1],
    "baseline_seeds": [0, 1, 2],
    "batch_size": None,
    "gpus_per_run": 1,
    "precision": "fp32",
    "speed": {"compile": False, "channels_last": False},
    "data": {"coco": "/data/coco"},
    "released": [],
    "tokens": {},
    "own": {
        "format": "coco", "root": "/data/mine", "classes": ["cat", "dog"], "image_px": 64, "teacher": None,
        **{split: {"images": split, "annotations": f"{split}.json"} for split in ("train", "tune", "test")},
    },
    "tuning": {
        "grid": {GFL: ["none", "mgd"]}, "study": "default", "space": {"mgd": {"share_masked": {"between": [0.2, 0.8]}}}, "trials": 6,
        "max_hours": 1.5, "share": 1.0, "reports": 4, "objectives": ["score"], "sampler": "tpe", "startup_trials": 4,
        "pruner": "median", "seed": 100, "workers": 1,
    },
}  # fmt: skip
_PARAMS = File(
    "params.yaml", PARAMS, _all,
    kinds={
        "tier": "name", "grid": "keys", f"grid.{GFL}": "words", f"grid.{GFL}.1": "name", "seeds": "keys", "seeds.0": "whole",
        "baseline_seeds.2": "whole", "gpus_per_run": "count", "speed": "keys", "speed.compile": "truth", "data": "keys",
        "data.coco": "text", "own": "keys", "own.root": "text", "own.classes": "words", "own.classes.0": "text",
        "own.image_px": "count", "own.train": "keys", "own.train.images": "text", "own.train.annotations": "text",
        "tuning": "keys", "tuning.grid": "keys", "tuning.study": "text", "tuning.trials": "count", "tuning.max_hours": "positive",
        "tuning.reports": "count", "tuning.startup_trials": "count", "tuning.seed": "whole",
        "tuning.workers": "count", "released": "words", "tokens": "keys",
    },
    needed=("tier", "grid", "seeds", "own.format", "own.root", "own.classes", "own.train", "own.test.images", "tuning.grid"),
    optional=(
        "baseline_seeds", "batch_size", "gpus_per_run", "precision", "speed", "speed.compile", "data", "released", "tokens", "own",
        "own.image_px", "own.teacher", "tuning", "tuning.study", "tuning.space", "tuning.trials", "tuning.max_hours", "tuning.share",
        "tuning.reports", "tuning.objectives", "tuning.sampler", "tuning.startup_trials", "tuning.pruner", "tuning.seed",
        "tuning.workers",
    ),
    others=(
        *(("seeds that cannot be", "seeds", value) for value in
          ([], [0, 0], [0, -1], [2**31], [2**32], 0, -3, 20261128, 10**9, [True], ["1"], [0.5], "5", None, [[0]], [None], {"a": 1})),
        *(("another choice", key, value) for key, value in (
            ("precision", "fp8"), ("precision", 16), ("tuning.sampler", "grid"), ("tuning.pruner", True), ("tuning.objectives", []),
            ("tuning.objectives", ["score", "score"]), ("tuning.objectives", "score"), ("own.format", "voc"), ("own.format", None),
        )),
        *(("a name that there is not", key, value) for key, value in (
            (f"grid.{GFL}", ["none", "mdg"]), (f"grid.{GFL}", ["mgd+mgd"]), (f"grid.{GFL}", ["none+mgd"]), (f"grid.{GFL}", []),
            (f"grid.{GFL}", ["none", "none"]), ("grid", {"gfl_r101": ["none"]}), ("grid", {}), ("grid", {"../x": ["none"]}),
            ("tuning.grid", {GFL: ["crossdk"]}), ("tuning.grid", {"voc": ["none"]}), ("tuning.space", {"mdg": {}}),
            ("data", {"kitti": "/data"}), ("released", ["no-such-student"]), ("own.classes", ["a", "a"]), ("own.classes", []),
            ("own.train.images", "../x"), ("own.train.images", "/x"), ("tokens", {"gfl_r50_r18": "released"}),
        )),
        *(("a range that is none", "tuning.space.mgd.share_masked", value) for value in (
            {"between": [0.8, 0.2]}, {"between": [0.5, 0.5]}, {"between": [-1, 0.8]}, {"between": [0.2, 5]}, {"between": [0.2]},
            {"between": ["0.2", 0.8]}, {"times": [0, 2]}, {"times": [-1, 2]}, {"choices": [0.65]}, {"choices": ["a", 0.65]},
            {"choices": [0.65, True]}, {"between": [0.7, 0.8]}, {}, {"between": [0.2, 0.8], "times": [0.5, 1.2]},
            {"between": [0.2, 0.8], "scale": "cubic"}, {"between": [0.2, Raw(".inf")]}, [0.2, 0.8], 5, None,
        )),
        *(("a fraction of a schedule", "tuning.share", value) for value in (0, -0.5, 1.5, "1.0", True, [1], Raw(".nan"))),
        *(("a batch that cannot be", "batch_size", value) for value in (0, -1, 1.5, "4", True, [4], 10**12, 10**30)),
        ("a seed of both", "tuning.seed", 1),
        ("a baseline that lacks a seed", "baseline_seeds", [0, 2]),
        ("far too many cells", "seeds", list(range(5000))),
    ),
    fine=(
        ("seeds", 2), ("baseline_seeds", [0, 1, 20261128]), ("baseline_seeds", [0, 1, 2**31 - 1]), ("seeds", [Raw("0x1"), Raw("00")]),
        ("baseline_seeds", []), ("batch_size", 2), ("grid", {GFL: ["none", "mgd", "crosskd+pkd"]}), ("tuning.grid", {}),
        ("tuning.space", {}), ("tuning.share", Raw("5e-1")), ("tuning.max_hours", None), ("tuning.objectives", ["score"]),
        ("tuning.space.mgd.share_masked", {"choices": [0.5, 0.65]}), ("tuning.seed", 20261128),
    ),
)  # fmt: skip
# Without names of values that the grid's other parts need.
_LENGTHS = ("teacher_epochs", "student_epochs", "prior_iterations", "batch_size")
_TIER_KINDS = {
    "title": "text", "scenes": "keys", "scenes.seed": "whole", "scenes.image_px": "count", "scenes.digits": "range",
    "scenes.digit_px": "range", "scenes.train": "count", "scenes.test": "count", "model": "keys",
    "model.backbones": "keys", "model.backbones.ResNet-50.base_channels": "count", "model.backbones.MobileNetV2.widen_factor": "positive",
    "model.neck_channels": "count", "model.strides": "counts", "model.stacked_convs": "count", "model.octave_base_scale": "count",
    "model.detections": "count", "model.roi.samples": "count", "model.roi.pool": "count", "model.solo_grids": "counts",
    "model.segmenter.channels": "count", "model.segmenter.dilations": "counts", "schedule": "keys",
    **{f"schedule.{key}": "count" for key in _LENGTHS}, "schedule.teacher_lr": "positive", "schedule.student_lr": "positive",
    "schedule.weight_decay": "number", "schedule.warmup_iterations": "whole", "schedule.clip_grad_norm": "positive",
    "pretraining": "keys", "pretraining.epochs": "count", "pretraining.lr": "positive", "pretraining.least_accuracy": "number",
    "area_px2": "range",
}  # fmt: skip
_TIER_NEEDED = (
    "title",
    "data",
    "scenes",
    "model",
    "schedule",
    "area_px2",
    "scenes.train",
    "schedule.batch_size",
    "model.strides",
)
_TIER_OTHERS = (
    *(("strides that no pyramid has", "model.strides", value) for value in ([8, 8, 16], [32, 16, 8], [8, 24], [8], [3, 6], [8, 16, 0])),
    *(("a range out of order", key, value) for key, value in (
        ("area_px2", [1024, 484]), ("area_px2", [0, 5]), ("scenes.digits", [3, 1]), ("scenes.digits", [0, 1]),
        ("scenes.digit_px", [52, 20]), ("scenes.digit_px", [20, 5200]), ("model.solo_grids", [4, 12]), ("model.segmenter.dilations", [0]),
    )),
    *(("a size that does not fit", key, value) for key, value in (
        ("model.neck_channels", 12), ("scenes.image_px", 10**9), ("scenes.train", 1), ("schedule.batch_size", 5000),
        ("model.backbones.ResNet-50.depth", 50), ("model.backbones.ResNet-50", {"depth": 18}), ("model.backbones", {}),
        ("model.backbones.SwinTransformer-96.num_heads", [3, 2, 4, 8]), ("model.backbones.SwinTransformer-96.depths", [2, 2]),
        ("model.backbones.SwinTransformer-96.num_heads", [0, 1, 1, 1]), ("model.backbones.SwinTransformer-96.window_size", 0),
    )),
    *(("another choice", "data", value) for value in ("scene", None, True, "own", 5)),
    ("a key of another kind", "model.backbones.MobileNetV2.depth", 18),
)  # fmt: skip
_PAIR_KINDS = {
    "title": "text", "schedule": "text", "epochs": "count", "gpus": "count", "images_per_gpu": "count", "teacher": "keys",
    "teacher.name": "text", "teacher.stated": "positive", "teacher.checkpoint": "keys", "student": "keys", "student.initialisation": "keys",
}  # fmt: skip
_PAIR_OTHERS = (
    *(("another choice", key, value) for key, value in (
        ("head", "gfll"), ("head", 5), ("task", "detections"), ("metric", "mIoU"), ("dataset", "coc"), ("dataset", "../coco"), ("reported", "all"), ("dataset", "cityscapes"),
    )),
    *(("a length given twice or not", key, value) for key, value in (("epochs", None), ("iterations", 5))),
    *(("an address or a digest that is none", f"teacher.checkpoint.{key}", value) for key, value in (
        ("url", "http://x/y.pth"), ("url", "https://"), ("url", 5), ("url", "https://x y/z.pth"), ("sha256", "xyz"), ("sha256", "dd"),
        ("sha256", 12345678), ("size_bytes", 0), ("size_bytes", -5), ("size_bytes", "5"),
    )),
    *(("a hook point that no model has", "taps", value) for value in (
        {"neck": "nek"}, {"box_maps": "bbox_head.gfl_regg"}, {"nek": "neck"}, {"neck": ""}, {"neck": 5}, {"neck": "bbox_head..x"}, ["neck"],
    )),
    *(("a config key that there is not", "student.changes", value) for value in (
        {"model.nec.out_channels": 8}, {"model.neck.out_chanels": 8}, {"optim_wrapper.optimizer.lrr": 0.1}, {"param_schedule.0.end": 5},
        {"param_scheduler.9.end": 5}, {"train_cfg.max_epoch": 5}, {"learning_rate": 0.1}, {"model.test_cfg.nmss": 5}, {"": 5}, {"a..b": 1},
    )),
    *(("a config value that it does not take", "student.changes", value) for value in (
        {"optim_wrapper.optimizer.lr": "0.02"}, {"optim_wrapper.optimizer.lr": -1}, {"optim_wrapper.optimizer.lr": 1e30},
        {"train_cfg.max_epochs": 10**9}, {"optim_wrapper.optimizer.lr": True}, {"optim_wrapper.clip_grad": {"max_norm": -1}},
        {"model.neck.out_channels": "x"}, {"model.bbox_head.anchor_generator": 5}, {"model.neck.type": "FPNN"}, {"model.backbone.depth": 51},
    )),
    ("changes without a source", "student.why_changed", None),
    ("a config that is not installed", "student.config", "mmdet::gfl/gfl_r50_fpn_1x_coc.py"),
    ("a config that is not installed", "student.config", "mmdet::../../x.py"),
    ("a config that is not installed", "teacher.config", "gfl_r50"),
    ("a pair that it does not repeat", "repeats", "gfl_r50"),
    ("a pair that it does not repeat", "repeats", GFL),
    ("a seed that cannot be", "teacher_seed", -1),
    ("a seed that cannot be", "teacher_seed", 2**40),
    ("a seed that cannot be", "teacher_seed", "1"),
    ("reasons that are none", "lacks", {"neck": ""}),
    ("reasons that are none", "lacks", {"nek": "x"}),
)  # fmt: skip
_RECIPE_OTHERS = (
    *(("a hyper-parameter that there is not", "hparams", value) for value in ({}, {"alpha": 1.0}, [], None, 5)),
    *(("an override that cannot apply", "overrides", [{"why": "x", "hparams": {}, **value}]) for value in (
        {}, {"head": "gfll"}, {"pair": "no_such_pair"}, {"pair": "../x"}, {"scale": "mini"}, {"combined_with": "mgd"},
        {"combined_with": "crossdk"}, {"head": "gfl", "hparams": {"beta": 1.0}}, {"head": "gfl", "hparams": {"alpha": "1"}},
        {"head": "gfl", "hparams": {"alpha": -1.0}}, {"head": "gfl", "hparams": {"num_levels": 0}}, {"head": "gfl", "why": ""},
        {"head": "gfl", "hparams": {"num_levels": "x"}}, {"head": "gfl", "hparams": {"num_levels": -1}}, {"head": "gfl", "inherits": ["nek"]},
        {"head": "gfl", "inherits": "neck"}, {"head": "gfl", "config": {"model.nec": 5}}, {"head": "gfl", "prior": {"iterations": 5}},
        {"head": "gfl", "hparams": {"alpha": Raw(".nan")}}, {"head": "gfl", "hparams": {"share_masked": 1.5}},
    )),
    *(("a range that is none", "tunable", value) for value in (
        {"alpha": {"times": [10, 0.1]}}, {"alpha": {"times": [0, 1]}}, {"beta": {"times": [1, 2]}}, {"share_masked": {"between": [0, 2]}},
        {"alpha": {}}, {"alpha": [0.1, 10]}, {"title": {"times": [1, 2]}}, {"num_levels": {"choices": [5, 0]}}, {"share_masked": {"choices": [0.5, "x"]}},
    )),
    *(("a conversion that is none", "reduced", value) for value in (
        {"beta": {"finest_px": True}}, {"alpha": {}}, {"alpha": {"of": "neck"}}, {"alpha": {"of": "nek", "channels": 1, "positions": 1}},
        {"alpha": {"of": "neck", "channels": -1, "positions": 5}}, {"alpha": {"tower_convs": 0}}, {"alpha": {"of_iterations": 10**12}},
        {"alpha": {"finest_px": False}}, {"alpha": 5},
    )),
    *(("a module that no model has", "inherits", value) for value in (["nek"], [""], ["../neck"], "neck", [5])),
    *(("a config key that there is not", "config", value) for value in (
        {"optim_wraper.clip_grad": {"max_norm": 35}}, {"model.neck.outs": 5}, {"optim_wrapper.optimizer.lr": "0.1"}, ["x"], 5,
        {"optim_wrapper.clip_grad": {"max_norm": Raw(".inf")}}, {"train_cfg.max_epochs": -1},
    )),
    *(("another choice", key, value) for key, value in (("teacher", "none"), ("teacher", True), ("code", "mdg"), ("code", "../x"))),
    ("an auxiliary module that it has not", "prior", {"hparams": {}, "training": {"iterations": 1, "lr": 0.1, "weight_decay": 0}}),
)  # fmt: skip
_HPARAMS = {"mgd": {"alpha": "number", "share_masked": "fraction", "num_levels": "count"},
            "crosskd": {"position": "whole", "rectified": "truth", "class_weight": "number", "box_weight": "number"}}  # fmt: skip
_RECIPE_KINDS = {"title": "text", "paper.title": "text", "source.repo": "text", "notes": "words"}


def files() -> list[File]:
    """All files that are changed."""
    smoke, pair = _loaded("benchmarks/tiers/smoke.yaml"), _loaded(f"benchmarks/pairs/{GFL}.yaml")
    artefacts = _loaded("benchmarks/artefacts.yaml")
    artefacts = {"students": dict(list(artefacts["students"].items())[:1]), "tokens": dict(list(artefacts["tokens"].items())[:1])}
    ids = ["gfl-crosskd", "gfl-crosskd-pkd", *(name for one in artefacts["students"].values() for name in one["reported"])]
    registry = [{**one, "disagrees_with": []} for one in _loaded("benchmarks/reported.yaml") if one["id"] in ids]
    first, tokens = next(iter(artefacts["students"])), next(iter(artefacts["tokens"]))
    changed = {"changes": {"optim_wrapper.optimizer.lr": 0.01}, "why_changed": "a test"}
    pair |= {"student": {**pair["student"], **changed}, "taps": {}, "lacks": {}}
    return [
        _PARAMS,
        File("benchmarks/tiers/smoke.yaml", smoke, _all, _TIER_KINDS, _TIER_NEEDED, ("pretraining",), _TIER_OTHERS),
        File(
            "benchmarks/tiers/mini.yaml", _loaded("benchmarks/tiers/mini.yaml"), partial(_schema, module="benchmarks.tier", name="Tier"),
            {f"schedule.heads.segmenter.{key}": kind for key, kind in (
                ("teacher_epochs", "count"), ("student_lr", "positive"), ("batch_size", "count"))},
            ("schedule.heads.segmenter.student_lr",), ("schedule.heads",), (("a head type that there is not", "schedule.heads", {"gfll": {}}),),
        ),
        File(
            f"benchmarks/pairs/{GFL}.yaml", pair, _all, _PAIR_KINDS,
            ("title", "task", "dataset", "metric", "head", "gpus", "teacher", "student", "teacher.checkpoint", "student.name"),
            ("taps", "lacks", "teacher_seed", "reported", "not_run"), _PAIR_OTHERS,
            fine=(("student.changes", {"optim_wrapper.clip_grad": {"max_norm": 35, "norm_type": 2}}), ("teacher_seed", 20261128),
                  ("student.changes", {"param_scheduler.0.end": 300}), ("student.changes", {"train_cfg.max_epochs": 24})),
        ),
        *(
            File(
                f"methods/{name}.yaml", _loaded(f"methods/{name}.yaml"), _all,
                {**_RECIPE_KINDS, **{f"hparams.{key}": kind for key, kind in kinds.items()}},
                ("title", "paper", "source", "hparams", "notes", "deviations", *(f"hparams.{key}" for key in kinds)),
                (*(["reduced", "overrides"] if name == "mgd" else []), "tunable", "inherits", "config", "code"), _RECIPE_OTHERS if name == "mgd" else (
                    ("a position that no head has", "reduced", {"position": {"tower_convs": 64}, "box_loss": {"tower_convs": 4}}),
                    ("a position that no head has", "overrides", [{"scale": "reduced", "hparams": {"position": -1}, "why": "x"}]),
                    *(("another choice", "hparams.box_loss", value) for value in ("klx", 5, True, None, ["kl"])),
                ),
            )
            for name, kinds in _HPARAMS.items()
        ),
        File(
            "benchmarks/datasets/coco.yaml", _loaded("benchmarks/datasets/coco.yaml"), _record,
            {"title": "text", "num_classes": "whole", "held_out": "whole", "num_trained": "count", "splits": "keys",
             "splits.val.images": "text", "splits.val.num_images": "count", "archives.0.size": "bytes", "margins.0.margin": "positive"},
            ("title", "splits.val.images", "archives.0.url"), ("held_out", "num_trained", "archives"),
            (("paths outside of the root", "splits.val.images", "../x"), ("paths outside of the root", "splits.val.annotations", "/x.json"),
             ("an address or a digest that is none", "archives.0.url", "ftp://x"), ("an address or a digest that is none", "archives.0.sha256", "xyz"),
             ("more than there is", "held_out", 10**6), ("more than there is", "num_trained", 10**6), ("another choice", "format", "yolo")),
        ),
        File(
            "benchmarks/reported.yaml", registry, _all,
            {"0.value": "positive", "0.source": "text", "0.settings.epochs": "count"}, ("0.value", "0.source", "0.metric"), ("0.note",),
            (("more than there is", "0.value", 100.5), ("another choice", "0.what", "x"), ("another choice", "0.id", "GFL"), ("another choice", "1.id", "gfl-crosskd"),
             ("a name that there is not", "0.pair", "gfl_r101"), ("a name that there is not", "0.method", "crossdk")),
        ),
        File(
            "benchmarks/artefacts.yaml", artefacts, _all,
            {f"students.{first}.reported": "words", f"tokens.{tokens}.method": "name"}, ("students", f"students.{first}.reported"), (),
            (*tuple(("an address or a digest that is none", f"students.{first}.weights.{key}", value) for key, value in (("address", "http://x"), ("file", "../x.pth"), ("file", ""), ("file", "a/b"), ("sha256", "xyz"), ("container", "zip"))), ("a name that there is not", f"students.{first}.reported", ["no-such-result"]), ("a name that there is not", f"tokens.{tokens}.pairs", ["gfl"]), ("a name that there is not", f"tokens.{tokens}.method", "mask")),
        ),
        File(
            "slurm.yaml", {"partition": "gpu", "minutes": 60, "cpus": 4, "memory": "32GB", "setup": [], "options": {"qos": "x"}, "poll_s": 10},
            partial(_schema, module="pipelines.runner.slurm", name="Settings"),
            {"partition": "text", "minutes": "count", "cpus": "count", "setup": "words", "options": "keys", "poll_s": "positive"},
            ("partition", "minutes"), ("cpus", "memory", "setup", "options", "poll_s"),
            (*(("a size that is none", "memory", value) for value in ("32", "0GB", "-1GB", 32, "x", "")), ("a list for a value", "options", {"qos": [1]})),
        ),
    ]  # fmt: skip


def value_cases(file: File) -> Iterator[Case]:
    """Changes of one key each."""

    def case(rule: str, content: Any, key: str, value: Any = "", *, refused: bool) -> Case:
        return Case(rule, file.path, written(content), refused, key, str(value)[:80])

    for key, kind in file.kinds.items():
        for value in BAD[kind]:
            named = key.rpartition(".")[0] if key[-1].isdigit() else key
            yield case(
                f"a value of the wrong kind or size: {kind}", with_value(file.content, key, value), named, value, refused=True
            )
        for value in GOOD.get(kind, ()) if key not in _FITTING else ():
            yield case(f"a right value: {kind}", with_value(file.content, key, value), key, value, refused=False)
    for key in file.needed:
        yield case("a required key removed", with_value(file.content, key, ...), key, refused=True)
        yield case("a key misspelt", renamed(file.content, key), key.rpartition(".")[2][:-1] + "zz", refused=True)
    for key in file.optional:
        yield case("an optional key null", with_value(file.content, key, None), key, refused=False)
        if key.rpartition(".")[2] in at(file.content, key.rpartition(".")[0]):
            yield case("an optional key missing", with_value(file.content, key, ...), key, refused=False)
            yield case("a key misspelt", renamed(file.content, key), key.rpartition(".")[2][:-1] + "zz", refused=True)
    for rule, key, value in file.others:
        yield case(rule, with_value(file.content, key, value), "", f"{key}: {value}", refused=True)
    for key, value in file.fine:
        yield case("a right value: others", with_value(file.content, key, value), key, value, refused=False)


# Keys whose right values depend on others: an epoch has a batch, a pyramid begins somewhere, a seed is not of both.
_FITTING = {
    "scenes.image_px", "scenes.train", "model.neck_channels", "model.segmenter.channels", "schedule.batch_size", "seeds.0",
    "baseline_seeds.2", "gpus_per_run", "own.image_px", "own.train.images", "own.train.annotations", "tuning.study", "tuning.seed",
    "num_trained", "splits.val.images", "model.stacked_convs", "hparams.share_masked",
    "hparams.alpha", "hparams.position", "tokens", "pretraining.least_accuracy", "tuning.startup_trials",
}  # fmt: skip


def text_cases(file: File) -> Iterator[Case]:
    """Changes of the text, whatever it says."""
    text = written(file.content).decode()
    is_list = isinstance(file.content, list)
    first = next(iter(file.content[0] if is_list else file.content))
    inside = text.replace("{", '{\n "x": 5,', 1)
    bomb = "".join(f',\n "x{n}": &x{n} [{", ".join([f"*x{n - 1}"] * 9)}]' for n in range(1, 12))
    latin = text.replace("{", "{ # Maßstab\n", 1)
    wrong: dict[str, bytes | None] = {
        "a key given twice": text.replace("{", f'{{\n "{first}": 5,', 1).encode(),
        "an alias bomb": text.replace("{", f'{{\n "x0": &x0 [1,1,1,1,1,1,1,1,1]{bomb},', 1).encode(),
        "an alias of itself": text.replace("{", '{\n "x": &x [*x],', 1).encode(),
        "an alias of nothing": inside.replace("5", "*nothing", 1).encode(),
        "a tag: Python": text.replace("{", '{\n "x": !!python/object/apply:os.getcwd [],', 1).encode(),
        "a tag: own": text.replace("{", "!mine {", 1).encode(),
        "a directive": f"%YAML 1.1\n---\n{text}".encode(),
        "two documents": f"{text}\n---\n{text}".encode(),
        "an empty file": b"",
        "comments alone": b"# nothing\n",
        "null": b"null\n",
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "Latin-1": latin.encode("latin-1"),
        "a NUL": text.replace("{", "{\0", 1).encode(),
        "a control character": text.replace("{", "{\x07", 1).encode(),
        "tabs for indentation": b"a:\n\tb: 1\n",
        "nested too deeply": inside.replace("5", "[" * 200 + "]" * 200, 1).encode(),
        "nested far too deeply": b"[" * 300_000,
        "cut in the middle": text[: len(text) // 2].encode(),
        "cut near the end": text.rstrip()[:-1].encode(),
        "a list for keys" if not is_list else "keys for a list": b"{a: 1}\n" if is_list else b"- 1\n",
        "a single word": b"tier\n",
        "a merge key": text.replace("{", '{\n <<: {"a": 1},', 1).encode(),
        "a key that is a number": text.replace("{", "{\n 5: 1,", 1).encode(),
        "a key that is true": text.replace("{", "{\n true: 1,", 1).encode(),
        "a key that is a list": text.replace("{", "{\n ? [1] : 1,", 1).encode(),
        "a date without quotes": inside.replace("5", "2026-11-28", 1).encode(),
        "a number of 5000 digits": inside.replace("5", "9" * 5000, 1).encode(),
        "an unknown key": inside.encode(),
        "a file of 9 MiB": text.encode() + b"#" * 9 * 2**20,
        "not YAML": b"{a: b: c, ]",
        "a folder": None,
    }  # fmt: skip
    right = {
        "a byte order mark": text.encode("utf-8-sig"),
        "line ends of Windows": text.replace("\n", "\r\n").encode(),
        "an explicit document": f"---\n{text}\n...\n".encode(),
        "comments": f"# Maßstab\n{text}\n# end\n".encode(),
    }
    yield from (Case(rule, file.path, content, refused=True) for rule, content in wrong.items())
    yield from (Case(rule, file.path, content, refused=False) for rule, content in right.items())


def cases() -> Iterator[tuple[File, Case]]:
    """All files by rules."""
    for file in files():
        for case in (*text_cases(file), *value_cases(file)):
            yield file, case


def lay_out(folder: Path) -> None:
    """Copy what a check reads into a folder, every changed file in order."""
    for name in ("benchmarks", "methods", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for file in files():
        (folder / file.path).write_bytes(written(file.content))


class Late(Exception):  # noqa: N818 (not an error of the suite)
    """A check that does not end."""


@contextmanager
def _limited() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fault(file: File, case: Case) -> str | None:
    """What is wrong with how a file is judged, in the project that is the current folder; None where it is right."""
    path = Path(case.path)
    kept = path.read_bytes()
    path.unlink()
    if case.content is None:
        path.mkdir()
    else:
        path.write_bytes(case.content)
    try:
        with _limited():
            file.check(path)
    except ValueError as error:
        line = str(error)
        if not case.refused:
            return f"refused: {line}"
        named = (
            case.key.rpartition(".")[2] in line
            or "is not YAML: line" in line
            or (case.rule.endswith(" name") and case.value in line)
        )
        said = case.path in line and named and "\n" not in line and len(line) < _LONGEST_LINE
        return None if said else f"one line with {case.path} and {case.key!r} was expected: {line[:300]!r}"
    except Late:
        return f"not judged within {LIMIT_S:g} s of a processor"
    except Exception as error:  # noqa: BLE001 (what would be a traceback)
        return f"{type(error).__name__}: {str(error)[:300]}"
    else:
        return "accepted" if case.refused else None
    finally:
        if case.content is None:
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(kept)


@dataclass
class Count:
    """Files of a rule, and how they were judged."""

    files: int = 0
    refused: int = 0
    accepted: int = 0
    wrong: int = 0


def judge(folder: Path, every: int = 1) -> tuple[dict[str, Count], list[str]]:
    """Judge every so-manieth file of each rule, in a copy of the project; by rule how many there are, and what is wrong."""
    lay_out(folder)
    counts: dict[str, Count] = {}
    met: Counter[str] = Counter()
    faults: list[str] = []
    before = Path.cwd()
    os.chdir(folder)
    try:
        _all(Path())  # all files are in order, and what takes seconds to import is imported
        for file, case in cases():
            met[case.rule] += 1
            if (met[case.rule] - 1) % every:
                continue
            count = counts.setdefault(case.rule, Count())
            count.files += 1
            if found := fault(file, case):
                count.wrong += 1
                faults.append(f"{case.path}: {case.rule} ({case.key}: {case.value}): {found}")
            elif case.refused:
                count.refused += 1
            else:
                count.accepted += 1
    finally:
        os.chdir(before)
    return counts, faults
