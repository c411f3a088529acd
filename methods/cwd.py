"""CWD: each channel's distribution over positions is brought to the teacher's (Shu et al., ICCV 2021).

Source: section 3.2 of arXiv:2011.13256 and open-mmlab/mmrazor ``mmrazor/models/losses/cwd.py`` at 90c7af1f; with the
term on the decoded feature winycg/CIRKD ``losses/cwd.py`` and ``train_kd.py`` at 91735ef.
Shapes: N images, C channels, H x W positions of a level, P = H * W.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.alignment import require_equal_channels
from methods.contract import BaseMethod, Batch, Channels, Temperature, View, Weight


def channel_kl(student_NCHW: Tensor, teacher_NCHW: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of each channel's softmax over positions, mean over images and channels, times T^2."""
    student_NCP = (student_NCHW.flatten(2) / temperature).log_softmax(-1)
    with torch.no_grad():
        teacher_NCP = (teacher_NCHW.flatten(2) / temperature).log_softmax(-1)
    kl = F.kl_div(student_NCP, teacher_NCP, reduction="sum", log_target=True)
    return kl * (temperature**2 / (student_NCP.shape[0] * student_NCP.shape[1]))


class Method(BaseMethod):
    """Channel-wise divergence on all levels of one input, and on a segmenter's decoded feature.

    Args:
        channels: input -> per level (student channels, teacher channels).
        loss_weight: weight of the sum over levels.
        tau: temperature of the softmax over positions.
        role: whose maps are compared: "neck", "logits", or any other input of feature maps.
        decoded_weight: weight of the same divergence of the feature that the logits are made from, behind a 1x1
            convolution without bias where the widths differ, divided by the student's width as the source does; 0 leaves
            it out.

    Raises:
        ValueError: student and teacher differ in channels.
    """

    needs = ("neck",)

    def __init__(self, channels: Channels, *, loss_weight: Weight, tau: Temperature, role: str, decoded_weight: Weight) -> None:
        super().__init__(channels)
        require_equal_channels(channels[role], f"cwd, role '{role}'")
        self.loss_weight, self.tau, self.role, self.decoded_weight = loss_weight, tau, role, decoded_weight
        self.align: nn.Module = nn.Identity()
        if decoded_weight:
            ((student_width, teacher_width),) = channels["decoded"]
            self.decoded_weight *= teacher_width / student_width  # channel_kl divides by the teacher's
            if student_width != teacher_width:
                self.align = nn.Conv2d(student_width, teacher_width, kernel_size=1, bias=False)

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        return (hparams["role"], *(["decoded"] if hparams["decoded_weight"] else []))

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        levels = zip(student.features[self.role], teacher.features[self.role], strict=True)
        losses = {"loss_cwd": self.loss_weight * torch.stack([channel_kl(*pair, self.tau) for pair in levels]).sum()}
        if self.decoded_weight:
            (student_NCHW,), (teacher_NCHW,) = student.features["decoded"], teacher.features["decoded"]
            losses["loss_cwd_decoded"] = self.decoded_weight * channel_kl(self.align(student_NCHW), teacher_NCHW, self.tau)
        return losses
