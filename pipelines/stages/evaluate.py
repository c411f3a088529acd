"""Stage ``evaluate``: a student or teacher on the test split."""

import argparse

from pipelines import errors, layout
from pipelines.engine.evaluation import measure
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.records import write_json
from pipelines.engine.setting import Side, open_setting, read_run, verified_data
from pipelines.engine.tracking import Tracker
from pipelines.engine.visualizations import method_visualizations, predicted, write_samples
from pipelines.engine.weights import read_weights
from pipelines.engine.workdir import noting_failure
from pipelines.resolved import confirm


def main() -> None:
    """Predict on the test split; write metrics.json, and beside it samples.npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument(
        "--model", required=True, help="a teacher, such as gfl_r101_r50/teacher, or a cell: gfl_r101_r50/mgd/seed0"
    )
    args = parser.parse_args()
    folder = layout.runs(args.tier) / args.model
    side: Side = "teacher" if args.model.endswith(f"/{layout.TEACHER}") else "student"
    weights, out = folder / (layout.WEIGHTS if side == "teacher" else layout.STUDENT_WEIGHTS), folder / layout.METRICS
    run = read_run(folder)
    confirm(layout.EVALUATE, run.pair)
    data = layout.data(args.tier)
    setting = open_setting(args.tier, run.pair, data)
    verified_data(setting, data)
    read_weights(weights, str(run.weights_sha256))
    label = f"[evaluate {args.model}]"
    print(f"{label} predicting on the test split", flush=True)
    prepare_process()
    work = layout.work(args.tier) / args.model
    with noting_failure(work):
        metrics = measure(setting, side, weights, work / "test", run.config_changes)
        arrays = predicted(setting, side, work / "test/predictions", run.config_changes)
        if run.method:
            teacher = layout.teacher(args.tier, run.pair) / layout.WEIGHTS
            auxiliary = layout.auxiliary(args.tier, run.pair, run.method) / layout.AUXILIARY_WEIGHTS
            arrays |= method_visualizations(setting, run, folder, teacher, auxiliary)
    write_samples(folder / layout.SAMPLES, arrays)
    write_json(out, metrics.model_dump())
    if run.mlflow_run_id:
        tracker = Tracker(f"kd-{args.tier}", label, resume=run.mlflow_run_id)
        named = {name.replace(" ", "_"): value for name, value in metrics.flat().items()}
        tracker.metrics({f"test/{name}": value for name, value in named.items() if value is not None}, 0)
        tracker.artifact(out)
        tracker.finish()
    print(f"{label} {metrics.metric} {metrics.score:.1f} on {metrics.num_images} test images", flush=True)


if __name__ == "__main__":
    errors.run(main)
