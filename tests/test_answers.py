"""Answers of a whole leaderboard: power of its seeds, whose the spread is, and whether its tier predicts."""

import numpy as np
import pytest
from scipy import stats

from reports.formats.answers import sections
from reports.stats.answers import rank_correlations, seed_power, teacher_effects
from reports.stats.assembly import leaderboard
from reports.stats.inference import rank_correlation, split_spread, untested
from reports.stats.rows import RowRecords
from tests.boards import figure, made_up, result

RNG = np.random.default_rng


def test_split_spread_by_hand():
    """Means 2 and 6, each group 1 around its own: within 1, between the means' variance 8 less a third of 1."""
    between, within = split_spread([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])

    assert (between**2, within) == (pytest.approx(8 - 1 / 3), 1.0)
    assert split_spread([[1.0, 3.0], [1.0, 3.0]])[0] == 0.0


def test_split_spread_finds_what_was_drawn():
    """Many groups of unequal size: deviations 2 between and 1 within, as they were drawn."""
    rng = RNG(0)
    groups = [rng.normal(rng.normal(0, 2), 1, size=3 + number % 4).tolist() for number in range(2000)]

    assert split_spread(groups) == pytest.approx((2.0, 1.0), rel=0.05)


def test_rank_correlation():
    """Scipy's own, whatever the scale; no interval of few points; nothing where one side does not vary."""
    one, other = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 9.0, 4.0, 16.0, 25.0]
    rho, low, high = rank_correlation(one, other, rng=RNG(0))

    assert rho == pytest.approx(stats.spearmanr(one, other).statistic)
    assert low < rho <= high <= 1
    assert rank_correlation(one, [value**3 for value in one], rng=RNG(0)) == pytest.approx((1.0, 1.0, 1.0))
    assert rank_correlation(one[:3], [3.0, 2.0, 1.0], rng=RNG(0)) == (-1.0, None, None)
    assert rank_correlation(one, [1.0] * 6, rng=RNG(0)) is None


@pytest.mark.slow
def test_rank_correlation_covers():
    """Coverage on independent points: 5 % of the intervals leave out 0, and with few points not many more."""
    rng = RNG(1)
    missed = 0
    for _ in range(200):
        _, low, high = rank_correlation(rng.normal(size=12).tolist(), rng.normal(size=12).tolist(), rng=rng, resamples=300)
        missed += not low <= 0 <= high

    assert missed < 30


@pytest.mark.parametrize(
    ("scores", "control", "expected"),
    [
        ([1.0], [1.0, 2.0], "one seed"),
        ([1.0, 2.0], [1.0], "one seed of the baseline"),
        ([1.0, 2.0], [], "no seed of the baseline"),
        ([2.0, 2.0], [1.0, 1.0], "no spread in either"),
        ([2.0, 2.0], [1.0, 1.5], None),
    ],
)
def test_why_nothing_is_tested(scores, control, expected):
    """Two equal seeds are no one seed."""
    assert untested(scores, control) == expected


def many(scores, **more):
    """A table whose rows have these seeds."""
    return made_up(scores=scores, **more)


def test_power_follows_the_spread():
    """The pooled deviation by hand, and a wide spread finds less than a narrow one."""
    wide = many({"none": (10.0, 12.0, 14.0), "mgd": (13.0, 14.0, 15.0, 16.0)})
    narrow = many({"none": (11.9, 12.0, 12.1), "mgd": (14.0, 14.1, 14.2, 14.3)})
    told = seed_power(wide, 3)

    assert told.sd == pytest.approx(np.sqrt((8.0 + 5.0) / 5))
    assert (told.seeds, told.baseline_seeds, told.num_tests) == (4, 3, 3)
    assert told.power < 0.5
    assert seed_power(narrow, 3).power > 0.95
    assert seed_power(many({"none": (1.0,), "mgd": (2.0,)}), 1) is None


def twice(second):
    """A pair, and the same once more under a second teacher."""
    cells = {
        method: RowRecords([result("box AP", score, method, seed, pair="pair_again") for seed, score in enumerate(scores)])
        for method, scores in second.items()
    }
    first = many({"none": (10.0, 12.0), "mgd": (13.0, 15.0)}, name="pair")
    again = many({"none": (10.0, 12.0)}, name="pair_again", cells=cells)
    return [first, again.model_copy(update={"repeats": "pair"})]


def test_two_teachers():
    """A difference of 10 between the teachers' students, who differ by the square root of 2 among themselves."""
    (split,) = teacher_effects(twice({"mgd": (23.0, 25.0)}))

    assert (split.pair, split.method, split.difference) == ("pair", "mgd", 10.0)
    assert split.student_sd == pytest.approx(np.sqrt(2))
    assert split.teacher_sd == pytest.approx(np.sqrt((100 - 2) / 2))
    assert teacher_effects(twice({})) == []


def predicting(gains):
    """Tables with one row of a gain here and a reported one each."""
    tables = []
    for number, (here, there) in enumerate(gains):
        scores = {"none": (10.0, 12.0), "mgd": (10.0 + here, 12.0 + here)}
        tables.append(many(scores, title=f"Pair {number}", reported={"mgd": [figure(41.0, there)]}))
    return tables


def test_does_it_predict():
    """By pair there is one row, too few; over all pairs the ranks agree."""
    *of_pairs, whole = rank_correlations(predicting([(1.0, 0.1), (2.0, 0.2), (3.0, 0.5), (4.0, 0.9), (5.0, 1.0), (6.0, 1.1)]))

    assert [(one.num_rows, one.rho) for one in of_pairs] == [(1, None)] * 6
    assert (whole.what, whole.num_rows, whole.rho) == ("all pairs", 6, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([(1.0, 0.1), (2.0, 0.2), (3.0, 0.5), (4.0, 0.9), (5.0, 1.0), (6.0, 1.1)], "better than chance"),
        ([(1.0, 0.9), (2.0, 0.1), (3.0, 1.0), (4.0, 0.2), (5.0, 0.5)], "these rows do not show"),
        ([(1.0, 0.1), (2.0, 0.2)], "these rows do not show"),
    ],
)
def test_the_honest_sentence(gains, expected):
    """The words depend on the interval alone."""
    found = dict(sections(leaderboard("mini", "a scale", predicting(gains), [])))

    assert expected in found["Does tier mini predict the reported gains?"][-1]


def test_at_full_size_nothing_is_predicted():
    """There the figures themselves are compared."""
    board = leaderboard("paper", "as published", predicting([(1.0, 0.1)] * 3), [], paper_scale=True)

    assert (board.rank_correlations, [title for title, _ in sections(board) if "predict" in title]) == ([], [])


def test_equal_seeds_in_the_table():
    """Two equal seeds a side: a gain without a test, in words that do not blame the number of seeds."""
    row = next(row for row in many({"none": (10.0, 10.0), "mgd": (12.0, 12.0)}).rows if row.method == "mgd")

    assert (row.gain, row.gain_p, row.untested) == (2.0, None, "no spread in either")
