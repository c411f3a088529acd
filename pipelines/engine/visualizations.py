"""Visualizations: a model's predictions and its method's maps on a few images of the test split.

A rule chooses them from the data alone, the same for every model: for a detector the images with the most labelled objects, the first
of equals; for a segmenter evenly spaced ones.  One ``samples.npz`` per model; arrays, where N images are shown:
``paths`` (N,) file names; ``classes`` (K,) names; ``boxes`` (D, 6) of image number, xyxy in pixels of the image
file and score, ``box_labels`` (D,) class indices; ``labels_<n>`` (H, W) predicted class of each pixel, or for
instance masks the number of the instance from 1, the surest first; ``map/<picture>/<column>/<level>`` (N, H, W) a map
of the method's, the columns numbered from 0, ``about/<picture>`` a JSON text that describes it (keys ``what``, ``value``,
``columns``, ``common``, ``translucent``), ``covered`` (N, 2) the ratio of those maps' height and width that is image and
not padding.
The teacher's also contains ``image_<n>`` (H, W, 3) RGB, and the truth as ``true_boxes`` (D, 5), ``true_box_labels``,
``true_labels_<n>``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS
from PIL import Image
from pycocotools import mask

from benchmarks.metrics import METRICS
from benchmarks.whole_file import replacing
from methods.contract import BaseMethod, Picture
from pipelines import layout
from pipelines.engine.compose import compose_cell, compose_test
from pipelines.engine.mmlab import quiet
from pipelines.engine.setting import Distillation, Setting, Side, Weights
from pipelines.engine.weights import read_weights
from pipelines.recipes import cell_parts, load_parts, with_hparams
from reports.schemas.run import Run

Arrays = dict[str, npt.NDArray[Any]]
NUM_IMAGES = 12
NUM_MAPS = 2  # images, the first of them, that a method's maps are of
LEAST_SCORE = 0.05  # of a box; a figure shows the surest of them
_LEAST_MASK_SCORE = 0.3  # masks would hide each other


def write_samples(path: Path, arrays: Arrays) -> None:
    """Write the file, whole or not at all; the same arrays give the same bytes."""
    with replacing(path) as partial, partial.open("wb") as file:  # a name without .npz would get it from numpy
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stubs take its flag for one of the arrays


def predicted(setting: Setting, side: Side, predictions: Path, changes: dict[str, Any]) -> Arrays:
    """Return one side's predictions on the shown images, from the files that :func:`pipelines.engine.evaluation.measure` left."""
    dataset = _dataset(setting, side, changes)
    infos = [dataset.get_data_info(index) for index in shown(dataset)]
    arrays: Arrays = {
        "paths": np.array([Path(info["img_path"]).name for info in infos]),
        "classes": np.array(dataset.metainfo["classes"]),
    }
    if side == "teacher":
        arrays |= {f"image_{n}": np.asarray(Image.open(info["img_path"]).convert("RGB")) for n, info in enumerate(infos)}
        arrays |= _truth(setting, infos)
    if setting.pair.task == "segmentation":
        maps = [predictions / f"{Path(info['img_path']).stem}.png" for info in infos]
        return arrays | {f"labels_{n}": np.asarray(Image.open(path)) for n, path in enumerate(maps)}
    number = {info["img_id"]: n for n, info in enumerate(infos)}
    label = {category: index for index, category in enumerate(getattr(dataset, "cat_ids", ()))}
    if METRICS[setting.pair.metric].shows == "masks":
        return arrays | _instances(predictions.with_suffix(".segm.json"), number)
    file = predictions.with_suffix(".bbox.json")
    if not file.is_file():  # VOC's evaluator keeps no predictions
        return arrays
    found = [box for box in json.loads(file.read_text()) if box["image_id"] in number and box["score"] >= LEAST_SCORE]
    rows = [(number[box["image_id"]], *_xyxy(box["bbox"]), box["score"]) for box in found]
    return arrays | {
        "boxes": np.array(rows, np.float32).reshape(-1, 6),
        "box_labels": np.array([label[box["category_id"]] for box in found], np.int64),
    }


def method_visualizations(setting: Setting, run: Run, folder: Path, teacher: Path, auxiliary: Path) -> Arrays:
    """Return a method's visualizations of the shown images; nothing where it has none.

    Args:
        setting: the pair at its tier.
        run: of the cell.
        folder: where its ``student.pth`` and ``method.pth`` are.
        teacher: file of the teacher's weights.
        auxiliary: file of the method's auxiliary module, if it has one.
    """
    parts = with_hparams(cell_parts(str(run.method), run.pair, setting.pair, run.tier)[0], run.hparams)
    if all(part.method.pictures is BaseMethod.pictures for part in load_parts(str(run.method))):
        return {}
    learned = Weights(auxiliary, run.prior_sha256) if run.prior_sha256 else None
    cell = Distillation(parts, Weights(teacher, str(run.teacher_sha256)), learned, run.config_changes)
    with quiet():
        model = MODELS.build(compose_cell(setting, cell, seed=run.seed).model)
        dataset = _dataset(setting, "student", run.config_changes)
    model.student.load_state_dict(read_weights(folder / layout.STUDENT_WEIGHTS, str(run.weights_sha256)))
    model.distiller.method.load_state_dict(read_weights(folder / layout.METHOD_WEIGHTS, str(run.method_sha256)))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    batch = pseudo_collate([dataset[index] for index in shown(dataset)[:NUM_MAPS]])
    data = model.student.data_preprocessor(batch, training=False)
    height, width = data["inputs"].shape[2:]
    covered = [(sample.img_shape[0] / height, sample.img_shape[1] / width) for sample in data["data_samples"]]
    return {"covered": np.array(covered, np.float32), **map_arrays(model.visualize(data["inputs"]))}


def map_arrays(pictures: dict[str, Picture]) -> Arrays:
    """Return arrays of a method's visualizations, by the names that the module docstring gives."""
    arrays: Arrays = {}
    for name, picture in pictures.items():
        about = {"what": picture.what, "value": picture.value, "columns": [*picture.columns], "common": picture.common}
        arrays[f"about/{name}"] = np.array(json.dumps({**about, "translucent": picture.translucent}))
        arrays |= {
            f"map/{name}/{column}/{level}": values.cpu().numpy().astype(np.float16)
            for column, levels in enumerate(picture.columns.values())
            for level, values in enumerate(levels)
        }
    return arrays


def shown(dataset: Any) -> list[int]:
    """Return the indices of the images that are shown, at most :data:`NUM_IMAGES`."""
    number = min(NUM_IMAGES, len(dataset))
    if number and "instances" not in dataset.get_data_info(0):
        return [index * len(dataset) // number for index in range(number)]
    counts = [
        sum(not instance.get("ignore_flag") for instance in dataset.get_data_info(index)["instances"])
        for index in range(len(dataset))
    ]
    return sorted(range(len(dataset)), key=lambda index: -counts[index])[:number]


def _dataset(setting: Setting, side: Side, changes: dict[str, Any]) -> Any:
    """Return the test split, as the side is tested on it."""
    config = compose_test(setting, side, Path("none"), Path("none"), changes)
    with quiet():
        return DATASETS.build(config.test_dataloader.dataset)


def _truth(setting: Setting, infos: list[dict[str, Any]]) -> Arrays:
    if setting.pair.task == "segmentation":
        return {f"true_labels_{n}": np.asarray(Image.open(info["seg_map_path"])) for n, info in enumerate(infos)}
    objects = [(n, instance) for n, info in enumerate(infos) for instance in info["instances"]]
    return {
        "true_boxes": np.array([(n, *instance["bbox"]) for n, instance in objects], np.float32).reshape(-1, 5),
        "true_box_labels": np.array([instance["bbox_label"] for _, instance in objects], np.int64),
    }


def _instances(file: Path, number: dict[Any, int]) -> Arrays:
    """Each image's instances painted into one map, the surest last, so that it is on top."""
    found = [one for one in json.loads(file.read_text()) if one["image_id"] in number and one["score"] >= _LEAST_MASK_SCORE]
    maps: Arrays = {}
    for image, n in number.items():
        of_image = sorted((one for one in found if one["image_id"] == image), key=lambda one: -one["score"])
        for rank, one in reversed(list(enumerate(of_image, start=1))):
            inside = mask.decode(one["segmentation"]).astype(bool)
            maps.setdefault(f"labels_{n}", np.zeros(inside.shape, np.uint8))[inside] = min(rank, 255)
    return maps


def _xyxy(box_xywh: list[float]) -> tuple[float, float, float, float]:
    left, top, width, height = box_xywh
    return left, top, left + width, top + height
