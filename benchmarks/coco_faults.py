"""Faults inside an annotation file in COCO's format, and the objects that training leaves out although they are well formed.

Every function that returns faults returns sentences for the user, one per kind.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.coco_file import EXPORT, Annotation, Coco, Image, outline_area
from benchmarks.faults import fault

_SLACK_PX = 1.0  # boxes are rounded by the tools that write them
_FRACTIONS_END_BY = 1.5  # boxes as fractions of the image, rounded


def _twice(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, number in Counter(values).items() if number > 1]


def coco_faults(coco: Coco, classes: Sequence[str] | int, *, boxes: bool = True, masks: bool = False) -> list[str]:
    """Return the faults of an annotation file.

    Args:
        coco: from :func:`benchmarks.coco_file.read_coco`.
        classes: the categories' names in the file's order, by which MMDetection numbers the classes; or how many there are.
        boxes: whether boxes must lie in their images and have an area.
        masks: whether every object must have an outline.
    """
    images = {image["id"]: image for image in coco["images"]}
    known = {category["id"] for category in coco["categories"]}
    lost = [a["id"] for a in coco["annotations"] if a["image_id"] not in images]
    odd = [a["id"] for a in coco["annotations"] if a["category_id"] not in known]
    own_id = "give each an id of its own"
    faults = [
        *([] if coco["images"] else ["it lists no images: name another file"]),
        *(
            []
            if coco["annotations"]
            else ["it has no annotations, so there is nothing to learn or to measure: name another file"]
        ),
        *_category_faults([category["name"] for category in coco["categories"]], classes),
        *fault([f"category id {i}" for i in _twice(c["id"] for c in coco["categories"])], "is given more than once", own_id),
        *fault([f"image id {i}" for i in _twice(i["id"] for i in coco["images"])], "is given more than once", own_id),
        *fault(
            [f"image {n}" for n in _twice(i["file_name"] for i in coco["images"])], "is listed more than once", "list it once"
        ),
        *fault([f"annotation id {i}" for i in _twice(a["id"] for a in coco["annotations"])], "is given more than once", own_id),
        *fault([f"annotation {i}" for i in lost], "is of an image that is not listed", "list the image or drop the annotation"),
        *fault(
            [f"annotation {i}" for i in odd], "is of a category that is not listed", "list the category or drop the annotation"
        ),
    ]
    placed = [a for a in coco["annotations"] if a["image_id"] in images]
    if boxes:
        faults += _box_faults(placed, images)
    if masks:
        faults += _outline_faults(placed, images)
    return faults


def _category_faults(names: list[str], classes: Sequence[str] | int) -> list[str]:
    if isinstance(classes, int):
        return [] if len(names) == classes else [f"it has {len(names)} categories, not {classes}: put the published file back"]
    if names == list(classes):
        return []
    if sorted(names) == sorted(classes):
        return [f"its categories are in the order {', '.join(names)}: put own.classes in that order"]
    told = [f"without {', '.join(sorted(set(classes) - set(names)))}"] if set(classes) - set(names) else []
    told += [f"with {', '.join(sorted(set(names) - set(classes)))} beside them"] if set(names) - set(classes) else []
    told = told or ["with one of them twice"]
    return [f"its categories are not own.classes but {' and '.join(told)}: make them the same"]


def _geometry(annotations: Sequence[Annotation], images: dict[int, Image]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    boxes_N4 = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    sizes_N2 = np.array([(images[a["image_id"]]["width"], images[a["image_id"]]["height"]) for a in annotations], float)
    return boxes_N4, sizes_N2.reshape(-1, 2)


def _box_faults(annotations: Sequence[Annotation], images: dict[int, Image]) -> list[str]:
    boxes_N4, sizes_N2 = _geometry(annotations, images)
    start_N2, extent_N2 = boxes_N4[:, :2], boxes_N4[:, 2:]
    flat_N = (extent_N2 <= 0).any(1)
    outside_N = ((start_N2 < -_SLACK_PX) | (start_N2 + extent_N2 > sizes_N2 + _SLACK_PX)).any(1)
    small_N = (
        (boxes_N4 >= 0).all(1) & (start_N2 + extent_N2 <= _FRACTIONS_END_BY).all(1) & (sizes_N2 > 2 * _FRACTIONS_END_BY).all(1)
    )
    if 2 * small_N.sum() > len(boxes_N4):
        return fault(
            [f"annotation {annotations[index]['id']}, box {annotations[index]['bbox']}," for index in np.flatnonzero(small_N)],
            "looks like fractions of the image", "multiply boxes by its width and height",
        )  # fmt: skip
    # Corners in place of extents lie in their image, the second below and to the right of the first.
    corners_N = (extent_N2 > start_N2).all(1) & (extent_N2 <= sizes_N2 + _SLACK_PX).all(1)
    as_corners = (
        "boxes look like [left, top, right, bottom]; write [left, top, width, height]"
        if outside_N.any() and corners_N.all()
        else "boxes are [left, top, width, height]; clip or repair it"
    )

    def named(which_N: Any) -> list[str]:
        chosen = [annotations[index] for index in np.flatnonzero(which_N)]
        return [f"annotation {a['id']} of image {images[a['image_id']]['file_name']}, box {a['bbox']}," for a in chosen]

    return [
        *fault(named(flat_N), "has no area", "boxes are [left, top, width, height] in pixels; repair or drop it"),
        *fault(named(outside_N & ~flat_N), "reaches out of its image", as_corners),
    ]


def _outline_faults(annotations: Sequence[Annotation], images: dict[int, Image]) -> list[str]:
    bare, unfit = [], []
    for one in annotations:
        image = images[one["image_id"]]
        if "segmentation" not in one:
            bare.append(f"annotation {one['id']}")
        elif outline_area(one, image["height"], image["width"]) is None:
            unfit.append(f"annotation {one['id']} of image {image['file_name']}")
    return [
        *fault(bare, "has no outline, which instance masks need", "give it a segmentation of polygons or RLE, or drop it"),
        *fault(unfit, "has a run-length encoding that is none of its image", f"its size is [height, width]; {EXPORT}"),
    ]


def left_out(coco: Coco, *, masks: bool = False) -> list[str | None]:
    """Return, for each annotation, why the loaders of a training leave it out; None for one that is used.

    The rules are those of MMDetection's ``CocoDataset.parse_data_info``; objects that are marked as crowds are loaded there, and
    trained on by nothing.

    Args:
        coco: from :func:`benchmarks.coco_file.read_coco`, without faults.
        masks: whether a model with masks is trained, which needs outlines.
    """
    images = {image["id"]: image for image in coco["images"]}
    boxes_N4, sizes_N2 = _geometry(coco["annotations"], images)
    inside_N2 = np.minimum(boxes_N4[:, :2] + boxes_N4[:, 2:], sizes_N2) - np.maximum(boxes_N4[:, :2], 0)
    reasons: list[str | None] = []
    for index, one in enumerate(coco["annotations"]):
        image = images[one["image_id"]]
        reason = None
        if one["ignore"]:
            reason = "marked ignore"
        elif one["iscrowd"]:
            reason = "crowd"
        elif (boxes_N4[index, 2:] < 1).any():
            reason = "thinner than 1 pixel"
        elif one["area"] <= 0:
            reason = "area 0"
        elif (inside_N2[index] <= 0).any():
            reason = "outside its image"
        elif masks and not outline_area(one, image["height"], image["width"]):
            reason = "empty outline"
        reasons.append(reason)
    return reasons
