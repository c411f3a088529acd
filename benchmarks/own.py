"""A user's own data: what params.yaml says of them, and everything that can be wrong with them.

What counts is what a training would use: an object that its loader leaves out, or a pixel that is ignored, is none.
"""

import contextlib
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmarks.coco_file import Coco, coco_faults, left_out, outline_area, read_coco
from benchmarks.digest import file_sha256
from benchmarks.faults import fault
from benchmarks.images import Facts, Seen, of_image, of_label_map, vanishes
from benchmarks.label_maps import IGNORED, label_map_faults, pixels_by_value
from benchmarks.manifest import Checked, checked, listing
from benchmarks.paths import user_path
from benchmarks.schema import Text

_TASKS = {"coco": ("detection", "instance"), "label_maps": ("segmentation",)}
_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_SCALE_PX = {"coco": (1333, 800), "label_maps": (1024, 512)}  # smallest scale of the published configs: longer and shorter side


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


@dataclass(frozen=True)
class Needs:
    """Requirements of a grid on a user's data.

    Args:
        tasks: of its pairs.
        masks: whether a model of it is trained on outlines, whatever its task.
        batches: images of a step, by pair.
    """

    tasks: tuple[str, ...]
    masks: bool = False
    batches: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Split:
    """A split as it was found: its images, what is wrong, and what of it a training uses."""

    images: dict[str, Path]
    faults: list[str]
    facts: dict[Path, Facts]
    usable: dict[str, int]  # objects or pixels by class
    usable_images: int
    reasons: Counter[str]  # why objects or images are not used
    notes: list[str]


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


def check_own(own: OwnData, needs: Needs, seen: Path | None = None) -> Checked:
    """Check a user's own data: files, ids, classes, boxes, label values, sizes, that no picture is in two splits, and how much is usable.

    Args:
        own: the data.
        needs: of the grid.
        seen: file that keeps what was found in images, for the next time.

    Raises:
        ValueError: all that is wrong in one line.
    """
    for task in needs.tasks:
        if task not in _TASKS[own.format]:
            raise ValueError(
                f"params.yaml: own.format {own.format} serves {' and '.join(_TASKS[own.format])}, and a pair of the grid is of task "
                f"{task}; choose pairs of one kind"
            )
    for name, split in own.splits.items():
        for path in (own.folder / split.images, own.folder / split.annotations):
            if not path.exists():
                raise ValueError(f"{path} is missing; correct own.root or own.{name} in params.yaml")
    kept, read = Seen(seen), _own_coco if own.format == "coco" else _own_label_maps
    splits = {name: read(own, name, split, needs, kept) for name, split in own.splits.items()}
    kept.keep()
    faults = [text for split in splits.values() for text in split.faults]
    faults += _shared(splits)
    if not faults:
        faults = [text for name, split in splits.items() for text in _too_little(own, name, split, needs)]
    if faults:
        raise ValueError("; ".join(faults))
    patterns = [s.annotations if own.format == "coco" else f"{s.annotations}/*.png" for s in own.splits.values()]
    images: dict[str, dict[str, str]] = {}
    for name, found in splits.items():
        folder = PurePosixPath(own.splits[name].images).as_posix()
        images[name] = {f"{folder}/{image}": found.facts[path].file for image, path in found.images.items()}
    return checked(
        "own", own.folder, {name: len(split.images) for name, split in splits.items()}, patterns, classes=own.classes, images=images,
        usable={
            name: {"images": s.usable_images, "by class": s.usable, "left out": dict(sorted(s.reasons.items())), "notes": s.notes}
            for name, s in splits.items()
        },
    )  # fmt: skip


def _shared(splits: Mapping[str, _Split]) -> list[str]:
    """Faults of pictures that are in two splits, by their pixels: links and copies under any name."""
    pixels = {name: {one.pixels: path for path, one in split.facts.items() if one.pixels} for name, split in splits.items()}
    faults = []
    for one, other in combinations(splits, 2):
        both = [digest for digest in pixels[one] if digest in pixels[other]]
        faults += fault(
            [f"{pixels[one][digest]} of own.{one}" for digest in both],
            f"is in own.{other}, too, the first as {pixels[other][both[0]] if both else ''}",
            "an image may be in one split only (copies that were resized or compressed again are not recognised)",
        )
    return faults


def _too_little(own: OwnData, name: str, split: _Split, needs: Needs) -> list[str]:
    """Faults of a split that has too little that training or evaluation could use."""
    unit = "object" if own.format == "coco" else "pixel"
    place = f"own.{name}"
    why = f" ({', '.join(f'{number} {reason}' for reason, number in split.reasons.most_common())})" if split.reasons else ""
    if not split.usable_images:
        return [f"{place}: no {unit} of it is usable{why}: {_remedy(own, split, 'the numbers of the classes, from 0')}"]
    bare = [number for number, label in enumerate(own.classes) if not split.usable[label]]
    named = [f"class {own.classes[number]}" for number in bare]
    if name != "train":
        if bare:
            more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""  # noqa: PLR2004
            split.notes.append(f"{', '.join(named[:5])}{more}: no {unit}, so no score")
        return []
    faults = fault(
        named, f"has no usable {unit} in {place}{why}",
        f"{_remedy(own, split, str(bare[0]) if bare else '')}, or take the class out of own.classes",
    )  # fmt: skip
    small = [f"pair {pair} with batches of {batch}" for pair, batch in needs.batches.items() if batch > split.usable_images]
    return faults + fault(
        small, f"needs more images with a usable {unit} than the {split.usable_images} of {place}{why}",
        "add images, or lower batch_size in params.yaml, or in the tier's schedule where it has one",
    )  # fmt: skip


def _remedy(own: OwnData, split: _Split, numbers: str) -> str:
    if own.format == "coco":
        return "annotate it with boxes of at least 1 pixel a side"
    values = pixels_by_value(facts for facts in split.facts.values() if facts.counts is not None)
    return f"its maps have the values {', '.join(map(str, sorted(values)[:5]))}, and {IGNORED} is ignored; write {numbers} for its pixels"


def _image_faults(own: OwnData, split: str, images: Mapping[str, Path], facts: Mapping[Path, Facts]) -> list[str]:
    folder = own.folder / getattr(own, split).images
    broken = [path for path in images.values() if facts[path].size is None]
    long_px, short_px = (own.image_px, own.image_px) if own.image_px else _SCALE_PX[own.format]
    thin = [
        f"{folder / name} of {size[0]}x{size[1]} pixels"
        for name, path in images.items()
        if (size := facts[path].size) is not None and vanishes(size, long_px, short_px)
    ]
    scale = f"own.image_px {own.image_px}" if own.image_px else f"{long_px}x{short_px}, the pair's scale"
    larger = ", raise own.image_px" if own.image_px else ""
    return [
        *fault(broken, "cannot be read as an image", "copy it again or take it out"),
        *fault(thin, f"has no pixel left at {scale}", f"cut it into pieces{larger}, or take it out"),
    ]


def _own_coco(own: OwnData, name: str, split: OwnSplit, needs: Needs, kept: Seen) -> _Split:
    """Read a split of boxes or masks; one in which nothing was wrong and nothing has changed is not read again."""
    path, folder = own.folder / split.annotations, own.folder / split.images
    masks, there = needs.masks or "instance" in needs.tasks, listing(folder)
    state = [file_sha256(path), sorted(there), own.classes, own.image_px, masks, needs.tasks]
    key = f"own.{name} {hashlib.sha256(repr(state).encode()).hexdigest()}"
    if (before := kept.result(key)) is not None:
        images = {image: folder / image for image in before["images"]}
        facts = kept.look(images.values(), of_image, f"own.{name}")
        if _sizes(facts) == before["sizes"]:
            return _Split(
                images, [], facts, before["usable"], before["usable_images"], Counter(before["reasons"]), before["notes"]
            )
    coco = read_coco(path, masks="instance" in needs.tasks)
    faults = coco_faults(coco, own.classes, masks=masks)
    listed = {image["file_name"]: (image["width"], image["height"]) for image in coco["images"]}
    faults += _absent(sorted(listed.keys() - there), folder, there)
    images = {image: folder / image for image in sorted(listed.keys() & there)}
    facts = kept.look(images.values(), of_image, f"own.{name}")
    other = [
        f"image {image} of {size[0]}x{size[1]} pixels, listed as {listed[image][0]}x{listed[image][1]}"
        f"{' (width and height change places)' if size == listed[image][::-1] else ''},"
        for image, place in images.items()
        if (size := facts[place].size) is not None and size != listed[image]
    ]
    faults += fault(
        other, "has another size",
        "boxes must belong to the image as OpenCV reads it, turned by its EXIF orientation; export the file again",
    )  # fmt: skip
    faults = [f"{path}: {text}" for text in faults] + _image_faults(own, name, images, facts)
    if faults:
        return _Split(images, faults, facts, {}, 0, Counter(), [])
    found = _count_objects(own, coco, images, facts, masks=masks, unlisted=len(there - listed.keys()))
    kept.add_result(key, {
        "images": list(images), "sizes": _sizes(facts), "usable": found.usable, "usable_images": found.usable_images,
        "reasons": found.reasons, "notes": [*found.notes],
    })  # fmt: skip
    return found


def _sizes(facts: Mapping[Path, Facts]) -> str:
    return hashlib.sha256(repr(sorted((str(path), one.size) for path, one in facts.items())).encode()).hexdigest()


def _absent(lost: list[str], folder: Path, there: Iterable[str]) -> list[str]:
    """Faults of listed images that are not there; where they are under another path, it says so."""
    if not lost:
        return []
    remedy, name = "copy it there or drop it from the file", lost[0]
    ends = {PurePosixPath(path).name: path for path in there}
    if (base := name.replace("\\", "/").rpartition("/")[2]) in ends:
        remedy = f"the folder has {ends[base]}; write file_name relative to it, with '/'"
    return fault(lost, f"is not in {folder}", remedy)


def _count_objects(
    own: OwnData, coco: Coco, images: dict[str, Path], facts: dict[Path, Facts], *, masks: bool, unlisted: int
) -> _Split:
    reasons = left_out(coco, masks=masks)
    classes = {category["id"]: category["name"] for category in coco["categories"]}
    used = [one for one, reason in zip(coco["annotations"], reasons, strict=True) if reason is None]
    by_class = Counter(classes[one["category_id"]] for one in used)
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    notes = [f"{unlisted} files of the folder are not listed, so they are not used"] if unlisted else []
    if ignored := sum(one["ignore"] for one in coco["annotations"]):
        notes.append(f"{ignored} objects are marked ignore: no training uses them, and an evaluation counts them as crowds")
    large = sum(
        one["area"] > (one["bbox"][2] + 1) * (one["bbox"][3] + 1)
        and (outline_area(one, *sizes[one["image_id"]]) or 0) < one["area"]
        for one in used
    )
    if large:
        notes.append(f"{large} objects have an area above their box's, by which they count as small, medium or large")
    return _Split(
        images, [], facts, {name: by_class[name] for name in own.classes}, len({one["image_id"] for one in used}),
        Counter(reason for reason in reasons if reason), notes,
    )  # fmt: skip


def _own_label_maps(own: OwnData, name: str, split: OwnSplit, needs: Needs, kept: Seen) -> _Split:  # noqa: ARG001 (interface)
    """Read a split of label maps."""
    folder, maps = own.folder / split.images, own.folder / split.annotations
    suffix, there = image_suffix(folder), listing(maps)
    images = {image: folder / image for image in sorted(listing(folder)) if image.endswith(suffix)}
    labels = {image: f"{image.removesuffix(suffix)}.png" for image in images}
    pairs = [(images[image], maps / label) for image, label in labels.items() if label in there]
    faults = fault(
        [maps / label for label in labels.values() if label not in there],
        "is missing",
        "every image needs a label map of its name",
    )
    facts = kept.look(images.values(), of_image, f"own.{name}")
    read = kept.look([path for _, path in pairs], of_label_map, f"own.{name}, label maps")
    faults += label_map_faults(pairs, len(own.classes), {path: facts[path].size for path in images.values()}, read)
    faults += _image_faults(own, name, images, facts)
    values = pixels_by_value(read.values())
    ignored = sum(not (one.counts or {}).keys() - {IGNORED} for one in read.values())
    unused = len({label for label in there if label.endswith(".png")} - set(labels.values()))
    return _Split(
        images, faults, facts | read, {label: values[number] for number, label in enumerate(own.classes)}, len(read) - ignored,
        Counter({f"{'image is' if ignored == 1 else 'images are'} all {IGNORED}": ignored} if ignored else {}),
        [f"{unused} label maps have no image, so they are not used"] if unused else [],
    )  # fmt: skip


def told(name: str, split: Mapping[str, Any], unit: str) -> str:
    """Return one line on how much of a split is usable, from a manifest's entry."""
    by_class = split["by class"]
    least = min(by_class, key=lambda label: by_class[label])
    gone = ", ".join(f"{number:,} {reason}" for reason, number in split["left out"].items())
    return "; ".join([
        f"own.{name}: {split['images']:,} images with {sum(by_class.values()):,} usable {unit}s, fewest of {least}: {by_class[least]:,}",
        *([f"not used: {gone}"] if gone else []),
        *split["notes"],
    ])  # fmt: skip
