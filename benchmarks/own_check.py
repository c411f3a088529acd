"""Check of a user's own data: files, ids, classes, boxes, label values, sizes, doubles, and how much is usable."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.faults import fault
from benchmarks.images import Seen
from benchmarks.label_maps import IGNORED, pixels_by_value
from benchmarks.manifest import Checked, checked
from benchmarks.own import OwnData
from benchmarks.own_splits import Needs, Split, read_coco_split, read_label_map_split

_TASKS = {"coco": ("detection", "instance"), "label_maps": ("segmentation",)}


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
    kept, read = Seen(seen), read_coco_split if own.format == "coco" else read_label_map_split
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


def _shared(splits: Mapping[str, Split]) -> list[str]:
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


def _too_little(own: OwnData, name: str, split: Split, needs: Needs) -> list[str]:
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
            more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""  # noqa: PLR2004 (named are the first five)
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


def _remedy(own: OwnData, split: Split, numbers: str) -> str:
    if own.format == "coco":
        return "annotate it with boxes of at least 1 pixel a side"
    values = pixels_by_value(facts for facts in split.facts.values() if facts.counts is not None)
    return f"its maps have the values {', '.join(map(str, sorted(values)[:5]))}, and {IGNORED} is ignored; write {numbers} for its pixels"


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
