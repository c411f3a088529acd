"""The schema of a method's recipe: its hyper-parameters as published, and where they come from."""

from pydantic import BaseModel, ConfigDict, Field

Value = float | int | str


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(_Frozen):
    """The publication."""

    title: str
    arxiv: str
    venue: str


class Source(_Frozen):
    """The authors' code: a repository at a commit."""

    repo: str
    commit: str
    path: str
    licence: str


class Deviation(_Frozen):
    """Where this suite does otherwise than the source, and why."""

    what: str
    why: str


class PriorTraining(_Frozen):
    """How long and how fast a prior is learned: Adam, cosine decay to 1e-6."""

    iterations: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class PriorRecipe(_Frozen):
    """What the stage ``masks`` needs to know."""

    hparams: dict[str, Value]
    training: PriorTraining


class AtTier(_Frozen):
    """Hyper-parameters that a scaled tier replaces: feature sizes differ, and so do the losses' sizes."""

    hparams: dict[str, Value]
    why: str


class Recipe(_Frozen):
    """One method as its authors ran it, and what a scaled tier changes."""

    title: str
    paper: Paper | None
    source: Source | None
    hparams: dict[str, Value]
    prior: PriorRecipe | None = None
    at: dict[str, AtTier] = Field(default_factory=dict, description="by tier")
    notes: list[str]
    deviations: list[Deviation]
