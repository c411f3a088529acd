"""Configs of the installed MMLab packages, read without importing the packages."""

import copy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config


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
        return copy.deepcopy(_read(Path(found.submodule_search_locations[0]) / ".mim/configs" / path))
    except FileNotFoundError as error:
        raise ValueError(
            f"no config {name} in the installed package; see ls .venv/lib/python*/site-packages/mmdet/.mim/configs"
        ) from error


@cache
def _read(path: Path) -> Config:
    config = Config.fromfile(path)
    # MMEngine writes the config into every checkpoint, and laying out its text takes half a second each time.
    super(Config, config).__setattr__("_format_python_code", False)
    return config


@cache
def _schedule(name: str) -> dict[str, Any]:
    config = published_config(name)
    return {"train_cfg": config.train_cfg.to_dict(), "train_dataloader": config.train_dataloader.to_dict()}


def published_schedule(name: str, changes: dict[str, Any]) -> Config:
    """Return ``train_cfg`` and ``train_dataloader`` of an installed config, with those changes that concern them.

    Args:
        name: of the config, as for :func:`published_config`.
        changes: dotted key -> value.

    Raises:
        ValueError: no such config in the installed package, or no such package.
    """
    config = Config(_schedule(name))
    config.merge_from_dict({key: value for key, value in changes.items() if key.split(".")[0] in config})
    return config
