"""ONNX graphs in place of a model's networks, run by onnxruntime on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

# Behind the stem of the files' names.
WHOLE, ROI, MASK = "", "_roi", "_mask"


class NotExported(ValueError):  # noqa: N818 (a reason, not a failure)
    """The reason for which a model has no ONNX graph, or a graph no score."""


class Session:
    """An ONNX graph run by onnxruntime on the CPU, from a tensor to tensors."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 4  # errors are raised, not printed
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]

    def __call__(self, value: Tensor) -> tuple[Tensor, ...]:
        """Run the graph; NotExported where it has one size, and the images another."""
        size = self._input.shape[2:]
        if all(isinstance(side, int) for side in size) and list(value.shape[2:]) != size:
            raise NotExported(f"the graph takes images of one size, {' x '.join(map(str, size))}, and the test split has others")
        found = self._session.run(None, {self._input.name: value.detach().cpu().numpy()})
        return tuple(torch.from_numpy(array).to(value.device) for array in found)


def dense_head(model: Any) -> Any:
    """Return the head of a one-stage detector."""
    return model.bbox_head if getattr(model, "bbox_head", None) is not None else model.mask_head


def num_levels_of(head: Any) -> int:
    """Return the number of levels that a head predicts at."""
    return len(getattr(head, "num_grids", ())) or int(head.prior_generator.num_levels)


def file_of(stem: Path, part: str) -> Path:
    """Return the file of a part of a model."""
    return stem.with_name(f"{stem.name}{part}.onnx")


def attach(model: Any, stem: Path) -> None:
    """Let a model take its networks' outputs from the graphs written under a stem; all else stays its own."""
    whole = Session(file_of(stem, WHOLE))
    if hasattr(model, "decode_head"):
        model.encode_decode = lambda image_NCHW, _: whole(image_NCHW)[0]
        return
    model.extract_feat = whole  # a RoI head takes the levels, the first of them
    if not hasattr(model, "roi_head"):
        head = dense_head(model)
        head.forward = lambda outputs: _grouped(outputs, num_levels_of(head))
        return
    num_levels = num_levels_of(model.rpn_head)
    model.rpn_head.forward = lambda outputs: _grouped(outputs[num_levels:], num_levels)
    model.roi_head.bbox_head.forward = Session(file_of(stem, ROI))
    if model.roi_head.with_mask:
        mask = Session(file_of(stem, MASK))
        model.roi_head.mask_head.forward = lambda features: mask(features)[0]


def _grouped(outputs: Sequence[Tensor], num_levels: int) -> tuple[list[Tensor], ...]:
    """Return the outputs of a head, a list per kind with one per level."""
    return tuple(list(outputs[start : start + num_levels]) for start in range(0, len(outputs), num_levels))
