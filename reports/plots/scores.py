"""Charts of one line per method: its scores, its gain over the baseline, the fraction of the gap that it closes, and of tuning."""

from collections.abc import Callable, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.formats.headlines import ranked
from reports.formats.wording import datasets, short
from reports.plots.style import (
    BLACK,
    CLEAR,
    GREY,
    PALE,
    ROW_INCHES,
    TEACHER,
    Chart,
    Drawn,
    Look,
    draw_chart,
    labels,
    looks,
    note,
    set_lines,
)
from reports.schemas.leaderboard import Leaderboard, Row, Table
from reports.schemas.reported import ReportedResult

_FRAME_INCHES = 0.75  # title, ticks and the axis' name
_SCORE_INCHES = 0.33  # a bar with numbers above
_ROOM = 0.6  # of the span of the estimates, that intervals may add on either side


def scores(board: Leaderboard) -> Iterator[Drawn]:
    """Seeds, means and the teacher of every pair, each in its own metric."""
    style = looks(board)
    chart = Chart(
        name="scores",
        title="Scores of every run",
        caption=(
            "Scores on the test split, in points of each pair's metric. Small open marks: one run each; bar: their mean, "
            "with its value and its gain over the baseline; dotted line: the baseline's mean; dashed line: the teacher, one run."
        ),
        panel=lambda axes, table: _score_panel(axes[0], table, style, board),
        inches=lambda table: _FRAME_INCHES + _SCORE_INCHES * (len(table.rows) + 1),
    )
    if any(table.teacher or any(row.seeds for row in table.rows) for table in board.tables):
        yield from draw_chart(chart, board.tables, board)


def forest(board: Leaderboard) -> Iterator[Drawn]:
    """Gains with intervals beside the reported ones, which are on the same axis only at paper scale."""
    style = looks(board)
    where = f"reported, paper scale on {datasets(board)}"
    apart = (
        "on the same axis"
        if board.paper_scale
        else f"measured by their authors at paper scale on {datasets(board)} and therefore on an axis of their own (shaded), "
        "which is not to be compared with ours"
    )
    none = "a row without one has none for its pair"
    if any(row.tuned for table in board.tables for row in table.rows):
        none += ", and none is reported for a tuned one"
    # A diamond below each mark, or an axis named in two lines.
    frame, line = (_FRAME_INCHES, 1.4 * ROW_INCHES) if board.paper_scale else (_FRAME_INCHES + 0.15, ROW_INCHES)
    chart = Chart(
        name="forest",
        title="Gains over the baseline",
        caption=(
            "Gain over the student trained without distillation, on the test split, in points of each pair's metric. Filled marks: "
            "difference of the means over seeds; bars: Welch's 95 % interval, none where a side has one seed; arrow heads: "
            f"the interval goes on beyond the axis. Open diamonds: reported gains, {apart}; {none}."
        ),
        panel=lambda axes, table: _forest_panel(axes, table, style, board),
        inches=lambda table: frame + line * len(_distilled(table)),
        parts=(1.0,) if board.paper_scale else (1.0, 0.45),
        further_legend=(_diamonds([], 0, where),),
    )
    if any(row.gain is not None for table in board.tables for row in table.rows):
        yield from draw_chart(chart, [table for table in board.tables if _distilled(table)], board)


def gap(board: Leaderboard) -> Iterator[Drawn]:
    """Fraction of the way from baseline to teacher."""
    style = looks(board)
    chart = Chart(
        name="gap",
        title="Fraction of the teacher-student gap closed",
        caption=(
            "How far each method takes the student from the baseline's mean (0 %) to the teacher's score (100 %), on the test "
            "split. Bars: 95 % bootstrap interval over the seeds of method and baseline, the teacher being one run; arrow "
            "heads: it goes on beyond the axis."
        ),
        panel=lambda axes, table: _gap_panel(axes[0], table, style, board),
        inches=lambda table: _FRAME_INCHES + ROW_INCHES * len(_distilled(table)),
    )
    closed = [table for table in board.tables if any(row.gap_closed is not None for row in table.rows)]
    yield from draw_chart(chart, closed, board)


def tuning(board: Leaderboard) -> Iterator[Drawn]:
    """Division of each tuned row's gain between method and tuning."""
    style = looks(board)
    chart = Chart(
        name="tuning",
        title="Division of gains between method and tuning",
        caption=(
            "On the test split, in points of each pair's metric. Filled marks: gain over the baseline by the method with the recipe's "
            "values; half-filled marks: the gain that the values selected by a search add to it. Bars: Welch's 95 % interval, none where "
            "a side has one seed; arrow heads: it goes on beyond the axis."
        ),
        panel=lambda axes, table: _division_panel(axes[0], table, style),
        inches=lambda table: _FRAME_INCHES + ROW_INCHES * 2 * len(_couples(table)),
    )
    yield from draw_chart(chart, [table for table in board.tables if _couples(table)], board)


def _distilled(table: Table) -> list[Row]:
    return [row for row in ranked(table.rows) if not row.is_baseline]


def _score_panel(axis: Axes, table: Table, style: dict[str, Look], board: Leaderboard) -> None:
    """Draw the teacher on top, then a line per method."""
    set_lines(axis, ["teacher", *labels(table.rows, board)])
    axis.set_ylim(len(table.rows) + 0.5, -0.8)
    if table.teacher is None:
        note(axis, "not run", 0)
    else:
        axis.axvline(table.teacher.score, color=TEACHER, linestyle="--")
        _write(axis, f"{table.teacher.score:.1f}", table.teacher.score, 0.2, colour=TEACHER)
    without = table.baseline
    if without is not None and without.mean is not None:
        axis.axvline(without.mean, color=GREY, linestyle=":")
    for position, row in enumerate(table.rows, start=1):
        look = style[row.id]
        axis.plot(
            [result.score for result in row.seeds], [position] * len(row.seeds), look.marker,
            mfc="none", mec=look.colour, markersize=4.5,
        )  # fmt: skip
        if row.mean is None:
            note(axis, row.status, position)
        else:
            axis.plot([row.mean] * 2, [position - 0.28, position + 0.28], color=look.colour, linewidth=2)
            _write(axis, f"{row.mean:.1f}" + ("" if row.gain is None else f"  {row.gain:+.1f}"), row.mean, position - 0.3)
    axis.margins(x=0.14)
    axis.set_xlabel(f"{short(table.metric)}, points")


def _write(axis: Axes, text: str, score: float, height: float, colour: str = BLACK) -> None:
    """Write a score just above its bar."""
    axis.annotate(text, (score, height), ha="center", va="bottom", color=colour, bbox=CLEAR)


def _forest_panel(axes: Sequence[Axes], table: Table, style: dict[str, Look], board: Leaderboard) -> None:
    ours, rows = axes[0], _distilled(table)
    theirs = ours if len(axes) == 1 else axes[1]
    reported = [result.gain for row in rows for result in row.reported if result.gain is not None]
    _estimates(
        ours, rows, labels(rows, board), style, lambda row: (row.gain, row.gain_low, row.gain_high), "no baseline to compare with",
        others=reported if theirs is ours else [],
    )  # fmt: skip
    ours.set_xlabel(f"gain, {short(table.metric)}", loc="left")  # the other axis' name is on the right
    for position, row in enumerate(rows):
        theirs.add_line(_diamonds(row.reported, position if theirs is not ours else position + 0.25))
    if theirs is not ours:
        _separate(theirs, reported, len(rows))


def _separate(axis: Axes, reported: list[float], num_rows: int) -> None:
    """Mark an axis of the reported gains as distinct from ours."""
    set_lines(axis, [""] * num_rows)
    axis.set_facecolor(PALE)
    axis.set_xlabel("reported,\npaper scale", loc="right")  # where a narrow axis has room for it
    if not reported:
        axis.set_xticks([])
        axis.text(0.5, 0.5, "none for\nthis pair", transform=axis.transAxes, ha="center", va="center", color=GREY, style="italic")
        return
    axis.axvline(0, color=GREY, linewidth=0.8)
    low, high = min([0.0, *reported]), max([0.0, *reported])
    air = 0.15 * ((high - low) or 1.0)
    axis.set_xlim(low - air, high + air)
    axis.xaxis.set_major_locator(MaxNLocator(2, integer=True))  # more would run into each other


def _diamonds(results: Sequence[ReportedResult], position: float, label: str = "") -> Line2D:
    gains = [result.gain for result in results if result.gain is not None]
    return Line2D(
        gains, [position] * len(gains), marker="D", linestyle="none", mfc="none", mec=BLACK, markersize=5, label=label or "_"
    )


def _gap_panel(axis: Axes, table: Table, style: dict[str, Look], board: Leaderboard) -> None:
    def fractions(row: Row) -> tuple[float | None, float | None, float | None]:
        closed, low, high = (None if end is None else 100 * end for end in (row.gap_closed, row.gap_low, row.gap_high))
        return closed, low, high

    _estimates(axis, _distilled(table), labels(_distilled(table), board), style, fractions, "no gap to close", others=[100.0])
    axis.axvline(100, color=TEACHER, linestyle="--")
    axis.set_xlabel("gap closed, %")


def _couples(table: Table) -> list[tuple[Row, Row]]:
    """Pairs of a row with the recipe's values and the tuned one, where both have run."""
    rows = {row.id: row for row in table.rows if row.seeds}
    return [(rows[row.method], row) for row in rows.values() if row.tuning and row.method in rows]


def _division_panel(axis: Axes, table: Table, style: dict[str, Look]) -> None:
    def numbers(row: Row) -> tuple[float | None, float | None, float | None]:
        of = row.tuning or row
        return of.gain, of.gain_low, of.gain_high

    couples = _couples(table)
    rows = [row for couple in couples for row in couple]
    names = [name for own, _ in couples for name in (f"{own.title}: method", "tuning")]
    _estimates(axis, rows, names, style, numbers, "no baseline to compare with", others=[])
    axis.set_xlabel(f"gain, {short(table.metric)} points")


def _estimates(
    axis: Axes,
    rows: Sequence[Row],
    names: Sequence[str],
    style: dict[str, Look],
    numbers: Callable[[Row], tuple[float | None, float | None, float | None]],
    without: str,
    *,
    others: Sequence[float],
) -> None:
    """Draw a mark and an interval per line.

    Args:
        axis: to draw into.
        rows: its lines, from the top.
        names: of the lines.
        style: by method.
        numbers: of a row, the estimate and its interval's ends.
        without: note on a row that has run and has no estimate.
        others: values that the axis must reach, too.
    """
    set_lines(axis, names)
    found = [numbers(row) for row in rows]
    left, right = _span([point for point, _, _ in found if point is not None], found, others)
    axis.set_xlim(left, right)
    axis.axvline(0, color=GREY, linewidth=0.8)
    for position, (row, (point, low, high)) in enumerate(zip(rows, found, strict=True)):
        if point is None:
            note(axis, row.status if row.status != "done" else without, position)
            continue
        look = style[row.id]
        if low is not None and high is not None:
            axis.plot([max(low, left), min(high, right)], [position] * 2, color=look.colour)
            for end, head, beyond in ((left, "<", low < left), (right, ">", high > right)):
                if beyond:
                    axis.plot(end, position, head, color=look.colour, markersize=4, clip_on=False)
        axis.plot(point, position, **look.mark(6))


def _span(
    points: Sequence[float], found: Sequence[tuple[float | None, float | None, float | None]], others: Sequence[float]
) -> tuple[float, float]:
    """Range of an axis: the estimates and zero, with as much of the intervals as does not dwarf them."""
    low, high = min([0.0, *points, *others]), max([0.0, *points, *others])
    room = _ROOM * ((high - low) or 1.0)
    ends = [end for _, *ends in found for end in ends if end is not None]
    left, right = max(low - room, min([low, *ends])), min(high + room, max([high, *ends]))
    air = 0.05 * (right - left) or _ROOM  # one without any extent cannot be drawn
    return left - air, right + air
