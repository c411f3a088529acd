"""Power of the leaderboard's tests: Welch's of each row against a shared baseline, adjusted by Holm.

Simulated, for rows that share a baseline are not independent and no formula covers Holm over them.
``python -m reports.stats.power --sd 0.6 --gain 1.5`` prints it for numbers of seeds.
"""

import argparse
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.stats.inference import LEVEL

_LEAST_SEEDS = 2


def holm_adjusted(p_TR: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Holm's adjusted p-values (1979) of T tables of R tests each, shape (T, R).

    The same as :func:`reports.stats.inference.holm` per table, which is too slow for thousands of tables.
    """
    num = p_TR.shape[1]
    order = np.argsort(p_TR, axis=1)
    stepped = np.take_along_axis(p_TR, order, axis=1) * (num - np.arange(num))
    adjusted = np.empty_like(p_TR)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(stepped, axis=1), 1.0), axis=1)
    return adjusted


def power(
    gain: float,
    sd: float,
    *,
    num_rows: int,
    num_with_gain: int,
    seeds: int,
    baseline_seeds: int,
    rng: np.random.Generator,
    num_tables: int = 4000,
) -> float:
    """Probability that a row with a true gain is significant after Holm.

    Args:
        gain: true gain, points.
        sd: of one seed about its row's mean, points, the same in every row.
        num_rows: rows of the table that are compared with the baseline.
        num_with_gain: of them, those with the gain; the others have none. One is the hardest case for Holm.
        seeds: per row.
        baseline_seeds: of the shared baseline.
        rng: the only source of randomness.
        num_tables: simulated.

    Raises:
        ValueError: there are fewer than two seeds on a side, or the numbers of rows do not fit.
    """
    if min(seeds, baseline_seeds) < _LEAST_SEEDS:
        raise ValueError(f"Welch's test needs two seeds a side, got {seeds} and {baseline_seeds} of the baseline; add seeds")
    if not 1 <= num_with_gain <= num_rows:
        raise ValueError(f"of {num_rows} rows {num_with_gain} cannot have a gain; give 1 to {num_rows}")
    true_R = np.where(np.arange(num_rows) < num_with_gain, gain, 0.0)
    rows_TRS = rng.normal(true_R[:, None], sd, size=(num_tables, num_rows, seeds))
    baseline_T1S = rng.normal(0.0, sd, size=(num_tables, 1, baseline_seeds))
    test = stats.ttest_ind(rows_TRS, baseline_T1S, axis=2, equal_var=False)
    found_TR = (holm_adjusted(np.asarray(test.pvalue)) <= LEVEL) & (np.asarray(test.statistic) > 0)
    return float(found_TR[:, :num_with_gain].mean())


def main() -> None:
    """Print the power by seeds, for one row with the gain and for all rows with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gain", type=float, default=1.5, help="points")
    parser.add_argument("--sd", type=float, required=True, help="of one seed, points")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--most", type=int, default=8, help="seeds per row")
    args = parser.parse_args()
    print("| seeds per row | of the baseline | power, one row has it | power, all rows have it |\n|---|---|---|---|")
    for seeds, more in product(range(2, args.most + 1), (0, 3)):
        found = [
            power(
                args.gain, args.sd, num_rows=args.rows, num_with_gain=num, seeds=seeds, baseline_seeds=seeds + more,
                rng=np.random.default_rng(0),
            )
            for num in (1, args.rows)
        ]  # fmt: skip
        print(f"| {seeds} | {seeds + more} | {found[0]:.2f} | {found[1]:.2f} |")


if __name__ == "__main__":
    main()
