"""Schedule of an installed published config, which is read without importing its package or building its model."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config


@dataclass(frozen=True)
class PublishedSchedule:
    """Schedule of a config: ``epochs`` of a data set repeated ``repeats`` times, or ``iterations`` where epochs are None."""

    epochs: int | None
    iterations: int
    repeats: int
    batch_per_gpu: int
    validation_interval: int


def published_schedule(name: str, changes: Mapping[str, Any]) -> PublishedSchedule:
    """Return the schedule of a config with changes.

    Args:
        name: ``package::path`` of the config.
        changes: dotted keys of the config -> values; those that do not affect the schedule are ignored.

    Raises:
        ValueError: the config is not installed.
    """
    config = Config(_training_part(name))
    config.merge_from_dict({key: value for key, value in changes.items() if key.split(".")[0] in config})
    loop, loader = config.train_cfg, config.train_dataloader
    return PublishedSchedule(
        epochs=loop.get("max_epochs"),
        iterations=loop.get("max_iters", 0),
        repeats=loader.dataset.get("times", 1),
        batch_per_gpu=loader.batch_size,
        validation_interval=loop.get("val_interval", 1),
    )


@cache
def _training_part(name: str) -> dict[str, Any]:
    """Return training loop and data of an installed config."""
    package, path = name.split("::")
    found = importlib.util.find_spec(package)
    file = Path(((found and found.submodule_search_locations) or ["."])[0]) / ".mim" / "configs" / path
    if not file.is_file():
        raise ValueError(f"no config {path} in the installed package {package}; correct the pair's file")
    config = Config.fromfile(file)
    return {"train_cfg": config.train_cfg.to_dict(), "train_dataloader": config.train_dataloader.to_dict()}
