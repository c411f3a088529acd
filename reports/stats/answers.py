"""Answers of a whole leaderboard beside its rows: power of its seeds, effect of the teacher, rank correlation with reported gains."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from reports.schemas.answers import RankCorrelation, SeedPower, TeacherEffect
from reports.schemas.leaderboard import Table
from reports.stats import inference
from reports.stats.power import power

TRUE_GAIN = 1.5  # points, worth detecting
_SEED = 20261129
_LEAST_ROWS = 3  # for a correlation of ranks


def seed_power(table: Table, num_tests: int) -> SeedPower | None:
    """Power to find a true gain of :data:`TRUE_GAIN` on one row of a pair after Holm, at the spread of its own seeds.

    None where fewer than two rows have a spread, or nothing varies.
    """
    done = [row for row in table.rows if row.num_seeds > 1 and row.sd is not None]
    baseline = next((row for row in done if row.is_baseline), None)
    others = [row for row in done if not row.is_baseline and row.gain_p is not None]
    if baseline is None or not others:
        return None
    freedom = sum(row.num_seeds - 1 for row in done)
    sd = math.sqrt(sum((row.num_seeds - 1) * (row.sd or 0.0) ** 2 for row in done) / freedom)
    if sd == 0:
        return None
    seeds = min(row.num_seeds for row in others)
    found = power(
        TRUE_GAIN, sd, num_rows=max(num_tests, 1), num_with_gain=1, seeds=seeds, baseline_seeds=baseline.num_seeds,
        rng=np.random.default_rng(_SEED),
    )  # fmt: skip
    return SeedPower(gain=TRUE_GAIN, sd=sd, seeds=seeds, baseline_seeds=baseline.num_seeds, num_tests=num_tests, power=found)


def teacher_effects(tables: Sequence[Table]) -> list[TeacherEffect]:
    """Differences between students of two teachers, per row of a pair that repeats another with a second teacher."""
    by_name, found = {table.pair: table for table in tables}, []
    for again in tables:
        first = by_name.get(again.repeats or "")
        if first is None:
            continue
        for row in again.rows:
            same = next((one for one in first.rows if one.id == row.id), None)
            if row.is_baseline or same is None:
                continue
            scores = [[seed.score for seed in one.seeds] for one in (same, row)]
            interval = inference.welch(scores[1], scores[0])
            if interval is None:
                continue
            teacher_sd, student_sd = inference.split_spread(scores)
            found.append(
                TeacherEffect(
                    pair=first.pair, method=row.id, title=row.title, metric=first.metric,
                    difference=inference.gain(scores[1], scores[0]), low=interval.low, high=interval.high, p=interval.p,
                    teacher_sd=teacher_sd, student_sd=student_sd,
                )
            )  # fmt: skip
    return found


def rank_correlations(tables: Sequence[Table]) -> list[RankCorrelation]:
    """Rank correlations of the gains here with the reported ones, per pair and over all pairs; none from fewer than three rows."""
    by_pair = {
        table.title: [
            (row.gain, float(np.mean(gains)))
            for row in table.rows
            if row.gain is not None and (gains := [result.gain for result in row.reported if result.gain is not None])
        ]
        for table in tables
    }
    by_pair = {title: points for title, points in by_pair.items() if points}
    if len(by_pair) > 1:
        by_pair["all pairs"] = list(itertools.chain.from_iterable(by_pair.values()))
    found = []
    for title, points in by_pair.items():
        here, reported = zip(*points, strict=True)
        rng = np.random.default_rng(_SEED)
        correlation = inference.rank_correlation(here, reported, rng=rng) if len(points) >= _LEAST_ROWS else None
        rho, low, high = correlation or (None, None, None)
        found.append(RankCorrelation(what=title, num_rows=len(points), rho=rho, low=low, high=high))
    return found
