"""Dummy batches: random images with boxes, masks or label maps, exactly as the loader gives them."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from pipelines.engine.data_configs import dicts

_OBJECTS = 7  # per image; COCO's mean
_SIDES = (0.08, 0.6)  # fractions of the image's side, from small objects to large
_PATCH_PX = 16  # side of an area of one label
_UNLABELLED, _FRACTION_UNLABELLED = 255, 0.1
_MASK_HEADS = ("FCNMaskHead", "SOLOHead")


def dummy_batch(config: Config, size: tuple[int, int], number: int) -> dict[str, list[Any]]:
    """Return ``number`` images of ``size`` (height, width; pixels): ``inputs``, each (3, H, W) of uint8, and their ``data_samples``."""
    model = config.model.get("student") or config.model.get("teacher") or config.model
    rng = np.random.default_rng(0)
    sample = _labelled_pixels if config.default_scope == "mmseg" else _objects
    inputs = [torch.from_numpy(rng.integers(0, 256, (3, *size), dtype=np.uint8)) for _ in range(number)]
    return {"inputs": inputs, "data_samples": [sample(model, size, rng) for _ in inputs]}


def _objects(model: ConfigDict, size: tuple[int, int], rng: np.random.Generator) -> Any:
    """Boxes of many sizes with labels, and elliptic masks where the model predicts masks."""
    from mmdet.structures import DetDataSample  # noqa: PLC0415 (after it all components are registered)
    from mmdet.structures.bbox import HorizontalBoxes  # noqa: PLC0415 (as above)
    from mmdet.structures.mask import BitmapMasks  # noqa: PLC0415 (as above)

    boxes = _boxes(size, rng)
    num_classes = max(part["num_classes"] for part in dicts(model) if "num_classes" in part)
    objects = InstanceData(
        bboxes=HorizontalBoxes(boxes), labels=torch.from_numpy(rng.integers(0, num_classes, len(boxes)))
    )  # fmt: skip
    ignored = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0, dtype=torch.long))
    if any(part.get("type") in _MASK_HEADS for part in dicts(model)):
        objects.masks = BitmapMasks(_ellipses(boxes, size), *size)
        ignored.masks = BitmapMasks(np.zeros((0, *size), dtype=np.uint8), *size)
    sample = DetDataSample(metainfo=_meta(size))
    sample.gt_instances, sample.ignored_instances = objects, ignored
    return sample


def _boxes(size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """(objects, 4): x1, y1, x2, y2 in pixels, all inside of the image."""
    width_height = np.array([size[1], size[0]])
    sides = np.geomspace(*_SIDES, _OBJECTS)[:, None] * rng.uniform(0.7, 1.3, (_OBJECTS, 2)) * width_height
    corners = rng.uniform(size=(_OBJECTS, 2)) * (width_height - sides)
    return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1)).float()


def _ellipses(boxes: Tensor, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return (objects, H, W) of 0 and 1: the ellipse that fits into each box."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    x1, y1, x2, y2 = boxes.numpy().astype(float).T[:, :, None, None]
    inside = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1
    return cast("npt.NDArray[np.uint8]", inside.astype(np.uint8))


def _labelled_pixels(model: ConfigDict, size: tuple[int, int], rng: np.random.Generator) -> Any:
    """Return a map of square patches, each of one class or not labelled."""
    from mmseg.structures import SegDataSample  # noqa: PLC0415 (as above)

    patches = rng.integers(0, model.decode_head.num_classes, [-(-side // _PATCH_PX) for side in size])
    patches[rng.uniform(size=patches.shape) < _FRACTION_UNLABELLED] = _UNLABELLED
    labels = np.kron(patches, np.ones((_PATCH_PX, _PATCH_PX), dtype=np.int64))[None, : size[0], : size[1]]
    sample = SegDataSample(metainfo=_meta(size))
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(np.ascontiguousarray(labels)))
    return sample


def _meta(size: tuple[int, int]) -> dict[str, Any]:
    return {"img_id": 0, "img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0), "flip": False, "flip_direction": None}
