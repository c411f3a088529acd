"""Text of an estimate: cells, tuning, data and weights; its costs are :mod:`pipelines.estimation.cost_text`."""

import os
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.dataset import datasets
from benchmarks.paths import user_path
from pipelines.estimation.cost_text import cost_rules, new_table, remaining_runs, totals, wall_time
from pipelines.estimation.estimate import Estimate
from pipelines.estimation.lengths import num_images, published_images

_GB = 1e9


def show(estimate: Estimate, console: Console, *, gpus: int, price: float | None, currency: str, tflops: float) -> None:
    """Print an estimate; ``price`` is that of a GPU per hour."""
    on_gpus = estimate.unit == "GPU"
    parts = (
        _cells(estimate),
        _reasons(estimate),
        _studies(estimate),
        _data(estimate),
        _weights(estimate),
        remaining_runs(estimate),
        cost_rules(estimate, tflops),
        totals(estimate, price if on_gpus else None, currency),
        wall_time(estimate, gpus, price),
    )
    for part in parts:
        for piece in part:
            console.print(Padding(Text(piece), (0, 0, 0, 1)) if isinstance(piece, str) else piece)


def _cells(estimate: Estimate) -> Iterable[Table]:
    grid, cached = estimate.grid, len(estimate.cached)
    unsupported = len(estimate.all_cells) - cached - len(estimate.to_run)
    table = new_table(f"Tier {grid.tier}: {estimate.tier.title}", "cells", "number ", "")
    table.add_row("to run", str(len(estimate.to_run)), "")
    table.add_row("cached", str(cached), estimate.completed.means)
    table.add_row("unsupported", str(unsupported), "for the reasons below" if unsupported else "")
    rows = sum(len(methods) for methods in grid.rows.values())
    table.add_row("all", str(len(estimate.all_cells)), f"{rows} rows on {len(grid.pairs)} pairs, {len(grid.seeds)} seeds")
    yield table


def _reasons(estimate: Estimate) -> Iterable[Table]:
    """Table of unsupported cells, one row per reason and set of methods."""
    by_pair: dict[tuple[str, str], list[str]] = {}
    for (pair, method), reason in estimate.unsupported.items():
        by_pair.setdefault((reason, pair), []).append(method)
    rows: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, pair), methods in by_pair.items():
        rows.setdefault((reason, tuple(methods)), []).append(pair)
    table = new_table("Unsupported", "cells ", "reason", "methods", "pairs")
    for (reason, names), pairs in sorted(rows.items()):
        methods_shown = "all" if len(names) == len(estimate.grid.methods) else ", ".join(names)
        table.add_row(str(len(names) * len(pairs) * len(estimate.grid.seeds)), reason, methods_shown, ", ".join(pairs))
    if rows:
        yield table


def _studies(estimate: Estimate) -> Iterable[Table]:
    """Table of studies and of the students behind them."""
    tuning, done = estimate.grid.tuning, estimate.completed
    if tuning is None or not estimate.tuned:
        return
    fraction = f", each of {tuning.share:g} of the student's schedule" if tuning.share < 1 else ""
    table = new_table("Tuning", "", "to run ", "cached ", "")
    for title, num_all, num_done, note in (
        (
            "studies",
            len(estimate.studies),
            len(done.studies & set(estimate.studies)),
            f"at most {tuning.trials} trials{fraction}",
        ),
        ("students", len(estimate.tuned), len(done.tuned & set(estimate.tuned)), "trained with the values of a study"),
    ):
        table.add_row(title, str(num_all - num_done), str(num_done), note)
    yield table


def _data(estimate: Estimate) -> Iterable[str | Text | Padding]:
    yield Text("\nData", style="bold")
    if estimate.tier.scenes is not None:
        images = num_images(estimate.tier, next(iter(estimate.pairs.values())), Path())
        yield f"{sum(images or ())} synthetic images, drawn by stage prepare"
        return
    if estimate.tier.data == "own":
        yield f"your own, in {estimate.grid.own.root if estimate.grid.own else 'a folder to be named under own: in params.yaml'}"
        return
    for name in dict.fromkeys(estimate.pairs[work.pair].dataset for work in estimate.work):
        known = datasets()[name]
        folder = os.environ.get(known.variable) or {**estimate.grid.data}.get(name)
        where = "folder not named yet"
        if folder:
            is_there = user_path(folder, f"data set {name}").is_dir()
            where = f"in {folder}, which is {'' if is_there else 'not '}there"
        download, unpacked = (sum(getattr(one, what) for one in known.archives) for what in ("size", "unpacked"))
        disk = f"{_size(download)} to download, {_size(unpacked)} unpacked" if known.archives else "size on disk unknown"
        yield f"{name}: {published_images(name).train} training images; {disk}; {where}"
        how = "stage prepare downloads it with --download" if known.archives else known.account
        text = Text(f"{known.variable}, or data: in params.yaml, names the folder that contains {known.layout}; {how}")
        yield Padding(text, (0, 0, 0, 4))


def _size(num_bytes: float | None) -> str:
    if not num_bytes:
        return "unknown"
    return f"{num_bytes / _GB:.1f} GB" if num_bytes >= _GB else f"{num_bytes / 1e6:.0f} MB"


def _weights(estimate: Estimate) -> Iterable[Table | str | Text]:
    if not estimate.weights:
        yield Text("\nWeights", style="bold")
        yield "none to download: teachers are trained here or named by you, students start from random weights"
        return
    recorded = [file.checkpoint.size_bytes for file in estimate.weights]
    about = sum(file.checkpoint.size_bytes or file.estimated_bytes or 0 for file in estimate.weights)
    title = f"Weights: {len(estimate.weights)} files, about {_size(about)}, {sum(file.present for file in estimate.weights)} of them there"
    table = new_table(title, "size ", "there", "file, and its use")
    for file, exact in zip(estimate.weights, recorded, strict=True):
        size = _size(exact) if exact else ("~" if file.estimated_bytes else "") + _size(file.estimated_bytes)
        uses = "; ".join(f"{role} of {', '.join(pairs)}" for role, pairs in file.used_by.items())
        table.add_row(size, "yes" if file.present else "no", Group(Text(file.checkpoint.url), Padding(Text(uses), (0, 0, 0, 3))))
    yield table
    if not all(recorded):
        yield "~ is 4 bytes per weight of the model, or of its backbone; the file may contain a classifier, too"
