"""Number format of a training: float32 throughout, or half precision in the networks and float32 in all losses.

What a method sees is widened by the distiller.  The losses of a student's own heads are widened here, and what pools or suppresses
boxes with them: mmcv's operators know no bfloat16, and sums over an image need more than its 8 bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import torch
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import Tensor, nn

from pipelines.grid import Precision

HALF = ("bf16", "fp16")
_LOSSES = ("loss_by_feat", "predict_by_feat", "loss_and_target")  # methods of heads that take predictions


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):  # type: ignore[misc]
    """Optimizer wrapper that runs the model in bfloat16, on any device.

    MMEngine's asserts a GPU, and scales losses, which bfloat16, with float32's range, does not need.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass in bfloat16."""
        kind = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(kind, dtype=torch.bfloat16):
            yield


@HOOKS.register_module()
class FullPrecisionLossesHook(Hook):  # type: ignore[misc]
    """Computes all losses of the trained model in float32, whatever its networks run in."""

    def before_train(self, runner: Runner) -> None:
        """Widen what the losses take."""
        widen_losses(getattr(runner.model, "module", runner.model))


def set_precision(config: Config, precision: Precision) -> None:
    """Set the number format of a composed training.

    Raises:
        ValueError: the device does not have it.
    """
    config.precision = precision
    check_precision(precision)
    if precision not in HALF:
        return
    wrapper = {"type": "Bf16OptimWrapper"} if precision == "bf16" else {"type": "AmpOptimWrapper", "dtype": "float16"}
    config.optim_wrapper.update(wrapper)
    config.custom_hooks = [*(config.get("custom_hooks") or []), ConfigDict(type="FullPrecisionLossesHook")]


def check_precision(precision: Precision) -> None:
    """ValueError where the device does not have a number format."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision is '{precision}'; there are: {', '.join(get_args(Precision))}")
    has_gpu = torch.cuda.is_available()
    if precision in ("fp16", "tf32") and not has_gpu:
        raise ValueError(f"params.yaml: precision {precision} is for a GPU, and there is none here; choose fp32 or bf16")
    if precision in ("bf16", "tf32") and has_gpu and torch.cuda.get_device_capability() < (8, 0):
        raise ValueError(
            f"params.yaml: precision {precision} needs a GPU of compute capability 8.0 or later; choose fp32 or fp16"
        )


def set_matmul(precision: Precision) -> None:
    """Round the inputs of float32 products to TF32 on a GPU, or do not; torch alone does it for convolutions only."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def widen_losses(model: Any) -> None:
    """Compute in float32 what a model's heads do with predictions, and mmcv's operators in it and in its teacher."""
    for part in model.modules():
        for method in _LOSSES:
            if hasattr(type(part), method):
                setattr(part, method, partial(_widened, getattr(part, method)))
    for operator in mmcv_operators(model):
        operator.forward = partial(_widened, operator.forward)


def mmcv_operators(model: Any) -> Iterator[Any]:
    """Yield what runs operators of mmcv, which know neither bfloat16 nor layouts but the usual, in a model and its teacher."""
    for owner in (model, getattr(model, "teacher", None)):
        for part in owner.modules() if owner is not None else ():
            if type(part).__module__.startswith("mmcv.ops") or isinstance(part, BaseRoIExtractor):
                yield part


def _widened(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.autocast(kind, enabled=False):
        return function(*on_tensors(_float, args), **on_tensors(_float, kwargs))


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def on_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return nested values with a function applied to each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) in (list, tuple):
        return type(value)(on_tensors(function, one) for one in value)
    if type(value) is dict:
        return {key: on_tensors(function, one) for key, one in value.items()}
    return value
