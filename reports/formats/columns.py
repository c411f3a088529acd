"""Columns of the leaderboard: the one list from which Markdown, page, PDF and CSV are made.

A new column is one entry of :data:`COLUMNS`.
:func:`line_frame` puts a leaderboard's lines into one pandas table, with the values and the texts of every column.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from reports.formats import headlines, wording
from reports.schemas.leaderboard import Leaderboard, Row, Table

Form = Literal["markdown", "html", "pdf", "csv"]
_PRINTED: tuple[Form, ...] = ("markdown", "html", "pdf")
_ALL: tuple[Form, ...] = (*_PRINTED, "csv")
TEACHER = "teacher"


@dataclass(frozen=True)
class Line:
    """One line of the leaderboard: a method's row, or a pair's teacher put as a row."""

    board: Leaderboard
    table: Table
    row: Row


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: name in CSV and in the page's address.
        value: number or words, to sort by and for CSV; None where there is none.
        header: as printed, beginning in lower case; ``{metric}`` is replaced by the pair's.
        text: as printed; where it is not given, the value, to ``digits`` after the point.
        digits: see ``text``.
        forms: that have the column.
        when: the printed forms have it, by leaderboard; CSV has it always.
        group: ``result`` is empty where nothing ran, ``cost`` differs from machine to machine and is not in README's table.
        words: whether it is of words, left-aligned and sorted as such.
        tooltip: explanation; ``{once}`` is replaced by the items that are paid once for all seeds.
        data: value in CSV, where it is another one.
        width: in the PDF.
        break_at: where the PDF breaks the text into two lines.
        below: in the PDF smaller below, with its own header.
    """

    key: str
    value: Callable[[Line], Any]
    header: str = ""
    text: Callable[[Line], str] | None = None
    digits: int = 0
    forms: tuple[Form, ...] = _ALL
    when: Callable[[Leaderboard], bool] = lambda _: True
    group: Literal["id", "result", "reported", "cost"] = "result"
    words: bool = False
    tooltip: str = ""
    data: Callable[[Line], Any] | None = None
    width: str = "14mm"
    break_at: str = " ["
    below: Callable[[Line], str] | None = None
    below_header: str = ""

    def printed(self, line: Line) -> str:
        """Text of a cell."""
        if self.text:
            return self.text(line)
        value = self.value(line)
        return value if isinstance(value, str) else "" if value is None else f"{value:.{self.digits}f}"

    def heading(self, metric: str) -> str:
        """Header for a pair's metric."""
        return self.header.format(metric=metric)


def _is_paper_scale(board: Leaderboard) -> bool:
    return board.paper_scale


def _is_on_gpu(board: Leaderboard) -> bool:
    return board.is_on_gpu


def _interval(low: float | None, high: float | None, digits: int = 1, times: int = 1) -> str:
    """``[+3.2, +8.3]``, of percentages without the sign; empty without an interval."""
    if low is None or high is None:
        return ""
    return f"[{times * low:+.{digits}f}, {times * high:+.{digits}f}]" if digits else f"[{times * low:.0f}, {times * high:.0f}]"


def _next_run(line: Line) -> str:
    row = line.row
    return "" if row.next_low is None else f"[{row.next_low:.1f}, {row.next_high:.1f}]"


def _p_values(line: Line) -> str:
    row = line.row
    if line.board.paper_scale or row.gain_p is None or row.gain_p_holm is None:
        return ""
    return f"p {wording.p_value(row.gain_p)}, after Holm {wording.p_value(row.gain_p_holm)}"


def _reported(say: Callable[[Any], str]) -> Callable[[Line], str]:
    """Return a function that formats a line's reported results; "none" for a method's row without any."""
    return lambda line: say(line.row.reported) or ("none" if _is_unreported(line.row) else "")


def _is_unreported(row: Row) -> bool:
    """Return True for a method's row without reported results; a tuned row shares those of its method's row."""
    return not (row.reported or row.tuned or row.method == TEACHER)


def _highest(line: Line, key: str) -> float | None:
    """Return the highest reported value, which is the sort key; None without any."""
    return max((value for result in line.row.reported if (value := getattr(result, key)) is not None), default=None)


def _joined(line: Line, key: str) -> str:
    values = (getattr(result, key) for result in line.row.reported)
    return ";".join("" if value is None else str(value) for value in values)


def _field(key: str) -> Column:
    """Return a column of CSV alone, a field of the row."""
    return Column(key, lambda line: getattr(line.row, key), forms=("csv",))


def _tuning_field(key: str) -> Column:
    return Column(f"tuning_{key}", lambda line: getattr(line.row.tuning, key, None), forms=("csv",))


_RECOGNITION = (
    "objects that a box finds (IoU above 0.5), and the percentage of those whose highest-scoring such box has the right class; of "
    "a segmenter the IoU of all that is no background"
)
_COSTS = "in training iterations by the clock, mean of the seeds, among which runs that share a machine slow each other; after a plus, once for all seeds: {once}"

COLUMNS: list[Column] = [
    Column("tier", lambda line: line.board.tier, "tier", forms=("html", "csv"), group="id", words=True),
    Column("pair", lambda line: line.table.title, "pair", forms=("csv",), group="id", words=True, data=lambda line: line.table.pair),
    Column("dataset", lambda line: line.table.dataset if line.board.paper_scale else line.board.tier_title, forms=("csv",), group="id"),
    Column("metric", lambda line: line.table.metric, forms=("csv",), group="id"),
    Column("method", lambda line: line.row.title, "method", group="id", words=True, data=lambda line: line.row.method, width="1fr"),
    Column("tuned", lambda line: line.row.tuned, forms=("csv",), group="id"),
    Column("status", lambda line: line.row.status, forms=("csv",)),
    Column(
        "verdict", lambda line: wording.verdict(line.row, line.board), "verdict", words=True, width="27mm", break_at="",
        below=_p_values,
    ),
    Column(
        "score", lambda line: line.row.mean, "{metric}, mean ± sd", lambda line: wording.mean(line.row), width="18mm",
        below=_next_run, below_header="[next run]",
        tooltip="mean ± standard deviation of the seeds on the test split, in points (0 to 100); in the PDF below it the 95 % "
        "prediction interval of one further run",
    ),
    Column("num_seeds", lambda line: line.row.num_seeds, "n", width="5mm", tooltip="seeds"),
    _field("sd"), _field("next_low"), _field("next_high"),
    Column(
        "recognition", lambda line: line.row.found if line.row.foreground is None else line.row.foreground, "recognition",
        lambda line: wording.recognition(line.row), forms=_PRINTED, width="17mm", break_at=", ", tooltip=_RECOGNITION,
    ),
    _field("found"), _field("right"), _field("foreground"),
    Column(
        "gain", lambda line: line.row.gain, "gain", lambda line: "" if line.row.gain is None else f"{line.row.gain:+.1f}",
        width="21mm", below=lambda line: _interval(line.row.gain_low, line.row.gain_high), below_header="[95 %]",
        tooltip="over the baseline (the student alone, same schedule) trained here, with Welch's 95 % interval",
    ),
    Column(
        "gain_interval", lambda line: line.row.gain_low, "gain, 95 %", lambda line: _interval(line.row.gain_low, line.row.gain_high),
        forms=("markdown", "html"),
    ),
    _field("gain_low"), _field("gain_high"), _field("gain_p"), _field("gain_p_holm"),
    Column(
        "gap_closed", lambda line: line.row.gap_closed, "gap closed",
        lambda line: "" if line.row.gap_closed is None else f"{100 * line.row.gap_closed:.0f} %", width="16mm",
        below=lambda line: _interval(line.row.gap_low, line.row.gap_high, 0, 100), below_header="[95 %]",
        tooltip="gain over the distance from baseline to teacher, with a 95 % bootstrap interval over the seeds, from five per side "
        "on; the teacher is one run",
    ),
    Column(
        "gap_interval", lambda line: line.row.gap_low, "gap, 95 %", lambda line: _interval(line.row.gap_low, line.row.gap_high, 0, 100),
        forms=("markdown", "html"),
    ),
    _field("gap_low"), _field("gap_high"),
    Column(
        "reported", lambda line: _highest(line, "value"), "reported {metric}", _reported(wording.reported_scores), group="reported", when=_is_paper_scale,
        data=lambda line: _joined(line, "value"), break_at="", tooltip="as printed by each source, at paper scale; sorted by the highest",
    ),
    Column(
        "reported_gain", lambda line: _highest(line, "gain"), "reported gain", _reported(wording.reported_gains), group="reported",
        data=lambda line: _joined(line, "gain"), break_at="",
        tooltip="as printed by each source, at paper scale on the published data; sorted by the highest",
    ),
    Column(
        "rung", lambda line: headlines.rung(line.row, line.table, line.board), "evidence", group="reported", words=True,
        when=_is_paper_scale, forms=_PRINTED, break_at="", tooltip="highest rung that the row's reported results have reached",
    ),
    Column("reported_source", lambda line: _joined(line, "source"), forms=("csv",), group="reported"),
    Column(
        "minutes", lambda line: line.row.minutes, "minutes", lambda line: wording.minutes(line.row), group="cost", width="13mm",
        below=lambda line: "" if line.row.energy_kj is None else wording.energy(line.row.energy_kj), below_header="+ once",
        tooltip=_COSTS,
    ),
    _field("auxiliary_minutes"),
    Column(
        "division", lambda line: line.row.division, "batch", lambda line: line.row.division or "", forms=("html", "csv"), group="cost",
        words=True, tooltip="processes x images of a step, with a GPU for each process where there are GPUs; number format and settings of speed",
    ),
    Column("peak_memory_mib", lambda line: line.row.peak_memory_mib, "MiB", group="cost", width="10mm", when=_is_on_gpu, tooltip="peak memory of one run"),
    Column(
        "images_per_s", lambda line: line.row.images_per_s, "images/s", forms=("markdown", "html", "csv"), group="cost", when=_is_on_gpu,
        tooltip="training images per second",
    ),
    _field("energy_kj"), _field("command"),
    *map(_tuning_field, (
        "num_complete", "num_pruned", "num_failed", "best_score", "recipe_score", "minutes", "saved_fraction", "gain", "gain_low",
        "gain_high", "gain_p", "gain_p_holm",
    )),
]  # fmt: skip


def columns_of(form: Form, *boards: Leaderboard) -> list[Column]:
    """Columns of one form, in order; of leaderboards, those that say something of one of them."""
    return [column for column in COLUMNS if form in column.forms and (not boards or any(map(column.when, boards)))]


def line_frame(board: Leaderboard, tables: Sequence[Table] | None = None) -> pd.DataFrame:
    """One line per row of the leaderboard.

    Args:
        board: whose tables are taken.
        tables: some of them; all if not given.

    Returns:
        ``frame["value"]`` and ``frame["text"]`` have a column per :class:`Column`; ``frame["line"]`` is the :class:`Line`.
        The index is the table's number and the line's in it: 0 is the teacher, methods count from 1.
    """
    lines = {
        (number, position): Line(board, table, row)
        for number, table in enumerate(board.tables if tables is None else tables)
        for position, row in enumerate([teacher_row(table), *headlines.ranked(table.rows)])
    }
    if not lines:
        return pd.DataFrame()
    cells = [
        {("line", "line"): line}
        | {("value", column.key): column.value(line) for column in COLUMNS}
        | {("text", column.key): column.printed(line) for column in COLUMNS if column.header}
        for line in lines.values()
    ]
    index = pd.MultiIndex.from_tuples(list(lines), names=["table", "line"])
    names = pd.MultiIndex.from_tuples(list(cells[0]), names=["part", "column"])
    return pd.DataFrame([list(line.values()) for line in cells], index=index, columns=names, dtype=object)


def methods_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame without its teachers."""
    return frame[frame.index.get_level_values("line") > 0] if len(frame) else frame


def lines_of(frame: pd.DataFrame) -> list[Line]:
    """Lines of a frame, in order."""
    return list(frame["line", "line"]) if len(frame) else []


def teacher_row(table: Table) -> Row:
    """Return a pair's teacher in the form of a row."""
    own: dict[str, Any] = {"method": TEACHER, "title": TEACHER, "parts": [TEACHER], "reported": table.reported_teacher}
    teacher = table.teacher
    if teacher is None:
        return Row(**own, status="not run")
    cost = teacher.cost
    return Row(
        **own,
        status="done",
        num_seeds=1,
        mean=teacher.score,
        found=teacher.metrics.get("objects found"),
        right=teacher.metrics.get("right class"),
        foreground=teacher.metrics.get("foreground IoU"),
        minutes=cost.train_s / 60 if cost else None,
        peak_memory_mib=cost.peak_memory_mib if cost else None,
        images_per_s=cost.images_per_s if cost else None,
    )


def glossary(board: Leaderboard, columns: Sequence[Column]) -> list[tuple[str, str]]:
    """Headers of columns with their explanations."""
    once = wording.one_time_costs(board)
    return [
        (column.heading("score").partition(",")[0].partition(" [")[0], column.tooltip.format(once=once))
        for column in columns
        if column.tooltip
    ]
