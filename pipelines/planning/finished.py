"""Which trainings of a grid are done already."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.params import Cell, Grid, cells


@dataclass(frozen=True)
class Finished:
    """What need not be trained again.

    Args:
        means: what was asked to know it, in words.
        cells, teachers, priors: students, pairs, and (pair, method).
        backbones: names.
        tuned, studies: students trained with what a study found, and the (pair, method) of studies.
    """

    means: str
    cells: set[Cell] = field(default_factory=set)
    teachers: set[str] = field(default_factory=set)
    priors: set[tuple[str, str]] = field(default_factory=set)
    backbones: set[str] = field(default_factory=set)
    tuned: set[Cell] = field(default_factory=set)
    studies: set[tuple[str, str]] = field(default_factory=set)


def find_finished(grid: Grid, standing: Grid) -> Finished:
    """Look for finished trainings.

    DVC knows the stages of params.yaml's grid alone, so only of that can it say whether a result is up to date.

    Args:
        grid: what is asked about.
        standing: params.yaml's.
    """
    recorded = _recorded(grid)
    if not recorded.cells and not recorded.teachers:
        return Finished(f"no finished training lies in runs/{grid.tier}")
    if grid == standing and Path("dvc.lock").is_file():
        return _up_to_date(recorded, grid)
    return recorded


def tuned_cells(grid: Grid) -> list[Cell]:
    """Students that are trained with what stage ``tune`` finds, among the pairs and methods of the grid."""
    tuning = grid.tuning
    wanted = [] if tuning is None else [c for c in cells(grid) if c.pair in tuning.pairs and c.method in tuning.methods]
    return [cell for cell in wanted if cell.seed in grid.seeds]


def _recorded(grid: Grid) -> Finished:
    root = Path("runs") / grid.tier
    means = f"a run.json in runs/{grid.tier} says that it was finished; whether with today's code and recipes is not checked"
    pairs = [pair for pair in grid.pairs if _done(root / pair / "teacher")]
    priors = {(pair, method) for pair in grid.pairs for method in grid.methods if _done(root / pair / method / "prior")}
    done = {cell for cell in cells(grid) if _done(root / cell.pair / cell.method / f"seed{cell.seed}")}
    wanted = tuned_cells(grid)
    tuned = {cell for cell in wanted if _done(root / cell.pair / cell.method / "tuned" / f"seed{cell.seed}")}
    searched = {(cell.pair, cell.method) for cell in wanted}
    studies = {(pair, method) for pair, method in searched if _done(root / pair / method / "tuned", "study.json")}
    backbones = {name for name in grid.backbones if _done(root / "backbones" / name)}
    return Finished(means, done, set(pairs), priors, backbones, tuned, studies)


def _done(folder: Path, record: str = "run.json") -> bool:
    path = folder / record
    return path.is_file() and bool(json.loads(path.read_text())["status"] == "done")


def _stage(cell: Cell, grid: Grid) -> str:
    """DVC's name of the stage that trains it."""
    if cell.seed in grid.baseline_seeds:
        return f"distill_baseline@{cell.pair}-{cell.seed}"
    return f"distill@{cell.pair}-{cell.method}-{cell.seed}"


def _up_to_date(recorded: Finished, grid: Grid) -> Finished:
    """Of what is recorded, what DVC would not run again; or all of it where DVC cannot be asked."""
    from pipelines.repro import make_plan  # noqa: PLC0415 (seconds, in dvc)

    try:
        waiting: Any = make_plan().before
    except ValueError as error:  # another DVC is at work here
        return replace(recorded, means=f"{recorded.means} ({error})")
    return Finished(
        "DVC says that it is up to date (what stands behind a stale stage is counted as to be run)",
        {cell for cell in recorded.cells if _stage(cell, grid) not in waiting},
        {pair for pair in recorded.teachers if f"teachers@{pair}" not in waiting},
        {(pair, method) for pair, method in recorded.priors if f"masks@{pair}-{method}" not in waiting},
        {name for name in recorded.backbones if f"pretrain@{name}" not in waiting},
        {cell for cell in recorded.tuned if f"distill_tuned@{cell.pair}-{cell.method}-{cell.seed}" not in waiting},
        {(pair, method) for pair, method in recorded.studies if f"tune@{pair}-{method}" not in waiting},
    )
