"""Statistics against numbers worked out by hand."""

import math

import pytest

from reports.statistics import gain, gain_interval, gap_closed, spread


def test_spread_by_hand():
    """Of 1, 2, 3: squares 1 + 0 + 1 over n - 1 = 2."""
    assert spread([1.0, 2.0, 3.0]) == pytest.approx(1.0)
    assert spread([4.0]) is None


def test_gain_and_gap():
    """Means 5 and 2; the teacher at 8 leads by 6, of which 3 are closed."""
    assert gain([4.0, 6.0], [1.0, 3.0]) == pytest.approx(3.0)
    assert gap_closed([4.0, 6.0], [1.0, 3.0], 8.0) == pytest.approx(0.5)
    assert gap_closed([4.0, 6.0], [1.0, 3.0], 2.0) is None


def test_welch_interval_by_hand():
    """Equal variances 2 and n of 2 each: standard error sqrt(2), 2 degrees of freedom, t = 4.302653."""
    low, high = gain_interval([4.0, 6.0], [1.0, 3.0])
    half = 4.302653 * math.sqrt(2 / 2 + 2 / 2)

    assert low == pytest.approx(3.0 - half, abs=1e-5)
    assert high == pytest.approx(3.0 + half, abs=1e-5)


def test_no_interval_without_spread():
    """One seed on either side, or no variation at all, gives none."""
    assert gain_interval([4.0], [1.0, 3.0]) is None
    assert gain_interval([0.0, 0.0], [0.0, 0.0]) is None
