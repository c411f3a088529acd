"""Interface of distillation methods: their inputs and outputs, and nothing of any framework.

Shapes: N images, C channels, H x W positions of a pyramid level, P locations (positions x anchors, all
levels, the finest first), K classes, R proposals, T tokens.  Boxes are xyxy in pixels of the padded input.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

# Input -> for each of its levels (student channels, teacher channels).
Channels = Mapping[str, tuple[tuple[int, int], ...]]
Levels = tuple[Tensor, ...]

# Kinds of hyper-parameters, to annotate them with: stage check compares every value of a recipe, and of a search, with them.
Weight = Annotated[float, Field(ge=0, le=1e9)]
Temperature = Annotated[float, Field(gt=0, le=1e6)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Multiple = Annotated[float, Field(gt=0, le=1000)]
Pixels = Annotated[float, Field(gt=0, le=100_000)]
Count = Annotated[int, Field(ge=1, le=10_000)]
NumLevels = Annotated[int, Field(ge=1, le=10, description="the finest ones; a pair that has fewer gives all it has")]
Iteration = Annotated[int, Field(ge=0, le=2**22)]
Position = Annotated[int, Field(ge=0, le=64, description="of a tower's convolution; 0 is its input")]
Stage = Annotated[int, Field(ge=1, le=4, description="of a backbone")]


class DensePrediction:
    """Predictions of a dense head at every location; all but the classes is computed at first access.

    Args:
        class_logits_NPK: before the sigmoid.
        num_locations: locations per level, the finest first; P in all.
        boxes: gives the decoded boxes (N, P, 4), not clipped.
        sides: gives GFL's distribution over B distances of each box side (N, P, 4, B), before the softmax;
            None for heads without.
        centerness: gives logits (N, P); None for heads without such a branch.
    """

    def __init__(
        self,
        class_logits_NPK: Tensor,
        num_locations: tuple[int, ...],
        boxes: Callable[[], Tensor],
        sides: Callable[[], Tensor] | None = None,
        centerness: Callable[[], Tensor] | None = None,
    ) -> None:
        self.class_logits_NPK, self.num_locations = class_logits_NPK, num_locations
        self._boxes, self._sides, self._centerness = boxes, sides, centerness

    @cached_property
    def boxes_xyxy_NP4(self) -> Tensor:  # noqa: N802 (shape suffix)
        """Decoded boxes."""
        return self._boxes()

    @cached_property
    def side_logits_NP4B(self) -> Tensor | None:  # noqa: N802 (the suffix is the shape)
        """Distributions of the box sides' distances."""
        return self._sides and self._sides()

    @cached_property
    def centerness_NP(self) -> Tensor | None:  # noqa: N802 (the suffix is the shape)
        """Centerness logits."""
        return self._centerness and self._centerness()


@dataclass(frozen=True)
class DenseTargets:
    """Targets of the student's own loss, made from the ground truth.

    Args:
        weight_NP: label weight; 0 where the location counts for nothing (ignored, or outside the image).
        positive_NP: whether the location answers for an object.
        num_positives: by which the head divides its classification loss: positives of all images,
            averaged over GPUs, at least 1.
        centerness_sum: FCOS's divisor: centerness targets of the positives added up, averaged over GPUs; else None.
    """

    weight_NP: Tensor
    positive_NP: Tensor
    num_positives: Tensor
    centerness_sum: Tensor | None = None


class DenseHead(Protocol):
    """One model's dense head on the current batch; inputs ``dense_head``, ``predictions`` and ``box_distributions``.

    ``towers`` are the class tower's and the box tower's features: the output of convolution number
    ``BaseMethod.tower_position``, after its norm and before its activation, one map per level.
    Position 0 is the neck's output.
    """

    @property
    def towers(self) -> tuple[Levels, Levels]:
        """Kept features of the class tower and of the box tower."""

    @property
    def prediction(self) -> DensePrediction:
        """Predictions on the model's own features.

        Of the student, those that its own losses were computed from, so that no layer runs twice; they take input
        ``predictions`` or ``box_distributions``.
        """

    @property
    def targets(self) -> DenseTargets:
        """Targets of this head from the ground truth (of the student only)."""

    def finish(self, class_levels: Levels, box_levels: Levels) -> DensePrediction:
        """Run the rest of this head, from the activation behind the kept features on; differentiable."""


@dataclass(frozen=True)
class Proposals:
    """Sampled proposals of the whole batch.

    Args:
        rois_R5: image index, then the box.
        labels_R: class index of each; the number of classes is background.
    """

    rois_R5: Tensor
    labels_R: Tensor


@dataclass(frozen=True)
class RoiPrediction:
    """Predictions of a RoI head on proposals: logits (R, K + 1), background last, and its raw box outputs (R, D)."""

    class_logits_RK: Tensor
    box_deltas_RD: Tensor


class RoiHead(Protocol):
    """One model's RoI head on the current batch; role ``roi_head``."""

    @property
    def proposals(self) -> Proposals:
        """The model's own proposals, as its sampler drew them, with the labels that belong to them."""

    def predict(self, proposals: Proposals) -> RoiPrediction:
        """Run the head on any proposals of the batch; on the student's own ones nothing is computed twice."""


@dataclass(frozen=True)
class View:
    """Recorded features and heads of one model on a batch.

    Args:
        features: per role a feature map (N, C, H, W) per level, float32 (or float64) whatever precision the
            models ran in.
        dense_head: handle on its dense head, where the method needs one of that head's inputs.
        roi_head: handle on its RoI head, where the method needs that role.
    """

    features: Mapping[str, Levels]
    dense_head: DenseHead | None = None
    roi_head: RoiHead | None = None


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
        anchors_xyxy: per neck level (H, W, A, 4), where the method needs role ``anchors``.
    """

    iteration: int
    boxes_xyxy: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    image_hw: tuple[int, int]
    generator: torch.Generator
    anchors_xyxy: Levels | None = None


@dataclass(frozen=True)
class Picture:
    """Maps over an image for a reader, in columns, with the words that a report needs to show them.

    Args:
        what: a noun phrase behind "the first images:", such as "the masks learned on the teacher's features".
        value: the quantity that a colour represents.
        columns: column title -> a map (N, H, W) per level.
        common: titles of the columns that share one scale of colours; each other column has its own.
        translucent: whether the image shows through.
    """

    what: str
    value: str
    columns: Mapping[str, Levels]
    common: tuple[str, ...]
    translucent: bool = False


@dataclass(frozen=True)
class Training:
    """Differences of a student's run from its pair's: multiples of the learning rate, weight decay, batch size and length."""

    rate_times: float = 1.0
    decay_times: float = 1.0
    batch_times: float = 1.0
    length_times: float = 1.0


class BasePrior(nn.Module, ABC):
    """Something a method learns on the frozen teacher before any student is trained.

    Args:
        channels: the teacher's channels, one entry per level.
    """

    role: ClassVar[str] = "neck"  # whose output it replaces while it is learned

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.channels = channels

    @abstractmethod
    def forward(self, features: Levels) -> tuple[Levels, dict[str, Tensor]]:
        """Return the features that replace the teacher's, and the auxiliary module's own losses."""


class BaseMethod(nn.Module, ABC):
    """A distillation method: losses from the recorded features and predictions of student and teacher on the same batch.

    A subclass is named ``Method``, states the inputs it ``needs`` and takes its hyper-parameters as
    keyword-only arguments without defaults: their values are in the recipe beside it.
    Inputs are feature maps (``neck``, ``backbone``, ``logits``, ...), the handles of :class:`View` (``dense_head``:
    towers, what finishes them, targets, and the teacher's predictions; ``predictions``: both models' predictions and
    the student's targets; ``box_distributions``: the same of heads that predict distributions of distances;
    ``roi_head``), or ``anchors`` of :class:`Batch`.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    # Whether a loss depends on which images are on one GPU, so that the same batch on more GPUs is another loss.
    per_gpu: ClassVar[bool] = False
    prior: ClassVar[type[BasePrior] | None] = None
    tower_position: int | None = None  # which convolution's output a dense head keeps; see DenseHead

    def __init__(self, channels: Channels) -> None:
        super().__init__()

    @classmethod
    def roles(cls, hparams: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG003 (for those that look at them)
        """Roles needed with these hyper-parameters; ``needs``, unless terms can be switched on and off."""
        return cls.needs

    @classmethod
    def trained_as(cls, hparams: Mapping[str, Any]) -> Training:  # noqa: ARG003 (for those that look at them)
        """Return the changes of the student's own training; the baseline alone has any."""
        return Training()

    def load_prior(self, state: Mapping[str, Tensor]) -> None:
        """Load the trained auxiliary module; called only for methods that have one."""
        raise TypeError(f"{type(self).__module__} has no prior to load")

    @abstractmethod
    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        """Return scalar losses by name; a name starts with ``loss``."""

    def pictures(self, student: View, teacher: View, generator: torch.Generator) -> dict[str, Picture]:
        """Pictures by a name of one lower-case word each; made of feature maps alone."""
        return {}


class Composition(BaseMethod):
    """Several methods at once, each with its own weight: their losses side by side.

    Args:
        parts: the built methods by name.
    """

    def __init__(self, parts: Mapping[str, BaseMethod]) -> None:
        super().__init__({})
        self.parts = nn.ModuleDict(parts)
        self.tower_position = next((p.tower_position for p in parts.values() if p.tower_position is not None), None)

    def load_prior(self, state: Mapping[str, Tensor]) -> None:
        for part in self.parts.values():
            if part.prior is not None:
                part.load_prior(state)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        return {key: value for part in self.parts.values() for key, value in part(student, teacher, batch).items()}

    def pictures(self, student: View, teacher: View, generator: torch.Generator) -> dict[str, Picture]:
        return {key: value for part in self.parts.values() for key, value in part.pictures(student, teacher, generator).items()}
