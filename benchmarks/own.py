"""A user's own data: what params.yaml says of them, and everything that can be wrong with them."""

import hashlib
import os
import unicodedata
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmarks.content import coco_faults, decodes, fault, image_size, label_map_faults, read_coco
from benchmarks.manifest import Checked, checked, listing
from benchmarks.paths import user_path

_TASKS = {"coco": ("detection", "instance"), "label_maps": ("segmentation",)}
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_DECODED = 100  # images of a split whose pixels are read; all of them would take as long as an epoch's loading


def _unusable(name: str) -> str | None:
    """Return the reason why a class cannot have a name; None if it can."""
    if not name.strip():
        return "is empty"
    if name != name.strip():
        return "begins or ends with a blank"
    if not all(letter.isprintable() or unicodedata.category(letter) in {"Cf", "Zs"} for letter in name):
        return "has a line's end, a tab or another character that is not printable"
    return None


class OwnSplit(BaseModel):
    """One split of a user's own data, paths relative to the root.

    ``images`` is a folder; ``annotations`` a COCO JSON file, or a folder of PNG label maps named as the images are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    annotations: str

    @field_validator("images", "annotations")
    @classmethod
    def _inside_the_root(cls, path: str) -> str:
        if not path or Path(path).is_absolute() or ".." in Path(path).parts or "*" in path:
            raise ValueError("give a path below own.root, without '..' and '*'")
        return path


class OwnData(BaseModel):
    """A user's own data, ``own:`` in params.yaml.

    Label maps contain a pixel's class, counted from 0 in the order of ``classes``; 255 is ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coco", "label_maps"]
    root: str = Field(min_length=1)
    classes: list[str] = Field(min_length=1, max_length=255, description="in the order of the annotation files")
    train: OwnSplit
    tune: OwnSplit
    test: OwnSplit
    image_px: int | None = Field(default=None, ge=32, description="longer side to which images are resized; None: the pair's")
    teacher: str | None = Field(default=None, description="checkpoint of the teacher; None: it is trained here")

    @field_validator("classes")
    @classmethod
    def _usable_names(cls, classes: list[str]) -> list[str]:
        for index, name in enumerate(classes):
            unusable = _unusable(name)
            if unusable:
                raise ValueError(f"name {index}, {name[:40]!a}, {unusable}; correct it here and in the annotation files")
        if len(set(classes)) < len(classes):
            raise ValueError("names a class twice")
        return classes

    @property
    def folder(self) -> Path:
        """The root as a path."""
        return user_path(self.root, "params.yaml: own.root")

    @property
    def teacher_file(self) -> Path | None:
        """The teacher's checkpoint as a path; None where it is trained here."""
        return None if self.teacher is None else user_path(self.teacher, "params.yaml: own.teacher")

    @property
    def splits(self) -> dict[str, OwnSplit]:
        """Train, tune and test."""
        return {"train": self.train, "tune": self.tune, "test": self.test}


def image_suffix(folder: Path) -> str:
    """Single ending that all images of a folder have; MMSegmentation finds images by it.

    Raises:
        ValueError: there is no image, or there are several endings.
    """
    endings = sorted({Path(name).suffix for name in listing(folder) if Path(name).suffix.lower() in _IMAGES})
    if len(endings) != 1:
        found = f"images with the endings {', '.join(endings)}" if endings else "no images"
        raise ValueError(f"{folder} has {found}; put images of one ending there")
    return endings[0]


def check_own(own: OwnData, task: str) -> Checked:
    """Check a user's own data: files, ids, classes, boxes, label values, sizes, and that no image is in two splits.

    Raises:
        ValueError: all that is wrong in one line.
    """
    if task not in _TASKS[own.format]:
        raise ValueError(
            f"params.yaml: own.format {own.format} serves {' and '.join(_TASKS[own.format])}, and a pair of the grid is of task "
            f"{task}; choose pairs of one kind"
        )
    read = _own_coco if own.format == "coco" else _own_label_maps
    places: dict[str, dict[str, Path]] = {}
    faults: list[str] = []
    for name, split in own.splits.items():
        for path in (own.folder / split.images, own.folder / split.annotations):
            if not path.exists():
                raise ValueError(f"{path} is missing; correct own.root or own.{name} in params.yaml")
        images, found = read(own, split, task)
        faults += found + _pixel_faults(own.folder / split.images, images)
        files = [own.folder / split.images / image for image in images]
        places[name] = {os.path.realpath(path): path for path in files}
    for one, other in combinations(places, 2):
        shared = sorted(places[one].keys() & places[other].keys())
        faults += fault(shared, f"is in both own.{one} and own.{other}", "an image may be in one split only")
    if faults:
        raise ValueError("; ".join(faults))
    patterns = [s.annotations if own.format == "coco" else f"{s.annotations}/*.png" for s in own.splits.values()]
    files = [path for paths in places.values() for path in paths.values()]
    sizes = sorted((path.relative_to(own.folder).as_posix(), path.stat().st_size) for path in files)
    return checked(
        "own", own.folder, {name: len(paths) for name, paths in places.items()}, patterns,
        classes=own.classes, images=hashlib.sha256(repr(sizes).encode()).hexdigest(),
    )  # fmt: skip


def _own_coco(own: OwnData, split: OwnSplit, task: str) -> tuple[list[str], list[str]]:
    """Images of a split that are there, and what is wrong."""
    path, folder = own.folder / split.annotations, own.folder / split.images
    coco, there = read_coco(path, masks=task == "instance"), listing(folder)
    faults = coco_faults(coco, own.classes, masks=task == "instance")
    listed = {image["file_name"]: (image["width"], image["height"]) for image in coco["images"]}
    faults += fault(sorted(listed.keys() - there), f"is not in {folder}", "copy it there or drop it from the file")
    images = sorted(listed.keys() & there)
    found = {name: image_size(folder / name) for name in images}
    other = [
        f"image {name} of {size[0]}x{size[1]} pixels, listed as {listed[name][0]}x{listed[name][1]},"
        for name, size in found.items()
        if size is not None and size != listed[name]
    ]
    faults += fault(other, "has another size", "boxes must belong to the image as it is; export the file again")
    return images, [f"{path}: {text}" for text in faults]


def _own_label_maps(own: OwnData, split: OwnSplit, _: str) -> tuple[list[str], list[str]]:
    """Images of a split that are there, and what is wrong."""
    folder, maps = own.folder / split.images, own.folder / split.annotations
    suffix = image_suffix(folder)
    images = sorted(name for name in listing(folder) if name.endswith(suffix))
    pairs = [(folder / name, maps / f"{name.removesuffix(suffix)}.png") for name in images]
    bare = [path for _, path in pairs if not path.is_file()]
    faults = fault(bare, "is missing", "every image needs a label map of its name")
    return images, faults + label_map_faults([pair for pair in pairs if pair[1].is_file()], len(own.classes))


def _pixel_faults(folder: Path, images: Sequence[str]) -> list[str]:
    broken = [folder / name for name in images if image_size(folder / name) is None]
    broken += [folder / name for name in images[:_DECODED] if folder / name not in broken and not decodes(folder / name)]
    return fault(broken, "cannot be read as an image", "copy it again or take it out")
