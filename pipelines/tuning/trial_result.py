"""Trials of a study: one that is assigned to a worker, and the result of one that has ended."""

from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial, or the way in which it ended without one.

    Args:
        values: of the study's objectives; complete trials only.
        reports: (iteration, points on the validation split).
        full_iterations: what it would have trained unpruned; 0 where it never came to know.
    """

    state: Literal["complete", "pruned", "failed", "lost"]
    values: list[float] | None = None
    reports: list[tuple[int, float]] = field(default_factory=list)
    iterations: int = 0
    full_iterations: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    energy_kj: float | None = None
    reason: str | None = None
    mlflow_run_id: str | None = None


@dataclass(frozen=True)
class AssignedTrial:
    """A trial that this process is to run, the ``ordinal``-th (from 1) of ``of``."""

    number: int
    trial_id: int
    hparams: dict[str, Any]
    ordinal: int
    of: int


def result_of(trial: FrozenTrial) -> TrialResult:
    """Return the result of a finished trial."""
    return TrialResult(**trial.user_attrs.get("outcome", {"state": "lost"}))
