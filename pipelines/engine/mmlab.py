"""MMLab as this suite uses it: mmrazor made importable, a process prepared, models built, standard output kept quiet.

mmrazor 1.0.0 (June 2023) is the last release and predates the torch and mmcv of today.
All obstacles are in its version check and in its quantization part; the four changes below
let the unmodified package import.
They make mmrazor's *quantization* meaningless (the suite does not use it) and leave distillation as it is.
"""

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import mmcv
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from pipelines.engine import ranks


def _ignore_setter(self: object, name: str) -> Callable[..., object]:
    """Stand in for a missing private setter of a builder: it sets nothing and returns the builder."""
    if not name.startswith("_set_"):
        raise AttributeError(name)
    return lambda *_: self


@cache
def import_mmrazor() -> ModuleType:
    """Import mmrazor with its distillation components registered, and return it."""
    import torch.ao.quantization.backend_config.utils  # noqa: F401, PLC0415 (an attribute mmrazor expects to be there)
    from torch.ao.quantization import fuser_method_mappings as fusers  # noqa: PLC0415 (only mmrazor needs it)
    from torch.ao.quantization.backend_config import BackendPatternConfig  # noqa: PLC0415 (as above)

    # Made private or dropped by torch; mmrazor takes their absence for an old torch and refuses.
    # It calls them only to fill its table of fused quantized operators.
    for name in ("reverse2", "reverse3", "reverse_sequential_wrapper2"):
        if not hasattr(fusers, name):
            setattr(fusers, name, lambda *_: None)
    # Private setters that torch dropped one by one, chained while mmrazor fills that table.
    if not hasattr(BackendPatternConfig, "__getattr__"):
        BackendPatternConfig.__getattr__ = _ignore_setter  # type: ignore[attr-defined]
    # mmrazor accepts mmcv up to 2.1.0 and looks once, while it is imported.
    true_version, mmcv.__version__ = mmcv.__version__, "2.1.0"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mmrazor = importlib.import_module("mmrazor")
            importlib.import_module("mmrazor.models")
    finally:
        mmcv.__version__ = true_version
    return mmrazor


def prepare_process() -> None:
    """Join the run's other processes; fix the number of threads (``OMP_NUM_THREADS``, 1 by default) and register MMLab's components.

    Small models do not scale over threads, and the number of threads changes the last digits.
    """
    ranks.join()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    register_components()


def register_components() -> None:
    """Register MMDetection's and MMSegmentation's components with MMEngine."""
    warnings.filterwarnings("ignore", module=r"mmdet|mmseg|mmengine|torch\.utils\.checkpoint")
    with quiet():
        for package in ("mmdet", "mmseg"):
            importlib.import_module(f"{package}.utils").register_all_modules(init_default_scope=False)


def build_model(config: Config) -> nn.Module:
    """Build a config's model with random weights; the process's own random numbers stay as they were."""
    with quiet(), torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope(config.default_scope):
        model: nn.Module = MODELS.build(config.model)
    return model


class _DropCocoChatter(io.TextIOBase):
    """Standard output without pycocotools' lines, which it prints at every index and evaluation."""

    _CHATTER = (
        "loading annotations",
        "Done (t=",
        "creating index",
        "index created",
        "Loading and preparing",
        "DONE (t=",
        "Running per image",
        "Evaluate annotation",
        "Accumulating evaluation",
        " Average",
    )

    def __init__(self, stream: Any) -> None:
        self._stream, self._line = stream, ""

    def write(self, text: str) -> int:
        self._line += text
        while "\n" in self._line:
            line, self._line = self._line.split("\n", 1)
            if line.strip() and not line.startswith(self._CHATTER):
                self._stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def quiet_coco() -> contextlib.AbstractContextManager[Any]:
    """Filter pycocotools' chatter out of standard output."""
    return contextlib.redirect_stdout(_DropCocoChatter(sys.stdout))


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Suppress standard output while MMLab builds things."""
    return contextlib.redirect_stdout(io.StringIO())
