"""Which trainings of a grid are done already."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines import layout
from pipelines.grid import Grid
from pipelines.layout import Cell
from pipelines.stage_list import cells, check_stages, tuned_cells


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


def _recorded(grid: Grid) -> Finished:
    means = f"a run.json in runs/{grid.tier} says that it was finished; whether with today's code and recipes is not checked"
    pairs = [pair for pair in grid.pairs if _done(layout.teacher(grid.tier, pair))]
    rows = [(pair, method) for pair, methods in grid.rows.items() for method in methods]
    priors = {(pair, method) for pair, method in rows if _done(layout.auxiliary(grid.tier, pair, method))}
    done = {cell for cell in cells(grid) if _done(layout.cell(grid.tier, cell))}
    wanted = tuned_cells(grid)
    tuned = {cell for cell in wanted if _done(layout.cell(grid.tier, cell))}
    searched = {(cell.pair, cell.method) for cell in wanted}
    studies = {(pair, method) for pair, method in searched if _done(layout.study(grid.tier, pair, method), layout.STUDY)}
    folder = layout.backbones(grid.tier)
    backbones = {path.name for path in folder.iterdir() if _done(path)} if folder.is_dir() else set()
    return Finished(means, done, set(pairs), priors, backbones, tuned, studies)


def _done(folder: Path, record: str = layout.RUN) -> bool:
    path = folder / record
    return path.is_file() and bool(json.loads(path.read_text())["status"] == "done")


def _up_to_date(recorded: Finished, grid: Grid) -> Finished:
    """Of what is recorded, what DVC would not run again; or all of it where DVC cannot be asked."""
    from pipelines.runner.record import Record  # noqa: PLC0415 (seconds, in dvc)

    try:
        check_stages(grid)
        waiting = Record().waiting()
    except ValueError as error:  # DVC knows another grid's stages, or another DVC is at work here
        return replace(recorded, means=f"{recorded.means} ({error})")
    return Finished(
        "DVC says that it is up to date (what stands behind a stale stage is counted as to be run)",
        {cell for cell in recorded.cells if cell.key not in waiting},
        {pair for pair in recorded.teachers if f"{pair}/teacher" not in waiting},
        {(pair, method) for pair, method in recorded.priors if f"masks/{pair}/{method}" not in waiting},
        {name for name in recorded.backbones if f"pretrain/{name}" not in waiting},
        {cell for cell in recorded.tuned if cell.key not in waiting},
        {(pair, method) for pair, method in recorded.studies if f"tune/{pair}/{method}" not in waiting},
    )
