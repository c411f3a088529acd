"""Stage ``masks``: what a method learns on the frozen teacher before any student is trained.

MasKD's receptive tokens are such a prior; for a method without one the stage only says so.
"""

import argparse
from pathlib import Path

from pipelines import cli
from pipelines.params import impossible_reason, load_grid, load_pair, load_parts, method_sources
from reports.record import Run

PRIOR_SEED = 0


def main() -> None:
    """Learn the prior and write its weights and run.json, or a run.json that says there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pair, grid = load_pair(args.pair), load_grid()
    part = next((part for part in load_parts(args.method) if part.recipe.prior is not None), None)
    weights, record = args.out / "prior.pth", args.out / "run.json"
    left_out = args.method in grid.leave_out.get(args.pair, [])
    if left_out or part is None or part.recipe.prior is None or impossible_reason(args.pair, pair, args.method, args.tier):
        run = Run(stage="masks", status="no prior", tier=args.tier, pair=args.pair, method=args.method, seed=PRIOR_SEED)
        args.out.mkdir(parents=True, exist_ok=True)
        weights.write_text("none\n")
        record.write_text(run.model_dump_json(indent=2) + "\n")
        return

    from pipelines.engine.compose import Weights, compose_prior  # noqa: PLC0415 (seconds, for the methods above too)
    from pipelines.engine.stage import Job, open_setting, run_training  # noqa: PLC0415
    from pipelines.engine.training import prepare_process  # noqa: PLC0415
    from pipelines.lifeline import die_with_dvc  # noqa: PLC0415

    die_with_dvc()
    setting = open_setting(args.tier, args.pair, args.data)
    teacher_run = Run.model_validate_json((args.teacher / "run.json").read_text())
    training = part.prior_training(args.pair, pair.head, args.tier).model_dump()
    origin = "published" if setting.tier.schedule is None else "published, iterations of the tier"
    teacher = Weights(args.teacher / "weights.pth", str(teacher_run.weights_sha256))
    priors = [(p, m) for p in grid.pairs for m in grid.methods if any(part.recipe.prior for part in load_parts(m))]
    key, hparams = (args.pair, args.method), part.recipe.prior.hparams
    prepare_process()
    run_training(
        Job(
            "masks", args.tier, args.pair, args.method, PRIOR_SEED,
            (priors.index(key) + 1, len(priors)) if key in priors else (1, 1),
            hparams={**hparams, **training}, hparams_origin=origin,
            teacher_sha256=teacher.sha256, code=tuple(method_sources(part.code)),
        ),
        compose_prior(setting, teacher, code=part.code, hparams=hparams, training=training, seed=PRIOR_SEED),
        setting=setting, data=args.data, export=lambda model: model.prior, weights=weights, record=record,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
