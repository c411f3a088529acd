"""The schema of a method's recipe: its hyper-parameters as published, and where they come from."""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Text = Annotated[str, Field(pattern=r"\S", max_length=5000)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100, description="of a recipe or pair: the name of its file")]
ModulePath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.\w+)*$", max_length=200)]
ConfigKey = Annotated[str, Field(pattern=r"^\w+(\.\w+)*$", max_length=200)]
Iterations = Annotated[int, Field(ge=1, le=2**22)]
Value = bool | int | float | Text
_LEAST_CHOICES = 2


@dataclass(frozen=True)
class ResolvedPart:
    """A method as one cell runs it, alone or beside others; what a recipe says at a pair's head and scale.

    Args:
        name: of the recipe.
        code: module under ``methods``.
        hparams: values by name.
        inherits: modules that the student takes over from the teacher.
        teacher: untrained for random weights.
    """

    name: str
    code: str
    hparams: dict[str, Any]
    inherits: list[str]
    teacher: Literal["trained", "untrained"] = "trained"

    def as_dict(self) -> dict[str, Any]:
        """Fields as in MMEngine's configs and resolved files; a trained teacher is not mentioned."""
        named = {"name": self.name, "code": self.code, "hparams": self.hparams, "inherits": self.inherits}
        return named | ({} if self.teacher == "trained" else {"teacher": self.teacher})


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paper(_Frozen):
    """The publication."""

    title: Text
    arxiv: Text
    venue: Text


class Repository(_Frozen):
    """The authors' code: a repository at a commit."""

    repo: Text
    commit: Text
    path: Text
    licence: Text


class Deviation(_Frozen):
    """Difference of this suite from the source, with its reason."""

    what: Text
    why: Text


class PriorTraining(_Frozen):
    """Schedule of an auxiliary module; the learning rate falls by a cosine to 1e-6."""

    iterations: Iterations
    lr: float = Field(gt=0, le=1000)
    weight_decay: float = Field(ge=0, le=1000)
    optimizer: Literal["Adam", "SGD"] = Field(default="Adam", description="SGD has momentum 0.9")
    clip_grad_norm: float | None = Field(
        default=None, gt=0, le=1e9, description="gradients are clipped at this norm; None: not at all"
    )


class PriorRecipe(_Frozen):
    """Auxiliary module of a method, trained by stage ``masks``."""

    hparams: dict[Text, Value]
    training: PriorTraining


class TunableRange(_Frozen):
    """Search range of a hyper-parameter in stage ``tune``; exactly one of the three is given.

    A weight's useful size differs by head and tier, so its bounds are multiples of the value in force; a ratio's are
    its own. A value of 0 is a term that is switched off: multiples leave it off.
    """

    times: tuple[float, float] | None = Field(default=None, description="bounds, as multiples of the value in force")
    between: tuple[float, float] | None = Field(default=None, description="bounds")
    choices: list[Value] | None = None
    scale: Literal["log", "linear"] | None = Field(default=None, description="between the bounds; log where they are multiples")

    @model_validator(mode="after")
    def _one_kind(self) -> "TunableRange":
        given = [bounds for bounds in (self.times, self.between, self.choices) if bounds is not None]
        if len(given) != 1:
            raise ValueError("give one of times, between and choices")
        if self.choices is not None:
            if len(set(self.choices)) < _LEAST_CHOICES or self.scale is not None:
                raise ValueError(f"choices are two or more different values, without a scale; got {self.choices}")
            return self
        low, high = self.times or self.between or (0.0, 0.0)
        if not (isfinite(low) and isfinite(high) and low < high):
            raise ValueError(f"the range {low:g} to {high:g} is empty; the first bound must be below the second")
        if low <= 0 and (self.times is not None or self.scale == "log"):
            raise ValueError(f"the range {low:g} to {high:g} must be above 0: it is one of multiples or logarithmic")
        return self


class Conversion(_Frozen):
    """Unit of a value at tiers whose models are reduced; exactly one of the four is given.

    A weight of a sum is counted by the number of its terms (``channels`` and ``positions`` as published, ``of`` the module that has them), a
    warm-up by the iterations of its schedule, a position in a head's towers by their convolutions, a size in pixels by where a
    pyramid's finest level begins.
    """

    channels: int = Field(default=0, ge=0, le=65_536)
    positions: int = Field(default=0, ge=0, le=10**9, description="of all levels together, on an image as published")
    of: Literal["neck", "last_stage"] | None = Field(
        default=None, description="whose channels and positions; last_stage is the teacher's"
    )
    of_iterations: Iterations | None = None
    tower_convs: int | None = Field(default=None, ge=1, le=64)
    finest_px: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Conversion":
        if sum(kind is not None for kind in (self.of, self.of_iterations, self.tower_convs, self.finest_px)) != 1:
            raise ValueError("give one of of (with channels and positions), of_iterations, tower_convs and finest_px")
        if (self.of is None) != (self.channels * self.positions == 0):
            raise ValueError("channels and positions are given with of, and only with it")
        return self


class Override(_Frozen):
    """Hyper-parameters that replace the recipe's own where all given conditions are met.

    With ``pair`` or ``head`` it is what the authors ran there; with ``combined_with`` what was run together with
    another method; ``scale`` distinguishes models as published from reduced ones.
    """

    scale: Literal["published", "reduced"] | None = None
    head: Id | None = Field(default=None, description="a pair's head type")
    pair: Id | None = None
    combined_with: Id | None = Field(default=None, description="another method's recipe, in a combination of the two")
    hparams: dict[Text, Value] = Field(default_factory=dict)
    inherits: list[ModulePath] | None = None
    config: dict[ConfigKey, Any] = Field(default_factory=dict, description="as the recipe's own, on top of it")
    prior: PriorTraining | None = Field(default=None, description="how the auxiliary module is trained there")
    reduced: dict[str, Conversion] = Field(default_factory=dict, description="as the recipe's own, on top of it")
    why: Text

    @model_validator(mode="after")
    def _conditional(self) -> "Override":
        if (self.scale, self.head, self.pair, self.combined_with) == (None, None, None, None):
            raise ValueError("an override names at least one of scale, head, pair and combined_with")
        return self


class Recipe(_Frozen):
    """One method as its authors ran it, with the units of the values that reduced models convert."""

    title: Text
    paper: Paper | None
    source: Repository | None
    code: Id | None = Field(default=None, description="the module, where a named variant shares another method's code")
    hparams: dict[Text, Value]
    reduced: dict[str, Conversion] = Field(
        default_factory=dict,
        description="hyper-parameters that have other values where models are reduced, and what they are counted by",
    )
    teacher: Literal["trained", "untrained"] = Field(
        default="trained", description="untrained: random weights, another draw each seed, for a placebo that can teach nothing"
    )
    tunable: dict[str, TunableRange] = Field(
        default_factory=dict, description="hyper-parameters that stage tune may change, and how far"
    )
    prior: PriorRecipe | None = None
    inherits: list[ModulePath] = Field(default_factory=list, description="modules that the student takes over from the teacher")
    config: dict[ConfigKey, Any] = Field(
        default_factory=dict,
        description="what the authors changed in the student's training config: dotted key -> value; for published schedules only",
    )
    overrides: list[Override] = Field(default_factory=list, description="applied in order; a later one wins")
    notes: list[Text]
    deviations: list[Deviation]
