"""A detector or segmenter as ONNX graphs, whose outputs are compared with torch's.

A graph ends where MMDetection's or MMSegmentation's own post-processing begins: with what a dense head gives per level, or with a
segmenter's logits at the size of its input.  A two-stage detector is a graph up to its proposal network, and one per RoI head from
pooled features on; proposals and RoIAlign between them are MMDetection's.

Shape suffixes: N images, C channels, H height, W width.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from mmseg.models.decode_heads.psp_head import PPM
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.engine.mmlab import quiet
from pipelines.engine.onnx_run import MASK, ROI, WHOLE, NotExported, Session, dense_head, file_of, num_levels_of
from reports.formats.export_card import GraphCard

_TOLERANCE = 1e-4  # of an output's largest absolute value
_ROIS = 5  # per side of a grid of boxes, whose pooled features the RoI heads are compared on
_ANY_SIZE = {0: "batch", 2: "height", 3: "width"}
_PAD_PX = 64  # to the other size that graphs of any size are compared at; a multiple of every padding divisor here


@dataclass(frozen=True)
class Graph:
    """A part of a model to export.

    Args:
        part: what its file's name has behind the stem.
        module: from one tensor to a tensor or a tuple of tensors.
        takes: name of its input.
        gives: names of its outputs.
        inputs: that it is compared on; it is exported with the first.
        free: axes of the input that may have any size, by name.
    """

    part: str
    module: nn.Module
    takes: str
    gives: Sequence[str]
    inputs: Sequence[Tensor]
    free: dict[int, str]


def _flat(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for one in value:
            yield from _flat(one)


class _Whole(nn.Module):
    """A model from images to where post-processing begins, its outputs in one tuple."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, ...]:
        model: Any = self.model
        levels = model.extract_feat(image_NCHW)
        if hasattr(model, "decode_head"):
            size = image_NCHW.shape[2:]
            return (F.interpolate(model.decode_head(levels), size, mode="bilinear", align_corners=model.align_corners),)
        two_stage = hasattr(model, "roi_head")
        return tuple(_flat((levels, model.rpn_head(levels)) if two_stage else dense_head(model)(levels)))


@torch.no_grad()
def graphs(model: Any, images_NCHW: Sequence[Tensor]) -> list[Graph]:
    """Return the graphs that a model, in evaluation mode and on the CPU, consists of.

    Args:
        model: the model.
        images_NCHW: preprocessed test images.

    Raises:
        NotExported: a part of the model is not covered.
    """
    if any("DeformConv" in type(module).__name__ for module in model.modules()):
        raise NotExported("mmcv's deformable convolutions cannot be exported")
    whole = _Whole(model)
    if hasattr(model, "decode_head"):
        is_fixed = any(isinstance(part, PPM) for part in model.modules())  # pools to a grid, by windows that follow from the size
        return [Graph(WHOLE, whole, "image", ["logits"], images_NCHW, {0: "batch"} if is_fixed else _ANY_SIZE)]
    if not hasattr(model, "roi_head"):
        head = dense_head(model)
        kinds = ["masks", "classes"] if hasattr(head, "num_grids") else ["classes", "boxes", "centerness"]
        names = _names(kinds, num_levels_of(head))[: len(whole(images_NCHW[0]))]
        return [Graph(WHOLE, whole, "image", names, images_NCHW, _ANY_SIZE)]
    roi, names = model.roi_head, _names(["level", "objectness", "anchors"], num_levels_of(model.rpn_head))
    if isinstance(roi.bbox_head, nn.ModuleList):
        raise NotExported("a cascade of RoI heads is not covered")
    pooled = _pooled(model, roi.bbox_roi_extractor, images_NCHW)
    found = [
        Graph(WHOLE, whole, "image", names, images_NCHW, _ANY_SIZE),
        Graph(ROI, roi.bbox_head, "features", ["classes", "boxes"], pooled, {0: "rois"}),
    ]
    if roi.with_mask:
        pooled = _pooled(model, roi.mask_roi_extractor, images_NCHW)
        found.append(Graph(MASK, roi.mask_head, "features", ["masks"], pooled, {0: "rois"}))
    return found


def _names(kinds: Sequence[str], num_levels: int) -> list[str]:
    return [f"{kind}_{level}" for kind in kinds for level in range(num_levels)]


def _pooled(model: Any, extractor: Any, images_NCHW: Sequence[Tensor]) -> list[Tensor]:
    """Features of a grid of overlapping boxes of each image, as RoIAlign gives them to a RoI head."""
    found = []
    for image_NCHW in images_NCHW:
        height, width = image_NCHW.shape[2:]
        corners = [(column * width / 8, row * height / 8) for row in range(_ROIS) for column in range(_ROIS)]
        rois = torch.tensor([[0, x, y, x + width / 2, y + height / 2] for x, y in corners])
        found.append(extractor(model.extract_feat(image_NCHW)[: extractor.num_inputs], rois))
    return found


@torch.no_grad()
def write(graph: Graph, stem: Path) -> GraphCard:
    """Write a graph to ``<stem><part>.onnx``, compare its outputs with torch's, and return what its card says.

    Where outputs at another size are wrong, as behind adaptive pooling, the graph is of one size, and of any batch.

    Raises:
        NotExported: torch cannot export it, or onnxruntime not run it.
        ValueError: outputs differ by more than 1e-4 of their largest value.  No file is left in either case.
    """
    path, problem = file_of(stem, graph.part), None
    for free in [graph.free, {0: graph.free[0]}][: len(graph.free)]:
        try:
            difference = _exported(graph, free, path)
        except Exception as error:  # noqa: BLE001 (exporter and onnxruntime have many)
            problem, difference = error, float("inf")
        if difference <= _TOLERANCE:
            break
    else:
        path.unlink(missing_ok=True)
        if problem:
            raise NotExported(f"{path.name}: the exporter or onnxruntime fails ({type(problem).__name__})") from problem
        raise ValueError(
            f"{path.name}: outputs differ from torch's by {difference:.1e} of their largest value; nothing is left of it"
        )
    shapes = [tuple(output.shape) for output in _flat(graph.module(graph.inputs[0]))]
    gives = dict(zip(graph.gives, shapes, strict=True))
    shape = tuple(graph.inputs[0].shape)
    return GraphCard(path.name, path.stat().st_size, graph.takes, shape, tuple(free.values()), gives, difference)


def _exported(graph: Graph, free: dict[int, str], path: Path) -> float:
    """Write the graph with these axes of any size; return the largest difference from torch, in parts of an output's largest value."""
    axes = {axis: torch.export.Dim(name) if axis == 0 else torch.export.Dim.DYNAMIC for axis, name in free.items()}
    inputs = [torch.cat([graph.inputs[0]] * 2), *graph.inputs]  # an axis of size 1 would become a constant
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.module, (inputs[0],), path, dynamo=True, verbose=False, external_data=False,
            input_names=[graph.takes], output_names=list(graph.gives), dynamic_shapes=(axes,),
        )  # fmt: skip
    _without_traces(path)
    if "width" in free.values():
        inputs.append(F.pad(inputs[0], (0, _PAD_PX, 0, 2 * _PAD_PX)))
    session = Session(path)
    pairs = (pair for one in inputs for pair in zip(session(one), _flat(graph.module(one)), strict=True))
    return max(float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)) for found, expected in pairs)


def _without_traces(path: Path) -> None:
    """Remove the exporter's stack traces from a file: they name modules and folders of this machine."""
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)
