"""Power of the leaderboard's tests."""

import numpy as np
import pytest
import yaml
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower

from pipelines.grid import Grid
from reports.stats.power import holm_adjusted, power
from tests.conftest import committed


def _power(gain: float, sd: float, *, rows: int, with_gain: int, seeds: int, baseline: int) -> float:
    rng = np.random.default_rng(1)
    return power(gain, sd, num_rows=rows, num_with_gain=with_gain, seeds=seeds, baseline_seeds=baseline, rng=rng)


def test_holm_is_that_of_statsmodels():
    """Unsorted p-values with ties and one that exceeds 1 when multiplied."""
    p_TR = np.array([[0.04, 0.001, 0.9, 0.04], [0.2, 0.2, 0.01, 0.6]])

    assert holm_adjusted(p_TR) == pytest.approx(np.array([multipletests(row, method="holm")[1] for row in p_TR]))


def test_one_row_has_the_power_of_a_t_test():
    """With one row, equal seeds and spreads, the noncentral t gives nearly the same."""
    expected = TTestIndPower().power(effect_size=1.5 / 0.8, nobs1=8, alpha=0.05)

    assert _power(1.5, 0.8, rows=1, with_gain=1, seeds=8, baseline=8) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("baseline", "seeds", "expected"), [(2, 2, 0.02), (3, 3, 0.54), (5, 3, 0.89), (4, 4, 0.96), (5, 5, 1.0)])
def test_another_simulation_agrees(baseline, seeds, expected):
    """A true gain of 1.3 points in all 19 rows at a spread of 0.24, as simulated apart from this code."""
    assert _power(1.3, 0.24, rows=19, with_gain=19, seeds=seeds, baseline=baseline) == pytest.approx(expected, abs=0.04)


def test_no_gain_is_rarely_found():
    """Without any true gain, a table has a false alarm (above zero) in at most 5 % of cases, per row far less."""
    assert _power(0.0, 0.5, rows=16, with_gain=16, seeds=5, baseline=5) < 0.05 / 8


def test_five_seeds_are_enough_at_a_spread_of_a_third():
    """The hardest case, one row of 16 with a gain of 1.5: eight baseline seeds and five per row suffice to 0.35 points."""
    assert _power(1.5, 0.35, rows=16, with_gain=1, seeds=5, baseline=8) >= 0.9
    assert _power(1.5, 0.6, rows=16, with_gain=1, seeds=5, baseline=8) < 0.9


@pytest.mark.parametrize(("change", "said"), [({"seeds": 1}, "add seeds"), ({"with_gain": 3}, "give 1 to 2")])
def test_bad_numbers_are_refused(change, said):
    """One seed per row, or more rows with a gain than rows."""
    given = {"rows": 2, "with_gain": 1, "seeds": 3, "baseline": 3, **change}

    with pytest.raises(ValueError, match=said):
        _power(1.0, 0.5, **given)


PLANNED_SD = 0.4  # points, of one seed: what the numbers of seeds of the default grid were chosen by (params.yaml)


def test_the_default_grid_has_seeds_enough():
    """A true gain of 1.5 points on any one row is found with power 0.9 after Holm, and would not be with fewer seeds of the control."""
    grid = Grid(**yaml.safe_load(committed("params.yaml")))
    rows = [(pair, method) for pair, methods in grid.rows.items() for method in methods if method != "none"]
    tuned = [(pair, method) for pair, methods in grid.tuning.rows.items() for method in methods]
    # A tuned row is compared with the control, and but for the control's own with its method's row.
    num_tests = len(rows) + len(tuned) + sum(method != "none" for _, method in tuned)
    seeds, baseline = len(grid.seeds), len(grid.baseline_seeds)

    assert _power(1.5, PLANNED_SD, rows=num_tests, with_gain=1, seeds=seeds, baseline=baseline) >= 0.9
    assert _power(1.5, PLANNED_SD, rows=num_tests, with_gain=1, seeds=seeds, baseline=seeds) < 0.9
