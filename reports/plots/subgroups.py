"""Charts by subgroup: AP by size of object, and the gain on every class."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from reports.formats.wording import short
from reports.plots.fonts import shortened
from reports.plots.style import GREY, ROW_INCHES, WIDTH_INCHES, Chart, Drawn, Look, draw_chart, looks
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table

_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
_SIZE_INCHES = 2.3
_MOST_NUMBERED = 28  # classes; of more, no cell has room for a number
_BAND = {True: 14, False: 40}  # cells side by side, with and without numbers
_MAP_INCHES = WIDTH_INCHES - 2.3  # wide, without labels and colour bar
_LETTER_INCHES = 0.065
_MOST_LETTERS = 24  # of a class's name
_LEANING_INCHES = 0.18  # a cell's width, from which on its class's name leans; below, it is upright
_LUMINANCE = 0.299, 0.587, 0.114  # of red, green and blue
_LEANING_DEGREES = 40


def size(board: Leaderboard) -> Iterator[Drawn]:
    """AP of small, medium and large objects, each method's against the baseline's."""
    style = looks(board)
    chart = Chart(
        name="size",
        title="AP by size of object",
        caption=(
            "AP of small, medium and large objects of the test split, in points; the tier's limits of area part them. Filled "
            "marks: mean over seeds; small open marks: one run each; dotted line: the baseline's mean."
        ),
        panel=lambda axes, table: _size_panel(axes[0], table, style),
        inches=lambda _: _SIZE_INCHES,
        legend={method: replace(look, line="none") for method, look in style.items()},
    )
    sized = [table for table in board.tables if any(_sized(table, row) for row in table.rows)]
    yield from draw_chart(chart, sized, board)


def classes(board: Leaderboard) -> Iterator[Drawn]:
    """Heat maps of methods by classes."""
    chart = Chart(
        name="classes",
        title="Gain on every class",
        caption=(
            "Gain over the baseline on each class of the test split, difference of the means over seeds, in points. Blue: above "
            "the baseline; red: below; white: no difference. The colour scale is each pair's own. Hatched: no objects of the class "
            "in the split. Methods that have not run are excluded."
        ),
        panel=lambda axes, table: _class_panel(axes[0], table),
        inches=lambda table: _class_rows(table) * ROW_INCHES + 0.45,
        columns=1,
    )
    yield from draw_chart(chart, [table for table in board.tables if _gains(table)], board)


def _metric(table: Table, name: str) -> str:
    return f"mask {name}" if table.metric.startswith("mask") else name


def _values(table: Table, seeds: Sequence[SeedResult], name: str) -> list[float]:
    found = (result.metrics.get(_metric(table, name)) for result in seeds)
    return [value for value in found if value is not None]


def _sized(table: Table, row: Row) -> bool:
    return any(_values(table, row.seeds, name) for name in _SIZES)


def _size_panel(axis: Axes, table: Table, style: dict[str, Look]) -> None:
    rows = [row for row in table.rows if _sized(table, row)]
    step = 0.8 / len(rows)
    for group, name in enumerate(_SIZES):
        without = table.baseline
        level = _values(table, without.seeds, name) if without else []
        if level:
            axis.plot([group - 0.45, group + 0.45], [fmean(level)] * 2, color=GREY, linestyle=":")
        if not any(_values(table, row.seeds, name) for row in rows):
            axis.annotate("no objects", (group, 0.5), xycoords=("data", "axes fraction"), ha="center", color=GREY, style="italic")
        for k, row in enumerate(rows):
            look, values = style[row.id], _values(table, row.seeds, name)
            across = group + (k - (len(rows) - 1) / 2) * step
            axis.plot([across] * len(values), values, look.marker, mfc="none", mec=look.colour, mew=0.7, markersize=3.5)
            if values:
                axis.plot(across, fmean(values), **look.mark(6))
    axis.set_xticks(range(len(_SIZES)), [f"{name} ({size_name})" for name, size_name in _SIZES.items()])
    axis.set_xlim(-0.5, len(_SIZES) - 0.5)
    axis.tick_params(axis="x", length=0)
    axis.set_ylabel(f"{_metric(table, 'AP')}, points")


def _gains(table: Table) -> dict[str, dict[str, float | None]]:
    """Gains by method's title and class; None where the split has none of the class."""
    without = table.baseline
    level = _by_class(without) if without else {}
    if not level:
        return {}
    found = {}
    for row in table.rows:
        if not row.is_baseline and any(result.per_class for result in row.seeds):
            of_row = _by_class(row)
            found[row.title] = {
                name: None if (own := of_row.get(name)) is None or other is None else own - other for name, other in level.items()
            }
    return found


def _by_class(row: Row) -> dict[str, float | None]:
    """Means over seeds."""
    names = dict.fromkeys(name for result in row.seeds for name in result.per_class)
    values = {name: [result.per_class.get(name) for result in row.seeds] for name in names}
    return {
        name: fmean(v for v in of_class if v is not None) if None not in of_class else None for name, of_class in values.items()
    }


def _bands(table: Table) -> list[list[str]]:
    """Classes by line of the map, evenly."""
    names = list(next(iter(_gains(table).values())))
    num = math.ceil(len(names) / _BAND[len(names) <= _MOST_NUMBERED])
    across = math.ceil(len(names) / num)
    return [names[start : start + across] for start in range(0, len(names), across)]


def _slant(bands: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Rotation of the classes' names in degrees, and the rows that they take."""
    cell = _MAP_INCHES / len(bands[0])
    longest = min(_MOST_LETTERS, max(len(name) for band in bands for name in band)) * _LETTER_INCHES
    angle = 0 if longest < cell else _LEANING_DEGREES if cell > _LEANING_INCHES else 90
    return angle, math.ceil((longest * math.sin(math.radians(angle)) + 0.1) / ROW_INCHES)


def _class_rows(table: Table) -> int:
    bands = _bands(table)
    return len(bands) * (len(_gains(table)) + _slant(bands)[1])


def _class_panel(axis: Axes, table: Table) -> None:
    """Draw bands of classes below each other, each a line of names and a row per method."""
    gains, bands = _gains(table), _bands(table)
    angle, name_rows = _slant(bands)
    known = [abs(value) for of_method in gains.values() for value in of_method.values() if value is not None]
    end = max(known, default=0.0) or 1.0
    mappable = ScalarMappable(Normalize(-end, end), "RdBu")
    ticks: dict[float, str] = {}
    for number, band in enumerate(bands):
        top = number * (len(gains) + name_rows) + name_rows
        for x, name in enumerate(band):
            _name(axis, x, top - 0.2, shortened(name, _MOST_LETTERS), angle)
        for y, (title, of_method) in enumerate(gains.items(), start=top):
            ticks[y + 0.5] = title
            for x, name in enumerate(band):
                _cell(axis, x, y, of_method[name], mappable, numbered=len(band) <= _BAND[True])
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set_xlim(0, len(bands[0]))
    axis.set_ylim(len(bands) * (len(gains) + name_rows), 0)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    axis.spines[:].set_visible(False)
    bar = axis.figure.colorbar(mappable, ax=axis, fraction=0.05, pad=0.01, aspect=12)
    bar.set_label(f"gain, {short(table.metric).replace('mIoU', 'IoU')} points")
    bar.outline.set_visible(False)


def _name(axis: Axes, x: int, y: float, name: str, angle: int) -> None:
    """Write a class above its cell, leaning away from it or centred."""
    if angle == _LEANING_DEGREES:
        axis.text(x + 0.35, y, name, rotation=angle, rotation_mode="anchor", ha="left", va="bottom")
    else:
        axis.text(x + 0.5, y, name, rotation=angle, ha="center", va="bottom")


def _cell(axis: Axes, x: int, y: int, value: float | None, mappable: ScalarMappable, *, numbered: bool) -> None:
    if value is None:
        axis.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor=GREY, hatch="////", linewidth=0))
        return
    colour = mappable.to_rgba(np.array(value))
    axis.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8))
    if numbered:
        light = float(np.dot(colour[:3], _LUMINANCE)) > 0.5  # noqa: PLR2004 (half way)
        axis.text(x + 0.5, y + 0.5, f"{value:+.1f}", ha="center", va="center_baseline", color="black" if light else "white")
