"""PKD: features are compared by their correlation, channel by channel (Cao et al., NeurIPS 2022).

Source: section 3.2 of arXiv:2207.02039 and open-mmlab/mmrazor ``mmrazor/models/losses/pkd_loss.py`` at 90c7af1f.
Shapes: N images, C channels, H x W positions of a level.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.alignment import require_equal_channels, standardise
from methods.contract import BaseMethod, Batch, Channels, NumLevels, View, Weight

_EPS = 1e-6  # added to each deviation, as in the source


def correlation_error(student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Half the mean squared difference of the features, each standardised per channel over images and positions.

    But for the deviations' small constant this is 1 - r averaged over the channels, r being Pearson's correlation.
    """
    with torch.no_grad():
        wanted_NCHW = standardise(teacher_NCHW, _EPS)[0]
    return F.mse_loss(standardise(student_NCHW, _EPS)[0], wanted_NCHW) / 2


class Method(BaseMethod):
    """Correlation of the neck's levels.

    Args:
        channels: role -> per level (student channels, teacher channels).
        loss_weight: weight of the sum over levels.
        num_levels: how many levels at most, from the finest.

    Raises:
        ValueError: student and teacher differ in channels.
    """

    needs = ("neck",)
    per_gpu = True

    def __init__(self, channels: Channels, *, loss_weight: Weight, num_levels: NumLevels) -> None:
        super().__init__(channels)
        require_equal_channels(channels["neck"][:num_levels], "pkd, role 'neck'")
        self.loss_weight, self.num_levels = loss_weight, num_levels

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        levels = zip(*(view.features["neck"][: self.num_levels] for view in (student, teacher)), strict=True)
        return {"loss_pkd": self.loss_weight * torch.stack([correlation_error(*pair) for pair in levels]).sum()}
