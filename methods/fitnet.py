"""FitNet: the student's feature, brought to the teacher's width, imitates the teacher's (Romero et al., ICLR 2015).

Source: section 2.2 of arXiv:1412.6550 in the form of the detection tables' "mimic": hunto/MasKD
``mmrazor/mmrazor/models/losses/mse.py`` at b5af34f.
Shapes: N images, C channels, H x W positions of a level.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.alignment import align_convs
from methods.contract import BaseMethod, Batch, Channels, View, Weight


class Method(BaseMethod):
    """Mean squared error of the neck's levels behind a 1x1 convolution each.

    Args:
        channels: role -> per level (student channels, teacher channels).
        loss_weight: weight of the sum over levels.
    """

    needs = ("neck",)

    def __init__(self, channels: Channels, *, loss_weight: Weight) -> None:
        super().__init__(channels)
        self.loss_weight = loss_weight
        self.align = align_convs(channels["neck"], only_where_needed=False)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        levels = zip(self.align, student.features["neck"], teacher.features["neck"], strict=True)
        errors = [F.mse_loss(align(student_NCHW), teacher_NCHW) for align, student_NCHW, teacher_NCHW in levels]
        return {"loss_fitnet": self.loss_weight * torch.stack(errors).sum()}
