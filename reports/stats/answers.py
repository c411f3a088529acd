"""Answers of a whole leaderboard beside its rows: power of its seeds, the teacher's share of the spread, rank correlation with reported gains."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from reports.formats.wording import LEVEL, estimate, p_value, short
from reports.schemas.leaderboard import Leaderboard, Predicted, SeedPower, Table, TeacherSplit
from reports.stats import inference
from reports.stats.power import power

TRUE_GAIN = 1.5  # points, that a reader would want to be told of
_SEED = 20261129
_LEAST_ROWS = 3  # for a correlation of ranks
_GOOD_POWER = 0.9


def seed_power(table: Table, num_tests: int) -> SeedPower | None:
    """Power to find a true gain of :data:`TRUE_GAIN` on one row of a pair after Holm, at the spread of its own seeds.

    None where fewer than two rows have a spread, or nothing varies.
    """
    done = [row for row in table.rows if row.num_seeds > 1 and row.sd is not None]
    control = next((row for row in done if row.method == "none"), None)
    others = [row for row in done if row.method != "none" and row.gain_p is not None]
    if control is None or not others:
        return None
    freedom = sum(row.num_seeds - 1 for row in done)
    sd = math.sqrt(sum((row.num_seeds - 1) * (row.sd or 0.0) ** 2 for row in done) / freedom)
    if sd == 0:
        return None
    seeds = min(row.num_seeds for row in others)
    found = power(
        TRUE_GAIN, sd, num_rows=max(num_tests, 1), num_with_gain=1, seeds=seeds, baseline_seeds=control.num_seeds,
        rng=np.random.default_rng(_SEED),
    )  # fmt: skip
    return SeedPower(gain=TRUE_GAIN, sd=sd, seeds=seeds, control_seeds=control.num_seeds, num_tests=num_tests, power=found)


def teacher_splits(tables: Sequence[Table]) -> list[TeacherSplit]:
    """For every row of a pair that repeats another with a second teacher, and of that other pair: whose the spread is."""
    by_name, found = {table.pair: table for table in tables}, []
    for again in tables:
        first = by_name.get(again.repeats or "")
        if first is None:
            continue
        for row in again.rows:
            same = next((one for one in first.rows if one.method == row.method), None)
            if row.method == "none" or same is None:
                continue
            scores = [[seed.score for seed in one.seeds] for one in (same, row)]
            interval = inference.welch(scores[1], scores[0])
            if interval is None:
                continue
            of_teacher, of_student = inference.split_spread(scores)
            found.append(
                TeacherSplit(
                    pair=first.pair, method=row.method, title=row.title, metric=first.metric,
                    difference=inference.gain(scores[1], scores[0]), low=interval.low, high=interval.high, p=interval.p,
                    teacher_sd=of_teacher, student_sd=of_student,
                )
            )  # fmt: skip
    return found


def predictions(tables: Sequence[Table]) -> list[Predicted]:
    """Rank correlation of the gains here with the reported ones: a pair each, and over all pairs; none from fewer than three rows."""
    by_pair = {
        table.title: [
            (row.gain, float(np.mean(gains)))
            for row in table.rows
            if row.gain is not None and (gains := [figure.gain for figure in row.published if figure.gain is not None])
        ]
        for table in tables
    }
    by_pair = {title: points for title, points in by_pair.items() if points}
    if len(by_pair) > 1:
        by_pair["all pairs"] = list(itertools.chain.from_iterable(by_pair.values()))
    found = []
    for title, points in by_pair.items():
        here, reported = zip(*points, strict=True)
        told = (
            inference.rank_correlation(here, reported, rng=np.random.default_rng(_SEED)) if len(points) >= _LEAST_ROWS else None
        )
        rho, low, high = told or (None, None, None)
        found.append(Predicted(what=title, num_rows=len(points), rho=rho, low=low, high=high))
    return found


def sections(board: Leaderboard) -> list[tuple[str, list[str]]]:
    """Titles and paragraphs, as every form of the report prints them."""
    found = [
        ("What the models start from", _told_of_starts(board)),
        ("What the seeds can tell", [_told_of_power(table) for table in board.tables if table.power]),
        ("The teacher's share of the spread", [_told_of_split(split) for split in board.teacher_splits]),
    ]
    if not board.full_size:
        found.append((f"Does tier {board.tier} predict?", _told_of_prediction(board)))
    return [(title, paragraphs) for title, paragraphs in found if paragraphs]


def _told_of_starts(board: Leaderboard) -> list[str]:
    if not board.starts:
        return []
    told = ", ".join(f"{start.name} {start.accuracy:.1f} % in {start.cost.train_s:.0f} s" for start in board.starts)
    first = "Backbones start from weights that were learned once each by naming the one digit of generated scenes, where published ones start from ImageNet's"
    return [f"{first}; digits named rightly on scenes of the tune split: {told}."]


def _told_of_power(table: Table) -> str:
    told = table.power
    if told is None:
        return ""
    verdict = (
        "enough" if told.power >= _GOOD_POWER else f"short of {_GOOD_POWER:g}: a gain of that size that is not shown may be there"
    )
    return (
        f"{table.title}: {told.seeds} seeds a row and {told.control_seeds} of the control vary by {told.sd:.2f} {short(table.metric)} (standard "
        f"deviation within a row, pooled). A true gain of {told.gain:g} on one row alone would be found with power {told.power:.2f} after Holm over "
        f"{told.num_tests} tests, {verdict}."
    )


def _told_of_split(split: TeacherSplit) -> str:
    told = "is shown to matter" if split.p <= LEVEL else "is not shown to matter"
    return (
        f"{split.title} on {split.pair}: under a second teacher, trained with another seed, its students score "
        f"{estimate(split.difference, split.low, split.high)} {short(split.metric)} (p {p_value(split.p)}): which teacher was drawn {told}. Standard "
        f"deviation between students of one teacher {split.student_sd:.2f}, between teachers {split.teacher_sd:.2f}; the latter is of two teachers, so "
        "hardly more than its order of magnitude. Intervals of the rows hold for the one teacher that they were trained under."
    )


def _told_of_prediction(board: Leaderboard) -> list[str]:
    lines = []
    for one in board.predictions:
        if one.rho is None:
            lines.append(
                f"{one.what}: {one.num_rows} {'row has' if one.num_rows == 1 else 'rows have'} a reported gain, too few to rank."
            )
            continue
        interval = "" if one.low is None else f", 95 % bootstrap interval {one.low:+.2f} to {one.high:+.2f}"
        lines.append(
            f"{one.what}: Spearman's rank correlation of the gains here with the reported ones {one.rho:+.2f}{interval}, n {one.num_rows}."
        )
    if not lines:
        return []
    whole = board.predictions[-1]
    if whole.rho is None or whole.low is None or whole.low <= 0:
        lines.append(
            f"So whether the order of methods at tier {board.tier} is that of the published figures cannot be told from these rows."
        )
    else:
        lines.append(
            f"So over these rows the order of methods at tier {board.tier} agrees with that of the published figures better than chance; what it says of a "
            "method that is not among them is not known."
        )
    return lines
