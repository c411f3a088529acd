"""Stage ``masks``: the auxiliary module of a method, trained on the frozen teacher before any student is.

MasKD's receptive tokens are such a module.
"""

import argparse
from pathlib import Path

from pipelines import errors, layout
from pipelines.engine.compose import Weights, compose_prior
from pipelines.engine.stage import Job, open_setting, run_training
from pipelines.engine.training import prepare_process
from pipelines.grid import load_stages
from pipelines.params import auxiliary_of
from pipelines.resolved import confirm
from pipelines.runner.parent_death import die_with_dvc
from reports.schemas.run import Run

PRIOR_SEED = 0


def main() -> None:
    """Train the module and write its weights and run.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--out", type=Path, help="folder; runs/TIER/PAIR/METHOD/prior if not given")
    args = parser.parse_args()
    die_with_dvc()
    part = auxiliary_of(args.method)
    if part is None or part.recipe.prior is None:
        raise ValueError(f"{args.method} has no auxiliary module; there is nothing to train")
    code = confirm("masks", args.pair, args.method)["code"]
    data, out = layout.data(args.tier), args.out or layout.auxiliary(args.tier, args.pair, args.method)
    setting = open_setting(args.tier, args.pair, data)
    folder = layout.teacher(args.tier, args.pair)
    teacher_run = Run.model_validate_json((folder / "run.json").read_text())
    training = part.prior_training(args.pair, setting.pair.head, args.tier).model_dump()
    origin = "published" if setting.tier.schedule is None else "published, iterations of the tier"
    teacher = Weights(folder / "weights.pth", str(teacher_run.weights_sha256))
    keys, key, hparams = list(load_stages()["masks"]), f"{args.pair}/{args.method}", part.recipe.prior.hparams
    prepare_process()
    run_training(
        Job(
            "masks", args.tier, args.pair, args.method, PRIOR_SEED,
            (keys.index(key) + 1, len(keys)) if key in keys else (1, 1),
            hparams={**hparams, **training}, hparams_origin=origin, teacher_sha256=teacher.sha256, code=code,
        ),
        compose_prior(setting, teacher, code=part.code, hparams=hparams, training=training, seed=PRIOR_SEED),
        setting=setting, data=data, export=lambda model: model.prior, weights=out / "prior.pth", record=out / "run.json",
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
