"""Stage ``evaluate``: a student or teacher on the test split, by pycocotools."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import cli
from pipelines.params import load_pair, load_tier
from reports.record import Ap, Metrics, Run

_MAX_DETECTIONS = 100  # per image, as in COCO's protocol


def box_ap(ground_truth: Path, detections: list[dict[str, Any]], area_px2: tuple[int, int]) -> tuple[Ap, dict[str, float | None]]:
    """COCO's box AP overall, by size and by class.

    Args:
        ground_truth: annotation file in COCO's format.
        detections: list in COCO's result format, boxes xywh in pixels.
        area_px2: areas that part small from medium and medium from large objects.

    Returns:
        AP in points (0-100), None where there is no such object; and AP by class name.
    """
    from pycocotools.coco import COCO  # noqa: PLC0415
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    from pipelines.engine.training import quiet  # noqa: PLC0415

    with quiet():
        truth = COCO(str(ground_truth))
        found = truth.loadRes(detections) if detections else COCO()
        if not detections:
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        small, large = area_px2
        everything = 1e10
        evaluation.params.areaRng = [[0, everything], [0, small], [small, large], [large, everything]]
        evaluation.params.maxDets = [1, 10, _MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU thresholds, recalls, classes, areas, detections an image)

    def mean(threshold: slice = slice(None), *, area: int = 0, classes: Any = slice(None)) -> float | None:
        values = precision[threshold, :, classes, area, -1]
        values = values[values > -1]
        return round(100 * float(np.mean(values)), 4) if values.size else None

    thresholds = [round(float(value), 2) for value in evaluation.params.iouThrs]
    at = {iou: slice(index, index + 1) for index, iou in enumerate(thresholds)}
    names = [truth.cats[number]["name"] for number in evaluation.params.catIds]
    ap = Ap(AP=mean(), AP50=mean(at[0.5]), AP75=mean(at[0.75]), APs=mean(area=1), APm=mean(area=2), APl=mean(area=3))
    return ap, {name: mean(classes=slice(i, i + 1)) for i, name in enumerate(names)}


def main() -> None:
    """Detect on the test split, write the detections and metrics.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--side", choices=["teacher", "student"], required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tier, pair = load_tier(args.tier), load_pair(args.pair)
    run = Run.model_validate_json(args.run.read_text())
    if run.status != "done":
        args.out.write_text(Metrics(num_images=0, weights_sha256=None, box=None).model_dump_json(indent=2) + "\n")
        return

    from mmengine.runner import Runner  # noqa: PLC0415 (seconds)

    from pipelines.engine.compose import compose_test  # noqa: PLC0415
    from pipelines.engine.stage import dataset_identity  # noqa: PLC0415
    from pipelines.engine.tracking import Tracker  # noqa: PLC0415
    from pipelines.engine.training import WORK, prepare_process, quiet  # noqa: PLC0415
    from pipelines.engine.weights import read_weights  # noqa: PLC0415

    dataset_identity(tier, args.data)
    read_weights(args.weights, str(run.weights_sha256))
    label = f"[evaluate {args.pair}/{run.method or 'teacher'}" + (f"/seed{run.seed}]" if run.method else "]")
    print(f"{label} detecting on the test split", flush=True)
    prepare_process()
    name = WORK / args.tier / args.pair / (f"{run.method}/seed{run.seed}" if run.method else "teacher") / "test"
    predictions = name / "detections"
    predictions.parent.mkdir(parents=True, exist_ok=True)
    config = compose_test(pair, args.side, tier, args.data, args.weights, predictions)
    config.work_dir = str(name)
    with quiet():
        Runner.from_cfg(config).test()
    detections = json.loads(predictions.with_suffix(".bbox.json").read_text())
    truth = args.data / "test.json"
    ap, per_class = box_ap(truth, detections, tier.area_px2)
    num_images = len(json.loads(truth.read_text())["images"])
    metrics = Metrics(num_images=num_images, weights_sha256=run.weights_sha256, box=ap, per_class=per_class)
    args.out.write_text(metrics.model_dump_json(indent=2) + "\n")
    if run.mlflow_run_id:
        tracker = Tracker(f"kd-{args.tier}", label, resume=run.mlflow_run_id)
        tracker.metrics({f"test/{key}": value for key, value in ap.model_dump().items() if value is not None}, 0)
        tracker.artifact(args.out)
        tracker.finish()
    print(f"{label} AP {ap.AP:.1f} on {num_images} test images", flush=True)


if __name__ == "__main__":
    cli.run(main)
