"""Stage ``evaluate``: a student or teacher on the test split."""

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.pair import Pair
from pipelines import errors, layout
from pipelines.engine.metrics import coco_ap, reading, segmentation_iou
from pipelines.engine.visualizations import predicted, shown_by_method, write_samples
from pipelines.resolved import confirm
from reports.schemas.run import Ap, Metrics, Run

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

    from benchmarks.digest import file_sha256  # noqa: PLC0415
    from pipelines.engine.compose import compose_test  # noqa: PLC0415
    from pipelines.engine.training import quiet  # noqa: PLC0415

    pair, predictions = setting.pair, folder / "predictions"
    shutil.rmtree(predictions, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    config = compose_test(setting, side, weights, predictions, changes)
    config.work_dir = str(folder)
    with quiet():
        runner = Runner.from_cfg(config)
        said = runner.test()
    dataset = runner.test_dataloader.dataset
    if pair.task == "segmentation":
        found = _segmentation(dataset, predictions)
    elif "pascal_voc/mAP" in said:
        found = {"box": Ap(**{**dict.fromkeys(Ap.model_fields), "AP50": round(100 * float(said["pascal_voc/mAP"]), 4)})}
    else:
        found = _detection(pair, setting.origin.truth(), predictions, setting.tier.area_px2)
    metrics = Metrics(num_images=len(dataset), weights_sha256=file_sha256(weights), metric=pair.metric, **found)
    score = metrics.flat()[pair.metric.removeprefix("box ")]
    if score is None:
        raise ValueError(f"{setting.origin.truth()}: has no object, so there is no {pair.metric} on it; annotate the test images")
    return metrics.model_copy(update={"score": score})


def _detection(pair: Pair, truth: Path, predictions: Path, area_px2: tuple[int, int]) -> dict[str, Any]:
    """AP of boxes, and of masks where the pair is judged by them; by class for the pair's metric."""
    found: dict[str, Any] = {}
    if pair.head != "solo":  # it predicts masks, and MMDetection writes boxes of no size for it
        boxes = json.loads(predictions.with_suffix(".bbox.json").read_text())
        found["box"], found["per_class"] = coco_ap(truth, boxes, area_px2, "bbox")
        found["reading"] = reading(truth, boxes, "bbox")
    if pair.metric == "mask AP":
        masks = json.loads(predictions.with_suffix(".segm.json").read_text())
        found["mask"], found["per_class"] = coco_ap(truth, masks, area_px2, "segm")
        found["reading"] = reading(truth, masks, "segm")
    return found


def _segmentation(dataset: Any, predictions: Path) -> dict[str, Any]:
    """IoU of the label maps that were written under the images' stems."""
    images = [dataset.get_data_info(index) for index in range(len(dataset))]
    maps = {predictions / f"{Path(image['img_path']).stem}.png": Path(image["seg_map_path"]) for image in images}
    if len(maps) < len(images):
        raise ValueError(
            f"{Path(images[0]['img_path']).parent}: two test images have the same name in different folders; rename one"
        )
    scores, per_class = segmentation_iou(((truth, prediction) for prediction, truth in maps.items()), dataset.metainfo["classes"])
    return {"seg": scores, "per_class": per_class}


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
        metrics = measure(setting, side, weights, work / "test", run.config_changes)
        arrays = predicted(setting, side, work / "test/predictions", run.config_changes)
        if run.method:
            teacher = layout.teacher(args.tier, run.pair) / "weights.pth"
            prior = layout.auxiliary(args.tier, run.pair, run.method) / "prior.pth"
            arrays |= shown_by_method(setting, run, folder, teacher, prior)
    write_samples(folder / "samples.npz", arrays)
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
