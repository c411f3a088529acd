"""MMLab as this suite uses it: mmrazor made importable, and published configs found.

mmrazor 1.0.0 (June 2023) is the last release and predates the torch and mmcv of today.
What stands in its way is all in its version check and in its quantization part; the four changes below
let the unmodified package import.
They make mmrazor's *quantization* meaningless (the suite does not use it) and leave distillation as it is.
"""

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import mmcv
from mmengine.config import Config


def _ignore_setter(self: object, name: str) -> Callable[..., object]:
    """Stand in for a missing private setter of a builder: it sets nothing and returns the builder."""
    if not name.startswith("_set_"):
        raise AttributeError(name)
    return lambda *_: self


@cache
def import_mmrazor() -> ModuleType:
    """Import mmrazor with its distillation components registered, and return it."""
    import torch.ao.quantization.backend_config.utils  # noqa: F401, PLC0415 (an attribute mmrazor expects to be there)
    from torch.ao.quantization import fuser_method_mappings as fusers  # noqa: PLC0415
    from torch.ao.quantization.backend_config import BackendPatternConfig  # noqa: PLC0415

    # Made private or dropped by torch; mmrazor takes their absence for an old torch and refuses.
    # It calls them only to fill its table of fused quantized operators.
    for name in ("reverse2", "reverse3", "reverse_sequential_wrapper2"):
        if not hasattr(fusers, name):
            setattr(fusers, name, lambda *_: None)
    # Private setters that torch dropped one by one, chained while mmrazor fills that table.
    if not hasattr(BackendPatternConfig, "__getattr__"):
        BackendPatternConfig.__getattr__ = _ignore_setter
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


def published_config(name: str) -> Config:
    """Return a config of an installed package, such as ``mmdet::gfl/gfl_r50_fpn_1x_coco.py``; its text is not laid out.

    Raises:
        ValueError: no such config in the installed package, or no such package.
    """
    package, _, path = name.partition("::")
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"config {name} needs the package {package}, which is not installed here; leave the pair out")
    # MMEngine's get_config reads all of a package's meta files first, half a second each time.
    try:
        config = Config.fromfile(Path(found.submodule_search_locations[0]) / ".mim/configs" / path)
    except FileNotFoundError as error:
        raise ValueError(
            f"no config {name} in the installed package; see ls .venv/lib/python*/site-packages/mmdet/.mim/configs"
        ) from error
    # MMEngine writes the config into every checkpoint, and laying out its text takes half a second each time.
    super(Config, config).__setattr__("_format_python_code", False)
    return config
