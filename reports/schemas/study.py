"""The schema of ``study.json``: one search for a method's hyper-parameters, written by stage ``tune``, read by the reports."""

from typing import Any, Literal

from pydantic import Field, model_validator

from reports.schemas.run import Data, Environment, Frozen, Git


class SearchRange(Frozen):
    """Search range of one hyper-parameter: ``low`` to ``high``, both included, or one of ``choices``."""

    low: float | None = None
    high: float | None = None
    scale: Literal["log", "linear"] | None = Field(default=None, description="None with choices")
    choices: list[Any] | None = None


class Trial(Frozen):
    """One trial of the search."""

    number: int = Field(ge=0, description="Optuna's, from 0")
    state: Literal["complete", "pruned", "failed", "lost"] = Field(
        description="lost: its worker or process was killed; it was tried again under another number and counts for nothing"
    )
    hparams: dict[str, Any] = Field(description="that were tried; those that are not searched are the recipe's")
    is_recipe: bool = Field(description="whether these are the recipe's own values there")
    values: list[float] | None = Field(description="of the study's objectives; complete trials only")
    reports: list[tuple[int, float]] = Field(description="iteration, points of the pair's metric on the validation split")
    iterations: int = Field(description="that were trained")
    train_s: float = Field(description="in training iterations")
    wall_s: float = Field(description="of the trial's process from its start to its end")
    energy_kj: float | None = None
    reason: str | None = Field(default=None, description="why it failed or was lost")
    mlflow_run_id: str | None = None


class Study(Frozen):
    """One search, on one pair for one method; every score is measured on the validation split."""

    schema_version: Literal[1] = 1
    status: Literal["done", "impossible", "left out"]
    reason: str | None = None
    tier: str
    pair: str
    method: str
    name: str = Field(default="", description="the user's, to distinguish studies of one cell")
    metric: str = Field(default="", description="the pair's, such as 'box AP'")
    objectives: list[Literal["score", "train_s"]] = Field(
        default_factory=list, description="score: the metric, to be raised; train_s: seconds of training, to be lowered"
    )
    space: dict[str, SearchRange] = Field(default_factory=dict)
    recipe_hparams: dict[str, Any] = Field(default_factory=dict, description="of the names in space, what the recipe has there")
    sampler: str = Field(default="", description="such as 'tpe'")
    pruner: str = Field(default="", description="such as 'median', or 'none'")
    seed: int = Field(default=0, description="of the sampler, and of every trial's training")
    full_iterations: int = Field(default=0, description="of a trial that is not pruned")
    schedule_share: float = Field(default=1.0, description="a trial's iterations over those of a cell's training")
    trials: list[Trial] = Field(default_factory=list)
    best: int | None = Field(default=None, description="number of the trial whose values are handed out")
    front: list[int] = Field(default_factory=list, description="numbers of the trials that none betters in every objective")
    importance: dict[str, float] | None = Field(
        default=None,
        description="fraction of the score's variance that each hyper-parameter explains; None where there are too few trials",
    )
    git: Git | None = None
    environment: Environment | None = None
    data: Data | None = None
    teacher_sha256: str | None = None
    prior_sha256: str | None = None
    finished_at: str | None = Field(default=None, description="UTC, ISO 8601")
    mlflow_run_id: str | None = Field(default=None, description="of the parent run")

    @model_validator(mode="after")
    def _is_consistent(self) -> "Study":
        complete = {trial.number for trial in self.trials if trial.state == "complete"}
        named = {*self.front, *([] if self.best is None else [self.best])}
        if named - complete:
            raise ValueError(f"best and front name complete trials, and {min(named - complete)} is none")
        for trial in self.trials:
            if (len(trial.values) if trial.values is not None else 0) != len(self.objectives) * (trial.state == "complete"):
                raise ValueError(f"trial {trial.number} is {trial.state}: a complete one has a value an objective, others none")
        return self

    @property
    def counted(self) -> list[Trial]:
        """Trials that took a share of the budget."""
        return [trial for trial in self.trials if trial.state != "lost"]

    @property
    def train_s(self) -> float:
        """Seconds in training iterations, lost trials included."""
        return sum(trial.train_s for trial in self.trials)

    @property
    def saved_fraction(self) -> float | None:
        """Share of the iterations that pruning spared the trials that did not fail; None where none are left."""
        ran = [trial for trial in self.trials if trial.state in ("complete", "pruned")]
        return (
            1 - sum(trial.iterations for trial in ran) / (len(ran) * self.full_iterations)
            if ran and self.full_iterations
            else None
        )

    def trial(self, number: int) -> Trial:
        """By its number."""
        return next(trial for trial in self.trials if trial.number == number)
