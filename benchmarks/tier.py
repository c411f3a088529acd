"""A tier: at what scale the published pairs are run.

The pair says what was published, the tier what of it is replaced.
A tier without ``model``, ``schedule`` and ``scenes`` runs the pair as published.
"""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.scenes import SceneSpec


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Backbone(_Frozen):
    """What replaces a published ResNet: a shallower and narrower one, trained from scratch."""

    depth: int = Field(description="18 or 34: built of basic blocks, so a stage's width is its output's")
    base_channels: int = Field(ge=1, description="width of the first stage; each later stage doubles it")


class RoiScale(_Frozen):
    """How the second stage of a two-stage detector is shrunk."""

    fc_channels: int = Field(ge=1, description="width of its fully connected layers")
    samples: int = Field(ge=1, description="proposals an image that it is trained on")
    proposals: int = Field(ge=1, description="proposals an image that it is given")
    pool: int = Field(ge=1, description="side of the map that a proposal is pooled to")
    finest_px: int = Field(ge=1, description="proposals of up to twice this side are pooled from the finest level")


class ModelScale(_Frozen):
    """How a published detector is shrunk; teacher and student share everything but the backbone."""

    backbones: dict[str, Backbone] = Field(description="by published name: ResNet-101, ResNet-50")
    neck_channels: int = Field(ge=8, multiple_of=8, description="heads normalise in groups of 8")
    strides: tuple[int, ...] = Field(min_length=1, description="pyramid levels, pixels, the finest first")
    stacked_convs: int = Field(ge=1, description="convolutions in each tower of the head")
    octave_base_scale: int = Field(ge=1, description="side of an anchor, in strides of its level")
    roi: RoiScale


class Schedule(_Frozen):
    """How long and how fast everything is trained: AdamW, linear warm-up, cosine decay to zero."""

    teacher_epochs: int = Field(ge=1)
    student_epochs: int = Field(ge=1)
    prior_iterations: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    teacher_lr: float = Field(gt=0)
    student_lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_iterations: int = Field(ge=0)
    clip_grad_norm: float = Field(gt=0)


class Tier(_Frozen):
    """One scale."""

    title: str
    scenes: SceneSpec | None = Field(description="the generated data set, or null for the pair's own")
    model: ModelScale | None
    schedule: Schedule | None
    area_px2: tuple[int, int] = Field(
        description="areas, in square pixels, that part small from medium and medium from large objects"
    )

    @model_validator(mode="after")
    def _scaled_or_published(self) -> "Tier":
        scaled = [part is not None for part in (self.scenes, self.model, self.schedule)]
        if any(scaled) and not all(scaled):
            raise ValueError("scenes, model and schedule are given together or are all null")
        return self
