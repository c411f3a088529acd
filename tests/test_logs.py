"""Logs of authors' training runs: hand-written ones, those of a real MMEngine training, and one of our curves in each format."""

import json
import math
from collections import defaultdict
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from benchmarks import metrics
from pipelines.released.logs import KEYS, compare_levels, read_log, summarise
from reports.schemas.evidence import ReadLog
from tests.conftest import committed

ENVIRONMENT = "sys.platform: linux\nCUDA available: True\nGPU 0,1,2,3,4,5,6,7: Tesla V100-SXM2-32GB\nGCC: gcc 7.5\n"
CONFIG = "data = dict(\n    samples_per_gpu=2,\n    workers_per_gpu=2)\nval_dataloader = dict(samples_per_gpu=1)\n"

MMCV_JSON = "\n".join(
    json.dumps(record)
    for record in [
        {"env_info": ENVIRONMENT, "config": CONFIG, "seed": 0, "exp_name": "a.py"},
        {"mode": "train", "epoch": 1, "iter": 50, "lr": 0.002, "memory": 3883, "data_time": 0.05, "loss_cls": 1.0, "loss": 3.0, "time": 0.5},
        {"mode": "train", "epoch": 1, "iter": 100, "lr": 0.02, "memory": 3883, "data_time": 0.05, "loss_cls": 0.5, "loss": 1.5, "time": 0.5},
        {"mode": "val", "epoch": 1, "iter": 625, "lr": 0.02, "bbox_mAP": 0.213, "bbox_mAP_50": 0.4, "bbox_mAP_s": -1.0, "bbox_mAP_copypaste": "0.213 0.400"},
        {"mode": "train", "epoch": 2, "iter": 50, "lr": 0.02, "memory": 3883, "data_time": 0.05, "loss_cls": 0.25, "loss": 1.0, "time": 0.5},
        {"mode": "train", "epoch": 2, "iter": 100, "lr": 0.002, "memory": 3883, "data_time": 0.05, "loss_cls": 0.25, "loss": 1.0, "time": 0.5},
        {"mode": "val", "epoch": 2, "iter": 625, "lr": 0.002, "bbox_mAP": 0.207, "bbox_mAP_50": 0.41, "bbox_mAP_s": -1.0, "bbox_mAP_copypaste": "0.207 0.410"},
    ]
)  # fmt: skip

MMENGINE_JSON = "\n".join(
    json.dumps(record)
    for record in [
        {"lr": 0.002, "data_time": 0.01, "loss": 3.0, "student.loss_cls": 1.0, "distill.loss_kd": 2.0, "time": 0.5, "epoch": 1, "iter": 50, "memory": 9, "step": 50},
        {"coco/bbox_mAP": 0.2131, "teacher.coco/bbox_mAP": 0.4021, "data_time": 0.01, "time": 0.1, "step": 1},
        {"lr": 0.02, "data_time": 0.01, "loss": 1.5, "student.loss_cls": 0.5, "distill.loss_kd": 1.0, "time": 0.5, "epoch": 2, "iter": 110, "memory": 9, "step": 110},
        {"coco/bbox_mAP": 0.2071, "teacher.coco/bbox_mAP": 0.4021, "data_time": 0.01, "time": 0.1, "step": 2},
    ]
)  # fmt: skip

MMCV_TEXT = f"""2021-12-12 20:54:40,001 - mmdet - INFO - Environment info:
------------------------------------------------------------
{ENVIRONMENT}
2021-12-12 20:54:41,001 - mmdet - INFO - Distributed training: True
2021-12-12 20:54:41,101 - mmdet - INFO - Config:
{CONFIG}gpu_ids = range(0, 4)

2021-12-12 20:54:44,123 - mmdet - INFO - Epoch [1][50/120]\tlr: 1.978e-03, eta: 1 day, 2:03:04, time: 0.500, data_time: 0.050, memory: 3883, loss_cls: 1.1000, s0.loss_bbox: 0.5000, loss: 1.9000
2021-12-12 20:55:44,123 - mmdet - INFO - Exp name: a.py
2021-12-12 20:55:44,124 - mmdet - INFO - Epoch [1][100/120]\tlr: 2.000e-02, eta: 12:03:04, time: 0.500, data_time: 0.050, memory: 3883, loss_cls: 0.9000, s0.loss_bbox: 0.4000, loss: 1.5000
[>>] 625/625, 6.4 task/s, ETA:     0s2021-12-12 20:56:44,100 - mmdet - INFO - Evaluating bbox...
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.213
2021-12-12 20:56:44,123 - mmdet - INFO - Epoch(val) [1][625]\tbbox_mAP: 0.2130, bbox_mAP_50: 0.4000, bbox_mAP_copypaste: 0.213 0.400, segm_mAP: 0.1930
2021-12-12 20:57:44,123 - mmdet - INFO - Epoch [2][50/120]\tlr: 2.000e-02, eta: 0:03:04, time: 0.500, data_time: 0.050, memory: 3883, loss_cls: 0.8000, s0.loss_bbox: 0.3000, loss: 1.2000
2021-12-12 20:58:44,123 - mmdet - INFO - Epoch(val) [2][625]\tbbox_mAP: 0.2210, bbox_mAP_50: 0.4100, bbox_mAP_copypaste: 0.221 0.410, segm_mAP: 0.2010
"""

MMENGINE_TEXT = """2022/12/09 19:18:40 - mmengine - INFO -
------------------------------------------------------------
System environment:
    GPU 0,1,2,3,4,5,6,7: NVIDIA A100-SXM4-80GB

Runtime environment:
    Distributed training: True
    GPU number: 16
------------------------------------------------------------

2022/12/09 19:18:41 - mmengine - INFO - Config:
auto_scale_lr = dict(base_batch_size=16)
test_dataloader = dict(
    batch_size=1)
train_dataloader = dict(
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    batch_size=3)

2022/12/09 19:18:47 - mmengine - INFO - Epoch(train)  [1][  50/7330]  base_lr: 2.0000e-02 lr: 1.9820e-03  eta: 1 day, 2:03:04  time: 0.5000  data_time: 0.0100  memory: 3000  grad_norm: nan  loss: 1.2000  student.loss_cls: 0.5000
2022/12/09 19:20:47 - mmengine - INFO - Epoch(val)  [1][  50/2500]    eta: 0:00:12  time: 0.0500  data_time: 0.0010  memory: 300
2022/12/09 19:21:47 - mmengine - INFO - Epoch(val) [1][2500/2500]    coco/bbox_mAP: 0.2000  teacher.coco/bbox_mAP: 0.4020  data_time: 0.0010  time: 0.0500
2022/12/09 19:22:47 - mmengine - INFO - Epoch(train)  [2][ 100/7330]  base_lr: 2.0000e-02 lr: 2.0000e-02  eta: 0:03:04  time: 0.5000  data_time: 0.0100  memory: 3000  grad_norm: 1.5000  loss: 1.1000  student.loss_cls: 0.4000
2022/12/09 19:23:47 - mmengine - INFO - Epoch(val) [2][2500/2500]    coco/bbox_mAP: 0.3000  teacher.coco/bbox_mAP: 0.4020  data_time: 0.0010  time: 0.0500
"""


def write(folder, text):
    """A log with that text."""
    path = folder / "some.log"
    path.write_text(text, encoding="utf-8")
    return path


def rows(log, *, mode, name):
    """``(epoch, iteration, value)`` of a name, None where the log has none."""
    found = log.table[(log.table["mode"] == mode) & (log.table["name"] == name)]
    return [
        tuple(None if value is pd.NA else value for value in row)
        for row in found[["epoch", "iteration", "value"]].itertuples(index=False, name=None)
    ]


def names(log, mode):
    """Names of all values of a mode."""
    return set(log.table[log.table["mode"] == mode]["name"])


def test_mmcv_json_by_epoch(tmp_path):
    """Iterations are global, an epoch being as long as its last line says; a validation is at its epoch's end."""
    log = read_log(write(tmp_path, MMCV_JSON))

    assert (log.format, log.by_epoch, log.by_mmengine) == ("mmcv json", True, False)
    assert (log.images_per_gpu, log.gpus, log.batch_size) == (2, 8, 16)
    assert rows(log, mode="train", name="loss_cls") == [(1, 50, 1.0), (1, 100, 0.5), (2, 150, 0.25), (2, 200, 0.25)]
    assert rows(log, mode="train", name="lr") == [(1, 50, 0.002), (1, 100, 0.02), (2, 150, 0.02), (2, 200, 0.002)]
    assert rows(log, mode="val", name="bbox_mAP") == [(1, None, 0.213), (2, None, 0.207)]
    assert names(log, "train") == {"lr", "memory", "data_time", "time", "loss_cls", "loss"}
    assert names(log, "val") == {"bbox_mAP", "bbox_mAP_50", "bbox_mAP_s"}


# The same validations as mmcv logs them since v1.3.4, with the number of batches, and before, with the iteration instead of
# the line of training.
BATCHES = [
    ("train", 3, 350),
    ("train", 4, 400),
    ("val", 4, 500),
    ("train", 5, 450),
    ("train", 5, 500),
    ("train", 6, 800),
    ("val", 6, 500),
]
ITERATIONS = [("train", 3, 350), ("val", 4, 400), ("train", 5, 450), ("train", 5, 500), ("train", 5, 750), ("val", 6, 800)]


@pytest.mark.parametrize("lines", [BATCHES, ITERATIONS])
def test_mmcv_json_by_iteration(tmp_path, lines):
    """Iterations never restart in spite of rising epochs; a validation is where training was."""
    scores = iter([0.5, 0.75])
    text = "\n".join(
        json.dumps(
            {"mode": mode, "epoch": epoch, "iter": iteration, "lr": 0.01}
            | ({"decode.loss_ce": 1.0, "loss": 1.0, "time": 0.2} if mode == "train" else {"mIoU": next(scores), "IoU.road": 0.9})
        )
        for mode, epoch, iteration in lines
    )
    log = read_log(write(tmp_path, "{}\n" + text))

    assert (log.by_epoch, log.batch_size, log.images_per_gpu, log.gpus) == (False, None, None, None)
    assert rows(log, mode="val", name="mIoU") == [(None, 400, 0.5), (None, 800, 0.75)]
    assert rows(log, mode="train", name="loss") == [(None, at, 1.0) for mode, _, at in lines if mode == "train"]
    assert summarise(log, tmp_path / "some.log", "mIoU").scores == [(400, 50.0), (800, 75.0)]


def test_mmengine_json_by_epoch(tmp_path):
    """Iterations are global as they are; the step of a validation is its epoch."""
    log = read_log(write(tmp_path, MMENGINE_JSON))

    assert (log.format, log.by_epoch, log.by_mmengine) == ("mmengine json", True, True)
    assert (log.images_per_gpu, log.gpus, log.batch_size) == (None, None, None)
    assert rows(log, mode="train", name="student.loss_cls") == [(1, 50, 1.0), (2, 110, 0.5)]
    assert rows(log, mode="val", name="coco/bbox_mAP") == [(1, None, 0.2131), (2, None, 0.2071)]
    assert names(log, "val") == {"coco/bbox_mAP", "teacher.coco/bbox_mAP"}


@pytest.mark.parametrize("steps", [(100, 200), (0, 0)])
@pytest.mark.parametrize("epoch", [{}, {"epoch": 1}])
def test_mmengine_json_by_iteration(tmp_path, steps, epoch):
    """With ``log_metric_by_epoch`` or without, and whether or not the only epoch is in the lines."""
    train = [{"lr": 0.01, "loss": 1.0, "decode.loss_ce": 1.0, **epoch, "step": at} for at in (50, 100, 150, 200)]
    val = [{"mIoU": score, "time": 0.1, "step": step} for score, step in zip([31.9, 55.72], steps, strict=True)]
    text = "\n".join(json.dumps(record) for record in [*train[:2], val[0], *train[2:], val[1]])
    log = read_log(write(tmp_path, text))

    assert not log.by_epoch
    assert rows(log, mode="val", name="mIoU") == [(None, 100, 31.9), (None, 200, 55.72)]
    assert summarise(log, tmp_path / "some.log", "mIoU").scores == [(100, 31.9), (200, 55.72)]


def test_mmcv_text_by_epoch(tmp_path):
    """The text has the length of an epoch, and the launcher's number of GPUs before the machine's."""
    log = read_log(write(tmp_path, MMCV_TEXT))

    assert (log.format, log.by_epoch, log.by_mmengine) == ("text", True, False)
    assert (log.images_per_gpu, log.gpus, log.batch_size) == (2, 4, 8)
    assert rows(log, mode="train", name="loss_cls") == [(1, 50, 1.1), (1, 100, 0.9), (2, 170, 0.8)]
    assert rows(log, mode="train", name="s0.loss_bbox") == [(1, 50, 0.5), (1, 100, 0.4), (2, 170, 0.3)]
    assert rows(log, mode="train", name="lr") == [(1, 50, 0.001978), (1, 100, 0.02), (2, 170, 0.02)]
    assert names(log, "train") == {"lr", "time", "data_time", "memory", "loss_cls", "s0.loss_bbox", "loss"}
    assert rows(log, mode="val", name="segm_mAP") == [(1, None, 0.193), (2, None, 0.201)]
    assert names(log, "val") == {"bbox_mAP", "bbox_mAP_50", "segm_mAP"}


def test_mmcv_text_by_iteration(tmp_path):
    """Class names have spaces; the validation has the number of its batches."""
    text = (
        "2022-05-22 02:54:29,655 - mmseg - INFO - Iter [50/40000]\tlr: 9.799e-07, eta: 2 days, 11:45:59, time: 0.672, "
        "data_time: 0.012, memory: 7999, decode.loss_seg: 4.2275, decode.acc_seg: 0.2135, loss: 5.9106\n"
        "2022-05-22 02:55:29,655 - mmseg - INFO - Iter(val) [500]\taAcc: 0.9500, mIoU: 0.7631, IoU.traffic light: 0.5025\n"
    )
    log = read_log(write(tmp_path, text))

    assert (log.format, log.by_epoch, log.by_mmengine) == ("text", False, False)
    assert rows(log, mode="train", name="decode.loss_seg") == [(None, 50, 4.2275)]
    assert rows(log, mode="val", name="IoU.traffic light") == [(None, 50, 0.5025)]
    assert summarise(log, tmp_path / "some.log", "mIoU").scores == [(50, 76.31)]


def test_mmengine_text_by_epoch(tmp_path):
    """Progress within a validation is no validation; images per GPU are those of training."""
    log = read_log(write(tmp_path, MMENGINE_TEXT))

    assert (log.format, log.by_epoch, log.by_mmengine) == ("text", True, True)
    assert (log.images_per_gpu, log.gpus, log.batch_size) == (3, 16, 48)
    assert rows(log, mode="train", name="student.loss_cls") == [(1, 50, 0.5), (2, 7430, 0.4)]
    assert rows(log, mode="train", name="lr") == [(1, 50, 0.001982), (2, 7430, 0.02)]
    assert rows(log, mode="train", name="memory") == [(1, 50, 3000.0), (2, 7430, 3000.0)]
    assert math.isnan(rows(log, mode="train", name="grad_norm")[0][2])
    assert rows(log, mode="val", name="coco/bbox_mAP") == [(1, None, 0.2), (2, None, 0.3)]
    assert names(log, "val") == {"coco/bbox_mAP", "teacher.coco/bbox_mAP"}


def test_mmengine_text_by_iteration(tmp_path):
    """The validation's line has its batches alone; it is where training was."""
    text = (
        "2023/06/13 00:09:36 - mmengine - INFO - Iter(train) [   50/160000]  lr: 9.9779e-03  eta: 0:07:16  time: 0.1033  "
        "data_time: 0.0286  memory: 19513  loss: 0.0695  decode.loss_ce: 0.0471\n"
        "2023/06/13 00:09:40 - mmengine - INFO - Iter(train) [  100/160000]  lr: 9.9557e-03  eta: 0:05:34  time: 0.0803  "
        "data_time: 0.0067  memory: 3597  loss: 0.0708  decode.loss_ce: 0.0485\n"
        "2023/06/13 00:10:30 - mmengine - INFO - Iter(val) [ 50/150]    eta: 0:01:49  time: 0.0280  data_time: 0.0029  memory: 579\n"
        "2023/06/13 00:10:33 - mmengine - INFO - Iter(val) [150/150]    aAcc: 94.5000  mIoU: 70.2000  teacher.mIoU: 77.1000  "
        "data_time: 0.0011  time: 1.3547\n"
    )
    log = read_log(write(tmp_path, text))

    assert (log.format, log.by_epoch, log.by_mmengine) == ("text", False, True)
    assert rows(log, mode="train", name="decode.loss_ce") == [(None, 50, 0.0471), (None, 100, 0.0485)]
    assert rows(log, mode="val", name="mIoU") == [(None, 100, 70.2)]
    assert summarise(log, tmp_path / "some.log", "mIoU").teacher == 77.1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"env_info": "GPU 0,1: A\nGPU 2: B"}, (None, 3, None)),
        ({"env_info": "GPU 0,1,2,3: A", "config": "gpu_ids = [0]\nimgs_per_gpu=4"}, (4, 1, 4)),
        ({"env_info": "GPU 0,1,2,3: A", "config": "gpu_ids = range(0, 16)\nsamples_per_gpu=2"}, (2, 16, 32)),
        ({"env_info": "CUDA available: False", "config": "auto_scale_lr = dict(base_batch_size=16)"}, (None, None, None)),
        ({"seed": None}, (None, None, None)),
    ],
)
def test_batch_size(tmp_path, header, expected):
    """Of the header: the launcher's GPUs, else the machine's; nothing that it does not say."""
    record = {"mode": "val", "epoch": 1, "iter": 5, "bbox_mAP": 0.1}
    log = read_log(write(tmp_path, f"{json.dumps(header)}\n{json.dumps(record)}\n"))

    assert (log.images_per_gpu, log.gpus, log.batch_size) == expected


SCORES = [
    ("box AP", {"mode": "val", "epoch": 1, "iter": 9, "bbox_mAP": 0.373, "bbox_mAP_50": 0.6}, "bbox_mAP", 37.3),
    ("box AP", {"coco/bbox_mAP": 0.287, "coco/segm_mAP": 0.2, "step": 1}, "coco/bbox_mAP", 28.7),
    ("mask AP", {"mode": "val", "epoch": 1, "iter": 9, "bbox_mAP": 0.373, "segm_mAP": 0.3414}, "segm_mAP", 34.14),
    ("mask AP", {"coco/bbox_mAP": 0.287, "coco/segm_mAP": 0.2, "step": 1}, "coco/segm_mAP", 20.0),
    ("box AP50", {"mode": "val", "epoch": 1, "iter": 9, "bbox_mAP": 0.373, "bbox_mAP_50": 0.6}, "bbox_mAP_50", 60.0),
    ("box AP50", {"coco/bbox_mAP": 0.287, "coco/bbox_mAP_50": 0.5, "step": 1}, "coco/bbox_mAP_50", 50.0),
    ("box AP50", {"pascal_voc/mAP": 0.8052, "pascal_voc/AP50": 0.805, "step": 1}, "pascal_voc/AP50", 80.5),
    ("box AP50", {"mode": "val", "epoch": 1, "iter": 9, "AP50": 0.805, "mAP": 0.8048}, "AP50", 80.5),
    ("box AP50", {"mode": "val", "epoch": 1, "iter": 9, "mAP": 0.8227}, "mAP", 82.27),
    ("mIoU", {"mode": "val", "epoch": 1, "iter": 9, "mIoU": 0.7631, "mAcc": 0.8}, "mIoU", 76.31),
    ("mIoU", {"mIoU": 0.71, "mAcc": 0.8, "step": 1}, "mIoU", 0.71),
    ("top-1", {"mode": "val", "epoch": 1, "iter": 9, "accuracy_top-1": 71.69, "accuracy_top-5": 90.1}, "accuracy_top-1", 71.69),
    ("top-1", {"accuracy/top1": 0.5, "accuracy/top5": 2.5, "step": 1}, "accuracy/top1", 0.5),
]


@pytest.mark.parametrize(("metric", "record", "key", "points"), SCORES)
def test_key_and_scale_of_a_metric(tmp_path, metric, record, key, points):
    """Scores are in points; their scale is the format's, however small the value."""
    path = write(tmp_path, json.dumps(record))
    read = summarise(read_log(path), path, metric)

    assert (read.metric, read.last) == (key, points)


def test_every_metric_has_keys():
    """A metric of the suite can be looked for in a log, and is, in the test above."""
    assert set(metrics.METRICS) == set(KEYS) == {metric for metric, *_ in SCORES}


def test_summary(tmp_path):
    """All fields of a log whose best validation is not its last."""
    path = write(tmp_path, MMENGINE_JSON)
    read = summarise(read_log(path), path, "box AP")

    assert read.scores == [(1, 21.31), (2, 20.71)]
    assert (read.last, read.best, read.best_at, read.teacher) == (20.71, 21.31, 1, 40.21)
    assert (read.lr, read.by_epoch, read.file) == (0.02, True, "some.log")
    # 50 iterations with 1.0, then 60 with 0.5.
    assert read.first_losses == pytest.approx({"student.loss_cls": 80 / 110, "distill.loss_kd": 160 / 110, "loss": 240 / 110})
    assert read.first_iterations == 110
    assert ReadLog.model_validate_json(read.model_dump_json()) == read


RATES = [
    [{"mode": "train", "epoch": 1, "iter": 5, "lr": {"student": 0.01, "mask": 0.03}, "base_lr": 0.5, "loss": 1.0},
     {"mode": "val", "epoch": 1, "iter": 5, "lr": 0.9, "bbox_mAP": 0.1}],
    [{"student.lr": 0.01, "mask.lr": 0.03, "base_lr": 0.5, "loss": 1.0, "epoch": 1, "step": 5}, {"coco/bbox_mAP": 0.1, "step": 1}],
]  # fmt: skip


@pytest.mark.parametrize("lines", RATES)
def test_highest_lr(tmp_path, lines):
    """Of training, not ``base_lr``, over all optimizers."""
    path = write(tmp_path, "\n".join(json.dumps(line) for line in lines))

    assert summarise(read_log(path), path, "box AP").lr == 0.03


def of_training(*points, **losses):
    """Lines of MMEngine at some iterations, one value per loss and line, and a validation."""
    lines = [
        {"lr": 1.0, "epoch": 1, "step": at, **{key: values[i] for key, values in losses.items()}} for i, at in enumerate(points)
    ]
    return "\n".join(json.dumps(line) for line in [*lines, {"coco/bbox_mAP": 0.1, "step": 1}])


@pytest.mark.parametrize(
    ("points", "expected", "iterations"),
    [
        ((100, 500, 501), (100 * 1 + 400 * 2) / 500, 500),
        ((70, 490, 560), (70 * 1 + 420 * 2) / 490, 490),
        ((300, 400, 500), (300 * 1 + 100 * 2 + 100 * 4) / 500, 500),
        ((600, 700, 800), None, 0),
    ],
)
def test_first_iterations(tmp_path, points, expected, iterations):
    """A line's mean counts for the iterations since the line before; lines after 500 do not count."""
    path = write(tmp_path, of_training(*points, loss=[1.0, 2.0, 4.0], acc=[9.0, 9.0, 9.0]))
    read = summarise(read_log(path), path, "box AP")

    assert read.first_losses == ({} if expected is None else {"loss": pytest.approx(expected)})
    assert read.first_iterations == iterations


def test_values_that_are_not_finite(tmp_path):
    """NaN is read as NaN; neither a score nor a mean is made of it."""
    text = of_training(100, 200, loss=[1.0, 3.0], loss_cls=[math.nan, 0.5], loss_bbox=[0.25, math.inf]) + "\n"
    text += '{"coco/bbox_mAP": NaN, "step": 2}\n{"coco/bbox_mAP": -1.0, "step": 3}\n'
    path = write(tmp_path, text)
    log = read_log(path)
    read = summarise(log, path, "box AP")

    assert math.isnan(rows(log, mode="train", name="loss_cls")[0][2])
    assert read.first_losses == {"loss": 2.0, "loss_cls": 0.5, "loss_bbox": 0.25}
    assert [points for _, points in read.scores] == [10.0]


def test_resumed(tmp_path):
    """Epoch 2 ran twice, the first time with other values: the later lines count."""
    killed, resumed = MMCV_JSON.replace("0.207", "0.107").replace("0.25", "0.75"), MMCV_JSON.splitlines()
    log = read_log(write(tmp_path, "\n".join([killed, resumed[0], *resumed[4:]])))
    whole = read_log(write(tmp_path, MMCV_JSON))

    assert log.table.sort_values(["mode", "epoch", "iteration", "name"], ignore_index=True).equals(
        whole.table.sort_values(["mode", "epoch", "iteration", "name"], ignore_index=True)
    )
    assert (log.gpus, log.batch_size) == (8, 16)


def test_resumed_text(tmp_path):
    """The environment that a resumed training writes again does not count again."""
    log = read_log(write(tmp_path, MMCV_TEXT.replace("gpu_ids", "ids") * 2))

    assert (log.images_per_gpu, log.gpus, log.batch_size) == (2, 8, 16)
    assert rows(log, mode="val", name="bbox_mAP") == [(1, None, 0.213), (2, None, 0.221)]


def test_cut_json(tmp_path):
    """The last line of a killed training does not count."""
    log = read_log(write(tmp_path, MMCV_JSON[:-30]))

    assert rows(log, mode="val", name="bbox_mAP") == [(1, None, 0.213)]
    assert len(rows(log, mode="train", name="loss")) == 4


def test_cut_text(tmp_path):
    """A value that a cut went through is not read as a number."""
    line = "2021-12-12 20:58:44,123 - mmdet - INFO - Epoch [2][100/120]\tlr: 2.000e-02, loss_cls: 0.7000, loss: 0.9"
    log = read_log(write(tmp_path, MMCV_TEXT + line))

    assert rows(log, mode="train", name="loss_cls")[-1] == (2, 220, 0.7)
    assert rows(log, mode="train", name="loss")[-1] == (2, 170, 1.2)


HTML = "\n<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>"
OTHER_TEXT = "2022-04-25 14:11:23,037 segmentation INFO: Iters: 10/10000 || Lr: 0.09 || Task Loss: 0.4 || Cost Time: 0:00:05\n"
NO_VALIDATION = "\n".join(MMCV_JSON.splitlines()[:3])
DAMAGED = MMCV_JSON.replace('{"mode": "train", "epoch": 2, "iter": 50', '"mode": "train", "epoch": 2, "iter": 50')


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["empty", "download it again"]),
        (" \n\n", ["empty", "download it again"]),
        (HTML, ["line 1", "an HTML page, not a log", "browser"]),
        (f"PK\x03\x04\x00\x00archive/data.pkl\n{MMCV_TEXT}", ["not a log of mmcv 1.x or MMEngine", "check its address"]),
        (OTHER_TEXT, ["not a log of mmcv 1.x or MMEngine", "check its address"]),
        ('{"accuracy/top1": 60.7, "time": 0.01}', ["not a log of mmcv 1.x or MMEngine"]),
        ('{"mode": "tr', ["not a log of mmcv 1.x or MMEngine"]),
        (NO_VALIDATION, ["no validation", "take the log of a training that validated"]),
        (DAMAGED, ["line 5", "not a JSON object", "download it again"]),
        (MMCV_JSON.replace("\n", "\n[1, 2]\n", 1), ["line 2", "not a JSON object"]),
    ],
)
def test_refused(tmp_path, content, parts):
    """One line: which file, where in it, what to do."""
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as error:
        read_log(path)

    assert str(error.value).startswith(str(path))
    assert [part for part in parts if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


def test_metric_that_a_log_does_not_have(tmp_path):
    """The error has what was looked for, and what there is."""
    path = write(tmp_path, MMCV_JSON)
    with pytest.raises(ValueError) as error:
        summarise(read_log(path), path, "mIoU")

    expected = f"{path}: no validation in it has mIoU (mIoU), but bbox_mAP, bbox_mAP_50; check which pair's log it is"
    assert str(error.value) == expected


# A real training by MMEngine.


@DATASETS.register_module(name="LogsNumbers", force=True)
class Numbers(Dataset):
    """Numbers for two images per step."""

    def __init__(self, steps):
        self._steps = steps

    def __len__(self):
        return 2 * self._steps

    def __getitem__(self, index):
        return {"inputs": torch.tensor([float(index % 5)])}


@MODELS.register_module(name="LogsLine", force=True)
class Line(BaseModel):
    """A line with two losses."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode="tensor"):
        """Losses, or predictions."""
        out = self.slope(torch.stack(list(inputs)))
        if mode == "loss":
            return {"student.loss_cls": (out - 1).square().mean(), "distill.loss_kd": out.abs().mean()}
        return list(out)


@METRICS.register_module(name="LogsScore", force=True)
class Score(BaseMetric):
    """Another score at every validation, and the teacher's."""

    scores = iter(())

    def process(self, data_batch, data_samples):  # noqa: ARG002 (MMEngine's)
        """Nothing but a count."""
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results):  # noqa: ARG002 (MMEngine's)
        """The next score."""
        return {"coco/bbox_mAP": next(Score.scores), "teacher.coco/bbox_mAP": 0.4375}


@HOOKS.register_module(name="LogsCollector", force=True)
class Collector(Hook):
    """Every step's losses and learning rate, and every validation's scores, kept beside MMEngine's logger."""

    priority = "VERY_HIGH"  # before MMEngine's logger and before schedulers step
    steps: ClassVar = {}
    scores: ClassVar = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):  # noqa: ARG002 (MMEngine's)
        """Note a step."""
        lr = runner.optim_wrapper.get_lr()["lr"][0]
        Collector.steps[runner.iter + 1] = {key: float(value) for key, value in outputs.items()} | {"lr": lr}

    def after_val_epoch(self, runner, metrics=None):
        """Note a validation."""
        Collector.scores.append((runner.epoch, runner.iter, metrics["coco/bbox_mAP"]))


def train(folder, *, by_epoch, log_by_epoch):
    """A training of 36 steps, validated every 12; its JSON and its text."""
    Collector.steps, Collector.scores = {}, []
    Score.scores = iter([0.1234, 0.3125, 0.25])
    loop = {"type": "EpochBasedTrainLoop", "max_epochs": 3} if by_epoch else {"type": "IterBasedTrainLoop", "max_iters": 36}
    # By iterations in one pass: MMEngine sleeps for two seconds before the next.
    data = {"dataset": {"type": "LogsNumbers", "steps": 12 if by_epoch else 36}, "num_workers": 0}
    config = {
        "work_dir": str(folder),
        "experiment_name": f"logs_{by_epoch}_{log_by_epoch}",
        "model": {"type": "LogsLine"},
        "val_dataloader": {**data, "batch_size": 1, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        "train_dataloader": {**data, "batch_size": 2, "sampler": {"type": "DefaultSampler", "shuffle": True}},
        "train_cfg": {**loop, "val_interval": 1 if by_epoch else 12},
        "val_cfg": {},
        "val_evaluator": {"type": "LogsScore"},
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.05}},
        "param_scheduler": [{"type": "MultiStepLR", "milestones": [20], "by_epoch": False}],
        "default_hooks": {
            "logger": {"type": "LoggerHook", "interval": 4, "log_metric_by_epoch": log_by_epoch},
            "checkpoint": None,
        },
        "custom_hooks": [{"type": "LogsCollector"}],
        "log_processor": {"type": "LogProcessor", "window_size": 4, "by_epoch": log_by_epoch, "num_digits": 6},
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}], "name": f"{by_epoch}{log_by_epoch}"},
        "randomness": {"seed": 3},
    }
    Runner.from_cfg(Config(config)).train()
    (text,), (scalars,) = folder.glob("*/*.log"), folder.glob("*/vis_data/scalars.json")
    return scalars, text


@pytest.mark.parametrize(("by_epoch", "log_by_epoch"), [(True, True), (False, False), (False, True)])
def test_real_mmengine_training(tmp_path, by_epoch, log_by_epoch, capsys):
    """What MMEngine's logger writes is read back as a hook beside it saw it, from JSON and from text."""
    scalars, text = train(tmp_path, by_epoch=by_epoch, log_by_epoch=log_by_epoch)
    means = defaultdict(list)
    for end in range(4, 37, 4):
        epoch = (end - 1) // 12 + 1 if by_epoch else None
        for name in ("student.loss_cls", "distill.loss_kd", "loss"):
            means[name].append((epoch, end, np.mean([Collector.steps[step][name] for step in range(end - 3, end + 1)])))
        means["lr"].append((epoch, end, Collector.steps[end]["lr"]))
    scores = [(epoch if by_epoch else iteration, round(100 * score, 6)) for epoch, iteration, score in Collector.scores]
    assert scores == [(1 if by_epoch else 12, 12.34), (2 if by_epoch else 24, 31.25), (3 if by_epoch else 36, 25.0)]

    for path, precision, facts in ((scalars, 1e-6, (None, None, None)), (text, 1e-5, (2, 2, 1))):
        log = read_log(path)
        read = summarise(log, path, "box AP")

        assert (log.by_epoch, log.by_mmengine) == (by_epoch, True)
        assert log.format == ("mmengine json" if path is scalars else "text")
        for name, expected in means.items():
            found = rows(log, mode="train", name=name)
            assert [row[:2] for row in found] == [row[:2] for row in expected]
            assert [row[2] for row in found] == pytest.approx([row[2] for row in expected], abs=precision)
        assert read.scores == scores
        assert (read.last, read.best, read.teacher, read.lr) == (25.0, 31.25, 43.75, 0.05)
        assert (read.batch_size, read.images_per_gpu, read.gpus) == facts
        assert read.first_iterations == 36
        over_all = np.mean([losses["loss"] for losses in Collector.steps.values()])
        assert read.first_losses["loss"] == pytest.approx(over_all, abs=precision)


# One of our runs, in every format.


def as_mmcv_json(loss, score, length):
    """Lines of mmcv's JSON."""
    lines = [
        {"mode": "train", "epoch": (at - 1) // length + 1, "iter": (at - 1) % length + 1, "lr": 0.01, "loss": value}
        for at, value in loss
    ]
    lines += [{"mode": "val", "epoch": at // length, "iter": 64, "lr": 0.01, "bbox_mAP": value / 100} for at, value in score]
    return "\n".join(json.dumps(line) for line in sorted(lines, key=lambda line: (line["epoch"], line["mode"])))


def as_mmengine_json(loss, score, length):
    """Lines of MMEngine's JSON."""
    lines = [(at, {"lr": 0.01, "loss": value, "epoch": (at - 1) // length + 1, "iter": at, "step": at}) for at, value in loss]
    lines += [(at, {"coco/bbox_mAP": value / 100, "time": 0.1, "step": at // length}) for at, value in score]
    return "\n".join(json.dumps(line) for _, line in sorted(lines, key=lambda line: line[0]))


def as_mmcv_text(loss, score, length):
    """Lines of mmcv's text."""
    stamp = "2021-12-12 20:54:44,123 - mmdet - INFO - "
    lines = [
        (
            at,
            f"{stamp}Epoch [{(at - 1) // length + 1}][{(at - 1) % length + 1}/{length}]\tlr: 1.000e-02, eta: 0:00:09, loss: {value:.6f}",
        )
        for at, value in loss
    ]
    lines += [(at, f"{stamp}Epoch(val) [{at // length}][64]\tbbox_mAP: {value / 100:.6f}") for at, value in score]
    return "".join(f"{line}\n" for _, line in sorted(lines, key=lambda line: line[0]))


def as_mmengine_text(loss, score, length):
    """Lines of MMEngine's text."""
    stamp = "2022/12/09 19:18:47 - mmengine - INFO - "
    lines = [
        (
            at,
            f"{stamp}Epoch(train)  [{(at - 1) // length + 1}][{(at - 1) % length + 1:3}/{length}]  lr: 1.0000e-02  eta: 0:00:09  loss: {value:.6f}",
        )
        for at, value in loss
    ]
    lines += [
        (at, f"{stamp}Epoch(val) [{at // length}][64/64]    coco/bbox_mAP: {value / 100:.6f}  data_time: 0.1000  time: 0.2000")
        for at, value in score
    ]
    return "".join(f"{line}\n" for _, line in sorted(lines, key=lambda line: line[0]))


@pytest.mark.parametrize("export", [as_mmcv_json, as_mmengine_json, as_mmcv_text, as_mmengine_text])
def test_our_curve_in_each_format(tmp_path, export):
    """A committed run's losses and scores come back from every format as they went in."""
    table = json.loads(committed("reports/mini/leaderboard.json"))["tables"][0]
    curve = table["teacher"]["curve"]  # of more epochs than a student's
    loss, score = ([tuple(point) for point in curve[name]] for name in ("own_loss", "val_score"))
    length = score[0][0]  # iterations of an epoch
    path = write(tmp_path, export(loss, score, length))
    log = read_log(path)
    read = summarise(log, path, table["metric"])

    assert len(loss) > 5 < len(score)
    assert rows(log, mode="train", name="loss") == [((at - 1) // length + 1, at, value) for at, value in loss]
    assert read.scores == [(at // length, value) for at, value in score]
    assert (read.last, read.best) == (score[-1][1], max(value for _, value in score))
    assert read.first_losses["loss"] == pytest.approx(np.mean([value for at, value in loss if at <= 500]))


# Levels of losses.


def read_with(iterations=500, **losses):
    """A log's summary with those first losses."""
    return ReadLog(
        file="a.json", sha256="0", format="text", metric="bbox_mAP", scores=[(1, 1.0)], by_epoch=True, last=1.0, best=1.0, best_at=1,
        first_losses=losses, first_iterations=iterations,
    )  # fmt: skip


# Means of the first 500: loss_cls 0.8, loss_bbox 0.5, distillation 0.3 + 0.1.
CURVE = [
    {"iteration": 100, "epoch": 1, "lr": 0.1, "loss": 2.8, "loss_cls": 1.2, "loss_bbox": 0.5, "loss_pkd": 0.9, "loss_mgd": 0.1},
    {"iteration": 250, "epoch": 1, "lr": 0.1, "loss": 1.5, "loss_cls": 0.8, "loss_bbox": 0.5, "loss_pkd": 0.1, "loss_mgd": 0.1},
    {"iteration": 250, "epoch": 1, "val_mAP": 10.0},
    {"iteration": 600, "epoch": 2, "lr": 0.1, "loss": 1.5, "loss_cls": 0.64, "loss_bbox": 0.5, "loss_pkd": 0.18, "loss_mgd": 0.1},
]  # fmt: skip


def compared(read, curve=CURVE, **settings):
    """``(name, theirs, ours, agrees)`` of each level."""
    return [
        (level.name, level.theirs, pytest.approx(level.ours), level.agrees) for level in compare_levels(read, curve, **settings)
    ]


@pytest.mark.parametrize(
    "losses",
    [
        {"loss": 9.0, "student.loss_cls": 0.9, "student.loss_bbox": 0.4, "distill.loss_a": 0.25, "distill.loss_b": 0.5},
        {
            "loss": 9.0,
            "architecture.loss_cls": 0.9,
            "architecture.loss_bbox": 0.4,
            "distiller.a_loss.0": 0.25,
            "distiller.b_loss": 0.5,
        },
        {
            "loss": 9.0,
            "loss_cls": 0.9,
            "loss_bbox": 0.4,
            "loss_a": 0.25,
            "loss_b": 0.5,
            "decode.loss_ce": 7.0,
            "teacher.loss_cls": 7.0,
        },
    ],
)
def test_levels(losses):
    """Own losses by name, all of distillation together; the last point counts for the iterations up to 500 alone."""
    pkd = (100 * 0.9 + 150 * 0.1 + 250 * 0.18) / 500
    cls = (100 * 1.2 + 150 * 0.8 + 250 * 0.64) / 500
    expected = [("loss_cls", 0.9, cls, True), ("loss_bbox", 0.4, 0.5, False), ("distillation", 0.75, pkd + 0.1, False)]

    assert compared(read_with(**losses)) == expected


@pytest.mark.parametrize(
    ("theirs", "tolerance", "agrees"),
    [
        (0.44, 0.15, True),
        (0.43, 0.15, False),
        (0.58, 0.15, True),
        (0.59, 0.15, False),
        (0.6, 0.15, False),
        (0.6, 0.2, True),
        (0.0, 0.15, False),
    ],
)
def test_tolerance(theirs, tolerance, agrees):
    """Ours is 0.5; it may differ by a fraction of theirs."""
    assert compared(read_with(loss_bbox=theirs), tolerance=tolerance) == [("loss_bbox", theirs, 0.5, agrees)]


def test_distillation_of_one_side_alone():
    """A baseline's log has none to compare with."""
    assert [level.name for level in compare_levels(read_with(loss_cls=0.8, loss_bbox=0.5), CURVE)] == ["loss_cls", "loss_bbox"]


@pytest.mark.parametrize(
    ("read", "curve"),
    [
        (read_with(iterations=0), CURVE),
        (read_with(loss_cls=0.8), CURVE[:2]),  # ends before the log's first iterations do
        (read_with(loss_cls=0.8), []),
        (read_with(loss=0.8, **{"decode.loss_ce": 0.8}), CURVE),
    ],
)
def test_nothing_to_compare(read, curve):
    """No levels, and no error."""
    assert compare_levels(read, curve) == []
