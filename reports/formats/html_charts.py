"""Charts of the page that follow its filters: gains with intervals and cost as one list, and validation curves as small multiples.

They are drawn here, as elements of the page: a chart library's script weighs more than the page, and a list that is filtered needs none.
Positions are percentages of a track, or of a diagram's width and height.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.formats import wording
from reports.formats.html_curves import Panel, draw, mean_curve, ticks
from reports.schemas.leaderboard import Leaderboard, Row, Table


@dataclass(frozen=True)
class Gain:
    """One row of the forest plot."""

    row: Row
    at: float
    low: float | None
    width: float | None
    words: str
    reported: list[tuple[float, str]]
    cost: float | None
    cost_words: str


@dataclass(frozen=True)
class Axis:
    """Common axis of all gains: the zero and its ticks."""

    zero: float
    ticks: list[tuple[float, str]]


def axis(boards: Sequence[Leaderboard]) -> tuple[Axis, float, float] | None:
    """Return the axis that holds all gains and their intervals, with its ends in points; None without a gain."""
    found = [0.0]
    for row in (row for board in boards for table in board.tables for row in table.rows):
        found += [value for value in (row.gain, row.gain_low, row.gain_high) if value is not None]
    for board in boards:
        if board.paper_scale:
            found += [one.gain for table in board.tables for row in table.rows for one in row.reported if one.gain is not None]
    if len(found) == 1:
        return None
    marks = ticks(min(found), max(found))
    low, high = marks[0], marks[-1]
    return Axis(_at(0.0, low, high), [(_at(mark, low, high), f"{mark:+g}" if mark else "0") for mark in marks]), low, high


def gains(board: Leaderboard, table: Table, rows: Sequence[Row], ends: tuple[float, float]) -> list[Gain]:
    """Rows of the forest plot, those with a gain.

    Args:
        board: of the table.
        table: of the rows.
        rows: in the order of the list.
        ends: of the common axis, points.
    """
    base = table.baseline.minutes if table.baseline else None
    found = []
    for row in rows:
        if row.gain is None:
            continue
        has_interval = row.gain_low is not None and row.gain_high is not None
        low = _at(row.gain_low, *ends) if has_interval and row.gain_low is not None else None
        high = _at(row.gain_high, *ends) if has_interval and row.gain_high is not None else None
        reported = [
            (_at(one.gain, *ends), f"reported {wording.printed(one.gain, signed=True)}, {one.source}")
            for one in row.reported
            if board.paper_scale and one.gain is not None
        ]
        times = row.minutes / base if board.is_on_gpu and row.minutes is not None and base else None
        found.append(
            Gain(
                row,
                _at(row.gain, *ends),
                low,
                None if low is None or high is None else round(high - low, 2),
                wording.gain(row),
                reported,
                times,
                "" if times is None else f"{times:.1f}x" + (" + once" if row.one_time_minutes is not None else ""),
            )
        )
    return found


def multiples(table: Table, rows: Sequence[Row]) -> list[tuple[Row, Panel]]:
    """Return each row's validation curve, the mean of its seeds, over the baseline's; all of a pair on one scale."""
    base = mean_curve([seed.curve.val_score for seed in table.baseline.seeds]) if table.baseline else []
    means = [(row, mean_curve([seed.curve.val_score for seed in row.seeds])) for row in rows if not row.is_baseline]
    shown = [(row, curve) for row, curve in means if len(curve) > 1]
    points = [point for _, curve in shown for point in curve] + base
    if not shown:
        return []
    scale = (max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points))
    return [(row, draw(row.title, [("baseline", base), ("own", curve)], scale)) for row, curve in shown]


def _at(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)
