"""Cost of a search for hyper-parameters, and its gain on the test split."""

from collections.abc import Sequence
from typing import Any

from reports.schemas.leaderboard import TuningResult
from reports.schemas.study import Study, Trial
from reports.stats import inference


def tuning(study: Study, scores: Sequence[float], untuned: Sequence[float]) -> TuningResult:
    """Summary of a study for a row.

    Args:
        study: an ended one.
        scores: of the tuned row's seeds, on the test split; may be empty.
        untuned: of the same method's with the recipe's values; may be empty.
    """
    states = [trial.state for trial in study.trials]
    best = None if study.best is None else study.trial(study.best)
    return TuningResult(
        num_complete=states.count("complete"),
        num_pruned=states.count("pruned"),
        num_failed=states.count("failed"),
        best_score=_score(best) if best else None,
        recipe_score=next((_score(trial) for trial in study.trials if trial.is_recipe and trial.values), None),
        is_recipe=bool(best and best.is_recipe),
        minutes=study.train_s / 60,
        saved_fraction=study.saved_fraction,
        **(gain_fields(scores, untuned) if scores and untuned else {}),
    )


def gain_fields(scores: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Fields of a gain with its interval and test, as rows and searches have them."""
    found: dict[str, Any] = {"gain": inference.gain(scores, baseline), "untested": inference.untested(scores, baseline)}
    if interval := inference.welch(scores, baseline):
        found |= {"gain_low": interval.low, "gain_high": interval.high, "gain_p": interval.p}
    return found


def _score(trial: Trial) -> float | None:
    """Return a trial's score, the first of its objectives; None where it has no values."""
    return trial.values[0] if trial.values else None
