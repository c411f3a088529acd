"""Lengths of runs before any of them starts: by the tier's schedule, or by the installed published config."""

import json
import math
from dataclasses import dataclass, replace
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
    """Return the number of images per split of a pair's data; None for a user's own data before stage ``prepare``."""
    if tier.scenes is not None:
        return Images(tier.scenes.train, tier.scenes.tune, tier.scenes.test)
    if tier.data == "published":
        return published_images(pair.dataset)
    if not manifest.is_file():
        return None
    (counts,) = (entry["num_images"] for entry in json.loads(manifest.read_text())["sets"].values())
    return Images(**counts)


def trial_images(tier: Tier, pair: Pair, images: Images) -> Images:
    """Return the images per split in a trial of stage ``tune``; a published training split is divided for validation."""
    held = datasets()[pair.dataset].held_out if tier.data == "published" else None
    return images if held is None else Images(images.train - held, held, images.test)


@dataclass(frozen=True)
class Length:
    """Length of one run; ``batch`` is the batch size over all GPUs, ``batch_per_gpu`` as published."""

    iterations: int
    batch: int
    batch_per_gpu: int
    validations: int

    @property
    def images(self) -> int:
        """Number of images that pass through the model."""
        return self.iterations * self.batch


def published_length(
    model: Model, batch: int, changes: dict[str, Any], images: Images, *, own_data: bool = False, fraction: float = 1.0
) -> Length:
    """Return the length of a model's run by its published config.

    Args:
        model: a side of a pair.
        batch: batch size over all GPUs.
        changes: dotted keys of the config -> values, of a method beyond the pair's.
        images: of the data set.
        own_data: the config's data set, and its repetitions per epoch, are replaced by the user's.
        fraction: of the schedule that is run, in whole epochs where it counts them.

    Raises:
        ValueError: the config is not installed.
    """
    from pipelines.engine.published_schedule import published_schedule  # noqa: PLC0415 (half a second, in MMEngine)

    found = published_schedule(model.config, {**model.changes, **changes})
    if found.epochs is not None:
        epoch = images.train // batch if own_data else math.ceil(images.train * found.repeats / batch)
        units = _part(found.epochs, fraction)
        iterations = units * epoch
    else:
        iterations = units = _part(found.iterations, fraction)
    return Length(iterations, batch, found.batch_per_gpu, units // found.validation_interval)


def length_at(tier: Tier, pair: Pair, side: str, changes: dict[str, Any], images: Images, *, fraction: float = 1.0) -> Length:
    """Return the length of the run of one side of a pair at a tier, or of a fraction of it."""
    schedule = tier.schedule
    if schedule is None:
        model = pair.teacher if side == "teacher" else pair.student
        found = published_length(model, pair.batch_size, changes, images, own_data=tier.data == "own", fraction=fraction)
        return replace(found, batch_per_gpu=pair.images_per_gpu)
    lengths = schedule.lengths(pair.head)
    epochs = _part(lengths.teacher_epochs if side == "teacher" else lengths.student_epochs, fraction)
    # The last, incomplete batch of an epoch is dropped.
    batch = lengths.batch_size
    return Length(epochs * (images.train // batch), batch, batch, epochs)


def _part(whole: int, fraction: float) -> int:
    """Return epochs or iterations of a shortened schedule, as trials count them."""
    return max(1, round(fraction * whole))
