"""Stage ``masks``: the auxiliary module of a method, trained on the frozen teacher before any student is.

MasKD's receptive tokens are such a module. Where params.yaml names a file with what others learned, it is taken over.
"""

import argparse
from pathlib import Path
from typing import Any

from pipelines import errors, layout
from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.mmlab import build_model, prepare_process
from pipelines.engine.ranks import first_says
from pipelines.engine.records import RunSpec, record_fetched
from pipelines.engine.setting import VerifiedData, Weights, open_setting, read_run, verified_data
from pipelines.engine.training import run_training
from pipelines.engine.weights import save_state
from pipelines.params import load_grid
from pipelines.recipes import auxiliary_of
from pipelines.released.files import note_first_use
from pipelines.released.tokens import RELEASED, find, read_tokens, tokens_of
from pipelines.resolved import confirm
from pipelines.runner.launch import launch
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
    given = load_grid().tokens.get(args.pair)
    spec = RunSpec(
        "masks", args.tier, args.pair, args.method, AUXILIARY_SEED,
        (keys.index(key) + 1, len(keys)) if key in keys else (1, 1),
        hparams={**hparams, **({} if given else training.model_dump())}, hparams_origin="taken over" if given else origin,
        teacher_sha256=teacher.sha256, code=code,
    )  # fmt: skip
    if given:
        prepare_process()
        _take_over(given, part.name, config, spec, verified_data(setting, data), out / layout.AUXILIARY_WEIGHTS)
        return
    if launch(layout.MASKS, setting.processes):
        return
    prepare_process()
    run_training(
        spec, config, first_says(lambda: verified_data(setting, data)), export=lambda model: model.auxiliary, weights=out / layout.AUXILIARY_WEIGHTS,
    )  # fmt: skip


def _take_over(given: str, method: str, config: Any, spec: RunSpec, data: VerifiedData, out: Path) -> None:
    """Write the module that others learned, once it is known to fit, and its record."""
    path, sha256 = find(given, spec.pair, method)
    learning: Any = build_model(config)  # AuxiliaryTraining
    state, known = read_tokens(path, sha256, learning.auxiliary, learning.teacher, spec.pair)
    if given == RELEASED:
        note_first_use(tokens_of(spec.pair, method), path, sha256)
    save_state(state, out)
    print(f"{spec.label} {path.name}, sha256 {sha256[:12]}, in place of learning: {known}", flush=True)
    record_fetched(spec, data, out, origin=f"{path.name} (sha256 {sha256[:12]}; {known})", metrics={})


if __name__ == "__main__":
    errors.run(main)
