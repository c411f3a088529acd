"""MasKD: distillation weighted by masks that receptive tokens learned on the teacher (Huang et al., ICLR 2023).

Source: arXiv:2205.14589 and hunto/MasKD at b5af34f: ``mmrazor/mmrazor/models/losses/maskd.py``
and ``mmrazor/configs/distill/maskd`` (distillation), ``mmdetection/maskd_hook.py`` (learning the tokens).
Shapes: N images, C channels, H x W positions of a level, T tokens, R proposals.

The published loss compares features under T masks, each with a weight of its own.
Masks and weights do not touch the channels, so they are folded into one weight per position first and
the (N, T, C, H, W) products never exist.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.alignment import align_convs, require_equal_channels
from methods.contract import BaseMethod, BasePrior, Batch, Channels, Count, Iteration, Levels, Picture, RoiHead, View, Weight

_DICE_EPS = 1e-12  # added to each mask's squared norm, as in the source
# The box outputs that a head has, by the value of ``box_loss``.
_BOX_ROLES = {"none": (), "box_maps": ("box_maps",), "roi_head": ("roi_head",), "points": ("points_refine", "points_init")}


def token_masks(tokens_TC: Tensor, feature_NCHW: Tensor) -> Tensor:
    """Sigmoid of the inner product of each token with each position's feature: (N, T, H, W)."""
    return torch.einsum("tc,nchw->nthw", tokens_TC, feature_NCHW).sigmoid()


def mask_picture(masks: Levels, of: str) -> Picture:
    """Masks (N, T, H, W) per level, learned on the teacher's ``of``, as columns of tokens."""
    columns = {f"token {token + 1}": tuple(level[:, token] for level in masks) for token in range(masks[0].shape[1])}
    return Picture(f"the masks learned on the teacher's {of}", "value of the mask", columns, tuple(columns), translucent=True)


def dice_overlap(masks_NTHW: Tensor) -> Tensor:
    """Mean Dice coefficient over images and ordered pairs of different masks; 0 where T is 1.

    2 <a, b> / (<a, a> + <b, b>), to be minimised so that the tokens look at different places.
    """
    flat_NTP = masks_NTHW.flatten(2)
    inner_NTT = flat_NTP @ flat_NTP.transpose(1, 2)
    norms_NT = inner_NTT.diagonal(dim1=1, dim2=2) + _DICE_EPS
    dice_NTT = 2 * inner_NTT / (norms_NT[:, :, None] + norms_NT[:, None, :])
    num_tokens = flat_NTP.shape[1]
    off_diagonal = ~torch.eye(num_tokens, dtype=torch.bool, device=flat_NTP.device)
    return dice_NTT[:, off_diagonal].mean() if num_tokens > 1 else dice_NTT.sum() * 0


def pooled_conv3x3(feature_NCHW: Tensor, weight_OC33: Tensor, bias_O: Tensor) -> Tensor:
    """Global average of a 3x3 convolution with padding 1: (N, O).

    Both are linear, so the average needs only what each of the nine kernel cells sees in total: the
    sum of the feature without its last row, with all rows, or without its first; columns likewise.
    """

    def three_sums(values: Tensor) -> Tensor:
        """Add up over the last axis without its last entry, over all, and without its first: (..., 3)."""
        total = values.sum(-1)
        return torch.stack((total - values[..., -1], total, total - values[..., 0]), dim=-1)

    regions_NC33 = three_sums(three_sums(feature_NCHW).transpose(-1, -2)).transpose(-1, -2)
    pooled_NO = torch.einsum("ncij,ocij->no", regions_NC33, weight_OC33)
    return pooled_NO / feature_NCHW[0, 0].numel() + bias_O


def masked_error(student_NCHW: Tensor, teacher_NCHW: Tensor, masks_NTHW: Tensor, weights_NT: Tensor, eps: float = 0.0) -> Tensor:
    """Weighted sum over tokens of sum_p (mask (S - T))^2 / (sum_p mask + eps), mean over channels and images.

    The mask is squared above and not below, as in the source; so each token's share of a position is
    weight * mask^2 / sum(mask), and shares of one position add up before the channels are touched.
    """
    # A mask that has vanished in single precision weighs nothing instead of 0 / 0.
    sums_NT = (masks_NTHW.sum((2, 3)) + eps).clamp(min=torch.finfo(masks_NTHW.dtype).tiny)
    shares_NTHW = masks_NTHW.square() * (weights_NT / sums_NT)[:, :, None, None]
    error_NHW = (student_NCHW - teacher_NCHW).square().mean(1)
    return (shares_NTHW.sum(1) * error_NHW).sum((1, 2)).mean()


class ReceptiveTokens(nn.Module):
    """Tokens of one level and the branch that weighs their masks.

    Parameters keep the names of the authors' released files: ``mask_token`` (T, C), ``prob.0`` the 3x3
    and ``prob.2`` the 1x1 convolution, average pooling between them.
    """

    def __init__(self, channels: int, num_tokens: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.randn(num_tokens, channels) * 0.01)
        self.prob = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, num_tokens, kernel_size=1),
        )
        for conv in ("0", "2"):
            nn.init.kaiming_normal_(self.prob.get_parameter(f"{conv}.weight"), mode="fan_out")
            nn.init.zeros_(self.prob.get_parameter(f"{conv}.bias"))

    def masks(self, feature_NCHW: Tensor) -> Tensor:
        """(N, T, H, W), each value in (0, 1)."""
        return token_masks(self.mask_token, feature_NCHW)

    def weights(self, feature_NCHW: Tensor) -> Tensor:
        """(N, T), each row summing to 1."""
        first = [self.prob.get_parameter(name) for name in ("0.weight", "0.bias")]
        logits_NT11: Tensor = self.prob[2](pooled_conv3x3(feature_NCHW, *first)[:, :, None, None])
        return logits_NT11.flatten(1).softmax(1)


class Prior(BasePrior):
    """Learns the tokens: the frozen teacher must still solve its task on the masked feature.

    Args:
        channels: the teacher's channels, one entry a level.
        num_tokens: tokens a level.
        dice_weight: weight of the overlap term, which sums over the levels.
    """

    def __init__(self, channels: tuple[int, ...], *, num_tokens: Count, dice_weight: Weight) -> None:
        super().__init__(channels)
        self.dice_weight = dice_weight
        self.mask_modules = nn.ModuleList(ReceptiveTokens(width, num_tokens) for width in channels)

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        masked, overlap = [], features[0].new_zeros(())
        for tokens, feature_NCHW in zip(self.mask_modules, features, strict=True):
            masks_NTHW = tokens.masks(feature_NCHW)
            weight_N1HW = torch.einsum("nt,nthw->nhw", tokens.weights(feature_NCHW), masks_NTHW).unsqueeze(1)
            masked.append(feature_NCHW * weight_N1HW)
            overlap = overlap + dice_overlap(masks_NTHW)
        return tuple(masked), {"loss_dice": self.dice_weight * overlap}


class Method(BaseMethod):
    """Matches the neck's levels under the learned masks, and the head's box outputs where ``box_loss`` names them.

    Args:
        channels: role -> per level (student channels, teacher channels).
        loss_weight: weight of the sum over the neck's levels.
        num_tokens: tokens per level, as in the auxiliary module.
        warmup_iterations: from this iteration on, the teacher's mask is multiplied by the mask that
            the same tokens give on the student's aligned feature (without gradient).
        box_loss: which box outputs are compared by a smooth L1 loss, mean over a level, levels added:
            "none", "box_maps" (dense head), "roi_head" (both heads on the student's proposals) or
            "points" (RepPoints: refined and initial points).
        box_beta: where that loss turns from squared to absolute; 0 makes it L1.
        box_weight: its weight.
        init_weight: the weight of RepPoints' initial points, the refined ones having ``box_weight``.

    Raises:
        ValueError: ``box_loss`` is none of these, or the box outputs differ in channels.
    """

    needs = ("neck",)
    prior = Prior

    def __init__(
        self,
        channels: Channels,
        *,
        loss_weight: Weight,
        num_tokens: Count,
        warmup_iterations: Iteration,
        box_loss: Literal["none", "box_maps", "roi_head", "points"],
        box_beta: Weight,
        box_weight: Weight,
        init_weight: Weight,
    ) -> None:
        super().__init__(channels)
        if box_loss not in _BOX_ROLES:
            raise ValueError(f"maskd: unknown box_loss '{box_loss}'; it is one of {', '.join(_BOX_ROLES)}")
        self.loss_weight, self.warmup_iterations, self.box_beta = loss_weight, warmup_iterations, box_beta
        self.box_weights = dict(zip(_BOX_ROLES[box_loss], (box_weight, init_weight), strict=False))
        for role in self.box_weights.keys() - {"roi_head"}:
            require_equal_channels(channels[role], f"maskd, role '{role}'")
        self.align = align_convs(channels["neck"], only_where_needed=False)
        self.mask_modules = nn.ModuleList(ReceptiveTokens(width, num_tokens) for _, width in channels["neck"])
        self.mask_modules.requires_grad_(requires_grad=False)

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:
        return ("neck", *_BOX_ROLES.get(hparams["box_loss"], ()))

    def load_prior(self, state: Mapping[str, Tensor]) -> None:
        """Load tokens from :class:`Prior` or from the authors' files, whatever prefix ``mask_modules`` has.

        Raises:
            ValueError: number or shape of tokens, or of their branches, are not this pair's.
        """
        name = "mask_modules."
        found = {key[key.index(name) + len(name) :]: value for key, value in state.items() if name in key}
        own = self.mask_modules.state_dict()
        if {key: value.shape for key, value in found.items()} != {key: value.shape for key, value in own.items()}:
            raise ValueError(
                f"maskd: the prior has {_describe(found)}, this pair's teacher needs {_describe(own)}; "
                "learn it on this teacher (stage masks) or take the file that belongs to it"
            )
        self.mask_modules.load_state_dict(found)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        errors = []
        for align, tokens, student_NCHW, teacher_NCHW in zip(
            self.align, self.mask_modules, student.features["neck"], teacher.features["neck"], strict=True
        ):
            aligned_NCHW = align(student_NCHW)
            with torch.no_grad():
                masks_NTHW = tokens.masks(teacher_NCHW)
                weights_NT = tokens.weights(teacher_NCHW)
                if batch.iteration >= self.warmup_iterations:
                    masks_NTHW = masks_NTHW * tokens.masks(aligned_NCHW)
            errors.append(masked_error(aligned_NCHW, teacher_NCHW, masks_NTHW, weights_NT))
        losses = {"loss_maskd": self.loss_weight * torch.stack(errors).sum()}
        for role, weight in self.box_weights.items():
            losses[f"loss_maskd_{role}"] = weight * self._box_error(role, student, teacher)
        return losses

    def pictures(self, student: View, teacher: View, generator: torch.Generator) -> dict[str, Picture]:
        """Teacher's masks, one column per token."""
        levels = zip(self.mask_modules, teacher.features["neck"], strict=True)
        return {"masks": mask_picture(tuple(tokens.masks(feature_NCHW) for tokens, feature_NCHW in levels), "features")}

    def _box_error(self, role: str, student: View, teacher: View) -> Tensor:
        if role == "roi_head":
            proposals = cast("RoiHead", student.roi_head).proposals
            with torch.no_grad():
                wanted: Levels = (cast("RoiHead", teacher.roi_head).predict(proposals).box_deltas_RD,)
            given: Levels = (cast("RoiHead", student.roi_head).predict(proposals).box_deltas_RD,)
        else:
            given, wanted = student.features[role], teacher.features[role]
        sums = [
            F.smooth_l1_loss(ours, theirs, beta=self.box_beta, reduction="sum") / max(1, ours.numel())
            for ours, theirs in zip(given, wanted, strict=True)
        ]
        return torch.stack(sums).sum()


def _describe(state: Mapping[str, Tensor]) -> str:
    """Levels, tokens x channels of each, and how many tensors they are made of."""
    shapes = ["x".join(map(str, value.shape)) for key, value in sorted(state.items()) if key.endswith("mask_token")]
    return f"{len(shapes)} levels of tokens x channels ({', '.join(shapes)}) in {len(state)} tensors"
