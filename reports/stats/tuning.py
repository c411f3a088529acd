"""What a search for hyper-parameters took, and what it brought on the test split."""

from collections.abc import Sequence
from typing import Any

from reports.schemas.leaderboard import Tuning
from reports.schemas.study import Study, Trial
from reports.stats import inference


def tuning(study: Study, scores: Sequence[float], untuned: Sequence[float]) -> Tuning:
    """A study in the few figures that a row has room for.

    Args:
        study: an ended one.
        scores: of the tuned row's seeds, on the test split; may be empty.
        untuned: of the same method's with the recipe's values; may be empty.
    """
    states = [trial.state for trial in study.trials]
    best = None if study.best is None else study.trial(study.best)
    found: dict[str, Any] = {}
    if scores and untuned:
        found |= {"gain": inference.gain(scores, untuned), "untested": inference.untested(scores, untuned)}
        if interval := inference.welch(scores, untuned):
            found |= {"gain_low": interval.low, "gain_high": interval.high, "gain_p": interval.p}
    return Tuning(
        num_complete=states.count("complete"),
        num_pruned=states.count("pruned"),
        num_failed=states.count("failed"),
        best_score=_score(best) if best else None,
        recipe_score=next((_score(trial) for trial in study.trials if trial.is_recipe and trial.values), None),
        is_recipe=bool(best and best.is_recipe),
        minutes=study.train_s / 60,
        saved_share=study.saved_share,
        **found,
    )


def _score(trial: Trial) -> float | None:
    """The first of the objectives is the metric."""
    return trial.values[0] if trial.values else None
