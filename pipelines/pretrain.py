"""Stage ``pretrain``: a backbone trained as a classifier, once for all pairs: the tier's stand-in for ImageNet.

Teachers and students start from it where their published ones start from ImageNet.  At a tier that does not ask for it, and for a
backbone that no pair of the grid starts from, the stage only says so.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.tier import Pretraining
from pipelines import cli
from pipelines.params import load_tier
from reports.record import Run

PRETRAINING_SEED = 0  # one of each backbone


def judged(name: str, curve: list[dict[str, float]], wanted: Pretraining) -> dict[str, Any]:
    """The accuracy for the record; ValueError where it is below what the tier asks."""
    accuracy = next(point["val_accuracy"] for point in reversed(curve) if "val_accuracy" in point)
    if accuracy < wanted.least_accuracy:
        raise ValueError(
            f"backbone {name} names {accuracy:.1f} % of the digits on the tune scenes, and the tier asks for {wanted.least_accuracy:g} % at "
            "least: it has not learned, so nothing starts from it; raise pretraining.epochs or change pretraining.lr in the tier's file"
        )
    return {"accuracy": accuracy}


def main() -> None:
    """Train the backbone and write its weights and run.json; or a run.json that says that none is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--described", type=Path, required=True, help="the backbone as stage check found it")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    wanted = load_tier(args.tier).pretraining
    weights, record = args.out / "weights.pth", args.out / "run.json"
    described = json.loads(args.described.read_text())
    if wanted is None or not described:
        run = Run(
            stage="pretrain", status="not asked", tier=args.tier, pair=args.backbone, method=None, seed=PRETRAINING_SEED
        )  # fmt: skip
        args.out.mkdir(parents=True, exist_ok=True)
        weights.write_text("none\n")
        record.write_text(run.model_dump_json(indent=2) + "\n")
        return

    from pipelines.engine.backbones import Backbone  # noqa: PLC0415 (seconds)
    from pipelines.engine.classifier import scenes_digest  # noqa: PLC0415
    from pipelines.engine.compose import compose_pretraining  # noqa: PLC0415
    from pipelines.engine.stage import Job, train_and_record  # noqa: PLC0415
    from pipelines.engine.training import prepare_process  # noqa: PLC0415
    from pipelines.lifeline import die_with_dvc  # noqa: PLC0415

    die_with_dvc()
    backbone = Backbone(**described)
    prepare_process()
    train_and_record(
        Job(
            "pretrain", args.tier, args.backbone, None, PRETRAINING_SEED,
            code=(Path("benchmarks/scenes.py"), Path("pipelines/engine/classifier.py")),
        ),
        compose_pretraining(backbone, wanted, seed=PRETRAINING_SEED),
        ("scenes of one digit", scenes_digest(wanted.scenes)), Path("benchmarks/tiers") / f"{args.tier}.yaml",
        export=lambda model: model.backbone, weights=weights, record=record,
        judge=lambda trained: judged(args.backbone, trained.curve, wanted),
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
