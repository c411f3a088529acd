"""One split of a user's own data as it is read: its images, what is wrong with them, and what of it training uses.

What counts is what a training would use: an object that its loader leaves out, or a pixel that is ignored, is none.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from benchmarks.coco_faults import coco_faults, left_out
from benchmarks.coco_file import Coco, outline_area, read_coco
from benchmarks.digest import file_sha256
from benchmarks.faults import fault
from benchmarks.images import Facts, Seen, of_image, of_label_map, vanishes
from benchmarks.label_maps import IGNORED, label_map_faults, pixels_by_value
from benchmarks.manifest import listing
from benchmarks.own import OwnData, OwnSplit, image_suffix

_SCALE_PX = {"coco": (1333, 800), "label_maps": (1024, 512)}  # smallest scale of the published configs: longer and shorter side


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
class Split:
    """A split as it was found: its images, what is wrong, and what of it a training uses."""

    images: dict[str, Path]
    faults: list[str]
    facts: dict[Path, Facts]
    usable: dict[str, int]  # objects or pixels by class
    usable_images: int
    reasons: Counter[str]  # why objects or images are not used
    notes: list[str]


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


def read_coco_split(own: OwnData, name: str, split: OwnSplit, needs: Needs, kept: Seen) -> Split:
    """Read a split of boxes or masks; one in which nothing was wrong and nothing has changed is not read again."""
    path, folder = own.folder / split.annotations, own.folder / split.images
    masks, there = needs.masks or "instance" in needs.tasks, listing(folder)
    state = [file_sha256(path), sorted(there), own.classes, own.image_px, masks, needs.tasks]
    key = f"own.{name} {hashlib.sha256(repr(state).encode()).hexdigest()}"
    if (before := kept.result(key)) is not None:
        images = {image: folder / image for image in before["images"]}
        facts = kept.look(images.values(), of_image, f"own.{name}")
        if _sizes(facts) == before["sizes"]:
            return Split(
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
        return Split(images, faults, facts, {}, 0, Counter(), [])
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
) -> Split:
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
    return Split(
        images, [], facts, {name: by_class[name] for name in own.classes}, len({one["image_id"] for one in used}),
        Counter(reason for reason in reasons if reason), notes,
    )  # fmt: skip


def read_label_map_split(own: OwnData, name: str, split: OwnSplit, needs: Needs, kept: Seen) -> Split:  # noqa: ARG001 (interface)
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
    return Split(
        images, faults, facts | read, {label: values[number] for number, label in enumerate(own.classes)}, len(read) - ignored,
        Counter({f"{'image is' if ignored == 1 else 'images are'} all {IGNORED}": ignored} if ignored else {}),
        [f"{unused} label maps have no image, so they are not used"] if unused else [],
    )  # fmt: skip
