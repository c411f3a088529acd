"""Estimates, intervals and verdicts from a few runs; pure functions of their arguments.

``scores`` are results of independent runs, in points, one per seed.
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

Verdict = Literal["reproduced", "not reproduced", "inconclusive"]
LEVEL = 0.05  # of each one-sided test: how often a verdict is wrong, at most
_LEAST_FOR_SPREAD = 2
LEAST_FOR_BOOTSTRAP = 5  # two seeds per side have nine resamples
_MOST_FURTHER = 200  # seeds; more would not be run


def spread(scores: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1); None for fewer than two scores."""
    return float(np.std(scores, ddof=1)) if len(scores) >= _LEAST_FOR_SPREAD else None


def prediction_interval(scores: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Prediction interval of one further run; None for fewer than two scores."""
    sd, num = spread(scores), len(scores)
    if sd is None:
        return None
    half = float(stats.t.ppf((1 + level) / 2, num - 1)) * sd * math.sqrt(1 + 1 / num)
    mean = float(np.mean(scores))
    return mean - half, mean + half


def gain(scores: Sequence[float], baseline: Sequence[float]) -> float:
    """Difference of the means."""
    return float(np.mean(scores) - np.mean(baseline))


@dataclass(frozen=True)
class WelchInterval:
    """Welch's interval of a difference of means, and the two-sided p of there being none."""

    low: float
    high: float
    p: float


def welch(scores: Sequence[float], baseline: Sequence[float], *, level: float = 0.95) -> WelchInterval | None:
    """Welch's t-test, unpaired; None where either side has fewer than two scores or none varies."""
    if min(len(scores), len(baseline)) < _LEAST_FOR_SPREAD or (np.ptp(scores) == 0 and np.ptp(baseline) == 0):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one side need not vary
        test = stats.ttest_ind(scores, baseline, equal_var=False)
    interval = test.confidence_interval(level)
    return WelchInterval(float(interval.low), float(interval.high), float(test.pvalue))


def untested(scores: Sequence[float], baseline: Sequence[float]) -> str | None:
    """Reason why :func:`welch` gives nothing; None where it gives an interval."""
    for whose, found in (("", scores), (" of the baseline", baseline)):
        if len(found) < _LEAST_FOR_SPREAD:
            return f"{'one seed' if found else 'no seed'}{whose}"
    return "no spread in either" if np.ptp(scores) == 0 and np.ptp(baseline) == 0 else None


def split_spread(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the standard deviations between and within groups of two scores or more each, by one-way analysis of variance.

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

    Resamples in which one side does not vary have no correlation and are excluded; no interval below five points.
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


def gap_closed(scores: Sequence[float], baseline: Sequence[float], teacher: float) -> float | None:
    """Gain over the distance between baseline and teacher; None where the teacher does not lead."""
    gap = teacher - float(np.mean(baseline))
    return gain(scores, baseline) / gap if gap > 0 else None


def gap_closed_interval(
    scores: Sequence[float],
    baseline: Sequence[float],
    teacher: float,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap of :func:`gap_closed` over the seeds of both; the teacher is one run and stays.

    None for fewer than five scores on either side, and where the teacher does not lead in every resample.
    """
    if min(len(scores), len(baseline)) < LEAST_FOR_BOOTSTRAP or teacher <= max(baseline):
        return None

    def fraction(of_method: npt.NDArray[np.float64], of_baseline: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        means = of_baseline.mean(axis)
        return np.asarray((of_method.mean(axis) - means) / (teacher - means))

    found = stats.bootstrap(
        (scores, baseline), fraction, n_resamples=resamples, confidence_level=level, method="percentile", vectorized=True, rng=rng
    ).confidence_interval
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Comparison:
    """Our result against a reported one, in points.

    Args:
        difference: ours minus the reported.
        low: of the difference's 90 % interval, which is inside the margin exactly where both one-sided tests reject at 5 %.
        high: its other end; both None for fewer than two seeds and where nothing varies.
        margin: that the verdict was made with.
        p_equivalent: of the equivalence test.
        p_different: of a difference beyond the margin.
        further_seeds: per side, that would decide it if mean and spread stayed as they are; None where it is decided, or
            where no reasonable number would.
    """

    difference: float
    low: float | None
    high: float | None
    margin: float
    verdict: Verdict
    p_equivalent: float | None
    p_different: float | None
    further_seeds: int | None


def compare_mean(scores: Sequence[float], reported: float, *, half_digit: float, margin: float, planning_sd: float) -> Comparison:
    """Compare the mean of our runs with a reported score.

    The reported value stands for all values that are rounded to it: ours must be within the margin of each to be reproduced,
    and beyond it of each not to be.

    Args:
        scores: ours; one or more.
        reported: as printed.
        half_digit: half a unit of its last digit.
        margin: how far apart may count as the same; more than ``half_digit``.
        planning_sd: what one seed's spread is taken for when further seeds are counted.
    """
    inner, outer = margin - half_digit, margin + half_digit
    difference = float(np.mean(scores)) - reported
    sd = spread(scores)
    if not sd:
        planned = _Arms((planning_sd**2,), len(scores))
        return Comparison(difference, None, None, margin, "inconclusive", None, None, planned.further(difference, inner, outer))
    ours = DescrStatsW(np.asarray(scores))
    p_equivalent = float(ours.ttost_mean(reported - inner, reported + inner)[0])
    p_different = min(ours.ttest_mean(reported + outer, "larger")[1], ours.ttest_mean(reported - outer, "smaller")[1])
    low, high = (float(end) - reported for end in ours.tconfint_mean(2 * LEVEL))
    return _judged(difference, low, high, margin, p_equivalent, float(p_different), _Arms((sd**2,), len(scores)), inner, outer)


def compare_gain(
    scores: Sequence[float],
    baseline: Sequence[float],
    reported: float,
    *,
    half_digit: float,
    margin: float,
    planning_sd: float,
) -> Comparison:
    """Compare our gain over our baseline with a reported gain, unpaired and of unequal variances; see :func:`compare_mean`.

    ``half_digit`` is the reported score's and its baseline's together.
    """
    inner, outer = margin - half_digit, margin + half_digit
    difference = gain(scores, baseline) - reported
    sds = spread(scores), spread(baseline)
    if sds[0] is None or sds[1] is None or not any(sds):
        planned = _Arms((planning_sd**2,) * 2, min(len(scores), len(baseline)))
        return Comparison(difference, None, None, margin, "inconclusive", None, None, planned.further(difference, inner, outer))
    both = CompareMeans(DescrStatsW(np.asarray(scores)), DescrStatsW(np.asarray(baseline)))
    p_equivalent = float(both.ttost_ind(reported - inner, reported + inner, usevar="unequal")[0])
    p_different = min(
        both.ttest_ind("larger", "unequal", value=reported + outer)[1],
        both.ttest_ind("smaller", "unequal", value=reported - outer)[1],
    )
    low, high = (float(end) - reported for end in both.tconfint_diff(2 * LEVEL, usevar="unequal"))
    arms = _Arms((sds[0] ** 2, sds[1] ** 2), min(len(scores), len(baseline)))
    return _judged(difference, low, high, margin, p_equivalent, float(p_different), arms, inner, outer)


@dataclass(frozen=True)
class _Arms:
    """Variances of one or two samples, each of ``num`` runs."""

    variances: tuple[float, ...]
    num: int

    def further(self, difference: float, inner: float, outer: float) -> int | None:
        """Return the further runs per side until the 90 % interval would be inside or outside; None where these are too many."""
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
    p_equivalent: float,
    p_different: float,
    arms: _Arms,
    inner: float,
    outer: float,
) -> Comparison:
    verdict: Verdict = "reproduced" if p_equivalent <= LEVEL else "not reproduced" if p_different <= LEVEL else "inconclusive"
    further = arms.further(difference, inner, outer) if verdict == "inconclusive" else None
    return Comparison(difference, low, high, margin, verdict, p_equivalent, p_different, further)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values (Holm 1979), in the order given."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []
