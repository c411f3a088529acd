"""Text of an estimate's costs: runs, their times, totals and wall time."""

import os
from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from pipelines.estimation.estimate import Estimate
from pipelines.estimation.throughput import DEFAULT_TFLOPS, TFLOPS_REASON
from pipelines.estimation.workload import Kind, Work

_SUMS: dict[Kind | None, str] = {
    "backbones": "backbones trained",
    "teachers": "teachers trained",
    "masks": "auxiliary modules trained",
    "trials": "trials of studies, at most",
    "students": "students trained",
    "evaluation": "evaluations",
    None: "all",
}


def new_table(title: str, *columns: str) -> Table:
    """Return an empty table; a column whose name ends in a space is aligned to the right."""
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", header_style="", box=box.SIMPLE_HEAD, show_edge=False
    )
    for name in columns:
        table.add_column(name.rstrip(), justify="right" if name.endswith(" ") else "left", overflow="fold")
    return table


def _scale(estimate: Estimate) -> tuple[float, str]:
    """Factor and unit of printed times: hours of a GPU, minutes of a core."""
    return (1, "GPU-hours") if estimate.unit == "GPU" else (60, "core-minutes")


def remaining_runs(estimate: Estimate) -> Iterable[Table]:
    """Table of the runs that remain, by pair."""
    factor, unit = _scale(estimate)
    columns = ("times ", "iterations ", "batch size ", "images ", "images/s ", "origin", "each ", "all ")
    table = new_table(f"Runs ({unit}: each, and all of its repetitions)", "pair and run", *columns)
    names, pair = (
        {
            "backbones": "backbone",
            "teachers": "teacher",
            "masks": "{}: auxiliary module",
            "trials": "{}: trials",
            "students": "{}",
        },
        None,
    )
    for work in estimate.work:
        if work.kind == "evaluation":
            continue
        if work.pair != pair:
            table.add_row(Text(work.pair, style="bold"))
        hours = ["?", "?"] if work.hours is None else [_short(factor * work.hours / work.times), _short(factor * work.hours)]
        table.add_row(f"  {names[work.kind].format(work.what)}", *_numbers(work), *hours)
        pair = work.pair
    if pair:
        yield table


def _numbers(work: Work) -> list[str]:
    speed, length = work.speed, work.length
    shown = ["?", "?", "?"]
    if length is not None:
        gpus = length.batch // length.batch_per_gpu
        shown = [
            f"{length.iterations}",
            f"{gpus} x {length.batch_per_gpu}" if gpus > 1 else f"{length.batch}",
            f"{length.images}",
        ]
    origin = "unknown" if speed is None else f"measured, {speed.source}" if speed.measured else f"estimate{speed.source}"
    return [str(work.times), *shown, "?" if speed is None else f"{speed.images_per_s:.3g}", origin]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.2g}"  # noqa: PLR2004 (three digits at any size)


def cost_rules(estimate: Estimate, tflops: float) -> Iterable[str]:
    """Sentences on the origin of the numbers."""
    yield f"Images/s are per {estimate.unit}; an image counts each time that it is seen."
    if (tuning := estimate.grid.tuning) and any(work.kind == "trials" for work in estimate.work):
        hours = "" if tuning.max_hours is None else f", or after {tuning.max_hours:g} hours"
        yield (
            "Trials are as fast as their method's runs, and are counted as if none were pruned; each is evaluated "
            f"{tuning.reports} times, which is among the evaluations. A study may end earlier: by pruning{hours}."
        )
    if estimate.unit == "core":
        yield (
            "Estimates are from measured runs of this tier: a cell's is the mean of its pair's, or of all; an auxiliary module takes a teacher's "
            "training step at most; evaluating an image takes a third of a training step."
        )
        return
    reason = TFLOPS_REASON if tflops == DEFAULT_TFLOPS else "as requested"
    yield (
        "Estimates: a step costs 3 forward passes of the student and, but for the baseline, 1 of the teacher; a step of a teacher's own, "
        "and at most of an auxiliary module, 3 of the teacher; an image evaluated 1. Methods' own losses and loading of data are not "
        f"counted. Assumed are {tflops:g} TFLOP/s per GPU ({reason}) and the forward passes of benchmarks/complexity.json, a "
        "multiply-add being 2 FLOP. Batch size: GPUs x images as published."
    )


def totals(estimate: Estimate, price: float | None, currency: str) -> Iterable[Table]:
    """Table of hours, and money, by kind of work."""
    factor, unit = _scale(estimate)
    table = new_table(
        "Totals",
        unit,
        "pieces ",
        "measured ",
        "estimated ",
        "both ",
        *([] if price is None else [f"{currency} at {price:g} per hour "]),
    )
    for kind, title in _SUMS.items():
        pieces = sum(work.times for work in estimate.work if kind in (None, work.kind))
        hours = [estimate.hours(kind, measured=True), estimate.hours(kind, measured=False)]
        money = [] if price is None else [f"{price * sum(hours):.0f}"]
        table.add_row(title, str(pieces), *(_short(factor * value) for value in [*hours, sum(hours)]), *money)
    yield table


def wall_time(estimate: Estimate, gpus: int, price: float | None) -> Iterable[str]:
    """Sentences on wall time and money."""
    hours = estimate.hours(None, measured=True) + estimate.hours(None, measured=False)
    if estimate.unknown:
        yield f"In no sum, as their time is unknown: {estimate.unknown} pieces."
    if estimate.unit == "GPU":
        yield f"Wall time with {gpus} GPUs, all in use all the time: {_short(hours / gpus)} hours ({_short(hours / gpus / 24)} days)."
        if price is None:
            yield "Money: give --price, the cost of a GPU per hour."
    elif hours:
        jobs = min(2, os.cpu_count() or 1)
        yield f"No GPU is needed. Wall time of ./kd run, {jobs} units at a time: {_short(60 * hours / jobs)} minutes."
