"""What a distillation method is handed, what it gives back, and nothing of any framework.

Shapes: N images, C channels, H x W positions of a pyramid level, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

# Role -> for each of its levels (student channels, teacher channels).
Channels = Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class View:
    """What one model showed while it ran on a batch: per role a feature map (N, C, H, W) a level.

    Features are float32 (or float64) whatever precision the models ran in.
    """

    features: Mapping[str, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Batch:
    """The training batch that both models saw.

    Args:
        iteration: number of optimizer steps already taken in this training.
        boxes_xyxy: per image (num_boxes, 4), pixels of the padded input image.
        labels: per image (num_boxes,), class indices.
        image_hw: height and width of the padded input, pixels.
        generator: the only source of randomness; a function of the cell's seed and the iteration,
            so that nothing else that draws random numbers can change a method's draws.
    """

    iteration: int
    boxes_xyxy: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    image_hw: tuple[int, int]
    generator: torch.Generator


class BasePrior(nn.Module):
    """Something a method learns on the frozen teacher before any student is trained.

    Args:
        channels: the teacher's channels, one entry a level.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return what replaces the teacher's features, and the prior's own losses."""
        raise NotImplementedError


class BaseMethod(nn.Module):
    """A distillation method: losses from what student and teacher showed on the same batch.

    A subclass is named ``Method``, states the roles it ``needs`` and takes its hyper-parameters as
    keyword-only arguments without defaults: their values stand in the recipe beside it.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    prior: ClassVar[type[BasePrior] | None] = None

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.channels = {role: channels[role] for role in self.needs}

    def load_prior(self, state: Mapping[str, Tensor]) -> None:
        """Take over what the prior learned; only methods with a prior are asked."""
        raise NotImplementedError

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        """Return scalar losses by name; a name starts with ``loss``."""
        raise NotImplementedError


def align_convs(channels: tuple[tuple[int, int], ...], *, only_where_needed: bool) -> nn.ModuleList:
    """1x1 convolutions that bring each student level to the teacher's width.

    With ``only_where_needed`` a level of equal width is passed through untouched.
    """
    return nn.ModuleList(
        nn.Identity() if only_where_needed and student == teacher else nn.Conv2d(student, teacher, kernel_size=1)
        for student, teacher in channels
    )
