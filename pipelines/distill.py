"""Stage ``distill``: one cell of the grid, a student trained under a method with a seed.

With ``--tuned`` its hyper-parameters are those that stage ``tune`` found.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines import cli
from pipelines.params import (
    Cell,
    cell_config,
    cell_parts,
    cells,
    flat_hparams,
    impossible_reason,
    load_grid,
    load_pair,
    method_sources,
    seeds_of,
    with_hparams,
)
from pipelines.tuning.best import read_best
from reports.record import Run

if TYPE_CHECKING:  # MMLab takes seconds, which a cell that cannot be need not wait for
    from mmengine.config import Config

    from pipelines.engine.compose import Distillation, Setting


@dataclass(frozen=True)
class Sources:
    """Folders of what a student is made with."""

    data: Path
    teacher: Path
    prior: Path


def composed(
    setting: "Setting", tier: str, pair: str, method: str, seed: int, sources: Sources, parts: list[dict[str, Any]]
) -> "tuple[Config, Distillation]":
    """The config that trains a student, and what it adds to the student's own; teacher and prior are those on record."""
    from pipelines.engine.compose import Distillation, Weights, compose_cell  # noqa: PLC0415 (seconds)

    teacher_run = Run.model_validate_json((sources.teacher / "run.json").read_text())
    prior_run = Run.model_validate_json((sources.prior / "run.json").read_text())
    teacher = Weights(sources.teacher / "weights.pth", str(teacher_run.weights_sha256))
    prior = Weights(sources.prior / "prior.pth", prior_run.weights_sha256) if prior_run.weights_sha256 else None
    added = Distillation(parts, teacher, prior, cell_config(method, pair, setting.pair, tier))
    start_sha256 = teacher_run.student_initialisation_sha256
    start = Weights(sources.teacher / "initialisation.pth", start_sha256) if start_sha256 else None
    return compose_cell(setting, added, seed=seed, initialisation=start), added


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--prior", type=Path, required=True)
    parser.add_argument("--tuned", type=Path, metavar="BEST", help="best.yaml of stage tune")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Train the student and write its weights and run.json; or say why the cell cannot be."""
    args = arguments()
    pair, grid = load_pair(args.pair), load_grid()
    variant: Literal["published", "tuned"] = "tuned" if args.tuned else "published"
    weights, learned, record = (args.out / name for name in ("student.pth", "method.pth", "run.json"))
    only_elsewhere = args.seed in grid.baseline_seeds and args.seed not in seeds_of(grid, args.pair, args.method)
    left_out = only_elsewhere or args.method in grid.leave_out.get(args.pair, [])
    if left_out or (reason := impossible_reason(args.pair, pair, args.method, args.tier)):
        status, why = ("left out", None) if left_out else ("impossible", reason)
        identity = {"tier": args.tier, "pair": args.pair, "method": args.method, "variant": variant, "seed": args.seed}
        run = Run(stage="distill", status=status, reason=why, **identity)
        args.out.mkdir(parents=True, exist_ok=True)
        for path in (weights, learned):
            path.write_text("none\n")
        record.write_text(run.model_dump_json(indent=2) + "\n")
        return

    from pipelines.engine.compose import started_from  # noqa: PLC0415 (seconds)
    from pipelines.engine.stage import Job, open_setting, run_training  # noqa: PLC0415 (seconds)
    from pipelines.engine.training import prepare_process  # noqa: PLC0415
    from pipelines.lifeline import die_with_dvc  # noqa: PLC0415

    die_with_dvc()
    setting = open_setting(args.tier, args.pair, args.data)
    parts, origin = cell_parts(args.method, args.pair, pair, args.tier)
    if args.tuned:
        best = read_best(args.tuned)
        parts, origin = with_hparams(parts, best.hparams), best.origin
    all_cells, cell = cells(grid), Cell(args.pair, args.method, args.seed)
    config, added = composed(
        setting, args.tier, args.pair, args.method, args.seed, Sources(args.data, args.teacher, args.prior), parts
    )
    prepare_process()
    run_training(
        Job(
            "distill", args.tier, args.pair, args.method, args.seed,
            (all_cells.index(cell) + 1, len(all_cells)) if cell in all_cells else (1, 1),
            hparams=flat_hparams(parts), hparams_origin=origin, config_changes=added.config, variant=variant,
            initialisation_sha256=started_from(config), teacher_sha256=added.teacher.sha256, prior_sha256=added.prior and added.prior.sha256,
            code=tuple(dict.fromkeys(path for part in parts for path in method_sources(part["code"]))),
        ),
        config, setting=setting, data=args.data, export=lambda model: model.student, weights=weights, record=record, learned=learned,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
