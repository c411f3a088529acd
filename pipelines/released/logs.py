"""Logs of authors' training runs as tables and summaries, and their first losses beside ours.

Limits of the logs, by the code that writes them (:mod:`pipelines.released.log_lines`):

- mmcv's JSON does not have the length of an epoch.  Iterations of later epochs count the largest that is printed: short by less
  than one interval per epoch.
- A line of mmcv has means since the line before, one of MMEngine means over its ``window_size`` (MMDetection's is the interval,
  MMSegmentation's 10 iterations).  Both count here for all iterations since the line before.
- Without the launcher's number, GPUs are those of one machine.

mmrazor prefixes losses with ``student.``, and with ``distiller.`` (0.1: ``mmrazor/models/algorithms/general_distill.py``, hunto/MasKD
at b5af34f) or ``distill.`` (1.0: ``single_teacher_distill.py``), and the teacher's scores with ``teacher.`` (1.0: ``distill_val_loop.py``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from benchmarks.digest import file_sha256
from pipelines.released.log_lines import LogLines, read_lines
from reports.schemas.evidence import LossLevel, ReadLog

FIRST_ITERATIONS = 500
# By metric, the keys that logs have it under; the first that is there counts.
KEYS = {
    "box AP": ("coco/bbox_mAP", "bbox_mAP"),
    "mask AP": ("coco/segm_mAP", "segm_mAP"),
    "box AP50": ("coco/bbox_mAP_50", "bbox_mAP_50", "pascal_voc/AP50", "AP50", "pascal_voc/mAP", "mAP"),
    "mIoU": ("mIoU",),
    "top-1": ("accuracy/top1", "accuracy_top-1"),
}


@dataclass(frozen=True)
class TrainingLog:
    """Contents of a log.

    Args:
        table: one row per value: ``mode`` (train, val), ``epoch`` (none of a schedule by iterations), ``iteration`` (global; none
            of a validation after an epoch), ``name``, ``value`` as logged.
        by_mmengine: written by MMEngine, not by mmcv: it logs mIoU on another scale.
        batch_size: images per step over all GPUs; None, as the next two, where the log does not say it.
    """

    format: Literal["mmcv json", "mmengine json", "text"]
    table: pd.DataFrame
    by_epoch: bool
    by_mmengine: bool
    batch_size: int | None
    images_per_gpu: int | None
    gpus: int | None


def read_log(path: Path) -> TrainingLog:
    """Read a log of mmcv 1.x or MMEngine; of epochs that a resumed training repeats, the later lines count.

    Raises:
        ValueError: no log, damaged, or without a validation.
    """
    read = read_lines(path)
    if all(line.mode == "train" for line in read.lines):
        raise ValueError(f"{path}: no validation in it; take the log of a training that validated, or download a cut file again")
    by_epoch = _by_epoch(read)
    images, gpus = read.images_per_gpu, read.gpus
    return TrainingLog(
        format=("mmengine json" if read.by_mmengine else "mmcv json") if read.is_json else "text",
        table=_table(read, by_epoch=by_epoch),
        by_epoch=by_epoch,
        by_mmengine=read.by_mmengine,
        batch_size=images * gpus if images and gpus else None,
        images_per_gpu=images,
        gpus=gpus,
    )


def _by_epoch(read: LogLines) -> bool:
    """Tell a schedule by epochs from one by iterations, whose lines may have epochs, too.

    MMEngine's loop by iterations stays in one epoch, and the steps of its validations are no epochs.
    mmcv's runner by iterations counts epochs, but its iterations never restart.
    """
    if not all(line.epoch for line in read.lines):
        return False
    if not read.is_json:
        return True
    if read.by_mmengine:
        ends = [(train, val) for train, val in pairwise(read.lines) if (train.mode, val.mode) == ("train", "val")]
        return all(train.epoch == val.epoch for train, val in ends)
    train = [line for line in read.lines if line.mode == "train"]
    rises = [(before, after) for before, after in pairwise(train) if (after.epoch or 0) > (before.epoch or 0)]
    return not rises or any(after.iteration <= before.iteration for before, after in rises)


def _table(read: LogLines, *, by_epoch: bool) -> pd.DataFrame:
    """Tabulate the lines; of two values at one place, the later counts."""
    iterations = [line.iteration for line in read.lines if line.mode == "train"]
    interval = min((after - before for before, after in pairwise([0, *iterations]) if after > before), default=math.inf)
    in_epoch = by_epoch and not (read.is_json and read.by_mmengine)
    rows: list[tuple[str, int | None, int | None, str, float]] = []
    last = 0  # iteration of training
    for line in read.lines:
        iteration: int | None = line.iteration
        if line.mode == "train":
            length = (line.length or max(iterations)) if in_epoch else 0
            iteration = last = line.iteration + length * ((line.epoch or 1) - 1)
        elif by_epoch:
            iteration = None
        elif not last < line.iteration <= last + interval:  # batches of the validation (mmcv since v1.3.4), or an epoch
            iteration = last
        rows += [(line.mode, line.epoch if by_epoch else None, iteration, *item) for item in line.logged.items()]
    table = pd.DataFrame(rows, columns=["mode", "epoch", "iteration", "name", "value"])
    table = table.astype({"epoch": "Int64", "iteration": "Int64"})
    table = table.drop_duplicates(["mode", "epoch", "iteration", "name"], keep="last")
    return table.sort_values(["epoch", "iteration"], ignore_index=True)


def summarise(log: TrainingLog, path: Path, metric: str) -> ReadLog:
    """Summarise a log by a metric of :data:`benchmarks.metrics.METRICS`, scores in points.

    Accuracies and MMEngine's mIoU are logged from 0 to 100, all else from 0 to 1: MMSegmentation 0.x divides the percents of its
    tables by 100 (``mmseg/datasets/custom.py`` at 054208ee).

    Raises:
        ValueError: no validation has the metric.
    """
    val = log.table[(log.table["mode"] == "val") & log.table["value"].between(0, 100)]  # COCO's code has -1 for none
    names = set(val["name"])
    key = next((key for key in KEYS[metric] if key in names), None)
    if key is None:
        raise ValueError(
            f"{path}: no validation in it has {metric} ({' or '.join(KEYS[metric])}), but {', '.join(sorted(names)) or 'nothing finite'}; "
            "check which pair's log it is"
        )
    times = 1 if metric == "top-1" or (metric == "mIoU" and log.by_mmengine) else 100
    scores, teacher = (_scores(val[val["name"] == name], times, by_epoch=log.by_epoch) for name in (key, f"teacher.{key}"))
    best_at, best = max(scores, key=lambda score: score[1])
    train = log.table[log.table["mode"] == "train"]
    rates = train[train["name"].str.fullmatch(r"lr|lr_.+|.+\.lr")]["value"]
    first_losses, first_iterations = _first_losses(train)
    return ReadLog(
        file=path.name,
        sha256=file_sha256(path),
        format=log.format,
        metric=key,
        scores=scores,
        by_epoch=log.by_epoch,
        last=scores[-1][1],
        best=best,
        best_at=best_at,
        teacher=teacher[-1][1] if teacher else None,
        batch_size=log.batch_size,
        images_per_gpu=log.images_per_gpu,
        gpus=log.gpus,
        lr=None if rates.empty else float(rates.max()),
        first_losses=first_losses,
        first_iterations=first_iterations,
    )


def _scores(rows: pd.DataFrame, times: int, *, by_epoch: bool) -> list[tuple[int, float]]:
    at = rows["epoch" if by_epoch else "iteration"]
    return [(int(place), round(value * times, 6)) for place, value in zip(at, rows["value"], strict=True)]


def _first_losses(train: pd.DataFrame) -> tuple[dict[str, float], int]:
    """Means up to the last line of the first iterations, and the number of iterations that this line is at."""
    first = train[(train["iteration"] <= FIRST_ITERATIONS) & train["name"].str.contains("loss") & np.isfinite(train["value"])]
    if first.empty:
        return {}, 0
    wide = first.pivot_table(index="iteration", columns="name", values="value")
    ends = wide.index.to_numpy(dtype=float)
    weights = np.diff(ends, prepend=0.0)
    means = {str(name): float(np.average(wide[name][has], weights=weights[has])) for name, has in wide.notna().items()}
    return means, int(ends[-1])


def compare_levels(read: ReadLog, curve: Sequence[Mapping[str, float]], tolerance: float = 0.15) -> list[LossLevel]:
    """Compare losses of a log's first iterations with those of a run's curve; nothing where either is too short.

    The student's own losses are compared by name, those of distillation by their sum.  In the log the latter are those that mmrazor
    prefixes or, where nothing is prefixed, those that the run does not have.
    """
    ours = _first_means(curve, read.first_iterations)
    distils = {
        name: name.startswith("distill") or ("." not in name and name not in ours) for name in read.first_losses if name != "loss"
    }
    bare = {name: name.removeprefix("student.").removeprefix("architecture.") for name in distils}
    theirs = {bare[name]: read.first_losses[name] for name, distil in distils.items() if not distil and bare[name] in ours}
    sums = [read.first_losses[name] for name, distil in distils.items() if distil]
    rest = [value for name, value in ours.items() if name != "loss" and name not in theirs]
    levels = [(name, value, ours[name]) for name, value in theirs.items()]
    if sums and rest:
        levels.append(("distillation", sum(sums), sum(rest)))
    return [LossLevel(name=name, theirs=a, ours=b, agrees=abs(b - a) <= tolerance * abs(a)) for name, a, b in levels]


def _first_means(curve: Sequence[Mapping[str, float]], iterations: int) -> dict[str, float]:
    """Mean of each loss over a curve's first iterations; nothing where it has fewer."""
    sums: dict[str, float] = {}
    seen = 0.0
    for point in curve:
        if "loss" in point and seen < iterations:
            weight = min(point["iteration"], iterations) - seen
            seen += weight
            for name in (name for name in point if name.startswith("loss")):
                sums[name] = sums.get(name, 0.0) + weight * point[name]
    return {name: total / iterations for name, total in sums.items()} if seen == iterations else {}
