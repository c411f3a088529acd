"""What a reader may look at: a model's predictions, and what its method has to show, on the first images of the test split.

The first ones, so that nobody chose them.  One ``samples.npz`` a model; arrays, where N images are shown:
``paths`` (N,) file names; ``classes`` (K,) names; ``boxes`` (D, 6) of image number, xyxy in pixels of the image
file and score, ``box_labels`` (D,) class indices; ``labels_<n>`` (H, W) predicted class of each pixel, or for
instance masks the number of the instance from 1, the surest first; ``map/<picture>/<column>/<level>`` (N, H, W) a map
of the method's, the columns numbered from 0, ``about/<picture>`` a JSON text that describes it (keys ``what``, ``value``,
``columns``, ``common``, ``translucent``), ``covered`` (N, 2) the ratio of those maps' height and width that is image and
not padding.
The teacher's also holds ``image_<n>`` (H, W, 3) RGB, and the truth as ``true_boxes`` (D, 5), ``true_box_labels``,
``true_labels_<n>``.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.metrics import METRICS
from pipelines.params import cell_parts, load_parts, with_hparams
from reports.schemas.run import Run

if TYPE_CHECKING:  # MMLab takes seconds, which a cell that cannot be need not wait for
    from methods.contract import Picture
    from pipelines.engine.compose import Setting, Side

Arrays = dict[str, npt.NDArray[Any]]
NUM_IMAGES = 4
LEAST_SCORE = 0.05  # of a box; a figure shows the surest of them
_LEAST_MASK_SCORE = 0.3  # masks would hide each other


def write_samples(path: Path, arrays: Arrays) -> None:
    """Write the file, whole or not at all; the same arrays give the same bytes."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:  # a name without .npz would get it from numpy
        np.savez_compressed(file, **arrays)
    partial.replace(path)


def predicted(setting: "Setting", side: "Side", predictions: Path, changes: dict[str, Any]) -> Arrays:
    """What one side found on the shown images, from the files that :func:`pipelines.stages.evaluate.measure` left."""
    dataset = _dataset(setting, side, changes)
    infos = [dataset.get_data_info(index) for index in range(min(NUM_IMAGES, len(dataset)))]
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


def shown_by_method(setting: "Setting", run: Run, folder: Path, teacher: Path, prior: Path) -> Arrays:
    """A method's pictures of the shown images; nothing where it has none.

    Args:
        setting: the pair at its tier.
        run: of the cell.
        folder: where its ``student.pth`` and ``method.pth`` are.
        teacher: file of the teacher's weights.
        prior: file of the method's prior, if it has one.
    """
    from methods.contract import BaseMethod  # noqa: PLC0415 (torch takes a second)

    parts = with_hparams(cell_parts(str(run.method), run.pair, setting.pair, run.tier)[0], run.hparams)
    if all(part.method.pictures is BaseMethod.pictures for part in load_parts(str(run.method))):
        return {}
    import torch  # noqa: PLC0415 (seconds)
    from mmengine.dataset import pseudo_collate  # noqa: PLC0415
    from mmengine.registry import MODELS  # noqa: PLC0415

    from pipelines.engine.compose import Distillation, Weights, compose_cell  # noqa: PLC0415
    from pipelines.engine.training import quiet  # noqa: PLC0415
    from pipelines.engine.weights import read_weights  # noqa: PLC0415

    learned = Weights(prior, run.prior_sha256) if run.prior_sha256 else None
    cell = Distillation(parts, Weights(teacher, str(run.teacher_sha256)), learned, run.config_changes)
    with quiet():
        model = MODELS.build(compose_cell(setting, cell, seed=run.seed).model)
        dataset = _dataset(setting, "student", run.config_changes)
    model.student.load_state_dict(read_weights(folder / "student.pth", str(run.weights_sha256)))
    model.distiller.method.load_state_dict(read_weights(folder / "method.pth", str(run.method_sha256)))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    batch = pseudo_collate([dataset[index] for index in range(min(NUM_IMAGES, len(dataset)))])
    data = model.student.data_preprocessor(batch, training=False)
    height, width = data["inputs"].shape[2:]
    covered = [(sample.img_shape[0] / height, sample.img_shape[1] / width) for sample in data["data_samples"]]
    return {"covered": np.array(covered, np.float32), **picture_arrays(model.look(data["inputs"]))}


def picture_arrays(pictures: "dict[str, Picture]") -> Arrays:
    """Arrays of a method's pictures, by the names that the module docstring gives."""
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


def _dataset(setting: "Setting", side: "Side", changes: dict[str, Any]) -> Any:
    """The test split, as the side is tested on it."""
    from mmengine.registry import DATASETS  # noqa: PLC0415

    from pipelines.engine.compose import compose_test  # noqa: PLC0415
    from pipelines.engine.training import quiet  # noqa: PLC0415

    config = compose_test(setting, side, Path("none"), Path("none"), changes)
    with quiet():
        return DATASETS.build(config.test_dataloader.dataset)


def _truth(setting: "Setting", infos: list[dict[str, Any]]) -> Arrays:
    if setting.pair.task == "segmentation":
        return {f"true_labels_{n}": np.asarray(Image.open(info["seg_map_path"])) for n, info in enumerate(infos)}
    objects = [(n, instance) for n, info in enumerate(infos) for instance in info["instances"]]
    return {
        "true_boxes": np.array([(n, *instance["bbox"]) for n, instance in objects], np.float32).reshape(-1, 5),
        "true_box_labels": np.array([instance["bbox_label"] for _, instance in objects], np.int64),
    }


def _instances(file: Path, number: dict[Any, int]) -> Arrays:
    """Each image's instances painted into one map, the surest last, so that it lies on top."""
    from pycocotools import mask  # noqa: PLC0415

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
