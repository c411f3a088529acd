"""Cells and stages of the grid, and grid.yaml, which lists them for DVC.

DVC cannot derive the stages from ``grid:`` itself: its templates know lists and dictionaries, but no conditions.
So grid.yaml lists every stage with work, and nothing else; :func:`write_stages` derives it from params.yaml.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from benchmarks.whole_file import write_whole
from benchmarks.yaml_files import read_yaml
from pipelines import layout
from pipelines.grid import Grid
from pipelines.layout import Cell
from pipelines.params import load_pair, load_tier
from pipelines.recipes import auxiliary_of, impossible_reason

RENEW = "python -m pipelines.stages.check --renew"


def seeds_of(grid: Grid, pair: str, method: str) -> list[int]:
    """Return the seeds of a row; a pair that only repeats another with a second teacher has the grid's for its baseline, too."""
    more = method == "none" and grid.baseline_seeds and load_pair(pair).repeats is None
    return grid.baseline_seeds if more else grid.seeds


def cells(grid: Grid) -> list[Cell]:
    """Return all cells with the recipes' values, pair by pair; unsupported ones among them."""
    return [
        Cell(pair, method, seed)
        for pair, methods in grid.rows.items()
        for method in methods
        for seed in seeds_of(grid, pair, method)
    ]


def tuned_cells(grid: Grid) -> list[Cell]:
    """Return all cells with the values of studies; unsupported ones among them."""
    rows = grid.tuning.rows if grid.tuning else {}
    return [Cell(pair, method, seed, tuned=True) for pair, methods in rows.items() for method in methods for seed in grid.seeds]


def data_set(grid: Grid, pair: str) -> str:
    """Return the data set that a pair is trained on at the grid's tier: ``scenes``, ``own``, or the pair's own name for it."""
    data = load_tier(grid.tier).data
    return load_pair(pair).dataset if data == "published" else data


def data_sets(grid: Grid) -> list[str]:
    """Return the data sets of all pairs that can run, each once."""
    return sorted({data_set(grid, pair) for pair in grid.pairs if load_pair(pair).not_run is None})


def starts_of(grid: Grid, pair_name: str) -> dict[str, str | None]:
    """Return by side the backbone of stage ``pretrain`` that it starts from; None where it starts from no such one."""
    tier = load_tier(grid.tier)
    if tier.pretraining is None or tier.model is None:
        return {"teacher": None, "student": None}
    from pipelines.engine.backbones import backbone_of  # noqa: PLC0415 (half a second)

    found = {
        "teacher": backbone_of(load_pair(pair_name), "teacher", tier.model),
        "student": backbone_of(load_pair(pair_name), "student", tier.model),
    }
    return {side: named and named[0] for side, named in found.items()}


def backbones_needed(grid: Grid, pairs: list[str]) -> dict[str, dict[str, Any]]:
    """Return the backbones that pairs start from, as they are at the grid's tier, by name; none where the tier does not train them.

    Raises:
        ValueError: the tier has no replacement for one, or two pairs call different ones by one name.
    """
    tier = load_tier(grid.tier)
    if tier.pretraining is None or tier.model is None:
        return {}
    from pipelines.engine.backbones import backbones_of  # noqa: PLC0415 (half a second)

    try:
        found = backbones_of({name: load_pair(name) for name in pairs}, tier.model)
    except ValueError as error:
        raise ValueError(f"benchmarks/tiers/{grid.tier}.yaml: {error}") from error
    return {name: backbone.as_json() for name, (backbone, _) in found.items()}


def stages(grid: Grid) -> dict[str, Any]:
    """Return the keys of every stage with work, by kind; of a cell also the files that it depends on by way of others' work."""
    runs: dict[tuple[str, str], bool] = {}

    def supported(cell: Cell) -> bool:
        key = (cell.pair, cell.method)
        if key not in runs:
            runs[key] = impossible_reason(cell.pair, load_pair(cell.pair), cell.method, grid.tier) is None
        return runs[key]

    wanted = [cell for cell in [*cells(grid), *tuned_cells(grid)] if supported(cell)]
    pairs = list(dict.fromkeys(cell.pair for cell in wanted))
    rows = list(dict.fromkeys((cell.pair, cell.method) for cell in wanted))
    return {
        layout.PRETRAIN: list(backbones_needed(grid, pairs)),
        layout.TEACHERS: {pair: {"data": data_set(grid, pair), **_starts(grid, pair)} for pair in pairs},
        layout.MASKS: {f"{pair}/{method}": _row(pair, method) for pair, method in rows if auxiliary_of(method)},
        layout.TUNE: {
            f"{c.pair}/{c.method}": _row(c.pair, c.method) | {"auxiliary": _auxiliary(grid.tier, c)} for c in wanted if c.tuned
        },
        layout.DISTILL: {
            c.key: _row(c.pair, c.method) | {"auxiliary": _auxiliary(grid.tier, c), "tuned": _selected(grid.tier, c)} for c in wanted
        },
        layout.EVALUATE: {
            **{f"{pair}/{layout.TEACHER}": {"pair": pair} for pair in pairs},
            **{c.key: {"pair": c.pair} for c in wanted},
        },
        layout.RELEASED: list(grid.released),
    }  # fmt: skip


def _row(pair: str, method: str) -> dict[str, str]:
    return {"pair": pair, "method": method}


def _starts(grid: Grid, pair: str) -> dict[str, str]:
    """Return the files that a pair's two models start from; its own settings where these are not made by a stage."""
    own = layout.resolved(layout.TEACHERS, pair)
    paths = {
        side: layout.backbones(grid.tier) / name / layout.WEIGHTS if name else own for side, name in starts_of(grid, pair).items()
    }
    found = {f"{side}_start": str(path.relative_to(layout.RUNS)) for side, path in paths.items()}
    brought = brought_teacher(grid)
    # A teacher that the user brings is not trained: it starts, and ends, as that file.
    return found if brought is None else {**found, "teacher_start": os.path.relpath(brought, layout.RUNS)}


def brought_teacher(grid: Grid) -> Path | None:
    """Return the file of the teacher that the user brings; None where teachers are fetched or trained."""
    return grid.own.teacher_file if grid.own is not None and load_tier(grid.tier).data == "own" else None


def user_files(grid: Grid) -> dict[str, str]:
    """Return the annotations of the user's data by split, on which stage ``prepare`` depends; its own settings for other data."""
    own = grid.own if load_tier(grid.tier).data == "own" else None
    if own is None:
        return dict.fromkeys(("train", "tune", "test"), str(layout.RESOLVED / f"{layout.PREPARE}.json"))
    return {name: os.path.relpath(own.folder / split.annotations) for name, split in own.splits.items()}


def _auxiliary(tier: str, cell: Cell) -> str:
    """Return the auxiliary module's file; the cell's own settings, which it depends on anyway, where the method has none."""
    made = layout.auxiliary(tier, cell.pair, cell.method) / layout.AUXILIARY_WEIGHTS if auxiliary_of(cell.method) else None
    return _below(made, cell)


def _selected(tier: str, cell: Cell) -> str:
    return _below(layout.study(tier, cell.pair, cell.method) / layout.BEST if cell.tuned else None, cell)


def _below(path: Path | None, cell: Cell) -> str:
    return str((path or layout.resolved(layout.DISTILL, f"{cell.pair}/{cell.method}")).relative_to(layout.RUNS))


_HEAD = f"# The stages that params.yaml asks for, written by {RENEW} (make repro does it itself); not to be edited.\n"


def stages_text(grid: Grid) -> str:
    """Return the contents of grid.yaml: a line per stage."""
    lines = [_HEAD.rstrip(), f"annotations: {_flow(user_files(grid))}", "stages:"]
    for stage, keys in stages(grid).items():
        if not keys:
            lines.append(f"  {stage}: {'{}' if isinstance(keys, dict) else '[]'}")
            continue
        lines.append(f"  {stage}:")
        for key in keys:
            value = f": {_flow(keys[key])}" if isinstance(keys, dict) else ""
            lines.append(f"    {'' if isinstance(keys, dict) else '- '}{key}{value}")
    return "\n".join(lines) + "\n"


def _flow(value: dict[str, str]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()


def write_stages(grid: Grid) -> bool:
    """Write grid.yaml where it lags behind; return whether it did."""
    text = stages_text(grid)
    if layout.GRID.is_file() and layout.GRID.read_bytes() == text.encode():
        return False
    write_whole(layout.GRID, text)
    return True


def check_stages(grid: Grid) -> None:
    """ValueError where grid.yaml lags behind params.yaml."""
    if not layout.GRID.is_file() or layout.GRID.read_bytes() != stages_text(grid).encode():
        raise ValueError(
            f"{layout.GRID}: does not list the stages that params.yaml asks for; renew it: {RENEW} (make repro does it itself)"
        )


def load_stages(path: Path = layout.GRID) -> dict[str, Any]:
    """Read the stages of grid.yaml, by kind; ValueError where it is not as :func:`write_stages` wrote it."""
    found = read_yaml(path)
    if not isinstance(found, dict) or not isinstance(found.get("stages"), dict):
        raise ValueError(f"{path}: does not list stages; renew it: {RENEW}")
    return dict(found["stages"])
