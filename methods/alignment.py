"""Shared parts of methods that match feature maps: widths of student and teacher, and normalisation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def require_equal_channels(levels: Sequence[tuple[int, int]], where: str) -> None:
    """Raise ValueError unless student and teacher are equally wide on every level; ``where`` begins the message."""
    if any(student != teacher for student, teacher in levels):
        widths = ", ".join(f"{student} and {teacher}" for student, teacher in levels)
        raise ValueError(
            f"{where}: student and teacher must have the same number of channels on every level, they have {widths}; "
            "choose a pair with equal ones or another method"
        )


def align_convs(channels: Sequence[tuple[int, int]], *, only_where_needed: bool) -> nn.ModuleList:
    """1x1 convolutions that bring each student level to the teacher's width.

    With ``only_where_needed`` a level of equal width is passed through untouched.
    """
    return nn.ModuleList(
        nn.Identity() if only_where_needed and student == teacher else nn.Conv2d(student, teacher, kernel_size=1)
        for student, teacher in channels
    )


def standardise(feature_NCHW: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return a feature with mean 0 and deviation 1 per channel over images and positions, that mean and that deviation (C, 1, 1).

    The deviation divides by the number of values less one, as ``torch.std`` does; a single value has deviation 0.
    """
    count = feature_NCHW.shape[0] * feature_NCHW.shape[2] * feature_NCHW.shape[3]
    mean_C11 = feature_NCHW.mean((0, 2, 3))[:, None, None]
    centred_NCHW = feature_NCHW - mean_C11
    # Written out: the root's gradient at 0 is infinite, and a constant channel must have gradient 0.
    variance_C11 = centred_NCHW.square().sum((0, 2, 3))[:, None, None] / max(1, count - 1)
    deviation_C11 = torch.where(variance_C11 > 0, variance_C11, 1.0).sqrt() * (variance_C11 > 0)
    return centred_NCHW / (deviation_C11 + eps), mean_C11, deviation_C11
