"""Conversion of recipes' values to a tier whose models are reduced, by the tier's own sizes.

A recipe says of such a value what it is counted by (:class:`methods.recipe.Conversion`); the tier's own sizes do the rest, so that a
copied tier with other sizes gets values of its own.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.manifest import listing
from benchmarks.own import OwnData
from benchmarks.pair import Pair
from benchmarks.tier import ModelScale, Tier
from methods.recipe import Conversion
from pipelines.estimation.lengths import Images, length_at, num_images

_DIGITS = 3  # significant, of a converted weight
_SEGMENTER_STRIDE = 8  # of the last stage, pixels


def converted(
    key: str, value: Any, how: Conversion, hparams: Mapping[str, Any], pair: Pair, tier: Tier, own: OwnData | None = None
) -> tuple[Any, str]:
    """Return a published value as it is at a reduced tier, and in words why.

    Args:
        key: of the hyper-parameter.
        value: published.
        how: what it is counted by.
        hparams: all of the method there, as published.
        pair: that is trained.
        tier: with reduced models.
        own: the user's data, where the tier reads them.

    Raises:
        ValueError: the tier has no size or schedule that the conversion needs.
    """
    scale = tier.model
    if scale is None:
        raise ValueError(f"{key}: only reduced models have converted values")
    if how.finest_px:
        return scale.roi.finest_px, f"{key} {scale.roi.finest_px} in place of {value}: the tier's finest level begins there"
    if how.tower_convs is not None:
        position = max(1, value * scale.stacked_convs // how.tower_convs)
        return (
            position,
            f"{key} {position} in place of {value}: towers have {scale.stacked_convs} convolutions here, {how.tower_convs} there",
        )
    if how.of_iterations is not None:
        iterations = _iterations(key, pair, tier, own)
        converted_value = max(1, round(value / how.of_iterations * iterations)) if value else 0
        return converted_value, f"{key} {converted_value}: as much of {iterations} iterations as {value} of {how.of_iterations}"
    image_px = tier.scenes.image_px if tier.scenes else own.image_px if own else None
    if image_px is None:
        raise ValueError(
            f"{key} is counted by positions of a feature map, and the tier does not say how large its images are; give own.image_px in params.yaml"
        )
    channels, positions = _neck(pair, scale, image_px, hparams) if how.of == "neck" else _last_stage(pair, scale, image_px)
    here, there = channels * positions, how.channels * how.positions
    weight = float(f"{value * there / here:.{_DIGITS}g}")
    return weight, (
        f"{key} {weight:g}: it multiplies a sum, so {value:g} is scaled by the number of terms, {how.channels} x {how.positions} there and "
        f"{channels} x {positions} here"
    )


def _iterations(key: str, pair: Pair, tier: Tier, own: OwnData | None) -> int:
    """Return the length of a student's run at the tier."""
    if tier.schedule is None:
        raise ValueError(f"{key} is a fraction of the schedule, and the tier with its reduced models has none; give it one")
    images = num_images(tier, pair, Path("no manifest")) or Images(_own_images(own), 0, 0)
    return length_at(tier, pair, "student", {}, images).iterations


def _own_images(own: OwnData | None) -> int:
    """Training images of a user's data, which stage ``prepare`` has not counted yet."""
    if own is None:
        raise ValueError("params.yaml: this tier reads your own data; name them under 'own:' (README, Your own data)")
    try:
        return _count(own.format, own.folder, own.train.images, own.train.annotations)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"params.yaml: own.train: its images cannot be counted ({type(error).__name__}); correct the paths"
        ) from error


@cache
def _count(data_format: str, folder: Path, images: str, annotations: str) -> int:
    """Training images of a user's data; cached, because every method and pair needs it and annotation files are large."""
    if data_format == "coco":
        return len(json.loads((folder / annotations).read_text())["images"])
    return len(listing(folder / images))


def _neck(pair: Pair, scale: ModelScale, image_px: int, hparams: Mapping[str, Any]) -> tuple[int, int]:
    """Channels of the neck and positions of the levels that a method uses."""
    strides = [*([scale.strides[0] // 2] if pair.head == "solo" else []), *scale.strides]
    return scale.neck_channels, sum((-(-image_px // stride)) ** 2 for stride in strides[: hparams.get("num_levels")])


def _last_stage(pair: Pair, scale: ModelScale, image_px: int) -> tuple[int, int]:
    """Channels and positions of the teacher's last stage."""
    from pipelines.engine.backbones import published_side  # noqa: PLC0415 (half a second)
    from pipelines.engine.scaling import scaled_backbone  # noqa: PLC0415 (as above)

    _, widths = scaled_backbone(published_side(pair, "teacher").model.backbone, scale, is_pretrained=False)
    return widths[-1], (-(-image_px // _SEGMENTER_STRIDE)) ** 2
