"""Runs of a grid that are completed already."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines import layout
from pipelines.grid import Grid
from pipelines.layout import Cell
from pipelines.stage_list import cells, check_stages, tuned_cells


@dataclass(frozen=True)
class Completed:
    """Runs that need not be repeated.

    Args:
        means: the criterion, in words.
        cells, teachers, auxiliaries: students, pairs, and (pair, method).
        backbones: names.
        tuned, studies: students trained with the values of a study, and the (pair, method) of studies.
    """

    means: str
    cells: set[Cell] = field(default_factory=set)
    teachers: set[str] = field(default_factory=set)
    auxiliaries: set[tuple[str, str]] = field(default_factory=set)
    backbones: set[str] = field(default_factory=set)
    tuned: set[Cell] = field(default_factory=set)
    studies: set[tuple[str, str]] = field(default_factory=set)


def find_completed(grid: Grid, default: Grid) -> Completed:
    """Look for completed runs.

    DVC has the stages of params.yaml's grid alone, so only there does it show whether a result is up to date.

    Args:
        grid: the requested one.
        default: that of params.yaml.
    """
    recorded = _recorded(grid)
    if not recorded.cells and not recorded.teachers:
        return Completed(f"runs/{grid.tier} has no finished run")
    if grid == default and Path("dvc.lock").is_file():
        return _up_to_date(recorded, grid)
    return recorded


def _recorded(grid: Grid) -> Completed:
    means = f"a run.json in runs/{grid.tier} says that it was finished; whether by the present code and recipes is not checked"
    pairs = [pair for pair in grid.pairs if _done(layout.teacher(grid.tier, pair))]
    rows = [(pair, method) for pair, methods in grid.rows.items() for method in methods]
    auxiliaries = {(pair, method) for pair, method in rows if _done(layout.auxiliary(grid.tier, pair, method))}
    done = {cell for cell in cells(grid) if _done(layout.cell(grid.tier, cell))}
    requested = tuned_cells(grid)
    tuned = {cell for cell in requested if _done(layout.cell(grid.tier, cell))}
    searched = {(cell.pair, cell.method) for cell in requested}
    studies = {(pair, method) for pair, method in searched if _done(layout.study(grid.tier, pair, method), "study.json")}
    folder = layout.backbones(grid.tier)
    backbones = {path.name for path in folder.iterdir() if _done(path)} if folder.is_dir() else set()
    return Completed(means, done, set(pairs), auxiliaries, backbones, tuned, studies)


def _done(folder: Path, record: str = "run.json") -> bool:
    path = folder / record
    return path.is_file() and bool(json.loads(path.read_text())["status"] == "done")


def _up_to_date(recorded: Completed, grid: Grid) -> Completed:
    """Return the recorded runs that DVC would not repeat, or all of them where DVC is not available."""
    from pipelines.runner.record import Record  # noqa: PLC0415 (seconds, in dvc)

    try:
        check_stages(grid)
        waiting = Record().waiting()
    except ValueError as error:  # DVC knows another grid's stages, or another DVC is at work here
        return replace(recorded, means=f"{recorded.means} ({error})")
    return Completed(
        "up to date by DVC (what is behind a stale stage is counted as to be run)",
        {cell for cell in recorded.cells if cell.key not in waiting},
        {pair for pair in recorded.teachers if f"{pair}/teacher" not in waiting},
        {(pair, method) for pair, method in recorded.auxiliaries if f"masks/{pair}/{method}" not in waiting},
        {name for name in recorded.backbones if f"pretrain/{name}" not in waiting},
        {cell for cell in recorded.tuned if cell.key not in waiting},
        {(pair, method) for pair, method in recorded.studies if f"tune/{pair}/{method}" not in waiting},
    )
