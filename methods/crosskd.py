"""CrossKD: the teacher's head finishes the student's tower features and must say what it says on its own (Wang et al., CVPR 2024).

Source: section 3 of arXiv:2306.11369 and jbwang1997/CrossKD ``mmdet/models/detectors/crosskd_*.py`` and
``mmdet/models/losses/kd_loss.py`` at 87e156a4.  What crosses over there is rectified, although the code keeps it before
the activation: that activation works in place (``crosskd_retinanet.py`` lines 59 and 60, and the same in the others).
Shapes: N images, C channels, H x W positions of a level, P locations, K classes, B bins of a box side.
"""

from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.alignment import standardise
from methods.contract import BaseMethod, Batch, Channels, DenseHead, DensePrediction, Position, View, Weight

EPS = 1e-6  # beside a deviation; the least overlap, union and hull (square pixels)


def areas(low: Tensor, high: Tensor) -> Tensor:
    """Square pixels (...,) between corners (..., 2); none where they are the wrong way round."""
    width, height = (high - low).clamp(min=0).unbind(-1)
    return width * height


def overlap(first_xyxy: Tensor, second_xyxy: Tensor, *, generalised: bool) -> Tensor:
    """Overlap (...,) of boxes (..., 4) pair by pair; generalised, less the share of their hull that neither covers."""
    (low, high), (other_low, other_high) = (boxes_xyxy.chunk(2, -1) for boxes_xyxy in (first_xyxy, second_xyxy))
    shared = areas(torch.maximum(low, other_low), torch.minimum(high, other_high))
    union = (areas(low, high) + areas(other_low, other_high) - shared).clamp(min=EPS)
    if not generalised:
        return shared / union
    hull = areas(torch.minimum(low, other_low), torch.maximum(high, other_high)).clamp(min=EPS)
    return shared / union - (hull - union) / hull


def iou_error(student: DensePrediction, teacher: DensePrediction) -> Tensor:
    """Minus the logarithm of the boxes' overlap, (N, P)."""
    return -overlap(student.boxes_xyxy_NP4, teacher.boxes_xyxy_NP4, generalised=False).clamp(min=EPS).log()


def giou_error(student: DensePrediction, teacher: DensePrediction) -> Tensor:
    """One less the boxes' generalised overlap, (N, P)."""
    return 1 - overlap(student.boxes_xyxy_NP4, teacher.boxes_xyxy_NP4, generalised=True)


def kl_error(student: DensePrediction, teacher: DensePrediction) -> Tensor:
    """KL(teacher || student) of the distances' distributions, mean of the four sides, (N, P)."""
    student_NP4B, teacher_NP4B = cast("Tensor", student.side_logits_NP4B), cast("Tensor", teacher.side_logits_NP4B)
    divergence_NP4B = F.kl_div(student_NP4B.log_softmax(-1), teacher_NP4B.log_softmax(-1), reduction="none", log_target=True)
    return divergence_NP4B.sum((-2, -1)) / 4


BOX_ERRORS = {"kl": kl_error, "giou": giou_error, "iou": iou_error}
NORMALISERS, BOX_NORMALISERS = ("positives", "centerness"), ("same", "scores")


def quality_error(student_NPK: Tensor, scores_NPK: Tensor) -> Tensor:
    """Binary cross-entropy of logits against scores, times their distance as scores; summed over classes, (N, P)."""
    entropy_NPK = F.binary_cross_entropy_with_logits(student_NPK, scores_NPK, reduction="none")
    return (entropy_NPK * (student_NPK.sigmoid() - scores_NPK).abs()).sum(-1)


def cross(student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """Student's feature with each channel's mean and deviation (over images and positions) set to the teacher's."""
    if student_NCHW.shape != teacher_NCHW.shape:
        raise ValueError(
            f"crosskd: the student's tower feature is {tuple(student_NCHW.shape)}, the teacher's {tuple(teacher_NCHW.shape)}; "
            "choose a pair whose heads are equally wide"
        )
    _, mean_C11, deviation_C11 = standardise(teacher_NCHW, EPS)
    return standardise(student_NCHW, EPS)[0] * deviation_C11 + mean_C11


class Method(BaseMethod):
    """Cross-head distillation of a dense head.

    Args:
        channels: not looked at: towers are compared when they are seen.
        position: tower convolution whose output crosses over, counted from 1; 0 is the neck's output.
        rectified: whether a convolution's output is standardised and crossed behind its ReLU, as the source does, or
            before it.
        class_weight: weight of the class term.
        box_loss: ``kl`` (for heads with distributions of distances), ``giou`` or ``iou``.
        box_weight: weight of the box term.
        centerness_weight: weight of the centerness term, which is left out at 0.
        normaliser: what divides the terms: ``positives`` (their number) or ``centerness`` (its targets' sum).
        box_normaliser: what divides the box term: ``same``, or ``scores``, the sum of its own weights.
    """

    needs = ("dense_head",)
    per_gpu = True

    def __init__(
        self, channels: Channels, *, position: Position, rectified: bool, class_weight: Weight, box_loss: Literal["kl", "giou", "iou"], box_weight: Weight,
        centerness_weight: Weight, normaliser: Literal["positives", "centerness"], box_normaliser: Literal["same", "scores"],
    ) -> None:  # fmt: skip
        super().__init__(channels)
        if box_loss not in BOX_ERRORS or normaliser not in NORMALISERS or box_normaliser not in BOX_NORMALISERS:
            choices = f"one of {sorted(BOX_ERRORS)}, {NORMALISERS} and {BOX_NORMALISERS}"
            raise ValueError(f"crosskd: no {box_loss=}, {normaliser=}, {box_normaliser=}; choose {choices}")
        self.tower_position, self.box_loss = position, box_loss
        self.rectified = rectified and position > 0  # the neck's output has no activation behind it
        self.class_weight, self.box_weight, self.centerness_weight = class_weight, box_weight, centerness_weight
        self.normaliser, self.box_normaliser = normaliser, box_normaliser

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        learner, model = cast("DenseHead", student.dense_head), cast("DenseHead", teacher.dense_head)
        targets, theirs = learner.targets, model.prediction
        both = zip(learner.towers, model.towers, strict=True)
        crossed = model.finish(*(tuple(map(self._cross, *towers)) for towers in both))
        divisors = {"positives": targets.num_positives, "centerness": targets.centerness_sum}
        divisor = cast("Tensor", divisors[self.normaliser])
        scores_NPK = theirs.class_logits_NPK.sigmoid()
        class_NP = targets.weight_NP * quality_error(crossed.class_logits_NPK, scores_NPK)
        weight_NP = scores_NPK.amax(-1) * (targets.weight_NP != 0)
        # Least number: where every location is ignored both sums are 0.
        box_divisors = {"same": divisor, "scores": weight_NP.sum().clamp(min=torch.finfo(weight_NP.dtype).tiny)}
        box = (weight_NP * BOX_ERRORS[self.box_loss](crossed, theirs)).sum() / box_divisors[self.box_normaliser]
        losses = {"loss_crosskd_cls": self.class_weight * class_NP.sum() / divisor, "loss_crosskd_box": self.box_weight * box}
        if self.centerness_weight > 0:
            ours_NP, theirs_NP = cast("Tensor", crossed.centerness_NP), cast("Tensor", theirs.centerness_NP)
            entropy_NP = F.binary_cross_entropy_with_logits(ours_NP, theirs_NP.sigmoid(), reduction="none")
            losses["loss_crosskd_centerness"] = self.centerness_weight * (entropy_NP * targets.positive_NP).sum() / divisor
        return losses

    def _cross(self, student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
        return cross(student_NCHW.relu(), teacher_NCHW.relu()) if self.rectified else cross(student_NCHW, teacher_NCHW)
