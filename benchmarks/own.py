"""A user's own data, as params.yaml describes them.

They are checked in :mod:`benchmarks.own_check`.
"""

import contextlib
import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmarks.manifest import listing
from benchmarks.paths import user_path
from benchmarks.schema import Text

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


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
        if not path.strip() or Path(path).is_absolute() or ".." in Path(path).parts or "*" in path:
            raise ValueError("give a path below own.root, without '..' and '*'")
        return path


class OwnData(BaseModel):
    """A user's own data, ``own:`` in params.yaml.

    Label maps contain a pixel's class, counted from 0 in the order of ``classes``; 255 is ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coco", "label_maps"]
    root: Text
    classes: list[Text] = Field(min_length=1, max_length=255, description="in the order of the annotation files")
    train: OwnSplit
    tune: OwnSplit
    test: OwnSplit
    image_px: int | None = Field(
        default=None, ge=32, le=16_384, description="longer side to which images are resized; None: the pair's"
    )
    teacher: Text | None = Field(default=None, description="checkpoint of the teacher; None: it is trained here")

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


def stamp(own: OwnData) -> str:
    """Return a digest of names, sizes and times of a user's files, which changes whenever one of them is written."""
    digest = hashlib.sha256()
    for split in own.splits.values():
        for path in (own.folder / split.images, own.folder / split.annotations):
            for name in sorted(listing(path)) if path.is_dir() else [""]:
                with contextlib.suppress(OSError):
                    state = os.stat(f"{path}/{name}" if name else path)  # noqa: PTH116 (pathlib takes seconds for many names)
                    digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
