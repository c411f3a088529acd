"""FGFI: the feature is matched where anchors are close to an object (Wang et al., CVPR 2019).

Source: section 3 of arXiv:1906.03609 in the form of ggjy/DeFeat.pytorch at c46a793: ``get_roi_mask`` of
``mmdet/models/dense_heads/anchor_head.py`` and ``mmdet/apis/train.py``; first code:
twangnh/Distilling-Object-Detectors ``lib/model/rpn/anchor_target_layer.py`` at 981eb8c.
Shapes: N images, B boxes, A anchors a position, C channels, H x W positions of a level, P = H * W * A.
"""

from typing import cast

import torch
from torch import Tensor

from methods.boxes import adaptation, level_of, masked_error
from methods.contract import BaseMethod, Batch, Channels, Fraction, Levels, Pixels, View, Weight


def near_objects(anchors_HWA4: Tensor, boxes_B4: Tensor, share: float) -> Tensor:
    """Return the positions (H, W), boolean, with an anchor whose IoU with any box is above ``share`` times that box's best.

    On a grid an anchor's left and right depend on its column alone, its top and bottom on its row.  So
    overlaps are products of a row's and a column's part, and so is the best of them; and with the areas
    given, an IoU exceeds a bound where the overlap exceeds one of its own.
    """
    x_WA2, y_HA2 = anchors_HWA4[0, :, :, 0::2], anchors_HWA4[:, 0, :, 1::2]
    width_WAB, height_HAB = (
        (torch.minimum(ends[..., 1:], boxes_B4[:, axis + 2]) - torch.maximum(ends[..., :1], boxes_B4[:, axis])).clamp(min=0)
        for axis, ends in enumerate((x_WA2, y_HA2))
    )
    area_A, area_B = ((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (anchors_HWA4[0, 0], boxes_B4))
    both_AB = area_A[:, None] + area_B
    most_AB = width_WAB.amax(0) * height_HAB.amax(0)
    bound_B = share * (most_AB / (both_AB - most_AB)).amax(0)
    # overlap / (both - overlap) > bound, without a quotient a position
    scaled_HAB = (1 + bound_B) * height_HAB
    return (scaled_HAB[:, None] * width_WAB > bound_B * both_AB).any(-1).any(-1)


class Method(BaseMethod):
    """Fine-grained feature imitation on the neck's levels; each object on the one level of its size.

    Args:
        channels: role -> per level (student channels, teacher channels).
        weight: of the error averaged over levels.
        share: of a box's best IoU on its level, above which an anchor's position counts; the paper's psi.
        finest_px: boxes up to twice this size, the root of their area, belong to the finest level.
    """

    needs = ("neck", "anchors")
    per_gpu = True

    def __init__(self, channels: Channels, *, weight: Weight, share: Fraction, finest_px: Pixels) -> None:
        super().__init__(channels)
        self.weight, self.share, self.finest_px = weight, share, finest_px
        self.adapt = adaptation(channels["neck"])

    def masks(self, levels: Levels, batch: Batch) -> Levels:
        """Positions (N, H, W) of each level that are close to one of its objects."""
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

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        levels = student.features["neck"]
        total = levels[0].new_zeros(())
        for adapt, student_NCHW, teacher_NCHW, mask_NHW in zip(
            self.adapt, levels, teacher.features["neck"], self.masks(levels, batch), strict=True
        ):
            error_NHW = (adapt(student_NCHW) - teacher_NCHW).square().sum(1)
            total = total + masked_error(error_NHW, mask_NHW, teacher_NCHW.shape[1])
        return {"loss_fgfi": self.weight * total / len(levels)}
