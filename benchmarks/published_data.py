"""Data outside of the project: the published data sets, checked before anything trains on them.

Annotation files are hashed; images are counted and compared with the annotations by name.  Hashing or opening COCO's 118,000
images would take longer than finding a broken one, which stops a run with its name, and a download is verified whole.
A user's own data are checked in :mod:`benchmarks.own_check`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.coco_faults import coco_faults
from benchmarks.coco_file import read_coco
from benchmarks.dataset import Dataset, Split, checkable, datasets
from benchmarks.digest import file_sha256
from benchmarks.faults import fault
from benchmarks.label_maps import read_label_maps
from benchmarks.manifest import Checked, checked, listing
from benchmarks.paths import user_path


def data_root(name: str, grid_data: Mapping[Any, str], *, test_only: bool = False) -> Path:
    """Root of a published data set: the environment's, else that of params.yaml.

    Args:
        name: of the record.
        grid_data: ``data:`` of params.yaml.
        test_only: what the error asks for.

    Raises:
        ValueError: neither names it.
    """
    if name not in checkable():
        raise ValueError(f"data set '{name}' is not one that can be checked here; there are: {', '.join(checkable())}")
    published = datasets()[name]
    given = os.environ.get(published.variable)
    folder = given or grid_data.get(name)
    if not folder:
        splits = _splits(published, test_only=test_only).values()
        paths = [split.images for split in splits] + [split.annotations for split in splits]
        raise ValueError(
            f"the folder of data set '{name}' is not given; name the one that contains {published.layout}: "
            f"export {published.variable}=/path/to/it, or data: {{{name}: /path/to/it}} in params.yaml; "
            f"if you do not have it, name an empty folder and {published.where(paths, test_only=test_only)}"
        )
    return user_path(folder, published.variable if given else f"params.yaml: data.{name}")


def _splits(record: Dataset, *, test_only: bool) -> dict[str, Split]:
    return {name: split for name, split in record.splits.items() if not (test_only and name.startswith("train"))}


def missing(name: str, root: Path, *, test_only: bool = False) -> dict[str, str]:
    """Missing parts of a published data set, or of its test split: relative path -> description. Empty for a complete copy."""
    record = datasets()[name]
    splits = _splits(record, test_only=test_only).values()
    return {path: text for split in splits for path, text in _MISSING[record.format](root, split, record).items()}


def _coco_missing(root: Path, split: Split, record: Dataset) -> dict[str, str]:
    num = sum(path.endswith(record.image_suffix) for path in listing(root / split.images))
    gaps = {} if num >= split.num_images else {split.images: f"{split.images} has {num} of {split.num_images} images"}
    return gaps if (root / split.annotations).is_file() else {**gaps, split.annotations: f"{split.annotations} is missing"}


def _names(root: Path, split: Split) -> list[str]:
    return (root / split.annotations).read_text().split()


def _voc_missing(root: Path, split: Split, record: Dataset) -> dict[str, str]:
    if not (root / split.annotations).is_file():
        return {split.annotations: f"{split.annotations} is missing"}
    names = _names(root, split)
    gaps = {}
    for folder, suffix, kind in ((split.images, record.image_suffix, "images"), (boxes_folder(split), ".xml", "annotations")):
        num = len({name + suffix for name in names} & listing(root / folder))
        if num < len(names):
            gaps[folder] = f"{folder} has {num} of the {len(names)} {kind} of {split.annotations}"
    return gaps


def boxes_folder(split: Split) -> str:
    """Folder of the XML files of a split in VOC's format."""
    return split.images.replace("JPEGImages", "Annotations")


def _label_maps_missing(root: Path, split: Split, record: Dataset) -> dict[str, str]:
    images = sum(path.endswith(record.image_suffix) for path in listing(root / split.images))
    there, raw = listing(root / split.annotations), record.raw_labels
    labels = sum(path.endswith(record.label_suffix) for path in there)
    gaps = {} if images >= split.num_images else {split.images: f"{split.images} has {images} of {split.num_images} images"}
    if labels < split.num_images:
        gaps[split.annotations] = f"{split.annotations} has {labels} of {split.num_images} *{record.label_suffix}"
        if raw is not None and sum(path.endswith(raw.suffix) for path in there) >= split.num_images:
            gaps[split.annotations] += f" and only *{raw.suffix}: {raw.remedy.replace('{root}', str(root))}"
    return gaps


def check_published(name: str, root: Path, *, test_only: bool = False) -> Checked:
    """Check a published data set's layout, counts, annotation files and that each image named there is there.

    Args:
        name: of the data set.
        root: its folder.
        test_only: its test split alone, which is all that an evaluation reads; the others may be missing.

    Raises:
        ValueError: what is missing and where to get it; or what is wrong, in which file.
    """
    published = datasets()[name]
    if gaps := missing(name, root, test_only=test_only):
        place = f"{root}, which must contain {published.layout}" if root.is_dir() else f"{root}, which is no folder"
        raise ValueError(
            f"data set '{name}' in {place}: {'; '.join(gaps.values())}; {published.where(list(gaps), test_only=test_only)}"
        )
    splits = _splits(published, test_only=test_only)
    faults = [text for split in splits.values() for text in _FAULTS[published.format](root, split, published)]
    if faults:
        raise ValueError("; ".join(faults))
    num_images = {split: part.num_images for split, part in splits.items()}
    patterns = [pattern for split in splits.values() for pattern in _patterns(published, split)]
    return checked(name, root, num_images, patterns)


def _patterns(record: Dataset, split: Split) -> list[str]:
    """Files of a split's annotations that are hashed."""
    if record.format == "label_maps":
        return [f"{split.annotations}/*{record.label_suffix}"]
    return [split.annotations, f"{boxes_folder(split)}/*.xml"] if record.format == "voc" else [split.annotations]


def _count_fault(path: Path, num: int, split: Split) -> list[str]:
    if num == split.num_images:
        return []
    return [f"{path} lists {num} images, the published one {split.num_images}: put the published file back"]


def _coco_split_faults(root: Path, split: Split, published: Dataset) -> list[str]:
    path = root / split.annotations
    known, found = published.sha256.get(split.annotations), file_sha256(path)
    if known not in (None, found):
        return [f"{path} is not the published file (sha256 {found[:12]}, not {str(known)[:12]}): unpack it again"]
    coco = read_coco(path)
    # The published file itself has two boxes of height 0 (cocodataset/cocoapi issue 355), which MMDetection leaves out.
    faults = coco_faults(coco, published.num_classes, boxes=known is None)
    lost = sorted({image["file_name"] for image in coco["images"]} - listing(root / split.images))
    faults += fault(lost, f"is not in {root / split.images}", "unpack the archive again")
    return [f"{path}: {text}" for text in faults] + _count_fault(path, len(coco["images"]), split)


def _voc_split_faults(root: Path, split: Split, _: Dataset) -> list[str]:
    return _count_fault(root / split.annotations, len(_names(root, split)), split)


def _label_map_split_faults(root: Path, split: Split, published: Dataset) -> list[str]:
    images = [path for path in sorted(listing(root / split.images)) if path.endswith(published.image_suffix)]
    labels = [p.removesuffix(published.image_suffix) + published.label_suffix for p in images]
    pairs = [(root / split.images / p, root / split.annotations / q) for p, q in zip(images, labels, strict=True)]
    bare = [image for image, label_map in pairs if not label_map.is_file()]
    faults = fault(bare, f"has no label map in {root / split.annotations}", f"unpack {split.annotations.split('/')[0]} again")
    faults += read_label_maps([pair for pair in pairs if pair[1].is_file()], published.num_classes)
    return faults + _count_fault(root / split.images, len(images), split)


_MISSING = {"coco": _coco_missing, "voc": _voc_missing, "label_maps": _label_maps_missing}
_FAULTS = {"coco": _coco_split_faults, "voc": _voc_split_faults, "label_maps": _label_map_split_faults}
