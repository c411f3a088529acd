"""What a few trainings tell: estimates, intervals and verdicts; pure functions of their arguments.

``scores`` are results of independent trainings, in points, one a seed.
Tests of equivalence are two one-sided t-tests (Schuirmann 1987), the adjustment for many is Holm's (1979).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

Word = Literal["reproduced", "not reproduced", "inconclusive"]
LEVEL = 0.05  # of each one-sided test: how often a verdict is wrong, at most
_LEAST_FOR_SPREAD = 2
LEAST_FOR_BOOTSTRAP = 5  # two seeds a side have nine resamples
_MOST_FURTHER = 200  # seeds; more would not be run


def spread(scores: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None for fewer than two scores."""
    return float(np.std(scores, ddof=1)) if len(scores) >= _LEAST_FOR_SPREAD else None


def prediction_interval(scores: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Where one further training will lie; None for fewer than two scores."""
    sd, num = spread(scores), len(scores)
    if sd is None:
        return None
    half = float(stats.t.ppf((1 + level) / 2, num - 1)) * sd * math.sqrt(1 + 1 / num)
    mean = float(np.mean(scores))
    return mean - half, mean + half


def gain(scores: Sequence[float], control: Sequence[float]) -> float:
    """Difference of the means."""
    return float(np.mean(scores) - np.mean(control))


@dataclass(frozen=True)
class Gain:
    """Welch's interval of a difference of means, and the two-sided p of there being none."""

    low: float
    high: float
    p: float


def welch(scores: Sequence[float], control: Sequence[float], *, level: float = 0.95) -> Gain | None:
    """Welch's t-test, unpaired; None where either side has fewer than two scores or none varies."""
    if min(len(scores), len(control)) < _LEAST_FOR_SPREAD or (np.ptp(scores) == 0 and np.ptp(control) == 0):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side need not vary
        test = stats.ttest_ind(scores, control, equal_var=False)
    interval = test.confidence_interval(level)
    return Gain(float(interval.low), float(interval.high), float(test.pvalue))


def untested(scores: Sequence[float], control: Sequence[float]) -> str | None:
    """Reason why :func:`welch` gives nothing; None where it gives an interval."""
    for whose, found in (("", scores), (" of the control", control)):
        if len(found) < _LEAST_FOR_SPREAD:
            return f"{'one seed' if found else 'no seed'}{whose}"
    return "no spread in either" if np.ptp(scores) == 0 and np.ptp(control) == 0 else None


def split_spread(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Standard deviations between groups and within them, by a one-way analysis of variance; each group of two scores or more.

    The former is 0 where the means differ less than the scores within a group make expect.
    """
    sizes = [len(group) for group in groups]
    total = sum(sizes)
    within = sum(float(np.var(group, ddof=1)) * (len(group) - 1) for group in groups) / (total - len(groups))
    whole = float(np.mean([score for group in groups for score in group]))
    between = sum(len(group) * (float(np.mean(group)) - whole) ** 2 for group in groups) / (len(groups) - 1)
    size = (total - sum(num**2 for num in sizes) / total) / (len(groups) - 1)  # of unequal groups, Searle 1971
    return math.sqrt(max(0.0, between - within) / size), math.sqrt(within)


def rank_correlation(
    one: Sequence[float], other: Sequence[float], *, rng: np.random.Generator, resamples: int = 4000, level: float = 0.95
) -> tuple[float, float | None, float | None] | None:
    """Spearman's correlation with its percentile bootstrap interval over the points; None where one side does not vary.

    Resamples in which one side does not vary have no correlation and are left out; no interval below five points.
    """
    if len(set(one)) < _LEAST_FOR_SPREAD or len(set(other)) < _LEAST_FOR_SPREAD:
        return None
    rho = float(stats.spearmanr(one, other).statistic)
    if len(one) < LEAST_FOR_BOOTSTRAP:
        return rho, None, None
    pairs_N2 = np.array([one, other]).T
    found = []
    for _ in range(resamples):
        drawn_N2 = pairs_N2[rng.integers(len(pairs_N2), size=len(pairs_N2))]
        if (np.ptp(drawn_N2, axis=0) > 0).all():
            ranks_N2 = stats.rankdata(drawn_N2, axis=0)
            found.append(float(np.corrcoef(ranks_N2.T)[0, 1]))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return rho, float(low), float(high)


def gap_closed(scores: Sequence[float], control: Sequence[float], teacher: float) -> float | None:
    """Share of the distance between control and teacher that the gain covers; None where the teacher does not lead."""
    gap = teacher - float(np.mean(control))
    return gain(scores, control) / gap if gap > 0 else None


def gap_closed_interval(
    scores: Sequence[float],
    control: Sequence[float],
    teacher: float,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap of :func:`gap_closed` over the seeds of both; the teacher is one training and stays.

    None for fewer than five scores on either side, and where the teacher does not lead in every resample.
    """
    if min(len(scores), len(control)) < LEAST_FOR_BOOTSTRAP or teacher <= max(control):
        return None

    def share(of_method: npt.NDArray[np.float64], of_control: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        means = of_control.mean(axis)
        return np.asarray((of_method.mean(axis) - means) / (teacher - means))

    found = stats.bootstrap(
        (scores, control), share, n_resamples=resamples, confidence_level=level, method="percentile", vectorized=True, rng=rng
    ).confidence_interval
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Comparison:
    """Ours against a published figure, in points.

    Args:
        difference: ours less the published.
        low: of the difference's 90 % interval, which lies inside the margin exactly where both one-sided tests reject at 5 %.
        high: its other end; both None for fewer than two seeds and where nothing varies.
        margin: that the verdict was made with.
        p_same: of the equivalence test.
        p_apart: of a difference beyond the margin.
        further_seeds: a side, that would decide it if mean and spread stayed as they are; None where it is decided, or
            where no reasonable number would.
    """

    difference: float
    low: float | None
    high: float | None
    margin: float
    verdict: Word
    p_same: float | None
    p_apart: float | None
    further_seeds: int | None


def compare_mean(scores: Sequence[float], figure: float, *, half_digit: float, margin: float, planning_sd: float) -> Comparison:
    """The mean of our trainings against a published score.

    The figure stands for all values that are rounded to it: ours must be within the margin of each to be reproduced,
    and beyond it of each not to be.

    Args:
        scores: ours; one or more.
        figure: published.
        half_digit: half a unit of its last digit.
        margin: how far apart may count as the same; more than ``half_digit``.
        planning_sd: what one seed's spread is taken for when further seeds are counted.
    """
    inner, outer = margin - half_digit, margin + half_digit
    difference = float(np.mean(scores)) - figure
    sd = spread(scores)
    if not sd:
        planned = _Arms((planning_sd**2,), len(scores))
        return Comparison(difference, None, None, margin, "inconclusive", None, None, planned.further(difference, inner, outer))
    ours = DescrStatsW(np.asarray(scores))
    p_same = float(ours.ttost_mean(figure - inner, figure + inner)[0])
    p_apart = min(ours.ttest_mean(figure + outer, "larger")[1], ours.ttest_mean(figure - outer, "smaller")[1])
    low, high = (float(end) - figure for end in ours.tconfint_mean(2 * LEVEL))
    return _judged(difference, low, high, margin, p_same, float(p_apart), _Arms((sd**2,), len(scores)), inner, outer)


def compare_gain(
    scores: Sequence[float],
    control: Sequence[float],
    figure: float,
    *,
    half_digit: float,
    margin: float,
    planning_sd: float,
) -> Comparison:
    """Our gain over our control against a published gain, unpaired and of unequal variances; see :func:`compare_mean`.

    ``half_digit`` is the published score's and its baseline's together.
    """
    inner, outer = margin - half_digit, margin + half_digit
    difference = gain(scores, control) - figure
    sds = spread(scores), spread(control)
    if sds[0] is None or sds[1] is None or not any(sds):
        planned = _Arms((planning_sd**2,) * 2, min(len(scores), len(control)))
        return Comparison(difference, None, None, margin, "inconclusive", None, None, planned.further(difference, inner, outer))
    both = CompareMeans(DescrStatsW(np.asarray(scores)), DescrStatsW(np.asarray(control)))
    p_same = float(both.ttost_ind(figure - inner, figure + inner, usevar="unequal")[0])
    p_apart = min(
        both.ttest_ind("larger", "unequal", value=figure + outer)[1],
        both.ttest_ind("smaller", "unequal", value=figure - outer)[1],
    )
    low, high = (float(end) - figure for end in both.tconfint_diff(2 * LEVEL, usevar="unequal"))
    arms = _Arms((sds[0] ** 2, sds[1] ** 2), min(len(scores), len(control)))
    return _judged(difference, low, high, margin, p_same, float(p_apart), arms, inner, outer)


@dataclass(frozen=True)
class _Arms:
    """Variances of one or two samples, each of ``num`` trainings."""

    variances: tuple[float, ...]
    num: int

    def further(self, difference: float, inner: float, outer: float) -> int | None:
        """Trainings a side until the 90 % interval would lie inside or outside; None where that is more than reasonable."""
        nums = np.arange(max(_LEAST_FOR_SPREAD, self.num + 1), self.num + _MOST_FURTHER + 1)
        total = sum(self.variances)
        freedom = (nums - 1) * total**2 / sum(variance**2 for variance in self.variances)  # Welch and Satterthwaite
        halves = stats.t.ppf(1 - LEVEL, freedom) * np.sqrt(total / nums)
        decided = (abs(difference) + halves < inner) | (abs(difference) - halves > outer)
        return int(nums[decided][0]) - self.num if decided.any() else None


def _judged(
    difference: float,
    low: float,
    high: float,
    margin: float,
    p_same: float,
    p_apart: float,
    arms: _Arms,
    inner: float,
    outer: float,
) -> Comparison:
    word: Word = "reproduced" if p_same <= LEVEL else "not reproduced" if p_apart <= LEVEL else "inconclusive"
    further = arms.further(difference, inner, outer) if word == "inconclusive" else None
    return Comparison(difference, low, high, margin, word, p_same, p_apart, further)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p adjusted for there being so many, in the order given."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
