"""Evaluation of a student or teacher on the test split."""

import json
import shutil
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from benchmarks.digest import file_sha256
from benchmarks.pair import Pair
from pipelines.engine.compose import compose_test
from pipelines.engine.metrics import coco_ap, reading, segmentation_iou
from pipelines.engine.mmlab import quiet
from pipelines.engine.setting import Setting, Side
from reports.schemas.run import Ap, Metrics


def measure(setting: Setting, side: Side, weights: Path, folder: Path, changes: dict[str, Any] | None = None) -> Metrics:
    """Predict on the test split and compare with the truth.

    Args:
        setting: the pair at a tier, on its data.
        side: ``teacher`` or ``student``.
        weights: state dict of that side, written by this project: it is loaded without further checks.
        folder: where predictions go; those of an earlier measurement there are removed.
        changes: changes of the student's method in its config.

    Raises:
        ValueError: the test split has nothing to be found, or predictions and truth do not fit.
    """
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
    """Return AP of boxes, and of masks where the pair is judged by them; by class for the pair's metric."""
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
    """Return IoU of the label maps that were written under the images' stems."""
    images = [dataset.get_data_info(index) for index in range(len(dataset))]
    maps = {predictions / f"{Path(image['img_path']).stem}.png": Path(image["seg_map_path"]) for image in images}
    if len(maps) < len(images):
        raise ValueError(
            f"{Path(images[0]['img_path']).parent}: two test images have the same name in different folders; rename one"
        )
    scores, per_class = segmentation_iou(((truth, prediction) for prediction, truth in maps.items()), dataset.metainfo["classes"])
    return {"seg": scores, "per_class": per_class}
