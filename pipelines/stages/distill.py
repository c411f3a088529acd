"""Stage ``distill``: one cell of the grid, a student trained under a method with a seed.

A tuned cell's hyper-parameters are those that stage ``tune`` selected.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from methods.recipe import ResolvedPart
from pipelines import errors, layout
from pipelines.grid import cells
from pipelines.layout import Cell
from pipelines.params import (
    auxiliary_of,
    cell_config,
    cell_parts,
    flat_hparams,
    impossible_reason,
    load_grid,
    load_pair,
    with_hparams,
)
from pipelines.resolved import confirm
from pipelines.tuning.best import read_best
from reports.schemas.run import Run

if TYPE_CHECKING:  # MMLab takes seconds
    from mmengine.config import Config

    from pipelines.engine.compose import Distillation, Setting


@dataclass(frozen=True)
class Sources:
    """Folders of what a student is made with; ``prior`` is None where its method has no auxiliary module."""

    data: Path
    teacher: Path
    prior: Path | None

    @classmethod
    def of(cls, tier: str, pair: str, method: str) -> "Sources":
        """Folders that the stages before write."""
        prior = layout.auxiliary(tier, pair, method) if auxiliary_of(method) else None
        return cls(layout.data(tier), layout.teacher(tier, pair), prior)


def composed(
    setting: "Setting", tier: str, pair: str, method: str, seed: int, sources: Sources, parts: list[ResolvedPart]
) -> "tuple[Config, Distillation]":
    """The config that trains a student, and what it adds to the student's own; teacher and prior are those on record."""
    from pipelines.engine.compose import Distillation, Weights, compose_cell  # noqa: PLC0415 (seconds)

    teacher_run = Run.model_validate_json((sources.teacher / "run.json").read_text())
    teacher, prior = Weights(sources.teacher / "weights.pth", str(teacher_run.weights_sha256)), None
    if sources.prior:
        prior_run = Run.model_validate_json((sources.prior / "run.json").read_text())
        prior = Weights(sources.prior / "prior.pth", str(prior_run.weights_sha256))
    added = Distillation(parts, teacher, prior, cell_config(method, pair, setting.pair, tier))
    start_sha256 = teacher_run.student_initialisation_sha256
    start = Weights(sources.teacher / "initialisation.pth", start_sha256) if start_sha256 else None
    return compose_cell(setting, added, seed=seed, initialisation=start), added


def main() -> None:
    """Train the student and write its weights and run.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--cell", required=True, help="such as gfl_r101_r50/mgd/seed0, or gfl_r101_r50/mgd/tuned/seed0")
    parser.add_argument("--out", type=Path, help="folder; runs/TIER/CELL if not given")
    args = parser.parse_args()
    cell = Cell.parse(args.cell)
    pair = load_pair(cell.pair)
    if reason := impossible_reason(cell.pair, pair, cell.method, args.tier):
        raise ValueError(f"{cell.method} cannot run on {cell.pair}: {reason}")
    code = confirm("distill", cell.pair, cell.method)["code"]
    out = args.out or layout.cell(args.tier, cell)

    from pipelines.engine.compose import started_from  # noqa: PLC0415 (seconds)
    from pipelines.engine.stage import Job, open_setting, run_training  # noqa: PLC0415 (seconds)
    from pipelines.engine.training import prepare_process  # noqa: PLC0415
    from pipelines.runner.parent_death import die_with_dvc  # noqa: PLC0415

    die_with_dvc()
    sources = Sources.of(args.tier, cell.pair, cell.method)
    setting = open_setting(args.tier, cell.pair, sources.data)
    parts, origin = cell_parts(cell.method, cell.pair, pair, args.tier)
    if cell.tuned:
        best = read_best(layout.study(args.tier, cell.pair, cell.method) / "best.yaml")
        parts, origin = with_hparams(parts, best.hparams), best.origin
    all_cells, published = cells(load_grid()), Cell(cell.pair, cell.method, cell.seed)
    config, added = composed(setting, args.tier, cell.pair, cell.method, cell.seed, sources, parts)
    prepare_process()
    run_training(
        Job(
            "distill", args.tier, cell.pair, cell.method, cell.seed,
            (all_cells.index(published) + 1, len(all_cells)) if published in all_cells else (1, 1),
            hparams=flat_hparams(parts), hparams_origin=origin, config_changes=added.config,
            variant="tuned" if cell.tuned else "published", initialisation_sha256=started_from(config),
            teacher_sha256=added.teacher.sha256, prior_sha256=added.prior and added.prior.sha256, code=code,
        ),
        config, setting=setting, data=sources.data, export=lambda model: model.student,
        weights=out / "student.pth", record=out / "run.json", learned=out / "method.pth",
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
