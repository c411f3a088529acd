"""A plan as a person reads it."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.dataset import datasets
from pipelines.estimation.lengths import num_images, published_images
from pipelines.estimation.throughput import DEFAULT_TFLOPS, TFLOPS_REASON
from pipelines.estimation.workload import Kind, Plan, Work

PIPED_WIDTH = 130  # columns, where there is no terminal to ask
_GB = 1e9
_SUMS: dict[Kind | None, str] = {
    "backbones": "backbones trained",
    "teachers": "teachers trained",
    "masks": "masks learned",
    "trials": "trials of studies, at most",
    "students": "students trained",
    "evaluation": "evaluations",
    None: "all",
}


def show(plan: Plan, *, gpus: int, price: float | None, currency: str, tflops: float) -> None:
    """Print all of it; ``price`` is a GPU's for an hour."""
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    on_gpus = plan.unit == "GPU"
    parts = (
        _cells(plan),
        _reasons(plan),
        _studies(plan),
        _data(plan),
        _weights(plan),
        _trainings(plan),
        _rules(plan, tflops),
        _totals(plan, price if on_gpus else None, currency),
        _wall_time(plan, gpus, price),
    )
    for part in parts:
        for piece in part:
            console.print(Padding(Text(piece), (0, 0, 0, 1)) if isinstance(piece, str) else piece)


def _table(title: str, *columns: str) -> Table:
    """A table; a column whose name ends in a space is aligned to the right."""
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", header_style="", box=box.SIMPLE_HEAD, show_edge=False
    )
    for name in columns:
        table.add_column(name.rstrip(), justify="right" if name.endswith(" ") else "left", overflow="fold")
    return table


def _cells(plan: Plan) -> Iterable[Table]:
    grid, cached = plan.grid, len(plan.cached)
    impossible = len(plan.all_cells) - cached - len(plan.to_run)
    table = _table(f"Tier {grid.tier}: {plan.tier.title}", "cells", "number ", "")
    table.add_row("to run", str(len(plan.to_run)), "")
    table.add_row("cached", str(cached), plan.finished.means)
    table.add_row("impossible", str(impossible), "for the reasons below" if impossible else "")
    rows = sum(len(methods) for methods in grid.rows.values())
    table.add_row("all", str(len(plan.all_cells)), f"{rows} rows on {len(grid.pairs)} pairs, {len(grid.seeds)} seeds")
    yield table


def _reasons(plan: Plan) -> Iterable[Table]:
    """The impossible cells, one row a reason as far as the pairs share their methods."""
    by_pair: dict[tuple[str, str], list[str]] = {}
    for (pair, method), reason in plan.impossible.items():
        by_pair.setdefault((reason, pair), []).append(method)
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, pair), methods in by_pair.items():
        rows.setdefault((reason, tuple(methods)), []).append(pair)
    table = _table("Impossible", "cells ", "why", "methods", "pairs")
    for (reason, names), pairs in sorted(rows.items()):
        methods_shown = "all" if len(names) == len(plan.grid.methods) else ", ".join(names)
        table.add_row(str(len(names) * len(pairs) * len(plan.grid.seeds)), reason, methods_shown, ", ".join(pairs))
    if rows:
        yield table


def _studies(plan: Plan) -> Iterable[Table]:
    """What stage ``tune`` and the students behind it come to."""
    tuning, done = plan.grid.tuning, plan.finished
    if tuning is None or not plan.tuned:
        return
    share = f", each of {tuning.share:g} of the student's schedule" if tuning.share < 1 else ""
    table = _table("Tuning", "", "to run ", "cached ", "")
    for title, num_all, num_done, note in (
        ("studies", len(plan.studies), len(done.studies & set(plan.studies)), f"at most {tuning.trials} trials{share}"),
        ("students", len(plan.tuned), len(done.tuned & set(plan.tuned)), "trained with what a study found"),
    ):
        table.add_row(title, str(num_all - num_done), str(num_done), note)
    yield table


def _data(plan: Plan) -> Iterable[str | Text | Padding]:
    yield Text("\nData", style="bold")
    if plan.tier.scenes is not None:
        images = num_images(plan.tier, next(iter(plan.pairs.values())), Path())
        yield f"{sum(images or ())} generated scenes, drawn by stage prepare"
        return
    if plan.tier.data == "own":
        yield f"your own, in {plan.grid.own.root if plan.grid.own else 'a folder to be named under own: in params.yaml'}"
        return
    for name in dict.fromkeys(plan.pairs[work.pair].dataset for work in plan.work):
        known = datasets()[name]
        folder = os.environ.get(known.variable) or {**plan.grid.data}.get(name)
        where = (
            f"in {folder}, which is {'' if Path(folder).expanduser().is_dir() else 'not '}there"
            if folder
            else "folder not named yet"
        )
        download, unpacked = (sum(getattr(one, what) for one in known.archives) for what in ("size", "unpacked"))
        disk = f"{_size(download)} to download, {_size(unpacked)} unpacked" if known.archives else "size on disk unknown"
        yield f"{name}: {published_images(name).train} training images; {disk}; {where}"
        how = "stage prepare fetches it with --download" if known.archives else known.account
        text = Text(f"{known.variable}, or data: in params.yaml, names the folder that holds {known.layout}; {how}")
        yield Padding(text, (0, 0, 0, 4))


def _size(num_bytes: float | None) -> str:
    if not num_bytes:
        return "unknown"
    return f"{num_bytes / _GB:.1f} GB" if num_bytes >= _GB else f"{num_bytes / 1e6:.0f} MB"


def _weights(plan: Plan) -> Iterable[Table | str | Text]:
    if not plan.weights:
        yield Text("\nWeights", style="bold")
        yield "none to fetch: teachers are trained here or named by you, students start from random weights"
        return
    recorded = [file.checkpoint.size_bytes for file in plan.weights]
    about = sum(file.checkpoint.size_bytes or file.estimated_bytes or 0 for file in plan.weights)
    title = (
        f"Weights: {len(plan.weights)} files, about {_size(about)}, {sum(file.present for file in plan.weights)} of them there"
    )
    table = _table(title, "size ", "there", "file, and what it is for")
    for file, exact in zip(plan.weights, recorded, strict=True):
        size = _size(exact) if exact else ("~" if file.estimated_bytes else "") + _size(file.estimated_bytes)
        uses = "; ".join(f"{role} of {', '.join(pairs)}" for role, pairs in file.used_by.items())
        table.add_row(size, "yes" if file.present else "no", Group(Text(file.checkpoint.url), Padding(Text(uses), (0, 0, 0, 3))))
    yield table
    if not all(recorded):
        yield "~ is 4 bytes a weight of the model, or of its backbone; the file may hold a classifier more"


def _scale(plan: Plan) -> tuple[float, str]:
    """Hours of a GPU; minutes of a core."""
    return (1, "GPU-hours") if plan.unit == "GPU" else (60, "core-minutes")


def _trainings(plan: Plan) -> Iterable[Table]:
    factor, unit = _scale(plan)
    columns = ("times ", "iterations ", "batch ", "images ", "images/s ", "which is", "each ", "all ")
    table = _table(f"Trainings to run ({unit}: each, and all of its times)", "pair and training", *columns)
    names, pair = (
        {"backbones": "backbone", "teachers": "teacher", "masks": "{}: masks", "trials": "{}: trials", "students": "{}"},
        None,
    )
    for work in plan.work:
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
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.2g}"  # noqa: PLR2004


def _rules(plan: Plan, tflops: float) -> Iterable[str]:
    yield f"Images/s are of one {plan.unit}; an image counts each time that it is seen."
    if (tuning := plan.grid.tuning) and any(work.kind == "trials" for work in plan.work):
        hours = "" if tuning.max_hours is None else f", or after {tuning.max_hours:g} hours"
        yield (
            "Trials go as fast as their method's trainings, and are counted as if none were pruned; each is measured "
            f"{tuning.reports} times, which is among the evaluations. A study may end earlier: by pruning{hours}."
        )
    if plan.unit == "core":
        yield (
            "Estimates go by measured trainings of this tier: a cell's is the mean of its pair's, or of all; masks take a teacher's "
            "training step at most; evaluating an image takes a third of a training step."
        )
        return
    reason = TFLOPS_REASON if tflops == DEFAULT_TFLOPS else "as asked"
    yield (
        "Estimates: a step costs 3 forward passes of the student and, but for the control, 1 of the teacher; a step of a teacher's own, "
        "and at most of learning masks, 3 of the teacher; an image evaluated 1. Methods' own losses and loading of data are not "
        f"counted. Assumed are {tflops:g} TFLOP/s a GPU ({reason}) and the forward passes of benchmarks/complexity.json, a "
        "multiply-add being 2 FLOP. Batch: GPUs x images as published."
    )


def _totals(plan: Plan, price: float | None, currency: str) -> Iterable[Table]:
    factor, unit = _scale(plan)
    table = _table(
        "Totals",
        unit,
        "pieces ",
        "measured ",
        "estimated ",
        "both ",
        *([] if price is None else [f"{currency} at {price:g} an hour "]),
    )
    for kind, title in _SUMS.items():
        pieces = sum(work.times for work in plan.work if kind in (None, work.kind))
        hours = [plan.hours(kind, measured=True), plan.hours(kind, measured=False)]
        money = [] if price is None else [f"{price * sum(hours):.0f}"]
        table.add_row(title, str(pieces), *(_short(factor * value) for value in [*hours, sum(hours)]), *money)
    yield table


def _wall_time(plan: Plan, gpus: int, price: float | None) -> Iterable[str]:
    hours = plan.hours(None, measured=True) + plan.hours(None, measured=False)
    if plan.unknown:
        yield f"In no sum, as nothing tells their time: {plan.unknown} pieces."
    if plan.unit == "GPU":
        yield f"Wall time with {gpus} GPUs, all busy all the time: {_short(hours / gpus)} hours ({_short(hours / gpus / 24)} days)."
        if price is None:
            yield "Money: give --price, what a GPU costs for an hour."
    elif hours:
        jobs = min(2, os.cpu_count() or 1)
        yield f"No GPU is needed. Wall time of make repro, {jobs} trainings at a time: {_short(60 * hours / jobs)} minutes."
