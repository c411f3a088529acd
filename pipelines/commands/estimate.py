"""Verb ``estimate``: the cost of a grid before anything of it runs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.commands.names import all_methods, all_pairs, known
from pipelines.commands.terminal import Switch, console
from pipelines.estimation.completed import find_completed
from pipelines.estimation.estimate import Estimate, make_estimate
from pipelines.estimation.text import show
from pipelines.estimation.throughput import DEFAULT_TFLOPS
from pipelines.grid import Grid
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.recipes import load_parts

_PIPE_COLUMNS = 130


def requested_grid(
    grid: Grid, *, tier: str | None, everything: bool, pairs: Sequence[str], methods: Sequence[str], seeds: Sequence[int]
) -> Grid:
    """Return params.yaml's grid with what the command line names in place of its own; ValueError for unknown names."""
    pairs = known("--pairs", pairs, load_pair) or (all_pairs() if everything else grid.pairs)
    methods = known("--methods", methods, load_parts) or (all_methods() if everything else [])
    changes: dict[str, Any] = {"rows": {pair: methods or grid.rows.get(pair, grid.methods) for pair in pairs}}
    if seeds:
        changes |= {"seeds": list(dict.fromkeys(seeds)), "baseline_seeds": []}
    if tier:
        (changes["tier"],) = known("--tier", [tier], load_tier)
    if grid.tuning:
        tuned = {
            pair: [name for name in names if name in changes["rows"][pair]]
            for pair, names in grid.tuning.rows.items()
            if pair in pairs
        }
        changes["tuning"] = grid.tuning.model_copy(update={"rows": {pair: names for pair, names in tuned.items() if names}})
    return grid.model_copy(update=changes)


def as_json(found: Estimate, price: float | None, currency: str) -> dict[str, Any]:
    """Return the estimate as plain values."""
    hours = {kind: found.hours(None, measured=kind == "measured") for kind in ("measured", "estimated")}
    return {
        "grid": found.grid.model_dump(mode="json"),
        "cells": {
            "total": len(found.all_cells),
            "to_run": [asdict(cell) for cell in found.to_run],
            "cached": [asdict(cell) for cell in found.cached],
            "cached_means": found.completed.means,
            "unsupported": [{"pair": pair, "method": method, "reason": why} for (pair, method), why in found.unsupported.items()],
        },
        "tuning": tuning_as_json(found),
        "work": [{**asdict(work), "hours": work.hours} for work in found.work],
        "weights": [{**asdict(file), "checkpoint": file.checkpoint.model_dump()} for file in found.weights],
        "hours": {**hours, "of": found.unit, "unknown": found.unknown},
        "money": None if price is None else {"amount": price * sum(hours.values()), "currency": currency, "per_hour": price},
    }


def tuning_as_json(found: Estimate) -> dict[str, Any] | None:
    """Return studies and the students behind them; None where nothing is tuned."""
    if found.grid.tuning is None:
        return None
    done = found.completed
    named = {True: "cached", False: "to_run"}
    return {
        "trials_at_most": found.grid.tuning.trials,
        "studies": {
            name: [
                {"pair": pair, "method": method} for pair, method in found.studies if ((pair, method) in done.studies) == is_done
            ]
            for is_done, name in named.items()
        },
        "cells": {name: [asdict(c) for c in found.tuned if (c in done.tuned) == is_done] for is_done, name in named.items()},
    }


def estimate(
    *,
    tier: str | None = None,
    everything: Annotated[Switch, Parameter(name="--all")] = False,
    pairs: list[str] | None = None,
    methods: list[str] | None = None,
    seeds: list[int] | None = None,
    gpus: int = 8,
    price: float | None = None,
    currency: str = "USD",
    device: str | None = None,
    tflops: float = DEFAULT_TFLOPS,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Estimate the cost of a grid before it runs: runs, files, GPU-hours, money.

    The grid is that of params.yaml, with what the options name in place of its own.
    Nothing is changed, and neither data, weights nor a GPU are needed: the estimate is made from the grid's files,
    the records of finished cells, and the committed tables of throughput and model sizes.

    Args:
        tier: scale of the grid.
        everything: every pair with every method.
        pairs: names of pairs.
        methods: names of methods, or combinations such as crosskd+pkd.
        seeds: numbers of seeds.
        gpus: GPUs in use at a time, for the wall time.
        price: cost of a GPU per hour; without it no money is printed.
        currency: of the price, for the text.
        device: use only what was measured on devices of this name, such as H200.
        tflops: assumed TFLOP/s of a GPU where nothing was measured; the default is what MMDetection's Mask R-CNN R-50
            reached on a V100, and later cards do more.
        json_file: file to write the estimate to, too.
    """
    for option, value, is_valid in (
        ("--gpus", gpus, gpus > 0),
        ("--price", price, price is None or 0 <= price < float("inf")),
        ("--tflops", tflops, 0 < tflops < float("inf")),
    ):
        if not is_valid:
            raise ValueError(f"{option} is {value}; give a number {'of 0 or more' if option == '--price' else 'above 0'}")
    default = load_grid()
    grid = requested_grid(default, tier=tier, everything=everything, pairs=pairs or [], methods=methods or [], seeds=seeds or [])
    downloads = layout.downloads()
    found = make_estimate(grid, find_completed(grid, default), device=device or "", tflops=tflops, downloads=downloads)
    show(found, console(_PIPE_COLUMNS), gpus=gpus, price=price, currency=currency, tflops=tflops)
    if json_file:
        write_whole(json_file, json.dumps(as_json(found, price, currency), indent=2, default=str) + "\n")
        print(f"written to {json_file}", file=sys.stderr)
