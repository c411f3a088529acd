"""A tier: at what scale the published pairs are run.

The pair says what was published, the tier what of it is replaced.
Data, models and schedule are scaled independently: null leaves what was published.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.pair import HeadType
from benchmarks.synthetic import SceneSpec


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResNetScale(_Frozen):
    """Shallower and narrower ResNet in place of a published ResNet or ResNeXt."""

    depth: Literal[18, 34] = Field(description="built of basic blocks, so a stage's width is its output's")
    base_channels: int = Field(ge=1, description="width of the first stage; each later stage doubles it")


class SwinScale(_Frozen):
    """Reduced Swin transformer in place of a published one."""

    embed_dims: int = Field(ge=1, description="width of the first stage; each later stage doubles it")
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window_size: int = Field(ge=1)


class MobileNetScale(_Frozen):
    """Reduced MobileNetV2: the published one with every width multiplied."""

    widen_factor: float = Field(gt=0)


Backbone = ResNetScale | SwinScale | MobileNetScale


class RoiScale(_Frozen):
    """Reduced second stage of a two-stage detector."""

    fc_channels: int = Field(ge=1, description="width of its fully connected layers")
    samples: int = Field(ge=1, description="proposals an image that it is trained on")
    proposals: int = Field(ge=1, description="proposals an image that it is given")
    pool: int = Field(ge=1, description="side of the map that a proposal is pooled to")
    finest_px: int = Field(ge=1, description="proposals of up to twice this side are pooled from the finest level")


class SegmenterScale(_Frozen):
    """Reduced encoder-decoder."""

    channels: int = Field(ge=8, description="width of the decode head; the auxiliary head has half of it")
    dilations: tuple[int, ...] = Field(min_length=1, description="of the atrous pyramid's branches (DeepLabV3)")


class ModelScale(_Frozen):
    """Reduced scale of a published model; teacher and student share everything but the backbone."""

    backbones: dict[str, Backbone] = Field(description="by published name: ResNet-101, MobileNetV2, SwinTransformer-96")
    neck_channels: int = Field(ge=8, multiple_of=8, description="heads normalise in groups of 8")
    strides: tuple[int, ...] = Field(min_length=1, description="pyramid levels, pixels, the finest first")
    stacked_convs: int = Field(ge=1, description="convolutions in each tower of the head")
    octave_base_scale: int = Field(ge=1, description="side of an anchor, in strides of its level")
    detections: int = Field(ge=1, description="at most, an image; published detectors give 100")
    roi: RoiScale
    solo_grids: tuple[int, ...] = Field(description="cells a side that SOLO parts an image into, by level")
    segmenter: SegmenterScale


class Lengths(_Frozen):
    """Epochs, learning rates and batch size of both sides of a pair."""

    teacher_epochs: int = Field(ge=1)
    student_epochs: int = Field(ge=1)
    teacher_lr: float = Field(gt=0)
    student_lr: float = Field(gt=0)
    batch_size: int = Field(ge=1, description="images per step")


class Schedule(Lengths):
    """Training schedule: AdamW, linear warm-up, cosine decay to zero."""

    heads: dict[HeadType, Lengths] = Field(default_factory=dict, description="other lengths for pairs of a head type")
    prior_iterations: int = Field(ge=1)
    weight_decay: float = Field(ge=0)
    warmup_iterations: int = Field(ge=0)
    clip_grad_norm: float = Field(gt=0)

    def lengths(self, head: HeadType) -> Lengths:
        """Lengths for a pair's head type."""
        return self.heads.get(head, self)


class Pretraining(_Frozen):
    """Training of backbones as classifiers, in place of ImageNet.

    They are trained to name the one digit of a synthetic image: cross-entropy on the pooled last stage, AdamW, a linear warm-up and a
    cosine to zero.
    """

    scenes: SceneSpec = Field(
        description="its images, of one digit each; the accuracy is that on ``tune``, ``test`` is not drawn"
    )
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_iterations: int = Field(ge=0)
    clip_grad_norm: float = Field(gt=0)
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


class Tier(_Frozen):
    """One scale.

    ``data`` is the synthetic ``scenes``, the user's ``own`` (params.yaml names it), or ``published``: the pair's.
    """

    title: str
    data: Literal["scenes", "own", "published"]
    scenes: SceneSpec | None = Field(description="appearance of the synthetic data; null for other data")
    model: ModelScale | None
    schedule: Schedule | None
    pretraining: Pretraining | None = Field(
        default=None, description="null: reduced backbones start from random weights, published ones from those of ImageNet"
    )
    area_px2: tuple[int, int] = Field(
        description="areas, in square pixels, that part small from medium and medium from large objects"
    )

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
