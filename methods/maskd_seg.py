"""MasKD for segmentation: class logits compared under masks that receptive tokens learned on the teacher's logits.

Source: section 4.2 of arXiv:2205.14589 (Huang et al., ICLR 2023) and hunto/MasKD ``segmentation/losses/maskd.py``,
``train_mask_module.py`` and ``train_maskd.py`` at b5af34f.
Shapes: N images, K classes, H x W positions, T tokens.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.alignment import require_equal_channels
from methods.contract import BaseMethod, BasePrior, Batch, Channels, Count, Picture, View, Weight
from methods.maskd import dice_overlap, mask_picture, masked_error, token_masks

_EPS = 1e-5  # added to each mask's sum, as in the source


def new_tokens(num_tokens: int, num_classes: int) -> Tensor:
    """Tokens before learning: (T, K), deviation 0.01."""
    return torch.randn(num_tokens, num_classes) * 0.01


def logit_error(student_NKHW: Tensor, teacher_NKHW: Tensor, tokens_TK: Tensor) -> Tensor:
    """Half the masked squared error, mean over tokens, classes and images; the masks are the teacher's."""
    with torch.no_grad():
        masks_NTHW = token_masks(tokens_TK, teacher_NKHW)
        weights_NT = torch.full_like(masks_NTHW[..., 0, 0], 1 / len(tokens_TK))
    return masked_error(student_NKHW, teacher_NKHW, masks_NTHW, weights_NT, _EPS) / 2


class Prior(BasePrior):
    """Learns the tokens: the frozen teacher's logits must still be right where they are multiplied by the masks' sum.

    Args:
        channels: the number of classes, one entry.
        num_tokens: how many tokens.
        dice_weight: weight of the masks' overlap.
    """

    role = "logits"

    def __init__(self, channels: tuple[int, ...], *, num_tokens: Count, dice_weight: Weight) -> None:
        super().__init__(channels)
        self.dice_weight = dice_weight
        self.mask_token = nn.Parameter(new_tokens(num_tokens, channels[0]))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        (logits_NKHW,) = features
        masks_NTHW = token_masks(self.mask_token, logits_NKHW)
        overlap = dice_overlap(masks_NTHW)
        return (logits_NKHW * masks_NTHW.sum(1, keepdim=True),), {"loss_dice": self.dice_weight * overlap}


class Method(BaseMethod):
    """Mimics the class logits under the learned masks, and the auxiliary head's under masks of the same tokens.

    Args:
        channels: role -> per level (student channels, teacher channels).
        loss_weight: weight of the logits' term.
        aux_weight: weight of the auxiliary logits' term relative to it; 0 where the student has no such head.
        num_tokens: as in the auxiliary module.

    Raises:
        ValueError: student and teacher differ in classes.
    """

    needs = ("logits",)
    prior = Prior

    def __init__(self, channels: Channels, *, loss_weight: Weight, aux_weight: Weight, num_tokens: Count) -> None:
        super().__init__(channels)
        self.weights = {"logits": loss_weight} | ({"aux_logits": loss_weight * aux_weight} if aux_weight else {})
        for role in self.weights:
            require_equal_channels(channels[role], f"maskd_seg, role '{role}'")
        self.mask_token = nn.Parameter(new_tokens(num_tokens, channels["logits"][0][1]), requires_grad=False)

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        return ("logits", "aux_logits") if hparams["aux_weight"] else ("logits",)

    def load_prior(self, state: Mapping[str, Tensor]) -> None:
        """Load tokens from :class:`Prior` or from the authors' file, whatever prefix ``mask_token`` has.

        Raises:
            ValueError: there are not exactly these tokens in it.
        """
        found = [value for key, value in state.items() if key.rpartition(".")[2] == "mask_token"]
        if [value.shape for value in found] != [self.mask_token.shape]:
            shapes = ", ".join("x".join(map(str, value.shape)) for value in found) or "none"
            raise ValueError(
                f"maskd_seg: the prior's tokens x classes are {shapes}, this pair's teacher needs "
                f"{'x'.join(map(str, self.mask_token.shape))}; learn it on this teacher (stage masks) or take the file "
                "that belongs to it"
            )
        self.mask_token.data.copy_(found[0])

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        return {
            f"loss_maskd_seg_{role}": weight * logit_error(student.features[role][0], teacher.features[role][0], self.mask_token)
            for role, weight in self.weights.items()
        }

    def pictures(self, student: View, teacher: View, generator: torch.Generator) -> dict[str, Picture]:
        """Teacher's masks, one column per token."""
        return {"masks": mask_picture((token_masks(self.mask_token, teacher.features["logits"][0]),), "class logits")}
