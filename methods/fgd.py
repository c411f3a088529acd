"""FGD: weighted imitation inside and outside of objects, of attention, and of global context (Yang et al., CVPR 2022).

Source: section 3 of arXiv:2111.11837 and yzd-v/FGD ``mmdet/distillation/losses/fgd.py`` at f1da292.
Shapes: N images, B boxes an image (filled up), C channels, H x W positions of a level, P = H * W.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from methods.alignment import align_convs
from methods.boxes import cover, pad_boxes
from methods.contract import BaseMethod, Batch, Channels, NumLevels, Temperature, View, Weight


def attention(feature_NCHW: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Softmax of the mean magnitude over positions (N, H, W) and over channels (N, C), each with mean 1."""
    magnitude_NCHW = feature_NCHW.abs()
    spatial_NHW, channel_NC = magnitude_NCHW.mean(1), magnitude_NCHW.mean((2, 3))
    spatial_NP = (spatial_NHW.flatten(1) / temperature).softmax(1) * spatial_NHW[0].numel()
    return spatial_NP.view_as(spatial_NHW), (channel_NC / temperature).softmax(1) * channel_NC.shape[1]


def scale_masks(boxes_NB4: Tensor, image_hw: tuple[int, int], level_hw: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights (N, H, W) inside and outside of the boxes.

    Inside it is one over the number of positions that the smallest box there covers (what reaches outside
    the level counted, too); outside, one over the number of positions outside.
    """
    height, width = level_hw
    x_NB2 = boxes_NB4[..., 0::2] / image_hw[1] * width
    y_NB2 = boxes_NB4[..., 1::2] / image_hw[0] * height
    low_NB2 = torch.stack([x_NB2[..., 0], y_NB2[..., 0]], dim=-1).floor()
    high_NB2 = torch.stack([x_NB2[..., 1], y_NB2[..., 1]], dim=-1).ceil() + 1
    rows_NBH, columns_NBW = cover(low_NB2, high_NB2, level_hw)
    weight_NB1 = 1 / (high_NB2 - low_NB2).prod(-1, keepdim=True)
    inside_NHW = torch.minimum(
        torch.where(rows_NBH, weight_NB1, 0)[..., :, None], torch.where(columns_NBW, weight_NB1, 0)[..., None, :]
    ).amax(1)
    outside_NHW = (inside_NHW == 0).to(inside_NHW.dtype)
    return inside_NHW, outside_NHW / outside_NHW.sum((1, 2), keepdim=True).clamp(min=1)


class Context(nn.Module):
    """GCNet's block without its residual: what a feature's global context adds to each channel, (N, C, 1, 1).

    Args:
        width: channels of the feature.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = nn.Conv2d(width, 1, kernel_size=1)
        last = nn.Conv2d(width // 2, width, kernel_size=1)
        self.transform = nn.Sequential(
            nn.Conv2d(width, width // 2, kernel_size=1),
            nn.LayerNorm([width // 2, 1, 1]),
            nn.ReLU(inplace=True),
            last,
        )
        nn.init.kaiming_normal_(self.attend.weight, nonlinearity="relu")
        for zero in (self.attend.get_parameter("bias"), *last.parameters()):
            nn.init.zeros_(zero)

    def forward(self, feature_NCHW: Tensor) -> Tensor:
        """Pool by a learned softmax over positions, then transform."""
        share_NP = self.attend(feature_NCHW).flatten(1).softmax(1)
        pooled_NC1 = feature_NCHW.flatten(2) @ share_NP[..., None]
        added_NC11: Tensor = self.transform(pooled_NC1[..., None])
        return added_NC11


class Method(BaseMethod):
    """Focal and global distillation on the neck's levels.

    Args:
        channels: role -> per level (student channels, teacher channels).
        foreground_weight: the paper's alpha; squared error inside the boxes, weighted by the teacher's attention.
        background_weight: beta; the same outside.
        attention_weight: gamma; difference of the attentions.
        context_weight: lambda; squared error of the features with their global context added.
        temperature: of the attentions' softmax.
        num_levels: how many levels at most, from the finest.
    """

    needs = ("neck",)

    def __init__(
        self,
        channels: Channels,
        *,
        foreground_weight: Weight,
        background_weight: Weight,
        attention_weight: Weight,
        context_weight: Weight,
        temperature: Temperature,
        num_levels: NumLevels,
    ) -> None:
        super().__init__(channels)
        self.weights = (foreground_weight, background_weight, attention_weight, context_weight)
        self.temperature, self.num_levels = temperature, num_levels
        neck = channels["neck"][:num_levels]
        self.align = align_convs(neck, only_where_needed=True)
        self.student_context = nn.ModuleList(Context(width) for _, width in neck)
        self.teacher_context = nn.ModuleList(Context(width) for _, width in neck)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        boxes_NB4 = pad_boxes(batch.boxes_xyxy)
        levels = (view.features["neck"][: self.num_levels] for view in (student, teacher))
        terms = [
            self._level(level, student_NCHW, teacher_NCHW, boxes_NB4, batch.image_hw)
            for level, (student_NCHW, teacher_NCHW) in enumerate(zip(*levels, strict=True))
        ]
        sums = torch.stack([torch.stack(term) for term in terms]).sum(0) / len(boxes_NB4)
        names = ("foreground", "background", "attention", "context")
        return {f"loss_fgd_{name}": weight * value for name, weight, value in zip(names, self.weights, sums, strict=True)}

    def _level(
        self, level: int, student_NCHW: Tensor, teacher_NCHW: Tensor, boxes_NB4: Tensor, image_hw: tuple[int, int]
    ) -> tuple[Tensor, ...]:
        student_NCHW = self.align[level](student_NCHW)
        spatial_NHW, channel_NC = attention(student_NCHW, self.temperature)
        with torch.no_grad():
            wanted_NHW, wanted_NC = attention(teacher_NCHW, self.temperature)
            inside_NHW, outside_NHW = scale_masks(boxes_NB4, image_hw, teacher_NCHW.shape[2:])
        difference_NCHW = student_NCHW - teacher_NCHW
        error_NHW = torch.einsum("nchw,nc->nhw", difference_NCHW.square(), wanted_NC) * wanted_NHW
        shift_NC11 = self.student_context[level](student_NCHW) - self.teacher_context[level](teacher_NCHW)
        return (
            (error_NHW * inside_NHW).sum(),
            (error_NHW * outside_NHW).sum(),
            (channel_NC - wanted_NC).abs().sum() + (spatial_NHW - wanted_NHW).abs().sum(),
            (difference_NCHW + shift_NC11).square().sum(),
        )
