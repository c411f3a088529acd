"""The card of an exported model: its files, its score, the comparison with torch, and how to load it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from reports.formats.markdown_text import environment


@dataclass(frozen=True)
class GraphCard:
    """An ONNX file, its one input and its outputs with their shapes for one test image."""

    file: str
    size_bytes: int
    takes: str
    shape: tuple[int, ...]
    free: Sequence[str]
    gives: Mapping[str, tuple[int, ...]]
    difference: float


@dataclass(frozen=True)
class Export:
    """Graphs of a model, the number of test images that they were compared on, and their score; the reason where one is missing."""

    graphs: Sequence[GraphCard] = ()
    num_images: int = 0
    score: float | None = None
    reason: str | None = None


def export_card(found: Export, origin: Mapping[str, Any], **more: Any) -> str:
    """Render ``export.md.j2``.

    Args:
        found: the graphs.
        origin: the facts that the checkpoint has.
        more: what else the template names; one that is missing is an error.
    """
    is_segmenter = more["task"] == "segmentation"
    library, package = ("MMSegmentation", "onedl-mmsegmentation") if is_segmenter else ("MMDetection", "onedl-mmdetection")
    packages = " ".join(f"{name}=={version(name)}" for name in ("torch", "onedl-mmengine", "onedl-mmcv", package))
    template = environment().get_template("export.md.j2")
    return template.render(found=found, origin=origin, library=library, packages=packages, **more).rstrip() + "\n"
