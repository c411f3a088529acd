"""Tiny data sets as their publishers lay them out, and the data of a user: what tests damage."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.dataset import datasets
from benchmarks.own import OwnData, OwnSplit
from benchmarks.own_splits import Needs

DETECTION, INSTANCE, SEGMENTATION = Needs(("detection",)), Needs(("instance",)), Needs(("segmentation",))
WIDTH, HEIGHT = 12, 8
_VOC_XML = """<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>5</ymax></bndbox></object></annotation>
"""


def image(path: Path, value: int = 0) -> None:
    """An image of 12x8 pixels, each file with pixels of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([value, len(path.name)]).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def label_map(path: Path, *values: int) -> None:
    """A label map of 12x8 pixels with these values in its first pixels and 0 elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[0, : len(values)] = values
    Image.fromarray(labels).save(path)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(call: Callable, *arguments: object) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def coco_json(names: Sequence[str], classes: Sequence[str]) -> dict:
    """Annotations in COCO's format: two boxes an image, the first one all of it; ids start at 10."""
    images = [{"id": 10 + i, "file_name": n, "width": WIDTH, "height": HEIGHT, "license": 1} for i, n in enumerate(names)]
    annotations = [
        {
            "id": 100 + 2 * i + j, "image_id": 10 + i, "category_id": 1 + (i + j) % len(classes), "bbox": box, "area": box[2] * box[3],
            "iscrowd": 0, "segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0], box[1] + box[3]]],
        }
        for i in range(len(names))
        for j, box in enumerate(([0, 0, WIDTH, HEIGHT], [2.5, 1.5, 3, 4]))
    ]  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [{"id": i + 1, "name": n} for i, n in enumerate(classes)]}


def write_json(path: Path, content: object) -> None:
    """A JSON file, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def small_catalogue(patch: pytest.MonkeyPatch, **counts: int) -> None:
    """Published data sets of three training and two test images; ``counts`` gives other sizes by data set.

    Digests of the real files are left out: what a test makes has others.
    """
    for name, published in datasets().items():
        splits = {
            split: replace(part, num_images=counts.get(name, 3) if "train" in split else 2)
            for split, part in published.splits.items()
        }
        patch.setitem(datasets(), name, replace(published, splits=splits, sha256={}))


def coco(root: Path, classes: Sequence[str] = tuple(f"class {number}" for number in range(80))) -> Path:
    """COCO 2017, 3 + 2 images."""
    for split, num in (("train", 3), ("val", 2)):
        names = [f"{number:012d}.jpg" for number in range(num)]
        for number, name in enumerate(names):
            image(root / f"{split}2017" / name, number)
        write_json(root / f"annotations/instances_{split}2017.json", coco_json(names, classes))
    return root


def voc(root: Path) -> Path:
    """PASCAL VOC 2007 and 2012, 3 + 3 + 2 images."""
    for year, split, first, num in ((2007, "trainval", 1, 3), (2007, "test", 4, 2), (2012, "trainval", 1, 3)):
        folder = root / f"VOCdevkit/VOC{year}"
        names = [f"{number:06d}" for number in range(first, first + num)]
        for number, name in enumerate(names):
            image(folder / f"JPEGImages/{name}.jpg", number)
            (folder / "Annotations").mkdir(exist_ok=True)
            (folder / f"Annotations/{name}.xml").write_text(_VOC_XML.format(name=name, width=WIDTH, height=HEIGHT))
        (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(names) + "\n")
    return root


def cityscapes(root: Path) -> Path:
    """Cityscapes, 3 + 2 images in two cities."""
    for split, num in (("train", 3), ("val", 2)):
        for number in range(num):
            city = ("aachen", "bochum")[number % 2]
            image(root / f"leftImg8bit/{split}/{city}/{city}_{number}_leftImg8bit.png", number)
            label_map(root / f"gtFine/{split}/{city}/{city}_{number}_gtFine_labelTrainIds.png", 18, 255)
    return root


def _own(root: Path, form: str, annotations: str) -> OwnData:
    splits = {s: OwnSplit(images=s, annotations=annotations.format(s)) for s in ("train", "tune", "test")}
    return OwnData(format=form, root=str(root), classes=["cat", "dog"], **splits)


def own_coco(root: Path) -> OwnData:
    """A user's detection set: 3 images a split."""
    for first, split in enumerate(("train", "tune", "test")):
        names = [f"{number}.jpg" for number in range(3)]
        for number, name in enumerate(names):
            image(root / split / name, 10 * first + number)
        write_json(root / f"{split}.json", coco_json(names, ["cat", "dog"]))
    return _own(root, "coco", "{}.json")


def own_label_maps(root: Path) -> OwnData:
    """A user's segmentation set: 3 images a split, one of them in a folder below."""
    for first, split in enumerate(("train", "tune", "test")):
        for number, name in enumerate(("0", "1", "more/2")):
            image(root / f"{split}/{name}.jpg", 10 * first + number)
            label_map(root / f"{split}_labels/{name}.png", 1, 255)
    return _own(root, "label_maps", "{}_labels")
