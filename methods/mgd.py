"""MGD: the student's feature, masked at random, is made to restore the teacher's (Yang et al., ECCV 2022).

Source: section 3.1 of arXiv:2205.01529 and yzd-v/MGD ``mmdet/distillation/losses/mgd.py`` at 2c9da0b.
Shapes: N images, C channels, H x W positions of a level.
"""

import torch
from torch import Tensor, nn

from methods.contract import BaseMethod, Batch, Channels, View, align_convs


def restoration_error(restored_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Squared error summed over channels, positions and images, divided by the number of images.

    A sum, not a mean: its weight is therefore tied to channels and image size.
    """
    return (restored_NCHW - teacher_NCHW).square().sum() / len(teacher_NCHW)


def keep_mask(shape_N1HW: tuple[int, int, int, int], share_masked: float, generator: torch.Generator) -> Tensor:
    """Ones and zeros (N, 1, H, W); each position is zero with probability ``share_masked``."""
    draws = torch.rand(shape_N1HW, generator=generator, device=generator.device)
    return (draws >= share_masked).to(draws.dtype)


class Method(BaseMethod):
    """Masked generative distillation on the neck's levels.

    Args:
        channels: role -> per level (student channels, teacher channels).
        alpha: weight of the summed squared error.
        share_masked: probability that a position of the student's feature is zeroed; the paper's lambda.
    """

    needs = ("neck",)

    def __init__(self, channels: Channels, *, alpha: float, share_masked: float) -> None:
        super().__init__(channels)
        self.alpha, self.share_masked = alpha, share_masked
        self.align = align_convs(channels["neck"], only_where_needed=True)
        self.generation = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, kernel_size=3, padding=1),
            )
            for _, width in channels["neck"]
        )

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        total = student.features["neck"][0].new_zeros(())
        for level, (student_NCHW, teacher_NCHW) in enumerate(
            zip(student.features["neck"], teacher.features["neck"], strict=True)
        ):
            num, _, height, width = student_NCHW.shape
            mask_N1HW = keep_mask((num, 1, height, width), self.share_masked, batch.generator)
            masked_NCHW = self.align[level](student_NCHW) * mask_N1HW
            total = total + restoration_error(self.generation[level](masked_NCHW), teacher_NCHW)
        return {"loss_mgd": self.alpha * total}
