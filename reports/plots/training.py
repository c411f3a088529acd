"""Charts of training: its curves, and gains against costs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from reports.formats.wording import short
from reports.plots.style import BLACK, GREY, Chart, Drawn, Look, draw_chart, looks
from reports.schemas.leaderboard import Leaderboard, Row, Table

_CURVE_INCHES = 1.85
_COST_INCHES = 2.3
_DECADE = 10


def curves(board: Leaderboard) -> Iterator[Drawn]:
    """Own loss and validation score against iterations, one line per run."""
    style = looks(board)
    chart = Chart(
        name="curves",
        title="Training curves",
        caption=(
            "One line per run, the baseline's in black. Left: the student's own loss, without the method's, mean since the "
            "point before, logarithmic. Right: score on the validation split. "
            "Dotted, where authors released a log: their own validations, over the same fraction of the training. "
            "Teachers train for another number of iterations and are excluded."
        ),
        panel=lambda axes, table: _curve_panel(axes, table, style),
        inches=lambda _: _CURVE_INCHES,
        parts=(1.0, 1.0),
        columns=1,
        legend=style,
    )
    yield from draw_chart(chart, [table for table in board.tables if any(_has_curve(row) for row in table.rows)], board)


def cost(board: Leaderboard) -> Iterator[Drawn]:
    """Gain against time of training, as a multiple of the baseline's."""
    style = looks(board)
    with_all = Line2D([], [], marker="o", linestyle="none", mfc="none", mec=BLACK, label="with one-time costs")
    chart = Chart(
        name="cost",
        title="Gain against training time",
        caption=(
            "Gain over the baseline on the test split against training time as a multiple of the baseline's, both means over seeds. "
            "Filled marks, by half for a tuned row: without the one-time costs of a method's auxiliary module and of a search's trials; "
            "open marks: with them, divided evenly among the seeds that use them. The teacher's training is counted with neither."
        ),
        panel=lambda axes, table: _cost_panel(axes[0], table, style),
        inches=lambda _: _COST_INCHES,
        legend={method: replace(look, line="none") for method, look in style.items() if method != "none"},
        further_legend=(with_all,),
    )
    yield from draw_chart(chart, [table for table in board.tables if any(_costs(table))], board)


def _has_curve(row: Row) -> bool:
    return any(result.curve.own_loss or result.curve.val_score for result in row.seeds)


def _curve_panel(axes: Sequence[Axes], table: Table, style: dict[str, Look]) -> None:
    loss, score = axes
    # The baseline last, on top of all others.
    for row in sorted(table.rows, key=lambda row: row.is_baseline):
        look = style[row.id]
        for result in row.seeds:
            how = {**look.mark(3.5), "linestyle": look.line, "mew": 0.6 if look.tuned else 0}
            how["linewidth"] = 1.6 if row.is_baseline else 1.0
            _plot(loss, result.curve.own_loss, **how, markevery=4)
            _plot(score, result.curve.val_score, **how)
        for log in row.reported_logs:
            _plot(score, at_iterations(log, row), color=look.colour, linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=1)
    _logarithmic(loss, [value for row in table.rows for result in row.seeds for _, value in result.curve.own_loss])
    loss.set_ylabel("own loss, no unit")
    score.set_ylabel(f"validation split,\n{short(table.metric)} points")
    for axis in axes:
        axis.set_xlabel("iteration")


def at_iterations(log: Sequence[tuple[float, float]], row: Row) -> list[tuple[int, float]]:
    """Return an author's validations at the iterations of our own runs that are as far; nothing where none has run."""
    end = max((point[0] for result in row.seeds for point in (*result.curve.own_loss, *result.curve.val_score)), default=0)
    return [(round(fraction * end), score) for fraction, score in log] if end else []


def _plot(axis: Axes, series: Sequence[tuple[int, float]], **how: object) -> None:
    axis.plot([iteration for iteration, _ in series], [value for _, value in series], **how)  # type: ignore[arg-type]


def _logarithmic(axis: Axes, values: Sequence[float]) -> None:
    """Scale the axis with plain numbers at the ticks, several even within a decade."""
    if not values or min(values) <= 0:
        return
    axis.set_yscale("log")
    wide = max(values) > _DECADE * min(values)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _costs(table: Table) -> Iterator[tuple[Row, float, float | None]]:
    """Rows with a gain: their time as a multiple of the baseline's, without and with one-time costs."""
    without = table.baseline
    if without is None or not without.minutes:
        return
    for row in table.rows:
        if row.gain is None or row.minutes is None or row.is_baseline:
            continue
        once = row.one_time_minutes
        yield row, row.minutes / without.minutes, None if once is None else (row.minutes + once / row.num_seeds) / without.minutes


def _cost_panel(axis: Axes, table: Table, style: dict[str, Look]) -> None:
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.axvline(1, color=GREY, linewidth=0.8)
    for row, times, with_all in _costs(table):
        look, gain = style[row.id], row.gain or 0.0
        if with_all is not None:
            axis.plot([times, with_all], [gain] * 2, color=look.colour, linewidth=0.8)
            axis.plot(with_all, gain, look.marker, mfc="white", mec=look.colour, markersize=6)
        axis.plot(times, gain, **look.mark(7))
    axis.margins(0.12)
    axis.set_xlabel("training time, times the baseline's")
    axis.set_ylabel(f"gain, {short(table.metric)} points")
