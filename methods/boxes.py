"""Shared parts of methods that match features inside ground-truth boxes: boxes on levels, adaptation, normalised error.

Source: ggjy/DeFeat.pytorch ``mmdet/models/dense_heads/anchor_head.py``, ``mmdet/models/detectors/two_stage_kd.py`` and
``mmdet/apis/train.py`` at c46a793.
Shapes: L levels, N images, B boxes an image (filled up), C channels, H x W positions of a level.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from methods.contract import Levels

FINEST_SIZE = 56  # pixels, root of the area: the finest level's boxes begin here, and smaller ones are added to it


def pad_boxes(boxes_xyxy: Sequence[Tensor]) -> Tensor:
    """Boxes of all images as (N, B, 4) with B at least 1, filled up with NaN.

    No comparison with NaN holds, so what fills up lies on no level and covers no position.
    """
    filler_14 = boxes_xyxy[0].new_full((1, 4), math.nan)
    return nn.utils.rnn.pad_sequence([*boxes_xyxy, filler_14], batch_first=True, padding_value=math.nan)[:-1]


def level_of(boxes_xyxy: Tensor, num_levels: int, finest_px: float) -> Tensor:
    """Level (...,) that each box (..., 4) belongs to, by the root of its area; 0 is the finest.

    The finest has all up to twice ``finest_px``, each further one twice that.
    """
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2] + 1).prod(-1).sqrt()
    return (size / finest_px + 1e-6).log2().floor().clamp(0, num_levels - 1)


def stride_of(image_hw: tuple[int, int], level_hw: Sequence[int]) -> int:
    """Stride of a level in pixels: the smallest power of two with which the level covers the image."""
    ratio = max(-(-image // level) for image, level in zip(image_hw, level_hw, strict=True))
    return 1 << (ratio - 1).bit_length()


def cover(low_NB2: Tensor, high_NB2: Tensor, level_hw: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows (N, B, H) and columns (N, B, W) of a level that are in low <= index < high, boolean; both bounds are x, then y."""
    height, width = level_hw
    y_H, x_W = (torch.arange(size, dtype=low_NB2.dtype, device=low_NB2.device) for size in (height, width))
    rows_NBH = (y_H >= low_NB2[..., 1:]) & (y_H < high_NB2[..., 1:])
    columns_NBW = (x_W >= low_NB2[..., :1]) & (x_W < high_NB2[..., :1])
    return rows_NBH, columns_NBW


def marked(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """First positions and those behind the last (..., 2) that boxes (..., 4) in units of a level's stride mark.

    Marked is from the position of the upper left corner up to, without, that of the lower right one; where
    these share a row or a column, the single position of the upper left corner.
    """
    corners = scaled.trunc()
    low, high = corners[..., :2].clamp(min=0), corners[..., 2:]
    return low, torch.where((low == high).any(-1, keepdim=True), low + 1, high)


def paint(low_NB2: Tensor, high_NB2: Tensor, level_hw: Sequence[int]) -> Tensor:
    """Ones (N, H, W) where any box covers the position."""
    rows_NBH, columns_NBW = cover(low_NB2, high_NB2, level_hw)
    return (rows_NBH.mT.to(low_NB2.dtype) @ columns_NBW.to(low_NB2.dtype)).clamp_(max=1)


def box_mask(boxes_xyxy: Sequence[Tensor], image_hw: tuple[int, int], level_hw: Sequence[int]) -> Tensor:
    """Ones (N, H, W) on a level where boxes lie, of whatever size."""
    return paint(*marked(pad_boxes(boxes_xyxy) / stride_of(image_hw, level_hw)), level_hw)


def level_masks(boxes_xyxy: Sequence[Tensor], image_hw: tuple[int, int], levels: Levels, finest_px: float) -> Levels:
    """Ones (N, H, W) on each level of feature maps where boxes lie that belong to it."""
    boxes_NB4, sizes = pad_boxes(boxes_xyxy), [feature_NCHW.shape[2:] for feature_NCHW in levels]
    stride_L111 = boxes_NB4.new_tensor([stride_of(image_hw, size) for size in sizes])[:, None, None, None]
    level_L111 = torch.arange(len(levels), device=boxes_NB4.device)[:, None, None, None]
    own_LNB1 = level_of(boxes_NB4, len(levels), finest_px)[..., None] == level_L111
    low_LNB2, high_LNB2 = marked(torch.where(own_LNB1, boxes_NB4 / stride_L111, math.nan))
    return tuple(paint(low, high, size) for low, high, size in zip(low_LNB2, high_LNB2, sizes, strict=True))


def adaptation(channels: Sequence[tuple[int, int]]) -> nn.ModuleList:
    """3x3 convolutions from each student width to the teacher's, with weights near 0."""
    convs = [nn.Conv2d(student, teacher, kernel_size=3, padding=1) for student, teacher in channels]
    for conv in convs:
        conv.weight.data.normal_().fmod_(2).mul_(1e-4)
    return nn.ModuleList(convs)


def masked_error(error_NHW: Tensor, mask_NHW: Tensor, num_channels: int) -> Tensor:
    """Error inside the mask added up, over twice the number of feature values in there (at least 1)."""
    return (error_NHW * mask_NHW).sum() / (2 * num_channels * mask_NHW.sum()).clamp(min=1)
