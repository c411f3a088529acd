"""Faults inside annotation files and images, each found before a training run meets it.

Every function returns sentences for the user, one per kind of fault: the first culprit, how many more, and the remedy.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from pydantic import FiniteFloat, PositiveInt, StrictInt, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

IGNORED = 255  # value of a label map's pixels that belong to no class
_SLACK_PX = 1.0  # boxes are rounded by the tools that write them
_ROTATED = (5, 6, 7, 8)  # EXIF orientations by which width and height change places
_EXIF_ORIENTATION = 274
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class _Image(TypedDict):
    id: StrictInt
    file_name: str
    width: PositiveInt
    height: PositiveInt


class _Annotation(TypedDict):
    id: StrictInt
    image_id: StrictInt
    category_id: StrictInt
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]  # xywh, pixels


class _MaskedAnnotation(_Annotation):
    segmentation: NotRequired[list[list[FiniteFloat]] | dict[str, Any]]


class _Category(TypedDict):
    id: StrictInt
    name: str


class Coco(TypedDict):
    """Part of a COCO annotation file that is used."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _MaskedCoco(Coco):
    annotations: list[_MaskedAnnotation]  # type: ignore[misc]  # the same with one key more


def fault(culprits: Sequence[object], what: str, remedy: str) -> list[str]:
    """At most one sentence: the first culprit, how many more, what is wrong, what to do."""
    if not culprits:
        return []
    more = f" (and {len(culprits) - 1} more)" if len(culprits) > 1 else ""
    return [f"{culprits[0]}{more} {what}: {remedy}"]


def read_coco(path: Path, *, masks: bool = False) -> Coco:
    """Read a COCO annotation file; of the objects' outlines only if masks are requested.

    Raises:
        ValueError: it cannot be read, is no JSON, or a field that is needed is missing or of another type.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    try:
        schema: Any = _MaskedCoco if masks else Coco
        return cast("Coco", TypeAdapter(schema).validate_json(content))
    except ValidationError as error:
        first, num = error.errors(include_input=False, include_url=False)[0], error.error_count()
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {num - 1} more faults)" if num > 1 else ""
        raise ValueError(
            f"{path}: {where}: {first['msg']}{more}; it is no COCO annotation file; mend or export it again"
        ) from error


def _twice(values: Iterable[Hashable]) -> list[Hashable]:
    return [value for value, number in Counter(values).items() if number > 1]


def coco_faults(coco: Coco, classes: Sequence[str] | int, *, boxes: bool = True, masks: bool = False) -> list[str]:
    """Return the faults of an annotation file.

    Args:
        coco: from :func:`read_coco`.
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
        bare = [f"annotation {a['id']}" for a in placed if not _has_outline(a)]
        faults += fault(
            bare, "has no outline, which instance masks need", "give it a segmentation of polygons or RLE, or drop it"
        )
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


def _box_faults(annotations: Sequence[_Annotation], images: dict[int, _Image]) -> list[str]:
    boxes_N4 = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
    sizes_N2 = np.array([(images[a["image_id"]]["width"], images[a["image_id"]]["height"]) for a in annotations], float)
    start_N2, extent_N2 = boxes_N4[:, :2], boxes_N4[:, 2:]
    flat_N = (extent_N2 <= 0).any(1)
    outside_N = ((start_N2 < -_SLACK_PX) | (start_N2 + extent_N2 > sizes_N2.reshape(-1, 2) + _SLACK_PX)).any(1)

    def named(which_N: Any) -> list[str]:
        chosen = [annotations[index] for index in np.flatnonzero(which_N)]
        return [f"annotation {a['id']} of image {images[a['image_id']]['file_name']}, box {list(a['bbox'])}," for a in chosen]

    return [
        *fault(named(flat_N), "has no area", "boxes are [left, top, width, height] in pixels; mend or drop it"),
        *fault(named(outside_N & ~flat_N), "reaches out of its image", "boxes are [left, top, width, height]; clip or mend it"),
    ]


def _has_outline(annotation: Any) -> bool:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return bool(outline.get("counts")) and "size" in outline
    return bool(outline) and all(len(polygon) >= 6 for polygon in outline)  # noqa: PLR2004 (three corners)


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as it is shown, from its header; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.format == "JPEG" and image.getexif().get(_EXIF_ORIENTATION) in _ROTATED
    except _UNREADABLE:
        return None
    return (height, width) if turned else (width, height)


def decodes(path: Path) -> bool:
    """Return True for an image all of whose pixels can be read."""
    try:
        with Image.open(path) as image:
            image.load()
    except _UNREADABLE:
        return False
    return True


def label_map_faults(pairs: Iterable[tuple[Path, Path]], num_classes: int) -> list[str]:
    """Return the faults of label maps, all of which are read.

    Args:
        pairs: an image and its label map, both there.
        num_classes: pixels must be below it, or 255.
    """
    broken, coloured, other_size, too_high = [], [], [], []
    for image, path in pairs:
        size = image_size(image)
        try:
            with Image.open(path) as label_map:
                if label_map.mode not in ("L", "P"):
                    coloured.append(f"{path}, mode {label_map.mode},")
                    continue
                shape, histogram = label_map.size, label_map.histogram()
        except _UNREADABLE:
            broken.append(path)
            continue
        wrong = [value for value in range(num_classes, IGNORED) if histogram[value]]
        if size is not None and shape != size:
            other_size.append(f"{path} of {shape[0]}x{shape[1]} pixels, its image of {size[0]}x{size[1]},")
        if wrong:
            too_high.append(f"{path}, value {', '.join(map(str, wrong[:5]))},")
    return [
        *fault(broken, "cannot be read as an image", "copy or make it again"),
        *fault(coloured, "does not hold class indices", "save label maps as PNG with 8 bits a pixel, grey or palette"),
        *fault(other_size, "does not fit", "make both the same size"),
        *fault(too_high, f"is out of range 0-{num_classes - 1}", f"name more classes, or set what is none of them to {IGNORED}"),
    ]
