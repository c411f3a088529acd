"""KD: class logits are brought to the teacher's by a softened softmax over classes (Hinton et al., NeurIPS-W 2014).

Source: section 2 of arXiv:1503.02531; of detectors in the form of HikariTJU/LD (``mmdet/models/losses/kd_loss.py`` and
``loss_single`` of ``mmdet/models/dense_heads/ld_head.py`` at 4287990c), of segmenters in that of winycg/CIRKD
(``losses/kd.py`` at 91735ef).
Shapes: N images, P locations of a dense head, K classes, H x W positions, R rows.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.alignment import require_equal_channels
from methods.contract import BaseMethod, Batch, Channels, DenseHead, Temperature, View, Weight

ROLES = ("predictions", "logits")


def class_kl(student_RK: Tensor, teacher_RK: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of the softened class distributions times T^2, (R,)."""
    student_RK = (student_RK / temperature).log_softmax(1)
    with torch.no_grad():
        teacher_RK = (teacher_RK / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(student_RK, teacher_RK, reduction="none", log_target=True).sum(1)


class Method(BaseMethod):
    """Divergence of the class logits: of a dense head at its positive locations, of a segmenter at every pixel.

    Args:
        channels: input -> per level (student channels, teacher channels).
        loss_weight: weight of the divergence.
        temperature: softens both distributions.
        role: "predictions", the mean over a level's positive locations, levels added up; or "logits", the mean over
            images and pixels.
        class_mean: whether a distribution's divergence is the mean over its classes instead of their sum.

    Raises:
        ValueError: ``role`` is neither, or student and teacher differ in classes.
    """

    needs = ("predictions",)
    per_gpu = True

    def __init__(
        self,
        channels: Channels,
        *,
        loss_weight: Weight,
        temperature: Temperature,
        role: Literal["predictions", "logits"],
        class_mean: bool,
    ) -> None:
        super().__init__(channels)
        if role not in ROLES:
            raise ValueError(f"kd: no role '{role}'; choose one of {', '.join(ROLES)}")
        if role == "logits":
            require_equal_channels(channels[role], f"kd, role '{role}'")
        self.loss_weight, self.temperature, self.role, self.class_mean = loss_weight, temperature, role, class_mean

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        return (hparams["role"],)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        if self.role == "logits":
            (student_NKHW,), (teacher_NKHW,) = student.features["logits"], teacher.features["logits"]
            rows = (logits_NKHW.movedim(1, -1).flatten(0, -2) for logits_NKHW in (student_NKHW, teacher_NKHW))
            return {"loss_kd": self.loss_weight * self._divergence(*rows).mean()}
        learner, model = cast("DenseHead", student.dense_head), cast("DenseHead", teacher.dense_head)
        targets, sizes = learner.targets, list(learner.prediction.num_locations)
        levels = zip(
            *(
                torch.split(values, sizes, dim=1)
                for values in (
                    learner.prediction.class_logits_NPK, model.prediction.class_logits_NPK, targets.positive_NP, targets.weight_NP,
                )
            ),
            strict=True,
        )  # fmt: skip
        total = learner.prediction.class_logits_NPK.sum() * 0  # keeps its graph where nothing is positive
        for student_NpK, teacher_NpK, positive_Np, weight_Np in levels:
            if positive_Np.any():
                divergence_R = self._divergence(student_NpK[positive_Np], teacher_NpK[positive_Np])
                total = total + (divergence_R * weight_Np[positive_Np]).mean()
        return {"loss_kd": self.loss_weight * total}

    def _divergence(self, student_RK: Tensor, teacher_RK: Tensor) -> Tensor:
        divergence_R = class_kl(student_RK, teacher_RK, self.temperature)
        return divergence_R / student_RK.shape[1] if self.class_mean else divergence_R
