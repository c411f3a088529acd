"""Annotation files in COCO's format, read and normalised.

Tools differ in what they write: ids from 0 or as text, no ``area``, no ``iscrowd``, ``null`` for an absent outline, a byte order mark.
What has one meaning is read as that (:func:`read_coco`), by every reader of a user's file, so that no two of them can differ;
the rest is refused.  Contradictions inside a file that was read are found in :mod:`benchmarks.coco_faults`.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json
from typing_extensions import NotRequired, TypedDict

from benchmarks.faults import fault
from benchmarks.rle import mask_area

_CORNERS = 3  # of a polygon, at least
_INTEGER = re.compile(r" *-?[0-9]{1,18} *")
EXPORT = "repair or export it again"  # what a user does with a file that no other remedy mends


class Image(TypedDict):
    """An image of an annotation file; size in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Annotation(TypedDict):
    """An object: box (left, top, width, height) in pixels, area in square pixels."""

    id: int | str
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    ignore: int
    segmentation: NotRequired[list[list[float]] | dict[str, Any]]


class Category(TypedDict):
    """A class."""

    id: int
    name: str


class Coco(TypedDict):
    """Part of a COCO annotation file that is used."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def read_coco(path: Path, *, masks: bool = False) -> Coco:
    """Read an annotation file, normalised.

    Ids that are numbers in another form become integers, other text is numbered; a missing ``area`` is the box's, and that of the
    outline where masks are judged; missing ``iscrowd`` and ``ignore`` are 0; an object without a valid outline has none.

    Args:
        path: of the file.
        masks: whether masks are judged.

    Raises:
        ValueError: it cannot be read, is no JSON, or a field that is needed is missing or of another kind.
    """
    content = _parsed(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is a {_kind(content)}, not the object that COCO's annotation files are; name another file")
    lists = {key: content.get(key) for key in ("images", "annotations", "categories")}
    if lacking := [key for key, value in lists.items() if not isinstance(value, list)]:
        raise ValueError(f"{path}: has no list '{lacking[0]}', so it is no COCO annotation file; {EXPORT}")
    read = _Reading()
    images = [read.image(number, one) for number, one in enumerate(lists["images"] or [])]
    categories = [read.category(number, one) for number, one in enumerate(lists["categories"] or [])]
    annotations = [read.annotation(number, one) for number, one in enumerate(lists["annotations"] or [])]
    if problems := read.problems():
        raise ValueError("; ".join(f"{path}: {problem}" for problem in problems))
    coco = _numbered({"images": images, "annotations": annotations, "categories": categories})
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    for one in coco["annotations"]:
        if one["area"] is None:
            outline = outline_area(one, *sizes.get(one["image_id"], (0, 0))) if masks else None
            one["area"] = one["bbox"][2] * one["bbox"][3] if outline is None else outline
    return coco


def _parsed(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    encoding = json.detect_encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is not {encoding.upper()}: byte {content[error.start]:#04x} at {error.start} looks like Latin-1 or Windows-1252; "
            f"save it as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
        ) from error
    if not text.strip():
        raise ValueError(f"{path}: is empty; {EXPORT}")
    try:
        return from_json(text)  # the standard library's can crash on deep nesting
    except ValueError as error:
        what, _, where = str(error).partition(" at line ")
        line, _, column = where.partition(" column ")
        if "recursion" in what:
            raise ValueError(f"{path}: is nested too deeply for an annotation file; {EXPORT}") from error
        if "out of range" in what:
            raise ValueError(f"{path}: has a number that is too long in line {line}, column {column}; {EXPORT}") from error
        cut = ", as a file is that was cut off" if what.startswith("EOF") else ""
        raise ValueError(f"{path}: is not JSON from line {line}, column {column} on{cut}; {EXPORT}") from error


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    """Return an integer that is written as one, as a float or as text; None for anything else."""
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else None
    number = _number(value)
    return int(number) if number is not None and number == int(number) and abs(number) < 2**53 else None


def _id(value: Any) -> int | str | None:
    whole = _whole(value)
    if whole is not None:
        return whole
    return value if isinstance(value, str) and value else None


def _flag(value: Any) -> int | None:
    if value is None or isinstance(value, bool):
        return int(bool(value))
    whole = _whole(value)
    return whole if whole in (0, 1) else None


class _Reading:
    """Entries of the three lists, read one by one; what is wrong with them by kind."""

    def __init__(self) -> None:
        self._culprits: dict[tuple[str, str], list[str]] = {}

    def problems(self) -> list[str]:
        return [sentence for (what, remedy), culprits in self._culprits.items() for sentence in fault(culprits, what, remedy)]

    def _wrong(self, culprit: str, what: str, remedy: str) -> None:
        self._culprits.setdefault((what, remedy), []).append(culprit)

    def _field(self, entry: dict[str, Any], key: str, convert: Callable[[Any], Any], where: str, need: str) -> Any:
        found = convert(entry.get(key))
        if found is None:
            given = "no" if entry.get(key) is None else f"{_short(entry[key])} as"
            self._wrong(where, f"has {given} {key}", f"give {need}")
        return found

    def image(self, number: int, entry: Any) -> Image:
        if not isinstance(entry, dict):
            self._wrong(f"images.{number}", f"is a {_kind(entry)}", "give an object with id, file_name, width and height")
            entry = {"id": 0, "file_name": "-", "width": 1, "height": 1}
        name = self._field(
            entry, "file_name", lambda v: v if isinstance(v, str) and v else None, f"images.{number}", "its file's name"
        )
        where = f"image {name}" if name else f"images.{number}"
        size = {
            key: self._field(
                entry, key, lambda v: w if (w := _whole(v)) is not None and w > 0 else None, where, f"its {key} in pixels"
            )
            for key in ("width", "height")
        }
        return {"id": self._field(entry, "id", _id, where, "each image an id"), "file_name": name, **size}  # type: ignore[typeddict-item]

    def category(self, number: int, entry: Any) -> Category:
        if not isinstance(entry, dict):
            self._wrong(f"categories.{number}", f"is a {_kind(entry)}", "give an object with id and name")
            entry = {"id": 0, "name": "-"}
        name = self._field(
            entry, "name", lambda v: v if isinstance(v, str) and v else None, f"categories.{number}", "the class's name"
        )
        found = self._field(entry, "id", _id, f"categories.{number}", "each category an id")
        return {"id": found, "name": name}

    def annotation(self, number: int, entry: Any) -> Annotation:
        if not isinstance(entry, dict):
            self._wrong(f"annotations.{number}", f"is a {_kind(entry)}", "give an object with image_id, category_id and bbox")
            entry = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [0, 0, 1, 1]}
        given = entry.get("id", number)
        found = _id(given)
        where = f"annotation {found}" if found is not None else f"annotations.{number}"
        if found is None:
            self._wrong(where, f"has {_short(given)} as id", "give an integer, or leave all ids out")
        area = entry.get("area")
        if area is not None and _number(area) is None:
            self._wrong(where, f"has {_short(area)} as area", "give square pixels, or leave it out")
        made: dict[str, Any] = {
            "id": found,
            "image_id": self._field(entry, "image_id", _id, where, "the id of its image"),
            "category_id": self._field(entry, "category_id", _id, where, "the id of its category"),
            "bbox": self._field(entry, "bbox", _box, where, "[left, top, width, height] in pixels"),
            "area": area,
        }
        for key in ("iscrowd", "ignore"):
            flag = _flag(entry.get(key))
            if flag is None:
                self._wrong(where, f"has {_short(entry[key])} as {key}", "give 0 or 1")
            made[key] = flag
        if outline := _outline(entry.get("segmentation")):
            made["segmentation"] = outline
        return made  # type: ignore[return-value]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 (room in a line)


def _box(value: Any) -> list[float] | None:
    if not isinstance(value, list) or len(value) != 4 or any(_number(side) is None for side in value):  # noqa: PLR2004 (sides of a box)
        return None
    return [float(side) for side in value]


def _outline(value: Any) -> list[list[float]] | dict[str, Any] | None:
    """Return the polygons that a loader keeps, or an encoded mask; None for anything else."""
    if isinstance(value, dict):
        return value if value.get("counts") and "size" in value else None
    if not isinstance(value, list) or not value:
        return None
    polygons = [value] if not any(isinstance(part, list) for part in value) else value
    return [
        polygon
        for polygon in polygons
        if isinstance(polygon, list) and len(polygon) >= 2 * _CORNERS and len(polygon) % 2 == 0
        and all(_number(side) is not None for side in polygon)
    ] or None  # fmt: skip


def outline_area(annotation: Any, height: int, width: int) -> float | None:
    """Return the area inside an object's outline, square pixels; None without a valid outline."""
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return mask_area(outline, height, width)
    if not outline:
        return None
    return float(sum(_polygon_area(np.asarray(polygon, float).reshape(-1, 2)) for polygon in outline))


def _polygon_area(corners_N2: npt.NDArray[np.float64]) -> float:
    x_N, y_N = corners_N2.T
    return abs(float(x_N @ np.roll(y_N, -1) - y_N @ np.roll(x_N, -1))) / 2


def _numbered(content: dict[str, list[Any]]) -> Coco:
    """Give images and categories integers as ids, where some are text."""
    for key, refers in (("images", "image_id"), ("categories", "category_id")):
        if any(isinstance(one["id"], str) for one in content[key]):
            numbers = {name: number for number, name in enumerate(dict.fromkeys(one["id"] for one in content[key]), start=1)}
            for one in content[key]:
                one["id"] = numbers[one["id"]]
            for one in content["annotations"]:
                # An unknown one stays unknown.
                one[refers] = numbers.get(one[refers], -1)
    return content  # type: ignore[return-value]
