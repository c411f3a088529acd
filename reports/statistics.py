"""Point estimates and intervals from per-seed results; pure functions of their arguments.

``scores`` are results of independent trainings, in points, one a seed.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

_LEAST_FOR_SPREAD = 2


def spread(scores: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None for fewer than two scores."""
    return float(np.std(scores, ddof=1)) if len(scores) >= _LEAST_FOR_SPREAD else None


def gain(scores: Sequence[float], control: Sequence[float]) -> float:
    """Difference of the means."""
    return float(np.mean(scores) - np.mean(control))


def gain_interval(scores: Sequence[float], control: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Welch's interval of the difference of means; None where either side has fewer than two scores or none varies."""
    if min(len(scores), len(control)) < _LEAST_FOR_SPREAD or (np.ptp(scores) == 0 and np.ptp(control) == 0):
        return None
    interval = stats.ttest_ind(scores, control, equal_var=False).confidence_interval(level)
    return float(interval.low), float(interval.high)


def gap_closed(scores: Sequence[float], control: Sequence[float], teacher: float) -> float | None:
    """Share of the distance between control and teacher that the gain covers; None where the teacher does not lead."""
    gap = teacher - float(np.mean(control))
    return gain(scores, control) / gap if gap > 0 else None
