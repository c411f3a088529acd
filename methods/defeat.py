"""DeFeat: inside and outside of the objects are imitated apart (Guo et al., CVPR 2021).

Source: section 3 of arXiv:2103.14475 and ggjy/DeFeat.pytorch at c46a793: ``mmdet/apis/train.py`` (losses),
``mmdet/models/dense_heads/anchor_head.py`` (masks), ``mmdet/models/detectors/two_stage_kd.py`` (adaptation).
Shapes: N images, C channels, H x W positions of a level, R proposals, K classes with the background last.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.boxes import adaptation, box_mask, level_masks, masked_error
from methods.contract import BaseMethod, Batch, Channels, Levels, Pixels, RoiHead, Stage, Temperature, View, Weight


def proposal_kl(student_RK: Tensor, teacher_RK: Tensor, chosen_R: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of the softened class distributions, averaged over the chosen proposals, times T^2."""
    student_RK, teacher_RK = ((logits_RK / temperature).log_softmax(1) for logits_RK in (student_RK, teacher_RK))
    kl_R = F.kl_div(student_RK, teacher_RK, reduction="none", log_target=True).sum(1)
    return temperature**2 * (kl_R * chosen_R).sum() / chosen_R.sum().clamp(min=1)


class Method(BaseMethod):
    """Decoupled imitation of the neck, of late backbone stages and of the RoI head's classes.

    Args:
        channels: role -> per level (student channels, teacher channels).
        foreground_weight: neck, positions inside the boxes of a level.
        background_weight: neck, all other positions.
        finest_px: boxes up to twice this size, the root of their area, belong to the neck's finest level.
        backbone_foreground_weight: backbone stages, positions inside any box.
        backbone_background_weight: backbone stages, all other positions.
        backbone_first_stage: first backbone stage imitated, counted from 1; all behind it are, too.
        head_foreground_weight: class distributions of proposals labelled with a class.
        head_background_weight: class distributions of background proposals.
        temperature: softens the class distributions.
        proposals: whose proposals both heads are shown, "teacher" or "student".
        labels: what distinguishes foreground from background, the labels of these "proposals" or those of the
            "student"'s own, taken by index.
    """

    needs = ("neck",)
    per_gpu = True

    def __init__(
        self,
        channels: Channels,
        *,
        foreground_weight: Weight,
        background_weight: Weight,
        finest_px: Pixels,
        backbone_foreground_weight: Weight,
        backbone_background_weight: Weight,
        backbone_first_stage: Stage,
        head_foreground_weight: Weight,
        head_background_weight: Weight,
        temperature: Temperature,
        proposals: Literal["teacher", "student"],
        labels: Literal["proposals", "student"],
    ) -> None:
        super().__init__(channels)
        self.neck_weights = (foreground_weight, background_weight)
        self.backbone_weights = (backbone_foreground_weight, backbone_background_weight)
        self.head_weights = (head_foreground_weight, head_background_weight)
        self.first_stage, self.temperature = backbone_first_stage, temperature
        self.finest_px, self.proposals, self.labels = finest_px, proposals, labels
        if proposals not in {"teacher", "student"} or labels not in {"proposals", "student"}:
            raise ValueError(
                f"defeat: no proposals {proposals!r} with labels {labels!r}; "
                "proposals are those of 'teacher' or 'student', labels those of 'proposals' or 'student'"
            )
        self.neck_adapt = adaptation(channels["neck"] if any(self.neck_weights) else ())
        stages = channels["backbone"] if any(self.backbone_weights) else ()
        if stages and not 1 <= backbone_first_stage <= len(stages):
            raise ValueError(f"defeat: no backbone stage {backbone_first_stage}; backbone_first_stage is 1 to {len(stages)} here")
        self.backbone_adapt = nn.ModuleList(
            nn.Sequential(conv, nn.ReLU(inplace=True)) for conv in adaptation(stages[backbone_first_stage - 1 :])
        )

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        weighted = {
            role: hparams[f"{prefix}foreground_weight"] or hparams[f"{prefix}background_weight"]
            for role, prefix in (("neck", ""), ("backbone", "backbone_"), ("roi_head", "head_"))
        }
        # The backbone's mask is drawn on the grid of the neck's finest level.
        weighted["neck"] = weighted["neck"] or weighted["backbone"]
        return tuple(role for role, weight in weighted.items() if weight)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        if any(self.neck_weights):
            levels = student.features["neck"]
            masks = level_masks(batch.boxes_xyxy, batch.image_hw, levels, self.finest_px)
            losses |= self._imitate("neck", levels, teacher.features["neck"], masks)
        if any(self.backbone_weights):
            finest_hw = student.features["neck"][0].shape[2:]
            mask_NHW = box_mask(batch.boxes_xyxy, batch.image_hw, finest_hw)
            chosen = slice(self.first_stage - 1, None)
            stages = student.features["backbone"][chosen]
            masks = tuple(F.interpolate(mask_NHW[:, None], stage.shape[2:], mode="nearest")[:, 0] for stage in stages)
            losses |= self._imitate("backbone", stages, teacher.features["backbone"][chosen], masks)
        if any(self.head_weights):
            losses |= self._head(student, teacher)
        return losses

    def _imitate(self, role: str, student: Levels, teacher: Levels, masks: Levels) -> dict[str, Tensor]:
        adapt, weights = getattr(self, f"{role}_adapt"), getattr(self, f"{role}_weights")
        inside = outside = student[0].new_zeros(())
        for conv, student_NCHW, teacher_NCHW, mask_NHW in zip(adapt, student, teacher, masks, strict=True):
            error_NHW = (conv(student_NCHW) - teacher_NCHW).square().sum(1)
            inside = inside + masked_error(error_NHW, mask_NHW, teacher_NCHW.shape[1])
            outside = outside + masked_error(error_NHW, 1 - mask_NHW, teacher_NCHW.shape[1])
        return {
            f"loss_defeat_{role}_foreground": weights[0] * inside / len(masks),
            f"loss_defeat_{role}_background": weights[1] * outside / len(masks),
        }

    def _head(self, student: View, teacher: View) -> dict[str, Tensor]:
        learner, model = cast("RoiHead", student.roi_head), cast("RoiHead", teacher.roi_head)
        proposals = (model if self.proposals == "teacher" else learner).proposals
        labels_R = (proposals if self.labels == "proposals" else learner.proposals).labels_R
        student_RK = learner.predict(proposals).class_logits_RK
        with torch.no_grad():
            teacher_RK = model.predict(proposals).class_logits_RK
        count = min(len(labels_R), len(student_RK))
        background_R = labels_R[:count] == student_RK.shape[1] - 1
        return {
            f"loss_defeat_head_{part}": weight * proposal_kl(student_RK[:count], teacher_RK[:count], chosen_R, self.temperature)
            for part, weight, chosen_R in zip(
                ("foreground", "background"), self.head_weights, (~background_R, background_R), strict=True
            )
        }
