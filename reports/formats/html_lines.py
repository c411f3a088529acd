"""Lines of the page's main table: cells, verdicts as coloured labels, and curves."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.formats import headlines, studies, wording
from reports.formats.columns import TEACHER, Column, Line, line_frame
from reports.formats.html_curves import Panel, panels
from reports.plots.training import at_iterations
from reports.schemas.leaderboard import Curve, Leaderboard, Row, Table

_TONES = {  # how a verdict begins -> its colour; the first that fits
    "reproduced": "good",
    "significant gain": "good",
    "not reproduced": "bad",
    "significant loss": "bad",
    "gain": "open",
    "loss": "open",
    "inconclusive": "open",
    "not significant": "open",
    "not run": "absent",
    "unsupported": "absent",
    "failed": "bad",
}


@dataclass(frozen=True)
class Pill:
    """A verdict: its words, those without counts to filter by, and its colour."""

    text: str
    kind: str
    tone: str


@dataclass(frozen=True)
class Cell:
    """One cell of the main table: its text in two parts, and the value to sort by; None sorts last."""

    column: Column
    main: str
    rest: str
    value: Any


@dataclass(frozen=True)
class PageLine:
    """One line of the main table with its details; ``row`` is None for the teacher's."""

    key: str
    tier: str
    board: Leaderboard
    table: Table
    row: Row | None
    pills: list[Pill]
    cells: list[Cell]
    panels: list[Panel]
    is_best: bool = False
    search: studies.Search | None = None

    @property
    def words(self) -> str:
        """Text that a search looks through."""
        row = self.row
        own = [row.title, *row.parts] if row else ["teacher", self.table.teacher.name if self.table.teacher else ""]
        return " ".join([*own, self.table.title, self.table.pair, *(pill.text for pill in self.pills)]).lower()


def lines_of(index: int, label: str, board: Leaderboard, columns: Sequence[Column]) -> Iterator[PageLine]:
    """Every pair's teacher, then its methods in order."""
    prefix = "" if index == 0 else f"{index}-"
    found = {(table.pair, one.study.method): one for table in board.tables for one in studies.searches(table, board)}
    for _, cells in line_frame(board).iterrows():
        line: Line = cells["line", "line"]
        table, row = line.table, None if line.row.method == TEACHER else line.row
        baseline = [seed.curve for seed in table.baseline.seeds] if table.baseline else []
        if row is None:
            curves, slug, pills = [table.teacher.curve] if table.teacher else [], "teacher", [_pill(_teacher_state(table))]
        else:
            curves, slug, pills = [seed.curve for seed in row.seeds], row.slug, _pills(row, board)
        yield PageLine(
            f"{prefix}{table.pair}-{slug}", label, board, table, row, pills, _cells(cells, columns, label),
            _panels(curves, baseline, table, row) if curves else [], row is not None and row is headlines.best(table, board),
            found.get((table.pair, row.method)) if row and row.tuned else None,
        )  # fmt: skip


def _panels(curves: list[Curve], baseline: list[Curve], table: Table, row: Row | None) -> list[Panel]:
    logs = [at_iterations(log, row) for log in row.reported_logs] if row else []
    return panels(curves, [] if row is None or row.is_baseline else baseline, table, [log for log in logs if log])


def _teacher_state(table: Table) -> str:
    return "teacher" if table.teacher else "not run"


def _cells(cells: pd.Series, columns: Sequence[Column], label: str) -> list[Cell]:
    """Cells of a line; its tier is called by the board's label."""
    texts = {column.key: label if column.key == "tier" else str(cells["text", column.key]) for column in columns}
    return [
        Cell(
            column,
            *((texts[column.key], "") if column.words else _apart(texts[column.key])),
            texts[column.key] if column.words else cells["value", column.key],
        )
        for column in columns
    ]


def _pills(row: Row, board: Leaderboard) -> list[Pill]:
    """One, or at paper scale one per verdict where sources disagree."""
    text = wording.verdict(row, board)
    return [_pill(one) for one in (text.split(", ") if board.paper_scale and row.status == "done" else [text])]


def _pill(text: str) -> Pill:
    kind = re.sub(r" \(\d+ of \d+\)$", "", text)
    return Pill(text, kind, next((tone for begins, tone in _TONES.items() if kind.startswith(begins)), "plain"))


def _apart(text: str) -> tuple[str, str]:
    """Split a cell's text into its number and the rest, ``+5.7`` and ``[+3.2, +8.3]``, so that numbers are aligned."""
    match = re.fullmatch(r"([^\s,]+(?: %)?) ([\[±+].*)", text)
    return (match[1], match[2]) if match else (text, "")
