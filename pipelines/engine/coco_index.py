"""pycocotools' index of an annotation file, normalised first."""

import contextlib
import io
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from benchmarks.coco_file import read_coco


def fill(index: COCO, annotation_file: str | Path, *, masks: bool = False) -> None:
    """Fill an empty index with a file.

    Objects are numbered from 1, since pycocotools takes an id of 0 for "no match".  Those that are marked ``ignore`` are crowds:
    pycocotools replaces that mark by ``iscrowd``, and would count them as missed.

    Args:
        index: without content.
        annotation_file: path.
        masks: whether a missing area is that of the outline.
    """
    coco: Any = read_coco(Path(annotation_file), masks=masks)
    for number, annotation in enumerate(coco["annotations"], start=1):
        annotation["id"] = number
        annotation["iscrowd"] = int(annotation["iscrowd"] or annotation["ignore"])
    index.dataset = coco
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()


def coco_index(annotation_file: str | Path, *, masks: bool = False) -> COCO:
    """Return the index of a file; see :func:`fill`."""
    index = COCO()
    fill(index, annotation_file, masks=masks)
    return index
