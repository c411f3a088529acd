"""Faster training, each a setting of params.yaml (``speed``); docs/speed.md says what each does to the numbers."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmcv.transforms import TRANSFORMS
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from pipelines.engine.data_configs import dicts
from pipelines.engine.precision import mmcv_operators, on_tensors
from pipelines.grid import Speed

_FUSED = ("SGD", "Adam", "AdamW")
_NETWORKS = ("backbone", "neck")


def set_speed(config: Config, speed: Speed) -> None:
    """Apply the settings to a composed training."""
    config.speed = ConfigDict(speed.model_dump())
    if speed.fused_optimizer and config.optim_wrapper.optimizer.type in _FUSED:
        config.optim_wrapper.optimizer.fused = True
    if speed.pinned_memory:
        config.train_dataloader.pin_memory = True
        for part in dicts(config.model):
            if "data_preprocessor" in part:
                part.data_preprocessor.non_blocking = True
    if speed.cache_images:
        _cache(config.train_dataloader.dataset)
    if speed.channels_last or speed.compile:
        hook = ConfigDict(type="NetworksHook", channels_last=speed.channels_last, compile=speed.compile)
        config.custom_hooks = [*(config.get("custom_hooks") or []), hook]


def _cache(dataset: ConfigDict) -> None:
    for part in dicts(dataset):
        if part.get("type") == "LoadImageFromFile":
            part.type = "LoadImageOnce"


@TRANSFORMS.register_module()
class LoadImageOnce(_LoadImageFromFile):  # type: ignore[misc]
    """Loads images as MMCV does, and keeps what it has decoded: the first ``most_mib`` of a process.

    The arrays are copied, as later transforms may write into them.
    """

    def __init__(self, *args: Any, most_mib: int = 4096, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._free = most_mib * 2**20

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load an image, or copy it."""
        path = results["img_path"]
        if (kept := self._kept.get(path)) is None:
            results = super().transform(results)
            if results is not None and (size := results["img"].nbytes) <= self._free:
                self._free -= size
                self._kept[path] = results["img"].copy()
            return results
        return results | {"img": kept.copy(), "img_shape": kept.shape[:2], "ori_shape": kept.shape[:2]}


@HOOKS.register_module()
class NetworksHook(Hook):  # type: ignore[misc]
    """Lays out and compiles the networks, backbone and neck, of the trained model, and of its student and teacher.

    Args:
        channels_last: memory layout of features and weights.
        compile: by torch.compile, for any size of images.
    """

    def __init__(self, *, channels_last: bool, compile: bool) -> None:  # noqa: A002 (the setting's name)
        self._channels_last, self._compile = channels_last, compile

    def before_train(self, runner: Runner) -> None:
        """Prepare the networks, once their weights are loaded."""
        prepare_networks(getattr(runner.model, "module", runner.model), channels_last=self._channels_last, compiled=self._compile)


def prepare_networks(model: Any, *, channels_last: bool, compiled: bool) -> None:
    """Lay out and compile the networks of a model, its student and its teacher.

    mmcv's operators read whatever they are given as if it had the usual layout, some without a word: they are given that.
    """
    for operator in mmcv_operators(model) if channels_last else ():
        operator.forward = partial(_contiguous, operator.forward)
    for owner in (model, getattr(model, "student", None), getattr(model, "teacher", None)):
        if owner is None:
            continue
        for name in _NETWORKS:
            network: Any = getattr(owner, name, None)
            if not isinstance(network, nn.Module):
                continue
            if channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                network.register_forward_pre_hook(_lay_out)
            if compiled:
                # Of the method alone: hooks that record what a module gives stay outside, and names of weights as they are.
                network.forward = torch.compile(network.forward, dynamic=None)


def _contiguous(function: Callable[..., Any], *args: Any) -> Any:
    return function(*on_tensors(Tensor.contiguous, args))


def _lay_out(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.contiguous(memory_format=torch.channels_last) if isinstance(one, Tensor) else one for one in inputs)
