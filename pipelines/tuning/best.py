"""``best.yaml``: the values that a study selected for stage ``distill``."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.schema import read_as
from benchmarks.whole_file import write_whole
from reports.schemas.study import Study


class Best(BaseModel):
    """The best hyper-parameters of a study, and its cost; no times, so that the same study gives the same file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["done", "impossible", "left out"]
    study: str = ""
    hparams: dict[str, Any] = Field(default_factory=dict)
    metric: str = ""
    score: float | None = Field(default=None, description="on the validation split, points")
    recipe_score: float | None = Field(
        default=None, description="of the recipe's values there; None where that trial is not complete"
    )
    trial: int | None = None
    front: list[int] = Field(default_factory=list)
    importance: dict[str, float] | None = None
    num_trials: dict[str, int] = Field(default_factory=dict, description="by how they ended")
    iterations: int = Field(default=0, description="of training, all trials together")

    @property
    def origin(self) -> str:
        """For a record's ``hparams_origin``."""
        spent = ", ".join(f"{number} {state}" for state, number in self.num_trials.items() if number)
        return f"{', '.join(self.hparams)} tuned on the tune split (trial {self.trial} of study {self.study}: {spent}); all else as published here"


def best_of(study: Study) -> Best:
    """Return the values that a study selected, from its record."""
    if study.status != "done" or study.best is None:
        return Best(status=study.status)
    best = study.trial(study.best)
    recipe = next((t for t in study.trials if t.is_recipe and t.state == "complete" and t.values), None)
    counts = {state: sum(trial.state == state for trial in study.trials) for state in ("complete", "pruned", "failed")}
    return Best(
        status="done", study=study.name, hparams=best.hparams, metric=study.metric, score=best.values[0] if best.values else None,
        recipe_score=recipe.values[0] if recipe and recipe.values else None, trial=best.number, front=study.front,
        importance=study.importance, num_trials=counts, iterations=sum(trial.iterations for trial in study.counted),
    )  # fmt: skip


def write_best(path: Path, best: Best) -> None:
    """Write it, whole or not at all."""
    write_whole(path, yaml.safe_dump(best.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True), is_synced=True)


def read_best(path: Path) -> Best:
    """Read it; ValueError, one line, where it is not there, not of the schema, or selects nothing."""
    try:
        best = read_as(path, Best)
    except ValueError as error:
        raise ValueError(f"{error}; run stage tune again") from error
    if best.status != "done" or not best.hparams:
        raise ValueError(f"{path}: selects no hyper-parameters ({best.status}); run stage tune again")
    return best
