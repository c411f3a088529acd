"""Stage ``evaluate``: a student or teacher on the test split."""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.metrics import METRICS
from pipelines import errors, layout
from pipelines.engine import metrics
from pipelines.engine.visualizations import predicted, shown_by_method, write_samples
from pipelines.resolved import confirm
from reports.schemas.run import Metrics, Run

if TYPE_CHECKING:  # MMLab takes seconds
    from pipelines.engine.compose import Setting, Side


def measure(setting: "Setting", side: "Side", weights: Path, folder: Path, changes: dict[str, Any] | None = None) -> Metrics:
    """Predict on the test split and compare with the truth.

    Args:
        setting: the pair at a tier, on its data.
        side: ``teacher`` or ``student``.
        weights: state dict of that side, written by this project: it is loaded without further checks.
        folder: where predictions go; those of an earlier measurement there are removed.
        changes: what the student's method changed in its config.

    Raises:
        ValueError: the test split has nothing to be found, or predictions and truth do not fit.
    """
    from mmengine.runner import Runner  # noqa: PLC0415 (seconds)

    from pipelines.engine.compose import compose_test  # noqa: PLC0415
    from pipelines.engine.training import quiet  # noqa: PLC0415
    from pipelines.engine.weights import file_sha256  # noqa: PLC0415

    pair, predictions = setting.pair, folder / "predictions"
    shutil.rmtree(predictions, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    config = compose_test(setting, side, weights, predictions, changes)
    config.work_dir = str(folder)
    with quiet():
        runner = Runner.from_cfg(config)
        said = runner.test()
    dataset, metric = runner.test_dataloader.dataset, METRICS[pair.metric]
    made = metrics.Predictions(
        dataset, setting.origin.truth(), predictions, setting.tier.area_px2, said, has_boxes=pair.head != "solo"
    )
    found = getattr(metrics, metric.computed_by)(made)
    record = Metrics(num_images=len(dataset), weights_sha256=file_sha256(weights), metric=metric.name, **found)
    score = record.flat()[metric.key]
    if score is None:
        raise ValueError(f"{setting.origin.truth()}: has no object, so there is no {pair.metric} on it; annotate the test images")
    return record.model_copy(update={"score": score})


def main() -> None:
    """Predict on the test split; write metrics.json, and beside it samples.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument(
        "--model", required=True, help="a teacher, such as gfl_r101_r50/teacher, or a cell: gfl_r101_r50/mgd/seed0"
    )
    args = parser.parse_args()
    folder = layout.RUNS / args.tier / args.model
    side: Side = "teacher" if args.model.endswith("/teacher") else "student"
    weights, out = folder / ("weights.pth" if side == "teacher" else "student.pth"), folder / "metrics.json"
    run = Run.model_validate_json((folder / "run.json").read_text())
    confirm("evaluate", run.pair)

    from pipelines.engine.stage import dataset_identity, open_setting, write_json  # noqa: PLC0415 (seconds)
    from pipelines.engine.tracking import Tracker  # noqa: PLC0415
    from pipelines.engine.training import WORK, prepare_process  # noqa: PLC0415
    from pipelines.engine.weights import read_weights  # noqa: PLC0415
    from pipelines.engine.workdir import noting_failure  # noqa: PLC0415

    data = layout.data(args.tier)
    setting = open_setting(args.tier, run.pair, data)
    dataset_identity(setting, data)
    read_weights(weights, str(run.weights_sha256))
    label = f"[evaluate {args.model}]"
    print(f"{label} predicting on the test split", flush=True)
    prepare_process()
    work = WORK / args.tier / args.model
    with noting_failure(work):
        found = measure(setting, side, weights, work / "test", run.config_changes)
        arrays = predicted(setting, side, work / "test/predictions", run.config_changes)
        if run.method:
            teacher = layout.teacher(args.tier, run.pair) / "weights.pth"
            prior = layout.auxiliary(args.tier, run.pair, run.method) / "prior.pth"
            arrays |= shown_by_method(setting, run, folder, teacher, prior)
    write_samples(folder / "samples.npz", arrays)
    write_json(out, found.model_dump())
    if run.mlflow_run_id:
        tracker = Tracker(f"kd-{args.tier}", label, resume=run.mlflow_run_id)
        named = {name.replace(" ", "_"): value for name, value in found.flat().items()}
        tracker.metrics({f"test/{name}": value for name, value in named.items() if value is not None}, 0)
        tracker.artifact(out)
        tracker.finish()
    print(f"{label} {found.metric} {found.score:.1f} on {found.num_images} test images", flush=True)


if __name__ == "__main__":
    errors.run(main)
