"""The schema of ``tuning:`` in params.yaml, the user's request to stage ``tune``."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, Strict, model_validator

from benchmarks.schema import Frozen, Id, Seed, Text
from methods.recipe import TunableRange

MethodId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)*$", max_length=200)]
Rows = dict[Id, Annotated[list[MethodId], Field(min_length=1)]]


class TuningParams(Frozen):
    """The search, and its budget for each pair and method."""

    model_config = ConfigDict(populate_by_name=True)

    rows: Rows = Field(alias="grid", description="by pair, the methods that get a tuned row beside their published one")
    study: Id = Field(default="default", description="another name begins anew, beside what there is")
    space: dict[MethodId, dict[Text, TunableRange]] = Field(
        default_factory=dict, description="by method, what is searched in place of what its recipe calls tunable"
    )
    trials: int = Field(default=6, ge=1, le=100_000, description="at most, by pair and method")
    max_hours: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="of trials by pair and method, all workers together; none is begun when they are spent",
    )
    share: float = Field(
        default=1.0, gt=0, le=1, description="of the student's schedule that a trial trains, all of it shortened alike"
    )
    reports: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="measurements on the validation split in a trial, evenly spaced; the last is its result",
    )
    objectives: list[Literal["score", "train_s"]] = Field(default=["score"])
    sampler: Literal["tpe", "random"] = "tpe"
    startup_trials: int = Field(default=4, ge=1, le=100_000, description="that TPE draws at random before it has seen enough")
    pruner: Literal["median", "hyperband", "none"] = "median"
    seed: Annotated[Seed, Strict()] = Field(
        default=100, description="of the sampler, and of every trial's training; none of the grid's seeds"
    )
    workers: int = Field(default=1, ge=1, le=1024, description="trials at a time, in one stage")

    @model_validator(mode="after")
    def _fit(self) -> "TuningParams":
        if self.objectives not in (["score"], ["score", "train_s"]):
            raise ValueError(f"objectives are [score] or [score, train_s], not {self.objectives}")
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                f"two objectives cannot be pruned: set pruner to none, or objectives to [score] (pruner is {self.pruner})"
            )
        return self
