"""MGD for segmentation: the last backbone map is restored, the logits are compared channel by channel.

Source: section 4.3 of arXiv:2205.01529 (Yang et al., ECCV 2022) and yzd-v/MGD at 2c9da0b:
``seg/mmseg/distillation/losses/mgd.py`` and ``distillers/segmentation_distiller.py`` (logits).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods.alignment import align_convs, require_equal_channels
from methods.contract import BaseMethod, Batch, Channels, Fraction, Picture, Temperature, View, Weight
from methods.cwd import channel_kl
from methods.mgd import generation_block, restoration_error, restoration_picture, restore


class Method(BaseMethod):
    """Masked generative distillation on the last backbone map, and channel-wise divergence of the class logits.

    Args:
        channels: role -> per level (student channels, teacher channels).
        alpha: weight of the summed squared error.
        share_masked: probability that a position of the student's feature is zeroed; the paper's lambda.
        logit_weight: weight of the divergence; 0 leaves it out.
        tau: its temperature.

    Raises:
        ValueError: student and teacher differ in classes and their logits are compared.
    """

    needs = ("backbone",)

    def __init__(
        self, channels: Channels, *, alpha: Weight, share_masked: Fraction, logit_weight: Weight, tau: Temperature
    ) -> None:
        super().__init__(channels)
        self.alpha, self.share_masked = alpha, share_masked
        self.logit_weight, self.tau = logit_weight, tau
        last = channels["backbone"][-1]
        self.align = align_convs([last], only_where_needed=True)[0]
        self.generation = generation_block(last[1])
        if logit_weight:
            require_equal_channels(channels["logits"], "mgd_seg, role 'logits'")

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        return ("backbone", "logits") if hparams["logit_weight"] else ("backbone",)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        aligned_NCHW = self.align(student.features["backbone"][-1])
        restored_NCHW = restore(self.generation, aligned_NCHW, self.share_masked, batch.generator)
        losses = {"loss_mgd_seg": self.alpha * restoration_error(restored_NCHW, teacher.features["backbone"][-1])}
        if self.logit_weight:
            divergence = channel_kl(student.features["logits"][0], teacher.features["logits"][0], self.tau)
            losses["loss_mgd_seg_logits"] = self.logit_weight * divergence
        return losses

    def pictures(self, student: View, teacher: View, generator: torch.Generator) -> dict[str, Picture]:
        """Student's masked map, the restored one, and the teacher's."""
        student_NCHW, teacher_NCHW = (view.features["backbone"][-1] for view in (student, teacher))
        levels = [(self.generation, self.align(student_NCHW), teacher_NCHW)]
        return {"features": restoration_picture(levels, self.share_masked, generator)}
