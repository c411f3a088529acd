"""A tier: at what scale the published pairs are run.

The pair says what was published, the tier what of it is replaced.
Data, models and schedule are scaled independently: null leaves what was published.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from benchmarks.pair import HeadType
from benchmarks.schema import BatchSize, ClipNorm, Decay, Epochs, Frozen, Iterations, Rate, Text, Warmup, Width
from benchmarks.synthetic import SceneSpec

Area = Annotated[int, Field(ge=1, le=10**10)]
Stride = Annotated[int, Field(ge=1, le=1024)]
_STAGE_STRIDES = (4, 8, 16, 32)  # of a backbone's stages, one of which a pyramid begins with


class ResNetScale(Frozen):
    """Shallower and narrower ResNet in place of a published ResNet or ResNeXt."""

    depth: Literal[18, 34] = Field(description="built of basic blocks, so a stage's width is its output's")
    base_channels: int = Field(ge=1, le=1024, description="width of the first stage; each later stage doubles it")


Layers = Annotated[int, Field(ge=1, le=100)]


class SwinScale(Frozen):
    """Reduced Swin transformer in place of a published one."""

    embed_dims: int = Field(ge=1, le=4096, description="width of the first stage; each later stage doubles it")
    depths: tuple[Layers, Layers, Layers, Layers]
    num_heads: tuple[Width, Width, Width, Width]
    window_size: int = Field(ge=1, le=64)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "SwinScale":
        if odd := [heads for stage, heads in enumerate(self.num_heads) if (self.embed_dims << stage) % heads]:
            raise ValueError(f"num_heads {odd[0]} does not divide the width of its stage; the first has {self.embed_dims}")
        return self


class MobileNetScale(Frozen):
    """Reduced MobileNetV2: the published one with every width multiplied."""

    widen_factor: float = Field(gt=0, le=16)


def _kind_of_backbone(given: Any) -> str:
    keys = given.keys() if isinstance(given, dict) else type(given).model_fields.keys() if isinstance(given, Frozen) else ()
    return "swin" if "embed_dims" in keys else "mobilenet" if "widen_factor" in keys else "resnet"


Backbone = Annotated[
    Annotated[ResNetScale, Tag("resnet")] | Annotated[SwinScale, Tag("swin")] | Annotated[MobileNetScale, Tag("mobilenet")],
    Discriminator(_kind_of_backbone),
]


class RoiScale(Frozen):
    """Reduced second stage of a two-stage detector."""

    fc_channels: Width = Field(description="width of its fully connected layers")
    samples: Width = Field(description="proposals an image that it is trained on")
    proposals: Width = Field(description="proposals an image that it is given")
    pool: int = Field(ge=1, le=64, description="side of the map that a proposal is pooled to")
    finest_px: Width = Field(description="proposals of up to twice this side are pooled from the finest level")


class SegmenterScale(Frozen):
    """Reduced encoder-decoder."""

    channels: int = Field(ge=8, le=65_536, description="width of the decode head; the auxiliary head has half of it")
    dilations: tuple[Stride, ...] = Field(min_length=1, max_length=16, description="of the atrous pyramid's branches (DeepLabV3)")


class ModelScale(Frozen):
    """Reduced scale of a published model; teacher and student share everything but the backbone."""

    backbones: dict[Text, Backbone] = Field(
        min_length=1, description="by published name: ResNet-101, MobileNetV2, SwinTransformer-96"
    )
    neck_channels: int = Field(ge=8, le=65_536, multiple_of=8, description="heads normalise in groups of 8")
    strides: tuple[Stride, ...] = Field(min_length=2, max_length=8, description="pyramid levels, pixels, the finest first")
    stacked_convs: int = Field(ge=1, le=64, description="convolutions in each tower of the head")
    octave_base_scale: int = Field(ge=1, le=1024, description="side of an anchor, in strides of its level")
    detections: Width = Field(description="at most, an image; published detectors give 100")
    roi: RoiScale
    solo_grids: tuple[Stride, ...] = Field(min_length=1, description="cells a side that SOLO parts an image into, by level")
    segmenter: SegmenterScale

    @model_validator(mode="after")
    def _levels(self) -> "ModelScale":
        if self.strides[0] not in _STAGE_STRIDES or any(later != 2 * stride for stride, later in pairwise(self.strides)):
            raise ValueError(
                f"strides must begin with one of {_STAGE_STRIDES} and double from level to level, got {list(self.strides)}"
            )
        if any(later > cells for cells, later in pairwise(self.solo_grids)):
            raise ValueError(f"solo_grids must not increase, the finest level is the first, got {list(self.solo_grids)}")
        return self


class Lengths(Frozen):
    """Epochs, learning rates and batch size of both sides of a pair."""

    teacher_epochs: Epochs
    student_epochs: Epochs
    teacher_lr: Rate
    student_lr: Rate
    batch_size: BatchSize = Field(description="images per step")


class Schedule(Lengths):
    """Training schedule: AdamW, linear warm-up, cosine decay to zero."""

    heads: dict[HeadType, Lengths] = Field(default_factory=dict, description="other lengths for pairs of a head type")
    prior_iterations: Iterations
    weight_decay: Decay
    warmup_iterations: Warmup
    clip_grad_norm: ClipNorm

    @property
    def least_batch(self) -> int:
        """Smallest batch size of any pair."""
        return min([self.batch_size, *(lengths.batch_size for lengths in self.heads.values())])

    def lengths(self, head: HeadType) -> Lengths:
        """Lengths for a pair's head type."""
        return self.heads.get(head, self)


class Pretraining(Frozen):
    """Training of backbones as classifiers, in place of ImageNet.

    They are trained to name the one digit of a synthetic image: cross-entropy on the pooled last stage, AdamW, a linear warm-up and a
    cosine to zero.
    """

    scenes: SceneSpec = Field(
        description="its images, of one digit each; the accuracy is that on ``tune``, ``test`` is not drawn"
    )
    epochs: Epochs
    batch_size: BatchSize
    lr: Rate
    weight_decay: Decay
    warmup_iterations: Warmup
    clip_grad_norm: ClipNorm
    least_accuracy: float = Field(ge=0, le=100, description="percent of the validation split; a backbone below it is not used")

    @model_validator(mode="after")
    def _one_digit(self) -> "Pretraining":
        if self.scenes.digits != (1, 1):
            raise ValueError(f"scenes.digits must be [1, 1], for an image to have one class, got {list(self.scenes.digits)}")
        if self.scenes.train < self.batch_size:
            raise ValueError(
                f"scenes.train is {self.scenes.train}, less than one batch of {self.batch_size}; an epoch would have no step"
            )
        return self


class Tier(Frozen):
    """One scale.

    ``data`` is the synthetic ``scenes``, the user's ``own`` (params.yaml names it), or ``published``: the pair's.
    """

    title: Text
    data: Literal["scenes", "own", "published"]
    scenes: SceneSpec | None = Field(description="appearance of the synthetic data; null for other data")
    model: ModelScale | None
    schedule: Schedule | None
    pretraining: Pretraining | None = Field(
        default=None, description="null: reduced backbones start from random weights, published ones from those of ImageNet"
    )
    area_px2: tuple[Area, Area] = Field(
        description="areas, in square pixels, that part small from medium and medium from large objects"
    )

    @model_validator(mode="after")
    def _areas_in_order(self) -> "Tier":
        if self.area_px2[0] >= self.area_px2[1]:
            raise ValueError(f"area_px2 must be two increasing areas, got {list(self.area_px2)}")
        return self

    @model_validator(mode="after")
    def _scenes_are_described(self) -> "Tier":
        if (self.data == "scenes") != (self.scenes is not None):
            raise ValueError("scenes is given exactly where data is 'scenes'")
        return self

    @model_validator(mode="after")
    def _an_epoch_has_a_step(self) -> "Tier":
        if self.scenes is None or self.schedule is None:
            return self
        for where, lengths in {
            "schedule": self.schedule,
            **{f"schedule.heads.{k}": v for k, v in self.schedule.heads.items()},
        }.items():
            if self.scenes.train < lengths.batch_size:
                raise ValueError(
                    f"scenes.train is {self.scenes.train}, less than one batch of {where}.batch_size {lengths.batch_size}: an epoch "
                    "would have no step; add images, or lower the batch size"
                )
        return self

    @model_validator(mode="after")
    def _pretrained_is_shrunk(self) -> "Tier":
        if self.pretraining is not None and self.model is None:
            raise ValueError("pretraining is of shrunk backbones; leave it out, or give model, too")
        return self
