"""FGFI: the feature is imitated where anchors lie close to an object (Wang et al., CVPR 2019).

Source: section 3 of arXiv:1906.03609 in the form of ggjy/DeFeat.pytorch at c46a793: ``get_roi_mask`` of
``mmdet/models/dense_heads/anchor_head.py`` and ``mmdet/apis/train.py``; first code:
twangnh/Distilling-Object-Detectors ``lib/model/rpn/anchor_target_layer.py`` at 981eb8c.
Shapes: N images, B boxes, A anchors a position, C channels, H x W positions of a level, P = H * W * A.
"""

from typing import cast

import torch
from torch import Tensor

from methods.boxes import adaptation, level_of, masked_error
from methods.contract import BaseMethod, Batch, Channels, Levels, View


def pairwise_iou(anchors_P4: Tensor, boxes_B4: Tensor) -> Tensor:
    """Intersection over union (P, B) of every anchor with every box; in place, as there are many of both."""
    width_PB, height_PB = (
        torch.minimum(anchors_P4[:, None, axis + 2], boxes_B4[:, axis + 2])
        .sub_(torch.maximum(anchors_P4[:, None, axis], boxes_B4[:, axis]))
        .clamp_(min=0)
        for axis in (0, 1)
    )
    intersection_PB = width_PB.mul_(height_PB)
    area_P, area_B = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (anchors_P4, boxes_B4))
    union_PB = torch.add(area_P[:, None], area_B, out=height_PB).sub_(intersection_PB)
    return intersection_PB.div_(union_PB)


def near_objects(anchors_HWA4: Tensor, boxes_B4: Tensor, share: float) -> Tensor:
    """Whether an anchor of a position (H, W) has, with any box, more than ``share`` of that box's best IoU."""
    iou_PB = pairwise_iou(anchors_HWA4.flatten(0, 2), boxes_B4)
    near_PB = iou_PB > share * iou_PB.amax(0)
    return near_PB.view(*anchors_HWA4.shape[:2], -1).any(-1)


class Method(BaseMethod):
    """Fine-grained feature imitation on the neck's levels; each object on the one level of its size.

    Args:
        channels: role -> per level (student channels, teacher channels).
        weight: of the error averaged over levels.
        share: of a box's best IoU on its level, above which an anchor's position counts; the paper's psi.
        finest_px: boxes up to twice this size, the root of their area, belong to the finest level.
    """

    needs = ("neck", "anchors")

    def __init__(self, channels: Channels, *, weight: float, share: float, finest_px: float) -> None:
        super().__init__(channels)
        self.weight, self.share, self.finest_px = weight, share, finest_px
        self.adapt = adaptation(channels["neck"])

    def masks(self, levels: Levels, batch: Batch) -> Levels:
        """Positions (N, H, W) of each level that lie close to one of its objects."""
        anchors = cast("Levels", batch.anchors_xyxy)
        numbers = [level_of(boxes_B4, len(levels), self.finest_px) for boxes_B4 in batch.boxes_xyxy]
        return tuple(
            torch.stack(
                [
                    near_objects(anchors[level], boxes_B4[number_B == level], self.share)
                    for boxes_B4, number_B in zip(batch.boxes_xyxy, numbers, strict=True)
                ]
            )
            for level in range(len(levels))
        )

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        levels = student.features["neck"]
        total = levels[0].new_zeros(())
        for adapt, student_NCHW, teacher_NCHW, mask_NHW in zip(
            self.adapt, levels, teacher.features["neck"], self.masks(levels, batch), strict=True
        ):
            error_NHW = (adapt(student_NCHW) - teacher_NCHW).square().sum(1)
            total = total + masked_error(error_NHW, mask_NHW, teacher_NCHW.shape[1])
        return {"loss_fgfi": self.weight * total / len(levels)}
