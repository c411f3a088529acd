"""LD: the distributions of the box sides' distances are brought to the teacher's (Zheng et al., CVPR 2022).

Source: section 3 of arXiv:2102.12252 and HikariTJU/LD at 4287990c: ``loss_single`` of
``mmdet/models/dense_heads/ld_head.py``, ``mmdet/models/losses/kd_loss.py``, and the valuable localization region by
``get_vlr_region`` of ``mmdet/core/bbox/assigners/atss_assigner.py``.
Shapes: N images, P locations (one anchor each), G objects of an image, B distances of a box side.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.contract import BaseMethod, Batch, Channels, Count, DenseHead, Fraction, Levels, Temperature, View, Weight

EPS = 1e-6  # least union and squared diagonal, as in the source


def side_kl(student_NP4B: Tensor, teacher_NP4B: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of the softened distributions times T^2, mean over distances, summed over sides, (N, P)."""
    student_NP4B = (student_NP4B / temperature).log_softmax(-1)
    with torch.no_grad():
        teacher_NP4B = (teacher_NP4B / temperature).log_softmax(-1)
    kl_NP4B = F.kl_div(student_NP4B, teacher_NP4B, reduction="none", log_target=True)
    return temperature**2 * kl_NP4B.mean(-1).sum(-1)


def overlaps(anchors_P4: Tensor, boxes_G4: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of anchors and boxes in xyxy, and the source's "diou", (P, G) each.

    The latter is the overlap over the *anchor's* area less the squared distance of the centres over that of the hull's
    corners: ``bbox_overlaps`` of ``mmdet/core/bbox/iou_calculators/iou2d_calculator.py`` (lines 146 to 149 and 179 to 187)
    has no union for this mode.
    """
    first, second = anchors_P4[:, None], boxes_G4[None]
    shared = (torch.minimum(first, second)[..., 2:] - torch.maximum(first, second)[..., :2]).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    hull = (torch.maximum(first, second)[..., 2:] - torch.minimum(first, second)[..., :2]).clamp(min=0)
    apart = squared_distances(anchors_P4, boxes_G4) / hull.square().sum(-1).clamp(min=EPS)
    return shared / (areas[0] + areas[1] - shared).clamp(min=EPS), shared / areas[0].clamp(min=EPS) - apart


def squared_distances(anchors_P4: Tensor, boxes_G4: Tensor) -> Tensor:
    """Squared distances of the centres, (P, G), square pixels."""
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (anchors_P4, boxes_G4)]
    return (centres[0][:, None] - centres[1][None]).square().sum(-1)


def valuable_region(levels: Sequence[Tensor], boxes_G4: Tensor, num_candidates: int, least_share: float) -> Tensor:
    """Weights (P,) of one image's anchors: the best IoU among the objects whose region an anchor lies in; 0 in none.

    An anchor lies in an object's region if the source's "diou" (:func:`overlaps`) is below ATSS's threshold (mean and deviation of the IoUs of the
    ``num_candidates`` anchors per level nearest to the object, added up) and at least ``least_share`` of it.

    Args:
        levels: usable anchors (p, 4) per level.
        boxes_G4: objects.
        num_candidates: per level, at most.
        least_share: of the threshold; the paper's gamma.
    """
    anchors_P4 = torch.cat(list(levels))
    if not len(boxes_G4) or not len(anchors_P4):
        return anchors_P4.new_zeros(len(anchors_P4))
    iou_PG, closeness_PG = overlaps(anchors_P4, boxes_G4)
    nearest = [
        iou_pG.gather(0, squared_distances(level_p4, boxes_G4).topk(min(num_candidates, len(level_p4)), dim=0, largest=False)[1])
        for level_p4, iou_pG in zip(levels, torch.split(iou_PG, [len(level) for level in levels]), strict=True)
    ]
    candidates = torch.cat(nearest)
    threshold_G = candidates.mean(0) + candidates.std(0)
    inside_PG = (closeness_PG < threshold_G) & (closeness_PG >= least_share * threshold_G)
    return torch.where(inside_PG, iou_PG, 0).amax(1)


class Method(BaseMethod):
    """Localization distillation of a head that predicts distributions of distances.

    Args:
        channels: not looked at.
        main_weight: weight of the divergence at positive locations, each counting as much as the student's best class
            score there.
        region_weight: weight of the divergence in the valuable localization region; 0 leaves it out.
        temperature: softens both distributions.
        images_per_gpu: the source adds up over the images of one GPU; here a sum is divided by the number of images and
            multiplied by this, so that the weights keep their meaning whatever the batch and the number of processes.
        num_candidates: of ATSS, per level and object.
        least_share: lower end of the region as a share of ATSS's threshold; the paper's gamma.
    """

    needs = ("box_distributions",)

    def __init__(
        self, channels: Channels, *, main_weight: Weight, region_weight: Weight, temperature: Temperature, images_per_gpu: Count,
        num_candidates: Count, least_share: Fraction,
    ) -> None:  # fmt: skip
        super().__init__(channels)
        self.main_weight, self.region_weight, self.temperature = main_weight, region_weight, temperature
        self.images_per_gpu, self.num_candidates, self.least_share = images_per_gpu, num_candidates, least_share

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        return ("box_distributions", *(["anchors"] if hparams["region_weight"] else []))

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        learner, model = cast("DenseHead", student.dense_head), cast("DenseHead", teacher.dense_head)
        ours, targets = learner.prediction, learner.targets
        student_NP4B, teacher_NP4B = (cast("Tensor", found.side_logits_NP4B) for found in (ours, model.prediction))
        divergence_NP = side_kl(student_NP4B, teacher_NP4B, self.temperature)
        with torch.no_grad():
            main_NP = ours.class_logits_NPK.sigmoid().amax(-1) * targets.positive_NP
        images = self.images_per_gpu / len(divergence_NP)
        losses = {"loss_ld": self.main_weight * images * (main_NP * divergence_NP).sum() / 4}
        if self.region_weight:
            region_NP = self._region(batch, targets.weight_NP > 0)
            losses["loss_ld_region"] = self.region_weight * images * (region_NP * divergence_NP).sum() / 16
        return losses

    def _region(self, batch: Batch, usable_NP: Tensor) -> Tensor:
        levels = [level.flatten(0, 2) for level in cast("Levels", batch.anchors_xyxy)]
        usable = torch.split(usable_NP, [len(level) for level in levels], dim=1)
        region_NP = usable_NP.new_zeros(usable_NP.shape, dtype=levels[0].dtype)
        for image, boxes_G4 in enumerate(batch.boxes_xyxy):
            inside = [level_p4[level_Np[image]] for level_p4, level_Np in zip(levels, usable, strict=True)]
            region_NP[image, usable_NP[image]] = valuable_region(inside, boxes_G4, self.num_candidates, self.least_share)
        return region_NP
