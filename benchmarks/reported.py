"""The schema of ``reported.yaml``, the registry of reported results.

The registry only grows: ``REPORTED_CHANGES.md`` keeps the digest of each version's claims, and a test recomputes it.
What this suite says of a result (whether its own run is comparable, and beside which row it is shown) may be completed.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, RootModel, model_validator

from benchmarks.metrics import MetricName
from benchmarks.schema import BatchSize, Epochs, Frozen, Iterations, Points, Text

# What a record claims, and what never changes; all else may be completed later.
CLAIM = ("id", "pair", "setting", "what", "method", "other_method", "metric", "value", "baseline", "teacher", "source", "read")


class Variant(Frozen):
    """Differences of a result from others of its method and pair, as far as its source states them."""

    teacher: Text | None = Field(default=None, description="which checkpoint")
    student: Text | None = Field(default=None, description="in what it differs from the baseline or from others")
    inherits: Text | None = Field(default=None, description="what the student takes over from the teacher before training")
    schedule: Text | None = None
    training: Text | None = Field(default=None, description="normalisation, clipping, batch, learning rate")
    initialisation: Text | None = None
    distilled: Text | None = Field(default=None, description="which part of the method, at which place")


class Details(Frozen):
    """Further scores of the same model in the source, in points."""

    AP50: Points | None = None
    AP75: Points | None = None
    APS: Points | None = None
    APM: Points | None = None
    APL: Points | None = None
    test_mIoU: Points | None = Field(default=None, description="on the test server; the figure itself is on val")
    test_baseline_mIoU: Points | None = None


class Beside(Frozen):
    """The row that a result is shown in, where that was found out after it was recorded."""

    pair: Text | None = Field(default=None, description="where the record has none")
    method: Text | None = Field(default=None, description="the recipe that it fits")
    why: str = Field(min_length=10)


class Settings(Frozen):
    """Settings behind a result that a machine can compare with a run's; what the source does not state is left out."""

    teacher: str | None = Field(default=None, pattern=r"^[0-9a-f]{8,64}$", description="leading digits of its file's sha256")
    epochs: Epochs | None = None
    iterations: Iterations | None = None
    batch_size: BatchSize | None = Field(default=None, description="images per step, over all GPUs")
    images_per_gpu: BatchSize | None = None
    hparams: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="by the recipe's names; of a combination with the part's name before them"
    )
    inherits: list[str] | None = Field(default=None, description="modules that the student takes over from the teacher")
    config: dict[str, Any] = Field(default_factory=dict, description="of the student's training: dotted key -> value")


class Difference(Frozen):
    """A way in which the suite's run is not the one behind a result."""

    kind: Literal[
        "teacher", "student", "schedule", "data", "method", "hyper-parameters", "world size", "code base", "not stated", "not run"
    ]
    why: str = Field(min_length=5)


class RegistryEntry(Frozen):
    """One reported result, in points (0-100), and the source it was read from.

    It belongs to one of the suite's pairs or, where ``pair`` is null, to a ``setting`` in words.
    ``baseline`` and ``teacher`` are of the pair's models in the same table or, where that has none, of the zoo that it uses.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")
    pair: Text | None
    setting: Text | None = None
    what: Literal["teacher", "control", "method"]
    method: Text | None = Field(default=None, description="one of the suite's, a+b for two at once; none for a baseline")
    other_method: Text | None = Field(default=None, description="a method that the suite has not, as printed")
    variant: Variant = Variant()
    metric: MetricName
    value: Points
    baseline: Points | None = None
    teacher: Points | None = None
    gain: float | None = Field(default=None, ge=-100, le=100, description="where the source prints it")
    derived: Literal["value", "baseline"] | None = Field(default=None, description="worked out from the printed gain")
    details: Details = Details()
    source: Text = Field(description="file of a repository at a commit, section of a paper, issue")
    read: Literal["verbatim", "second-hand"]
    kind: Literal["published", "reimplementation", "user_reproduction"] = "published"
    disagrees_with: list[str] = Field(default_factory=list, description="figures that contradict or qualify it; they name it too")
    beside: Beside | None = None
    comparable: bool | None = Field(
        default=None,
        description="whether the suite's run at full size has this result's settings; None where the suite has no such row",
    )
    differs: list[Difference] = Field(default_factory=list, description="why it is not comparable")
    gain_differs: Text | None = Field(default=None, description="why the gain is not comparable although the score is")
    settings: Settings = Settings()
    note: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> "RegistryEntry":
        if (self.pair is None) == (self.setting is None):
            raise ValueError(f"{self.id}: give either a pair or, where it is none of the suite's, a setting")
        wanted = {"teacher": (False, False), "control": (True, False)}.get(self.what)
        given = (self.method is not None, self.other_method is not None)
        if given != wanted if wanted else sum(given) != 1:
            raise ValueError(f"{self.id}: a teacher has no method, a control has 'none', else give method or other_method")
        if (self.method == "none") != (self.what == "control"):
            raise ValueError(f"{self.id}: method 'none' is what a control has")
        if (self.gain is None and self.derived is not None) or (self.gain is not None and self.baseline is None):
            raise ValueError(f"{self.id}: a gain needs a baseline, and what is derived needs a gain")
        has_row = self.what != "teacher" and None not in self.place
        if (self.comparable is not None) != has_row:
            raise ValueError(f"{self.id}: say whether it is comparable exactly where it has a pair and a method of the suite")
        if self.comparable is not None and self.comparable == bool(self.differs):
            raise ValueError(f"{self.id}: what is comparable differs in nothing, and what is not says in what")
        return self

    @property
    def place(self) -> tuple[str | None, str | None]:
        """Pair and method whose row it is shown in; None where the suite has none."""
        beside = self.beside or Beside(why="as recorded")
        return beside.pair or self.pair, beside.method or self.method

    @property
    def printed_method(self) -> str:
        """The method as it was recorded, by its name here or, if the suite had it not, there; 'teacher' for a teacher."""
        return self.method or self.other_method or self.what

    @property
    def shown_method(self) -> str:
        """The method of the row that it is shown in or, if the suite has none, as it was recorded."""
        return self.place[1] or self.printed_method


class Registry(RootModel[list[RegistryEntry]]):
    """All reported results."""

    @model_validator(mode="after")
    def _rivals(self) -> "Registry":
        ids = [figure.id for figure in self.root]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"ids given twice: {', '.join(twice)}")
        by_id = {figure.id: figure for figure in self.root}
        links = [(figure, name) for figure in self.root for name in figure.disagrees_with]
        if unknown := sorted({name for _, name in links} - set(ids)):
            raise ValueError(f"disagrees_with names unknown ids: {', '.join(unknown)}")
        problems = [_not_rivals(figure, by_id[name]) for figure, name in links]
        if found := [problem for problem in problems if problem]:
            raise ValueError("; ".join(found))
        return self


def _not_rivals(one: RegistryEntry, other: RegistryEntry) -> str | None:
    """Reason for which two results cannot disagree; None where they can and both say so."""
    if one.id not in other.disagrees_with:
        return f"{one.id} disagrees with {other.id}, which does not say so; add it there"
    shared = {
        "pair": (one.place[0] or one.setting) == (other.place[0] or other.setting),
        "what": one.what == other.what,
        "metric": one.metric == other.metric,
        "method": one.shown_method == other.shown_method or one.printed_method == other.printed_method,
    }
    if differing := next((key for key, is_same in shared.items() if not is_same), None):
        return f"{one.id} and {other.id} cannot disagree: their {differing} differs"
    if (one.value, one.baseline) == (other.value, other.baseline):
        return f"{one.id} and {other.id} do not disagree: they say the same"
    return None


def digest(figures: Sequence[RegistryEntry]) -> str:
    """sha256 over what the figures claim (:data:`CLAIM`), in their order."""
    claims = [figure.model_dump(mode="json", include=set(CLAIM), exclude_none=True) for figure in figures]
    return hashlib.sha256(json.dumps(claims, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
