"""CWD: each channel's distribution over positions is brought to the teacher's (Shu et al., ICCV 2021).

Source: section 3.2 of arXiv:2011.13256 and open-mmlab/mmrazor ``mmrazor/models/losses/cwd.py`` at 90c7af1f.
Shapes: N images, C channels, H x W positions of a level, P = H * W.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.contract import BaseMethod, Batch, Channels, View


def require_equal_channels(levels: Sequence[tuple[int, int]], where: str) -> None:
    """ValueError unless student and teacher are equally wide on every level."""
    if any(student != teacher for student, teacher in levels):
        widths = ", ".join(f"{student} and {teacher}" for student, teacher in levels)
        raise ValueError(
            f"{where}: student and teacher must have the same number of channels on every level, they have {widths}; "
            "choose a pair with equal ones or another method"
        )


def channel_kl(student_NCHW: Tensor, teacher_NCHW: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of each channel's softmax over positions, mean over images and channels, times T^2."""
    student_NCP = (student_NCHW.flatten(2) / temperature).log_softmax(-1)
    with torch.no_grad():
        teacher_NCP = (teacher_NCHW.flatten(2) / temperature).log_softmax(-1)
    kl = F.kl_div(student_NCP, teacher_NCP, reduction="sum", log_target=True)
    return kl * (temperature**2 / (student_NCP.shape[0] * student_NCP.shape[1]))


class Method(BaseMethod):
    """Channel-wise divergence on all levels of one role.

    Args:
        channels: role -> per level (student channels, teacher channels).
        loss_weight: weight of the sum over levels.
        tau: temperature of the softmax over positions.
        role: whose maps are compared: "neck", "logits", or any other role of feature maps.

    Raises:
        ValueError: student and teacher differ in channels.
    """

    needs = ("neck",)

    def __init__(self, channels: Channels, *, loss_weight: float, tau: float, role: str) -> None:
        super().__init__(channels)
        require_equal_channels(channels[role], f"cwd, role '{role}'")
        self.loss_weight, self.tau, self.role = loss_weight, tau, role

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: D102
        return (hparams["role"],)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002, D102
        levels = zip(student.features[self.role], teacher.features[self.role], strict=True)
        return {"loss_cwd": self.loss_weight * torch.stack([channel_kl(*pair, self.tau) for pair in levels]).sum()}
