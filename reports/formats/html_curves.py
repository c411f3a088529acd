"""Training curves as small diagrams of a page; positions in pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reports.formats import wording
from reports.schemas.leaderboard import Curve, Table

_LEFT, _WIDTH, _BOTTOM, _HEIGHT = 44, 280, 150, 122  # of the plotted area; the template draws in a frame of 340 x 184
_MOST_POINTS = 120  # of a curve; more are not distinct at its size
_THOUSANDS = 10_000  # iterations from which labels are in thousands
_MOST_STEPS = 4  # of an axis within the data


@dataclass(frozen=True)
class Panel:
    """One small diagram: ticks as (pixels, words), each series as (whose, its points in pixels)."""

    title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    series: list[tuple[str, list[tuple[float, float]]]]


def panels(curves: list[Curve], baseline: list[Curve], table: Table, logs: Sequence[list[tuple[int, float]]] = ()) -> list[Panel]:
    """Diagrams of own loss and validation score over iterations; one without a point is excluded.

    Args:
        curves: the row's, one per seed.
        baseline: its pair's, drawn below them; empty for the baseline itself and for a teacher.
        table: names the metric of the validation score.
        logs: validations in logs that the authors released.
    """
    own_loss = _panel("own loss", [c.own_loss for c in curves], [c.own_loss for c in baseline])
    unit = wording.short(table.metric)
    val = _panel(f"{unit} on the validation split, points", [c.val_score for c in curves], [c.val_score for c in baseline], logs)
    return [panel for panel in (own_loss, val) if panel]


def _panel(
    title: str,
    own: list[list[tuple[int, float]]],
    baseline: list[list[tuple[int, float]]],
    logs: Sequence[list[tuple[int, float]]] = (),
) -> Panel | None:
    """Return a diagram scaled to its points, the baseline first so that it is drawn below; None without points of its own."""
    whose = (
        [("log", series) for series in logs] + [("baseline", series) for series in baseline] + [("own", series) for series in own]
    )
    thinned = [(who, _thinned(series)) for who, series in whose]
    points = [point for _, series in thinned for point in series]
    if not any(series for who, series in thinned if who == "own"):
        return None
    return draw(title, thinned, (max(x for x, _ in points), min(y for _, y in points), max(y for _, y in points)))


def draw(title: str, series: Sequence[tuple[str, list[tuple[int, float]]]], scale: tuple[float, float, float]) -> Panel:
    """Return a diagram.

    Args:
        title: above it.
        series: whose, and its points; the first is drawn below the others.
        scale: highest iteration, lowest and highest value.
    """
    x_ticks, y_ticks = ticks(0, scale[0]), ticks(scale[1], scale[2])

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(_LEFT + _WIDTH * x / x_ticks[-1], 1),
            round(_BOTTOM - _HEIGHT * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 1),
        )

    return Panel(
        title,
        [(place(x, 0)[0], f"{x / 1000:g}k" if x_ticks[-1] >= _THOUSANDS and x else f"{x:g}") for x in x_ticks],
        [(place(0, y)[1], f"{y:g}") for y in y_ticks],
        [(who, [place(*point) for point in points]) for who, points in series],
    )


def mean_curve(curves: Sequence[list[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Return the mean at the iterations that all curves have."""
    if not curves:
        return []
    values = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(one) for one in values)))
    return [(at, sum(one[at] for one in values) / len(values)) for at in common]


def _thinned(series: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Every k-th point and the last."""
    step = math.ceil(len(series) / _MOST_POINTS) or 1
    return series[:-1:step] + series[-1:]


def ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers that enclose both."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 3))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= _MOST_STEPS)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]
