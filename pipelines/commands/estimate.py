"""What a grid will cost, before anything of it is run: ``python -m pipelines.commands.estimate --help``.

A dry run: it reads the grid's files, records of finished cells and the committed tables of speeds and sizes.
It changes nothing and needs no data, no weights and no GPU.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines import errors
from pipelines.commands.names import all_methods, all_pairs, known
from pipelines.estimation.completed import find_finished
from pipelines.estimation.throughput import DEFAULT_TFLOPS, TFLOPS_REASON
from pipelines.estimation.workload import Plan, make_plan
from pipelines.grid import Grid
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.recipes import load_parts


def asked_grid(args: argparse.Namespace, grid: Grid) -> Grid:
    """params.yaml's grid with what the command line names in place of its own; ValueError for unknown names."""
    loaders: dict[str, Callable[[str], object]] = {"pairs": load_pair, "methods": load_parts}
    named = {axis: known(f"--{axis}", getattr(args, axis) or [], load) for axis, load in loaders.items()}
    pairs = named["pairs"] or (all_pairs() if args.all else grid.pairs)
    methods = named["methods"] or (all_methods() if args.all else [])
    changes: dict[str, Any] = {"rows": {pair: methods or grid.rows.get(pair, grid.methods) for pair in pairs}}
    if args.seeds:
        changes |= {"seeds": list(dict.fromkeys(args.seeds)), "baseline_seeds": []}
    if args.tier:
        (changes["tier"],) = known("--tier", [args.tier], load_tier)
    if grid.tuning:
        tuned = {
            pair: [name for name in names if name in changes["rows"][pair]]
            for pair, names in grid.tuning.rows.items()
            if pair in pairs
        }
        changes["tuning"] = grid.tuning.model_copy(update={"rows": {pair: names for pair, names in tuned.items() if names}})
    return grid.model_copy(update=changes)


def as_json(plan: Plan, price: float | None, currency: str) -> dict[str, Any]:
    """The plan as plain values."""
    hours = {kind: plan.hours(None, measured=kind == "measured") for kind in ("measured", "estimated")}
    return {
        "grid": plan.grid.model_dump(mode="json"),
        "cells": {
            "total": len(plan.all_cells),
            "to_run": [asdict(cell) for cell in plan.to_run],
            "cached": [asdict(cell) for cell in plan.cached],
            "cached_means": plan.finished.means,
            "impossible": [{"pair": pair, "method": method, "reason": why} for (pair, method), why in plan.impossible.items()],
        },
        "tuning": tuning_as_json(plan),
        "work": [{**asdict(work), "hours": work.hours} for work in plan.work],
        "weights": [{**asdict(file), "checkpoint": file.checkpoint.model_dump()} for file in plan.weights],
        "hours": {**hours, "of": plan.unit, "unknown": plan.unknown},
        "money": None if price is None else {"amount": price * sum(hours.values()), "currency": currency, "per_hour": price},
    }


def tuning_as_json(plan: Plan) -> dict[str, Any] | None:
    """Studies and the students behind them; None where nothing is tuned."""
    if plan.grid.tuning is None:
        return None
    done = plan.finished
    named = {True: "cached", False: "to_run"}
    return {
        "trials_at_most": plan.grid.tuning.trials,
        "studies": {
            name: [
                {"pair": pair, "method": method} for pair, method in plan.studies if ((pair, method) in done.studies) == is_done
            ]
            for is_done, name in named.items()
        },
        "cells": {name: [asdict(c) for c in plan.tuned if (c in done.tuned) == is_done] for is_done, name in named.items()},
    }


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", help="instead of params.yaml's")
    parser.add_argument("--all", action="store_true", help="every pair with every method")
    parser.add_argument("--pairs", nargs="+", metavar="PAIR")
    parser.add_argument("--methods", nargs="+", metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--gpus", type=int, default=8, help="that work at a time, for the wall time (default: %(default)s)")
    parser.add_argument("--price", type=float, help="of a GPU for an hour; without it no money is printed")
    parser.add_argument("--currency", default="USD")
    parser.add_argument("--device", default="", help="use only what was measured on devices of this name, such as H200")
    parser.add_argument(
        "--tflops",
        type=float,
        default=DEFAULT_TFLOPS,
        help=f"that a GPU is assumed to do where nothing was measured (default: %(default)s, {TFLOPS_REASON})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan there too")
    args = parser.parse_args()
    for option, value, fine in (
        ("--gpus", args.gpus, args.gpus > 0),
        ("--price", args.price, args.price is None or 0 <= args.price < float("inf")),
        ("--tflops", args.tflops, 0 < args.tflops < float("inf")),
    ):
        if not fine:
            raise ValueError(f"{option} is {value}; give a number {'of 0 or more' if option == '--price' else 'above 0'}")
    standing = load_grid()
    grid = asked_grid(args, standing)
    downloads = Path(os.environ.get("KD_DOWNLOADS", "data/weights"))  # as stage teachers, which it would take seconds to import
    plan = make_plan(grid, find_finished(grid, standing), device=args.device, tflops=args.tflops, downloads=downloads)

    from pipelines.estimation.text import show  # noqa: PLC0415

    show(plan, gpus=args.gpus, price=args.price, currency=args.currency, tflops=args.tflops)
    if args.json:
        args.json.write_text(json.dumps(as_json(plan, args.price, args.currency), indent=2, default=str) + "\n")
        print(f"written to {args.json}", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
