"""The leaderboard as one HTML file to explore: no request to any network, plain tables where scripts are off."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.formats import answers, headlines, studies, wording
from reports.formats.columns import Column, columns_of, glossary
from reports.formats.html_charts import Axis, Gain, axis, gains, multiples
from reports.formats.html_curves import Panel
from reports.formats.html_images import data_uri
from reports.formats.html_lines import PageLine, lines_of
from reports.formats.printable import with_texts
from reports.schemas.leaderboard import Leaderboard, Row, Table
from reports.schemas.reported import ReportedResult

_DRAWN_HERE = {"scores", "forest", "gap", "cost", "curves"}  # the page has charts of its own in their place
_MIN_A_DAY = 600  # minutes from which hours read better


@dataclass(frozen=True)
class Group:
    """One pair of one leaderboard: its lines, its answer and its charts."""

    key: str
    tier: str
    board: Leaderboard
    table: Table
    lines: list[PageLine]
    headline: str
    gains: list[Gain]
    multiples: list[tuple[Row, Panel]]

    @property
    def summary(self) -> str:
        """``box AP; teacher 48.3, baseline 33.1 ± 0.5``."""
        teacher, baseline = self.table.teacher, self.table.baseline
        known = [f"teacher {teacher.score:.1f}"] if teacher else ["teacher not run"]
        known += [f"baseline {wording.mean(baseline)}"] if baseline else ["baseline not run"]
        return f"{wording.short(self.table.metric)}: {', '.join(known)}"

    def key_of(self, row: Row) -> str:
        """Key of a row's line."""
        return next(line.key for line in self.lines if line.row is row)


def page(boards: Sequence[Leaderboard], folder: Path, root: str | None = None) -> str:
    """One self-contained HTML file; the same leaderboards and figures give the same text.

    Args:
        boards: this grid's first; the rows of others (another tier, another machine) join its table.
        folder: of the first board's figures; one that is missing, or of another kind than SVG and PNG, is excluded.
        root: the project, relative to the page, for links to its files; without links if None.
    """
    boards = [with_texts(board) for board in boards]
    combined = list(zip(_labels(boards), boards, strict=True))
    # Records of before it was noted have no division; a column of nothing says nothing.
    is_divided = any(row.division for board in boards for table in board.tables for row in table.rows)
    wanted = {"tier": len(boards) > 1, "division": is_divided}
    columns = [column for column in columns_of("html", *boards) if wanted.get(column.key, True)]
    scale = axis(boards)
    groups = [group for index, (label, board) in enumerate(combined) for group in _groups(index, label, board, columns, scale)]
    lines = [line for group in groups for line in group.lines]
    recipes = {name: recipe for board in reversed(boards) for name, recipe in board.recipes.items()}
    text = (
        _environment()
        .get_template("page.html.j2")
        .render(
            board=boards[0],
            combined=combined,
            groups=groups,
            axis=scale[0] if scale else None,
            root=root,
            headings={column: _capitalised(column.heading("score")) for column in columns},
            glossary=[(_capitalised(name), text) for name, text in glossary(boards[0], columns)],
            pairs={line.table.pair: line.table.title for line in lines},
            methods=_methods(lines, {name: recipe.title for name, recipe in recipes.items()}),
            verdicts={pill.kind: (pill.tone, wording.verdict_meaning(pill.kind)) for line in lines for pill in line.pills},
            tally=_tally(lines),
            recipes=recipes,
            absent=[(label, *cells) for label, board in combined for cells in _absent(board)],
            elsewhere=_elsewhere(boards),
            notes=_notes(boards),
            conflicts={group.table.title: group.table.conflicts for group in groups if group.table.conflicts},
            figures=[
                (figure, data)
                for figure in boards[0].figures
                if figure.name.partition("-")[0] not in _DRAWN_HERE and (data := data_uri(folder / figure.file))
            ],
            wording=wording,
            searches=studies,
            answers=answers,
            headlines=headlines,
        )
    )
    return re.sub(r"\s*\n\s*", "\n", text.strip()) + "\n"


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parents[1] / "templates")
    made = Environment(loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(when=_when, duration=_duration, one_digit=_one_digit, others=_others)
    return made


def _capitalised(words: str) -> str:
    """With a capital at the start; the symbol ``n`` stays as it is."""
    return words if len(words) == 1 else words[:1].upper() + words[1:]


def _labels(boards: Sequence[Leaderboard]) -> list[str]:
    """Distinct names of the boards: the tier; the device where two have it in common; a number where they have both."""
    labels: list[str] = []
    tiers = [board.tier for board in boards]
    for board in boards:
        is_common = tiers.count(board.tier) > 1 and board.environment is not None
        name = f"{board.tier}, {board.environment.device}" if is_common and board.environment else board.tier
        taken = sum(label == name or label.startswith(f"{name} (") for label in labels)
        labels.append(f"{name} ({taken + 1})" if taken else name)
    return labels


def _groups(
    index: int, label: str, board: Leaderboard, columns: Sequence[Column], scale: tuple[Axis, float, float] | None
) -> Iterator[Group]:
    """Every pair, in the grid's order."""
    prefix = "" if index == 0 else f"{index}-"
    of_pair = groupby(lines_of(index, label, board, columns), key=lambda line: line.table.pair)
    for pair, found in of_pair:
        lines = list(found)
        table, rows = lines[0].table, [line.row for line in lines if line.row]
        yield Group(
            f"{prefix}{pair}",
            label,
            board,
            table,
            lines,
            headlines.headline(table, board),
            gains(board, table, rows, scale[1:]) if scale else [],
            multiples(table, rows),
        )


def _methods(lines: Sequence[PageLine], titles: dict[str, str]) -> dict[str, str]:
    """Methods to filter the table by: every recipe that a row is made of, and the teacher."""
    parts = dict.fromkeys(part for line in lines for part in (line.row.parts if line.row else ["teacher"]))
    return {part: titles.get(part, part) for part in parts}


def _tally(lines: Sequence[PageLine]) -> Counter[tuple[str, str, str]]:
    """Count methods' rows by tier, verdict and colour."""
    return Counter(
        (line.tier, pill.kind, pill.tone) for line in lines if line.row for pill in line.pills if pill.kind != "baseline"
    )


def _absent(board: Leaderboard) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the requested runs without a result: pair, method, seeds, status, reason."""
    for table in board.tables:
        if table.teacher is None:
            yield table.title, "teacher", "", "not run", ""
        for row in table.rows:
            for (status, reason), group in groupby(row.missing, key=lambda missing: (missing.status, missing.reason)):
                yield table.title, row.title, ", ".join(str(missing.seed) for missing in group), status, reason or ""
            if row.status != "done" and not row.missing:
                yield table.title, row.title, "", row.status, row.reason or ""


def _elsewhere(boards: Sequence[Leaderboard]) -> list[tuple[Table, str, ReportedResult]]:
    """Return the results reported for a pair and not in any grid here, each once: (table, method, result)."""
    found = {
        (table.pair, result.id): (table, method, result)
        for board in boards
        for table in board.tables
        for method, results in table.reported_elsewhere.items()
        for result in results
    }
    return list(found.values())


def _notes(boards: Sequence[Leaderboard]) -> dict[str, list[str]]:
    """Return the notes by pair, each once."""
    found: dict[str, dict[str, None]] = {}
    for board in boards:
        for table in board.tables:
            found.setdefault(table.title, {}).update(dict.fromkeys(table.notes))
    return {title: list(notes) for title, notes in found.items() if notes}


def _when(stamp: str | None) -> str:
    """``2026-11-20 10:00 UTC`` from ISO 8601 in UTC."""
    return "not recorded" if stamp is None else f"{stamp[:10]} {stamp[11:16]} UTC"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < _MIN_A_DAY else f"{minutes / 60:.0f} h"


def _others(result: ReportedResult, results: Sequence[ReportedResult]) -> str:
    """List the reported results that a result disagrees with: by value in the same list, else by id."""
    beside = {other.id: wording.printed(other.value) for other in results}
    return ", ".join(beside.get(name, name) for name in result.disagrees_with)


def _one_digit(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
