"""MGD: the student's feature, masked at random, is made to restore the teacher's (Yang et al., ECCV 2022).

Source: section 3.1 of arXiv:2205.01529 and yzd-v/MGD ``det/mmdet/distillation/losses/mgd.py`` at 2c9da0b.
Shapes: N images, C channels, H x W positions of a level.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.alignment import align_convs
from methods.contract import BaseMethod, Batch, Channels, Fraction, Levels, NumLevels, Picture, View, Weight


def restoration_error(restored_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Squared error summed over channels, positions and images, divided by the number of images.

    A sum, not a mean: its weight is therefore tied to channels and image size.
    """
    return F.mse_loss(restored_NCHW, teacher_NCHW, reduction="sum") / len(teacher_NCHW)


def keep_mask(shape_N1HW: tuple[int, int, int, int], share_masked: float, generator: torch.Generator) -> Tensor:
    """Ones and zeros (N, 1, H, W); each position is zero with probability ``share_masked``."""
    draws = torch.rand(shape_N1HW, generator=generator, device=generator.device)
    return (draws >= share_masked).to(draws.dtype)


def generation_block(width: int) -> nn.Sequential:
    """Build the generation block that restores a masked feature: two 3x3 convolutions with a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(width, width, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, kernel_size=3, padding=1),
    )


def restore(block: nn.Module, feature_NCHW: Tensor, share_masked: float, generator: torch.Generator) -> Tensor:
    """Mask a feature of the teacher's width at random and let the block restore it."""
    num, _, height, width = feature_NCHW.shape
    restored_NCHW: Tensor = block(feature_NCHW * keep_mask((num, 1, height, width), share_masked, generator))
    return restored_NCHW


def restoration_picture(
    levels: Iterable[tuple[nn.Module, Tensor, Tensor]], share_masked: float, generator: torch.Generator
) -> Picture:
    """One draw of the mask, the feature restored from it, and the teacher's; of each the mean |feature| over channels.

    Args:
        levels: a block, the student's feature at the teacher's width, and the teacher's feature.
        share_masked: probability that a position is zeroed.
        generator: of the draw.
    """
    columns: dict[str, Levels] = {"student,\nmasked": (), "student,\nrestored": (), "teacher": ()}
    for block, aligned_NCHW, teacher_NCHW in levels:
        num, _, height, width = aligned_NCHW.shape
        masked_NCHW = aligned_NCHW * keep_mask((num, 1, height, width), share_masked, generator)
        for title, feature_NCHW in zip(columns, (masked_NCHW, block(masked_NCHW), teacher_NCHW), strict=True):
            columns[title] += (feature_NCHW.abs().mean(1),)
    return Picture(
        "the student's feature after masking, the feature restored from it, and the teacher's; mean over channels of the "
        "absolute activation",
        "mean absolute activation",
        columns,
        ("student,\nrestored", "teacher"),
    )


class Method(BaseMethod):
    """Masked generative distillation on the neck's levels.

    Args:
        channels: role -> per level (student channels, teacher channels).
        alpha: weight of the summed squared error.
        share_masked: probability that a position of the student's feature is zeroed; the paper's lambda.
        num_levels: how many levels at most, from the finest.
    """

    needs = ("neck",)

    def __init__(self, channels: Channels, *, alpha: Weight, share_masked: Fraction, num_levels: NumLevels) -> None:
        super().__init__(channels)
        self.alpha, self.share_masked, self.num_levels = alpha, share_masked, num_levels
        neck = channels["neck"][:num_levels]
        self.align = align_convs(neck, only_where_needed=True)
        self.generation = nn.ModuleList(generation_block(width) for _, width in neck)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        maps = (view.features["neck"][: self.num_levels] for view in (student, teacher))
        errors = [
            restoration_error(restore(block, align(student_NCHW), self.share_masked, batch.generator), teacher_NCHW)
            for align, block, student_NCHW, teacher_NCHW in zip(self.align, self.generation, *maps, strict=True)
        ]
        return {"loss_mgd": self.alpha * torch.stack(errors).sum()}

    def pictures(self, student: View, teacher: View, generator: torch.Generator) -> dict[str, Picture]:
        """Student's masked feature, the restored one, and the teacher's."""
        maps = (view.features["neck"][: self.num_levels] for view in (student, teacher))
        levels = (
            (block, align(student_NCHW), teacher_NCHW)
            for align, block, student_NCHW, teacher_NCHW in zip(self.align, self.generation, *maps, strict=True)
        )
        return {"features": restoration_picture(levels, self.share_masked, generator)}
