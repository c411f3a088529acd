"""Stage ``pretrain``: a backbone trained as a classifier, once for all pairs: the tier's replacement for ImageNet.

Teachers and students start from it where their published ones start from ImageNet.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.tier import Pretraining
from pipelines import errors, layout
from pipelines.engine.backbones import Backbone
from pipelines.engine.classifier import compose_pretraining, scenes_digest
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.records import RunSpec
from pipelines.engine.setting import VerifiedData
from pipelines.engine.training import run_training
from pipelines.params import load_tier
from pipelines.resolved import confirm

PRETRAINING_SEED = 0  # one of each backbone


def judged(name: str, curve: list[dict[str, float]], wanted: Pretraining) -> dict[str, Any]:
    """Return the accuracy for the record; ValueError where it is below the tier's ``least_accuracy``."""
    accuracy = next(point["val_accuracy"] for point in reversed(curve) if "val_accuracy" in point)
    if accuracy < wanted.least_accuracy:
        raise ValueError(
            f"backbone {name} names {accuracy:.1f} % of the digits on the tune scenes, and the tier asks for {wanted.least_accuracy:g} % at "
            "least: it has not learned, so nothing starts from it; raise pretraining.epochs or change pretraining.lr in the tier's file"
        )
    return {"accuracy": accuracy}


def main() -> None:
    """Train the backbone and write its weights and run.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--out", type=Path, help="folder; runs/TIER/backbones/BACKBONE if not given")
    args = parser.parse_args()
    asked = load_tier(args.tier).pretraining
    if asked is None:
        raise ValueError(f"benchmarks/tiers/{args.tier}.yaml: says nothing under 'pretraining:', so there is nothing to train")
    resolved = confirm(layout.PRETRAIN, args.backbone)
    out = args.out or layout.backbones(args.tier) / args.backbone
    prepare_process()
    run_training(
        RunSpec("pretrain", args.tier, args.backbone, None, PRETRAINING_SEED, code=resolved["code"]),
        compose_pretraining(Backbone(**resolved["backbone"]), asked, seed=PRETRAINING_SEED),
        VerifiedData("scenes of one digit", scenes_digest(asked.scenes), Path("benchmarks/tiers") / f"{args.tier}.yaml"),
        export=lambda model: model.backbone, weights=out / layout.WEIGHTS,
        judge=lambda trained: judged(args.backbone, trained.curve, asked),
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
