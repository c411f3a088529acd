"""Statistics against numbers worked out by hand, by other formulas, and by simulation."""

import math
import warnings

import numpy as np
import pytest
from scipy import integrate, stats

from reports.stats.inference import (
    compare_gain,
    compare_mean,
    gain,
    gap_closed,
    gap_closed_interval,
    holm,
    prediction_interval,
    spread,
    welch,
)

HOW = {"half_digit": 0.05, "margin": 0.3, "planning_sd": 0.15}
T95 = {1: 6.313752, 2: 2.919986, 4: 2.131847, 8: 1.859548}  # 95th percentile of Student's t, by degrees of freedom (tables)


def test_spread_by_hand():
    """Standard deviation of 1, 2, 3: squares 1 + 0 + 1 over n - 1 = 2."""
    assert spread([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert spread([4.0]) is None


def test_prediction_interval_by_hand():
    """Mean 2, deviation 1, n 3: 2 +- 4.302653 * sqrt(4/3); one score tells nothing of the next."""
    half = 4.302653 * math.sqrt(4 / 3)

    assert prediction_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-5)
    assert prediction_interval([4.0]) is None


def test_gain_and_gap():
    """Means 5 and 2; the teacher at 8 leads by 6, of which 3 are closed."""
    assert gain([4.0, 6.0], [1.0, 3.0]) == pytest.approx(3.0)
    assert gap_closed([4.0, 6.0], [1.0, 3.0], 8.0) == pytest.approx(0.5)
    assert gap_closed([4.0, 6.0], [1.0, 3.0], 2.0) is None


def test_welch_by_hand():
    """Equal variances 2 and n of 2 each: standard error sqrt(2), 2 degrees of freedom, t = 4.302653."""
    found = welch([4.0, 6.0], [1.0, 3.0])
    half = 4.302653 * math.sqrt(2 / 2 + 2 / 2)

    assert (found.low, found.high) == pytest.approx((3.0 - half, 3.0 + half), abs=1e-5)
    # Student's t with 2 degrees of freedom has the closed distribution 1/2 + t / (2 sqrt(2 + t^2)).
    t = 3 / math.sqrt(2)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-9)


def test_no_interval_without_spread():
    """One seed on either side, or no variation at all, gives none."""
    assert welch([4.0], [1.0, 3.0]) is None
    assert welch([0.0, 0.0], [0.0, 0.0]) is None


def test_bootstrap_of_five_seeds_by_hand():
    """The fifth seed is drawn k times, binomial of five draws at 1/5: 0 in 33 %, at most 2 in 94 %, at most 3 in 99 %."""
    low, high = gap_closed_interval([4.0, 4.0, 4.0, 4.0, 9.0], [1.0] * 5, 11.0, rng=np.random.default_rng(0))

    assert (low, high) == pytest.approx(((4 - 1) / (11 - 1), (4 + 3 - 1) / (11 - 1)))


@pytest.mark.parametrize(("num", "more"), [(2, 5), (4, 5), (5, 4), (5, 1)])
def test_no_bootstrap_below_five_seeds(num, more):
    """Two seeds a side have nine resamples, which is no distribution."""
    scores, control = [4.0 + number for number in range(num)], [1.0 + number / 10 for number in range(more)]

    assert gap_closed_interval(scores, control, 11.0, rng=np.random.default_rng(0)) is None


def test_bootstrap_draws_from_its_generator_alone():
    """Numpy's global state changes nothing, the generator's seed does, a teacher within the control's reach gives none."""
    scores, control = np.arange(5.0) ** 2 + 10, np.arange(5.0)
    found = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002 (the global state is what is tested)
        found.append(gap_closed_interval(scores, control, 60.0, rng=np.random.default_rng(7), resamples=500))

    assert found[0] == found[1]
    assert found[0] != gap_closed_interval(scores, control, 60.0, rng=np.random.default_rng(8), resamples=500)
    assert found[0][0] < gap_closed(scores, control, 60.0) < found[0][1]
    assert gap_closed_interval(scores, control, 4.0, rng=np.random.default_rng(7)) is None


def test_holm_by_hand():
    """Holm adjustment of 0.01, 0.04, 0.03: times 3, then 2, then 1, never falling: 0.03, 0.06, 0.06."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    # Ties, a step that would fall below the one before, and one that stays the largest.
    assert holm([0.04, 0.001, 0.9, 0.04]) == pytest.approx([0.12, 0.004, 0.9, 0.12])
    assert holm([0.2, 0.2, 0.01, 0.6]) == pytest.approx([0.6, 0.6, 0.04, 0.6])


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ([40.0, 40.1, 40.2], "reproduced"),  # +0.1 +- 2.92 * 0.1 / sqrt(3) = 0.17, reaches 0.27, not yet beyond 0.3
        ([40.3, 40.4, 40.5], "inconclusive"),  # +0.4 +- 0.17 spans the margin
        ([40.6, 40.7, 40.8], "not reproduced"),  # +0.7 - 0.17 is above 0.3 + 0.05
        ([39.2, 39.3, 39.4], "not reproduced"),  # and below
        ([40.1], "inconclusive"),  # one seed
        ([40.1, 40.1], "inconclusive"),  # nothing varies
    ],
)
def test_verdict_on_a_score_by_hand(scores, verdict):
    """ReportedComparison 40.0 with margin 0.3: the 90 % interval inside +-0.3, beyond it, or neither."""
    found = compare_mean(scores, 40.0, half_digit=0.0, margin=0.3, planning_sd=0.15)
    beyond = compare_mean(scores, 40.0, **HOW)

    assert found.verdict == verdict
    assert found.difference == pytest.approx(np.mean(scores) - 40.0)
    # A printed digit is an interval: what was just inside is so no longer, what was far off stays.
    assert beyond.verdict == ("inconclusive" if verdict == "reproduced" else verdict)


def test_interval_and_p_of_a_score_by_hand():
    """Two degrees of freedom, where t's distribution is closed: 1/2 + t / (2 sqrt(2 + t^2))."""
    found = compare_mean([40.0, 40.1, 40.2], 40.0, **HOW)
    error = 0.1 / math.sqrt(3)
    upper, further = (0.25 - 0.1) / error, (0.1 - 0.35) / error

    assert (found.low, found.high) == pytest.approx((0.1 - T95[2] * error, 0.1 + T95[2] * error), abs=1e-6)
    assert found.p_equivalent == pytest.approx(0.5 - upper / (2 * math.sqrt(2 + upper**2)))
    assert found.p_different == pytest.approx(0.5 - further / (2 * math.sqrt(2 + further**2)))


def test_verdict_on_a_gain_by_hand():
    """Gain 2.0 of two times three seeds, deviations 0.1: error 0.1 sqrt(2/3), 4 degrees of freedom, 90 % +-0.174."""
    scores, control = [42.0, 42.1, 42.2], [40.0, 40.1, 40.2]
    half = T95[4] * 0.1 * math.sqrt(2 / 3)
    verdicts = {
        figure: compare_gain(scores, control, figure, half_digit=0.1, margin=0.3, planning_sd=0.15)
        for figure in (2.0, 2.1, 2.5, 2.6)
    }

    assert {figure: found.verdict for figure, found in verdicts.items()} == {
        2.0: "reproduced", 2.1: "inconclusive", 2.5: "inconclusive", 2.6: "not reproduced",
    }  # fmt: skip
    assert (verdicts[2.5].low, verdicts[2.5].high) == pytest.approx((-0.5 - half, -0.5 + half), abs=1e-6)


def test_further_seeds_by_hand():
    """Mean on the spot, deviation 0.15, margin 0.3 less 0.05: with n = 3 the half width is 0.253, with 4 0.176."""
    assert compare_mean([39.894, 40.106], 40.0, **HOW).further_seeds == 2
    # One seed: the assumed spread, and two seeds at least; right at the margin nothing decides.
    assert compare_mean([40.0], 40.0, **HOW).further_seeds == 3
    assert compare_mean([40.3, 40.31, 40.29], 40.0, **HOW).further_seeds is None
    assert compare_mean([40.0, 40.01, 39.99], 40.0, **HOW).further_seeds is None  # decided already


def test_further_seeds_of_a_gain_by_hand():
    """Both sides 0.15, difference 0, half digits 0.1: needs t sqrt(2/n) 0.15 < 0.2; n = 4: 0.206, n = 5: 0.176."""
    found = compare_gain([42.0], [40.0], 2.0, half_digit=0.1, margin=0.3, planning_sd=0.15)

    assert (found.verdict, found.further_seeds) == ("inconclusive", 4)


NUM_DRAWS = 10_000


@pytest.mark.slow
@pytest.mark.parametrize("num", [2, 3, 5, 8])
def test_a_difference_at_the_margin_is_seldom_called_reproduced(num):
    """In at most 5 % of 10,000 draws, within three standard errors of the simulation; nor is it called beyond more often."""
    rng = np.random.default_rng(num)
    draws = rng.normal(40.3, 0.15, (NUM_DRAWS, num))
    words = [compare_mean(scores, 40.0, half_digit=0.0, margin=0.3, planning_sd=0.15).verdict for scores in draws]
    most = 0.05 + 3 * math.sqrt(0.05 * 0.95 / NUM_DRAWS)

    assert words.count("reproduced") / NUM_DRAWS <= most
    assert words.count("not reproduced") / NUM_DRAWS <= most


@pytest.mark.slow
def test_no_difference_is_found_as_often_as_theory_says():
    """5 seeds with deviation 0.15: the probability integrated over the chi-square distribution of the sample's variance."""
    num, sd, margin = 5, 0.15, 0.3
    rng = np.random.default_rng(0)
    draws = rng.normal(40.0, sd, (NUM_DRAWS, num))
    found = sum(compare_mean(s, 40.0, half_digit=0.0, margin=margin, planning_sd=sd).verdict == "reproduced" for s in draws)

    def chance(variance_ratio):
        """Probability that the mean is within the room that t * s / sqrt(n) leaves, given (n - 1) s^2 / sd^2."""
        room = margin - T95[num - 1] * sd * math.sqrt(variance_ratio / (num - 1) / num)
        return max(0.0, 2 * stats.norm.cdf(room / (sd / math.sqrt(num))) - 1) * stats.chi2.pdf(variance_ratio, num - 1)

    expected = integrate.quad(chance, 0, np.inf)[0]
    assert found / NUM_DRAWS == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / NUM_DRAWS))


def test_gains_of_unequal_spread_at_the_margin():
    """Welch's test holds 5 % within simulation error where one side varies three times as much (5 seeds each)."""
    rng = np.random.default_rng(3)
    num_draws = 3_000
    words = [
        compare_gain(
            rng.normal(42.3, 0.3, 5), rng.normal(40.0, 0.1, 5), 2.0, half_digit=0.0, margin=0.3, planning_sd=0.15
        ).verdict
        for _ in range(num_draws)
    ]

    # Welch and Satterthwaite approximate: a point above 5 % is allowed beyond the simulation's own error.
    assert words.count("reproduced") / num_draws <= 0.06 + 3 * math.sqrt(0.05 * 0.95 / num_draws)


def test_a_side_that_does_not_vary_is_no_trouble():
    """Welch by hand: the other's standard error is 1, one degree of freedom, whose t is tan of 0.475 pi."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = welch([1.0, 3.0], [5.0, 5.0])

    assert (found.low, found.high) == pytest.approx((-3 - math.tan(0.475 * math.pi), -3 + math.tan(0.475 * math.pi)))
    assert found.p == pytest.approx(1 - 2 * math.atan(3) / math.pi)
