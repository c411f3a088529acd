"""How long trainings are, before any of them is run.

By the tier's schedule; or by the installed published config, which is read and not built.
"""

import importlib.util
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.dataset import datasets
from benchmarks.pair import Model, Pair
from benchmarks.tier import Tier


class Images(NamedTuple):
    """Number of images by split."""

    train: int
    tune: int
    test: int


def published_images(name: str) -> Images:
    """Images of a published data set, which has its test split for validation, too."""
    record = datasets()[name]
    return Images(record.num_train, record.num_test, record.num_test)


def num_images(tier: Tier, pair: Pair, manifest: Path) -> Images | None:
    """Images of the data that a pair is trained on; None for a user's own data that ``prepare`` has not seen yet."""
    if tier.scenes is not None:
        return Images(tier.scenes.train, tier.scenes.tune, tier.scenes.test)
    if tier.data == "published":
        return published_images(pair.dataset)
    if not manifest.is_file():
        return None
    (counts,) = (entry["num_images"] for entry in json.loads(manifest.read_text())["sets"].values())
    return Images(**counts)


def trial_images(tier: Tier, pair: Pair, images: Images) -> Images:
    """The same as a trial of stage ``tune`` finds them: published data have no tune split but a part of the training images."""
    held = datasets()[pair.dataset].held_out if tier.data == "published" else None
    return images if held is None else Images(images.train - held, held, images.test)


@dataclass(frozen=True)
class Length:
    """How long one training is; ``batch`` is images a step over all GPUs, ``batch_per_gpu`` as published."""

    iterations: int
    batch: int
    batch_per_gpu: int
    validations: int

    @property
    def images(self) -> int:
        """Images that it sees."""
        return self.iterations * self.batch


@cache
def _published(name: str) -> dict[str, Any]:
    """Training loop and data of an installed config, found and read without importing its package."""
    from mmengine.config import Config  # noqa: PLC0415 (half a second)

    package, path = name.split("::")
    found = importlib.util.find_spec(package)
    file = Path(((found and found.submodule_search_locations) or ["."])[0]) / ".mim" / "configs" / path
    if not file.is_file():
        raise ValueError(f"no config {path} in the installed package {package}; correct the pair's file")
    config = Config.fromfile(file)
    return {"train_cfg": config.train_cfg.to_dict(), "train_dataloader": config.train_dataloader.to_dict()}


def published_length(
    model: Model, batch: int, changes: dict[str, Any], images: Images, *, own_data: bool = False, share: float = 1.0
) -> Length:
    """How long a published config trains a model.

    Args:
        model: a side of a pair.
        batch: images a step over all GPUs.
        changes: dotted keys of the config -> values, what a method's authors changed beyond the pair.
        images: of the data set.
        own_data: the config's data set, and how often it is repeated an epoch, is replaced by the user's.
        share: of the schedule that is trained, in whole epochs where it counts them.

    Raises:
        ValueError: the config is not installed.
    """
    from mmengine.config import Config  # noqa: PLC0415

    config = Config(_published(model.config))
    # What else was changed says nothing about length.
    config.merge_from_dict({k: v for k, v in {**model.changes, **changes}.items() if k.split(".")[0] in config})
    loop, loader = config.train_cfg, config.train_dataloader
    if "max_epochs" in loop:
        epoch = images.train // batch if own_data else math.ceil(images.train * loader.dataset.get("times", 1) / batch)
        units = _part(loop.max_epochs, share)
        iterations = units * epoch
    else:
        iterations = units = _part(loop.max_iters, share)
    return Length(iterations, batch, loader.batch_size, units // loop.get("val_interval", 1))


def length_at(tier: Tier, pair: Pair, side: str, changes: dict[str, Any], images: Images, *, share: float = 1.0) -> Length:
    """How long one side of a pair is trained at a tier, or a share of it."""
    schedule = tier.schedule
    if schedule is None:
        model = pair.teacher if side == "teacher" else pair.student
        return published_length(model, pair.batch_size, changes, images, own_data=tier.data == "own", share=share)
    lengths = schedule.lengths(pair.head)
    epochs = _part(lengths.teacher_epochs if side == "teacher" else lengths.student_epochs, share)
    # The last, incomplete batch of an epoch is dropped.
    batch = lengths.batch_size
    return Length(epochs * (images.train // batch), batch, batch, epochs)


def _part(whole: int, share: float) -> int:
    """Epochs or iterations of a shortened schedule, as trials count them."""
    return max(1, round(share * whole))
