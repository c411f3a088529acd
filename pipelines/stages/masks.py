"""Stage ``masks``: the auxiliary module of a method, trained on the frozen teacher before any student is.

MasKD's receptive tokens are such a module.
"""

import argparse
from pathlib import Path

from pipelines import errors, layout
from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.ranks import first_says
from pipelines.engine.records import RunSpec
from pipelines.engine.setting import Weights, open_setting, read_run, verified_data
from pipelines.engine.training import run_training
from pipelines.recipes import auxiliary_of
from pipelines.resolved import confirm
from pipelines.runner.launch import launch
from pipelines.runner.parent_death import die_with_dvc
from pipelines.stage_list import load_stages

AUXILIARY_SEED = 0


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
    code = confirm(layout.MASKS, args.pair, args.method)["code"]
    data, out = layout.data(args.tier), args.out or layout.auxiliary(args.tier, args.pair, args.method)
    setting = open_setting(args.tier, args.pair, data)
    folder = layout.teacher(args.tier, args.pair)
    training = part.auxiliary_training(args.pair, setting.pair.head, args.tier)
    origin = "published" if setting.tier.schedule is None else "published, iterations of the tier"
    teacher = Weights(folder / layout.WEIGHTS, str(read_run(folder).weights_sha256))
    keys, key, hparams = list(load_stages()[layout.MASKS]), f"{args.pair}/{args.method}", part.recipe.prior.hparams
    config = compose_auxiliary(setting, teacher, code=part.code, hparams=hparams, training=training, seed=AUXILIARY_SEED)
    if launch(layout.MASKS, setting.processes):
        return
    prepare_process()
    run_training(
        RunSpec(
            "masks", args.tier, args.pair, args.method, AUXILIARY_SEED,
            (keys.index(key) + 1, len(keys)) if key in keys else (1, 1),
            hparams={**hparams, **training.model_dump()}, hparams_origin=origin, teacher_sha256=teacher.sha256, code=code,
        ),
        config, first_says(lambda: verified_data(setting, data)), export=lambda model: model.auxiliary, weights=out / layout.AUXILIARY_WEIGHTS,
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
