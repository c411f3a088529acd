"""Charts of training: its curves, and gains against costs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.formats.headlines import ranked
from reports.formats.wording import short
from reports.plots.style import BLACK, GREY, Chart, Drawn, Look, draw_chart, looks
from reports.schemas.leaderboard import Leaderboard, Row, Table

_FRAME_INCHES, _CURVE_INCHES, _COST_INCHES = 0.5, 1.15, 2.3
_ACROSS = 4  # diagrams beside each other
_TITLE_LETTERS = 22
_BEHIND = "#B0B0B0"  # the baseline, below a method's line


def curves(board: Leaderboard) -> Iterator[Drawn]:
    """Small diagrams of validation score against iterations, one per method over its pair's baseline."""
    style = looks(board)
    chart = Chart(
        name="curves",
        title="Validation curves",
        caption=(
            "Score on the validation split against iterations, in points of each pair's metric: one line per run of the method, in grey "
            "the runs of the baseline; the diagrams of a pair have one scale. "
            "Dotted, where authors released a log: their own validations, over the same fraction of the training."
        ),
        panel=lambda axes, table: _multiples(axes[0], table, style),
        inches=lambda table: _FRAME_INCHES + _CURVE_INCHES * -(-len(_with_curves(table)) // _ACROSS),
        columns=1,
    )
    yield from draw_chart(chart, [table for table in board.tables if _with_curves(table)], board)


def cost(board: Leaderboard) -> Iterator[Drawn]:
    """Gain against time of training, as a multiple of the baseline's; nothing of a CPU, whose time is the runs' beside each other, too."""
    if not board.is_on_gpu:
        return
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


def _with_curves(table: Table) -> list[Row]:
    """Rows beside the baseline that have a curve; of a pair whose baseline alone has run, that."""
    found = [row for row in ranked(table.rows) if any(result.curve.val_score for result in row.seeds)]
    return [row for row in found if not row.is_baseline] or found


def _multiples(place: Axes, table: Table, style: dict[str, Look]) -> None:
    """Put a grid of diagrams in the place of one."""
    rows, spec, figure = _with_curves(table), place.get_subplotspec(), place.figure
    place.remove()
    if spec is None:
        return
    grid = spec.subgridspec(-(-len(rows) // _ACROSS), _ACROSS)
    first: Axes | None = None
    for number, row in enumerate(rows):
        axis = figure.add_subplot(grid[divmod(number, _ACROSS)], sharex=first, sharey=first)
        first = first or axis
        if table.baseline and not row.is_baseline:
            for result in table.baseline.seeds:
                _plot(axis, result.curve.val_score, color=_BEHIND, linewidth=0.9)
        for result in row.seeds:
            _plot(axis, result.curve.val_score, color=style[row.id].colour, linewidth=0.9)
        for log in row.reported_logs:
            _plot(axis, at_iterations(log, row), color=style[row.id].colour, linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=1)
        axis.set_title(fill(row.title, _TITLE_LETTERS), fontsize=8, loc="left", pad=3)
        axis.xaxis.set_major_locator(MaxNLocator(3, integer=True, prune="upper"))
        axis.yaxis.set_major_locator(MaxNLocator(4))
        if number % _ACROSS == 0:
            axis.set_ylabel(f"{short(table.metric)}, val")
        if number + _ACROSS >= len(rows):
            axis.set_xlabel("iteration")
        else:
            axis.tick_params(labelbottom=False)


def at_iterations(log: Sequence[tuple[float, float]], row: Row) -> list[tuple[int, float]]:
    """Return an author's validations at the iterations of our own runs that are as far; nothing where none has run."""
    end = max((point[0] for result in row.seeds for point in (*result.curve.own_loss, *result.curve.val_score)), default=0)
    return [(round(fraction * end), score) for fraction, score in log] if end else []


def _plot(axis: Axes, series: Sequence[tuple[int, float]], **how: object) -> None:
    axis.plot([iteration for iteration, _ in series], [value for _, value in series], **how)  # type: ignore[arg-type]


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
