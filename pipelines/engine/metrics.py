"""Scores of predictions: AP of boxes or masks (pycocotools), and IoU of label maps (one confusion matrix).

``box_scores``, ``mask_scores`` and ``label_map_scores`` are what records of ``benchmarks/metrics.py`` name: each is given a model's
:class:`Predictions` and returns fields of :class:`reports.schemas.run.Metrics`; a score that has no group there is one of ``scores``.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.engine.coco_index import coco_index
from reports.schemas.run import Ap, Reading, Segmentation

_MAX_DETECTIONS = 100  # per image, as in COCO's protocol
_EVERYTHING_PX2 = 1e10
_FOUND_IOU = 0.5


@dataclass(frozen=True)
class Predictions:
    """Predictions of one model on the test split, and what they are compared with.

    Args:
        dataset: MMLab's, of the test split.
        truth: COCO file, or folder of label maps.
        path: of the predictions, without the ending: COCO's result format for boxes (``.bbox.json``) and masks
            (``.segm.json``), or a folder of label maps.
        area_px2: areas that part small from medium and medium from large objects.
        said: results of MMLab's evaluator, where it computed any.
        has_boxes: the model predicts boxes; for one that does not, MMDetection writes boxes of no size.
    """

    dataset: Any
    truth: Path
    path: Path
    area_px2: tuple[int, int]
    said: Mapping[str, float]
    has_boxes: bool = True


def box_scores(made: Predictions) -> dict[str, Any]:
    """AP of boxes, over all classes and by class; where VOC's own evaluator ran, what it says."""
    if "pascal_voc/mAP" in made.said:
        return {"box": Ap(**{**dict.fromkeys(Ap.model_fields), "AP50": round(100 * float(made.said["pascal_voc/mAP"]), 4)})}
    if not made.has_boxes:
        return {}
    boxes = json.loads(made.path.with_suffix(".bbox.json").read_text())
    found, per_class = coco_ap(made.truth, boxes, made.area_px2, "bbox")
    return {"box": found, "per_class": per_class, "reading": reading(made.truth, boxes, "bbox")}


def mask_scores(made: Predictions) -> dict[str, Any]:
    """AP of masks, over all classes and by class; beside it that of the boxes, where there are any."""
    masks = json.loads(made.path.with_suffix(".segm.json").read_text())
    found, per_class = coco_ap(made.truth, masks, made.area_px2, "segm")
    return {**box_scores(made), "mask": found, "per_class": per_class, "reading": reading(made.truth, masks, "segm")}


def label_map_scores(made: Predictions) -> dict[str, Any]:
    """IoU of the label maps that were written under the images' stems.

    Raises:
        ValueError: two images have the same stem; or see :func:`segmentation_iou`.
    """
    images = [made.dataset.get_data_info(index) for index in range(len(made.dataset))]
    maps = {made.path / f"{Path(image['img_path']).stem}.png": Path(image["seg_map_path"]) for image in images}
    if len(maps) < len(images):
        raise ValueError(
            f"{Path(images[0]['img_path']).parent}: two test images have the same name in different folders; rename one"
        )
    pairs = ((truth, prediction) for prediction, truth in maps.items())
    scores, per_class = segmentation_iou(pairs, made.dataset.metainfo["classes"])
    return {"seg": scores, "per_class": per_class}


def coco_ap(
    ground_truth: Path, detections: Sequence[dict[str, Any]], area_px2: tuple[int, int], kind: Literal["bbox", "segm"]
) -> tuple[Ap, dict[str, float | None]]:
    """Compute COCO's AP overall, by size and by class.

    Args:
        ground_truth: annotation file in COCO's format; an object's size is its ``area`` there.
        detections: list in COCO's result format: boxes xywh in pixels, or masks run-length encoded.
        area_px2: areas that part small from medium and medium from large objects.
        kind: what is compared, ``bbox`` or ``segm``.

    Returns:
        AP in points (0-100), None where there is no such object; and AP by class name.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_index(ground_truth, masks=kind == "segm")
        if kind == "segm":
            # MMDetection adds a box, from which pycocotools would make the mask.
            detections = [{key: value for key, value in found.items() if key != "bbox"} for found in detections]
        found = truth.loadRes(list(detections)) if detections else COCO()
        if not detections:
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, kind)
        small, large = area_px2
        evaluation.params.areaRng = [[0, _EVERYTHING_PX2], [0, small], [small, large], [large, _EVERYTHING_PX2]]
        evaluation.params.maxDets = [1, 10, _MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU thresholds, recalls, classes, areas, detections per image)

    def mean(threshold: slice = slice(None), *, area: int = 0, classes: slice = slice(None)) -> float | None:
        values = precision[threshold, :, classes, area, -1]
        values = values[values > -1]
        return _points(np.mean(values)) if values.size else None

    thresholds = [round(float(value), 2) for value in evaluation.params.iouThrs]
    at = {iou: slice(index, index + 1) for index, iou in enumerate(thresholds)}
    names = [truth.cats[number]["name"] for number in evaluation.params.catIds]
    ap = Ap(AP=mean(), AP50=mean(at[0.5]), AP75=mean(at[0.75]), APs=mean(area=1), APm=mean(area=2), APl=mean(area=3))
    return ap, {name: mean(classes=slice(i, i + 1)) for i, name in enumerate(names)}


def reading(ground_truth: Path, detections: Sequence[dict[str, Any]], kind: Literal["bbox", "segm"]) -> Reading | None:
    """Compute the fraction of objects that are found, and of those the fraction with the right class; None without objects.

    AP mixes both with the scores' ranking; these two distinguish a detector that finds from one that classifies.

    Args:
        ground_truth: annotation file in COCO's format; crowds are excluded.
        detections: as for :func:`coco_ap`; what the model's own score threshold lets through.
        kind: what is compared, ``bbox`` or ``segm``.
    """
    truth = coco_index(ground_truth)
    by_image: dict[int, list[dict[str, Any]]] = {}
    for detection in detections:
        by_image.setdefault(detection["image_id"], []).append(detection)
    total = found = right = 0
    for image_id, annotations in truth.imgToAnns.items():
        objects = [annotation for annotation in annotations if not annotation["iscrowd"]]
        total += len(objects)
        predicted = sorted(by_image.get(image_id, []), key=lambda detection: -detection["score"])
        if not objects or not predicted:
            continue
        shapes = [
            [one["bbox"] for one in part] if kind == "bbox" else [_rle(truth, one) for one in part]
            for part in (predicted, objects)
        ]
        overlaps_DG = coco_mask.iou(*(np.asarray(part, float) if kind == "bbox" else part for part in shapes), [0] * len(objects))
        for column_D, annotation in zip((overlaps_DG > _FOUND_IOU).T, objects, strict=True):
            if column_D.any():
                found += 1
                right += predicted[int(column_D.argmax())]["category_id"] == annotation["category_id"]
    if not total:
        return None
    return Reading(found=_points(found / total), right=_points(right / found) if found else None)


def _rle(truth: Any, one: dict[str, Any]) -> Any:
    """Return a mask run-length encoded, of an annotation (which may be a polygon) or a detection."""
    return truth.annToRLE(one) if "area" in one else one["segmentation"]


def segmentation_iou(
    maps: Iterable[tuple[Path, Path]], classes: Sequence[str], ignore: int = 255
) -> tuple[Segmentation, dict[str, float | None]]:
    """Compute IoU and accuracy over a whole split, from one confusion matrix of all its pixels.

    A class that neither truth nor prediction has is excluded from mIoU, and one that the truth lacks from mAcc.

    Args:
        maps: of each image the true and the predicted label map, images (H, W) of class indices.
        classes: names by index.
        ignore: true label whose pixels do not count.

    Returns:
        Scores in points (0-100), and IoU by class name, None for a class that is nowhere.

    Raises:
        ValueError: a prediction is missing, is of another size than its truth, or a label is no class; no pixel counts.
    """
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for truth, prediction in maps:
        counts += _confusion(truth, prediction, len(classes), ignore)
    if not counts.any():
        raise ValueError("the test split's label maps have no pixel of any class; check what they are made of")
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):
        iou, found = right / (true + predicted - right), right / true
    foreground = None
    if classes[0] == "background":
        meant, said = true[1:].sum(), predicted[1:].sum()
        both = counts[1:, 1:].sum()
        foreground = _points(both / (meant + said - both)) if meant + said else None
    scores = Segmentation(
        mIoU=_points(np.nanmean(iou)),
        mAcc=_points(np.nanmean(found)),
        aAcc=_points(right.sum() / true.sum()),
        foreground=foreground,
    )
    return scores, {name: None if np.isnan(value) else _points(value) for name, value in zip(classes, iou, strict=True)}


def _confusion(truth: Path, prediction: Path, num_classes: int, ignore: int) -> npt.NDArray[np.int64]:
    """Pixels of one image by true and by predicted class."""
    if not prediction.is_file():
        raise ValueError(f"{prediction}: there is no prediction for {truth}; run stage evaluate again")
    labels_HW, found_HW = (np.asarray(Image.open(path)) for path in (truth, prediction))
    if labels_HW.shape != found_HW.shape:
        raise ValueError(
            f"{truth}: is of size {labels_HW.shape}, its prediction {prediction} of {found_HW.shape}; make them equal"
        )
    counted = labels_HW != ignore
    labels_P, found_P = labels_HW[counted].astype(np.int64), found_HW[counted]
    if labels_P.size and max(labels_P.max(), found_P.max()) >= num_classes:
        path, value = (truth, labels_P.max()) if labels_P.max() >= num_classes else (prediction, found_P.max())
        raise ValueError(
            f"{path}: holds label {value}, but there are {num_classes} classes from 0, and {ignore} for ignored pixels"
        )
    return np.bincount(labels_P * num_classes + found_P, minlength=num_classes**2).reshape(num_classes, num_classes)


def _points(fraction: Any) -> float:
    return round(100 * float(fraction), 4)
