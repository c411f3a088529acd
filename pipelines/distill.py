"""Stage ``distill``: one cell of the grid, a student trained under a method with a seed."""

import argparse
from pathlib import Path

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
)
from reports.record import Run


def main() -> None:
    """Train the student and write its weights and run.json; or say why the cell cannot be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--prior", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pair, grid = load_pair(args.pair), load_grid()
    weights, learned, record = (args.out / name for name in ("student.pth", "method.pth", "run.json"))
    left_out = args.method in grid.leave_out.get(args.pair, [])
    if left_out or (reason := impossible_reason(args.pair, pair, args.method, args.tier)):
        status, why = ("left out", None) if left_out else ("impossible", reason)
        identity = {"tier": args.tier, "pair": args.pair, "method": args.method, "seed": args.seed}
        run = Run(stage="distill", status=status, reason=why, **identity)
        args.out.mkdir(parents=True, exist_ok=True)
        for path in (weights, learned):
            path.write_text("none\n")
        record.write_text(run.model_dump_json(indent=2) + "\n")
        return

    from pipelines.engine.compose import Distillation, Weights, compose_cell  # noqa: PLC0415 (seconds)
    from pipelines.engine.stage import Job, open_setting, run_training  # noqa: PLC0415
    from pipelines.engine.training import prepare_process  # noqa: PLC0415
    from pipelines.engine.weights import NO_WEIGHTS  # noqa: PLC0415
    from pipelines.lifeline import die_with_dvc  # noqa: PLC0415

    die_with_dvc()
    setting = open_setting(args.tier, args.pair, args.data)
    parts, origin = cell_parts(args.method, args.pair, pair, args.tier)
    changes = cell_config(args.method, args.pair, pair, args.tier)
    teacher_run = Run.model_validate_json((args.teacher / "run.json").read_text())
    prior_run = Run.model_validate_json((args.prior / "run.json").read_text())
    teacher = Weights(args.teacher / "weights.pth", str(teacher_run.weights_sha256))
    prior = Weights(args.prior / "prior.pth", prior_run.weights_sha256) if prior_run.weights_sha256 else None
    initialisation = args.teacher / "initialisation.pth"
    all_cells, cell = cells(grid), Cell(args.pair, args.method, args.seed)
    prepare_process()
    run_training(
        Job(
            "distill", args.tier, args.pair, args.method, args.seed,
            (all_cells.index(cell) + 1, len(all_cells)) if cell in all_cells else (1, 1),
            hparams=flat_hparams(parts), hparams_origin=origin, config_changes=changes,
            teacher_sha256=teacher.sha256, prior_sha256=prior and prior.sha256,
            code=tuple(dict.fromkeys(path for part in parts for path in method_sources(part["code"]))),
        ),
        compose_cell(
            setting, Distillation(parts, teacher, prior, changes), seed=args.seed,
            initialisation=None if initialisation.read_bytes() == NO_WEIGHTS else initialisation,
        ),
        setting=setting, data=args.data, export=lambda model: model.student, weights=weights, record=record, learned=learned,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
