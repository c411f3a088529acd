"""The leaderboard as a PDF, set by typst: ``templates/leaderboard.typ`` has the layout and the prose."""

import json
import re
import shutil
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import typst
from PIL import Image

from reports.formats import answers, headlines, studies, wording
from reports.formats.columns import Column, Line, columns_of, glossary, line_frame, lines_of
from reports.formats.printable import with_texts
from reports.formats.typst_text import duration, minute, source, typeset, words
from reports.plots.fonts import folders, legible
from reports.schemas.leaderboard import Leaderboard, MissingRun, RecipeSummary, Row, Table
from reports.schemas.reported import ReportedResult

_TEMPLATES = Path(__file__).parents[1] / "templates"
# Details that only the page has room for.
_ON_PAGE_ALONE = {"scores", "gap", "size", "tuning", "history", "slices", "importance", "front"}
_QUALITY = 60  # of JPEG
_LONGEST_WORD = 80  # letters


def write_pdf(board: Leaderboard, folder: Path, out: Path) -> None:
    """Write the whole report; the same leaderboard and figures give the same bytes.

    Args:
        board: its contents.
        folder: of its figures; one that is missing is excluded.
        out: the file to write, in a folder that exists.

    Raises:
        TypeError: typst returned several pages instead of one document.
    """
    with TemporaryDirectory() as scratch:
        document = prepare(board, folder, Path(scratch).resolve())
        # Tags take as much as all text, and the page is the form for screen readers.
        # Neither the clock nor the fonts of this machine: those of packages are the same everywhere.
        made = typst.compile(
            document, root=document.parent, font_paths=[*folders()], ignore_system_fonts=True, timestamp=0, pdf_tags=False
        )
    if not isinstance(made, bytes):
        raise TypeError(f"typst returned {type(made).__name__} in place of one document; install the locked version")
    out.write_bytes(made)


def prepare(board: Leaderboard, folder: Path, target: Path) -> Path:
    """Write all that typst reads to an empty folder; return the path of the document."""
    board = with_texts(board, _breakable)
    for template in sorted(_TEMPLATES.glob("*.typ")):
        shutil.copyfile(template, target / template.name)
    figures: list[dict[str, Any]] = []
    for figure in board.figures:
        if figure.name.partition("-")[0] not in _ON_PAGE_ALONE and (folder / figure.file).is_file():
            name = _copy_figure(folder / figure.file, target, f"figure{len(figures)}")
            figures.append(
                {"name": figure.name.partition("-")[0], "title": figure.title, "caption": words(figure.caption), "file": name}
            )
    (target / "leaderboard.json").write_text(json.dumps({**_contents(board), "figures": figures}))
    return target / "leaderboard.typ"


def _breakable(text: str) -> str:
    """Legible text; a word that no column has room for may be broken anywhere."""
    return re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: "\N{ZERO WIDTH SPACE}".join(word[0]), legible(text))


def _copy_figure(path: Path, target: Path, stem: str) -> str:
    """Copy a figure and return its name; pixels become JPEG, which a PDF can have as it is."""
    if path.suffix == ".svg":
        shutil.copyfile(path, target / f"{stem}.svg")
        return f"{stem}.svg"
    with Image.open(path) as image:
        image.convert("RGB").save(target / f"{stem}.jpg", quality=_QUALITY, optimize=True, progressive=True)
    return f"{stem}.jpg"


def _contents(board: Leaderboard) -> dict[str, Any]:
    """All words and numbers, in the order in which they are printed; None where there are none."""
    warning, frame = wording.scale_warning(board), line_frame(board)
    return {
        "tier": board.tier,
        "tier_title": board.tier_title,
        "paper_scale": board.paper_scale,
        "datasets": wording.datasets(board),
        "warning": typeset(warning) if warning else None,
        "scale": headlines.scale(board),
        "question": typeset(wording.question(board)),
        "sections": [[title, [typeset(words) for words in paragraphs]] for title, paragraphs in answers.sections(board)],
        "glossary": glossary(board, columns_of("pdf", board)),
        "when": [minute(board.first_finished), minute(board.last_finished)],
        "duration": duration(board.train_s),
        "energy": None if board.energy_kj is None else wording.energy(board.energy_kj),
        "environment": board.environment.model_dump() | {"device": wording.device(board)} if board.environment else None,
        "data": list(board.data.items()),
        "commits": [commit[:10] for commit in board.commits],
        "dirty": board.dirty,
        "code_marks": wording.code_marks(board),
        "problems": [words(problem) for problem in board.problems],
        "tables": [_table(table, board, frame.loc[[number]]) for number, table in enumerate(board.tables)],
        "recipes": [_recipe(recipe) for recipe in board.recipes.values()],
    }


def _table(table: Table, board: Leaderboard, frame: pd.DataFrame) -> dict[str, Any]:
    in_grid = [("teacher", table.reported_teacher), *((row.title, row.reported) for row in table.rows)]
    lines = lines_of(frame)
    return {
        **table.model_dump(include={"pair", "title", "task", "dataset", "schedule"}),
        "metric": wording.short(table.metric),
        "headline": typeset(headlines.headline(table, board)),
        "columns": [_column(column, table) for column in columns_of("pdf", board)],
        "teacher": _teacher(table, lines[0]),
        "rows": [_row(line) for line in lines[1:]],
        "num_done": sum(row.num_seeds for row in table.rows),
        "num_requested": sum(row.num_seeds + len(row.missing) for row in table.rows),
        "readings": _readings(table) if board.paper_scale else [],
        "missing": [line for row in table.rows for line in _missing(row)],
        "searches": [
            typeset(said)
            for search in studies.searches(table, board)
            for said in (studies.division(search, board), studies.account(search))
            if said
        ],
        "reported": [_reported(title, result) for title, results in in_grid for result in results],
        "conflicts": [
            {
                "what": one.what,
                "value": wording.printed(one.value),
                "baseline": "" if one.baseline is None else wording.printed(one.baseline),
                "source": source(one.source),
                "note": words(one.note or ""),
            }
            for one in table.conflicts
        ],
        "notes": [words(note) for note in table.notes],
    }


def _column(column: Column, table: Table) -> dict[str, Any]:
    """Head, width and alignment; a head is broken where its column's cells are."""
    head = column.heading(wording.short(table.metric))
    first, bracket, interval = head.partition(" [")
    stacked_head = [first, f"[{interval}"] if bracket else [head, column.below_header]
    return {"head": stacked_head, "width": column.width, "right": not column.words and column.break_at != ", "}


def _cell(column: Column, line: Line) -> list[str]:
    """Text of a cell and, for a line of its own, what is smaller below it."""
    text = typeset(column.printed(line))
    if column.below:
        return [text, typeset(column.below(line))]
    first, found, rest = text.partition(column.break_at) if column.break_at else (text, "", "")
    return [first, found.strip(" ,") + rest]


def _row(line: Line) -> dict[str, Any]:
    """Cells of a row; where nothing ran, its status and reason in place of its results."""
    row, columns = line.row, columns_of("pdf", line.board)
    cells = {column.key: _cell(column, line) for column in columns}
    if row.status == "done":
        return {"cells": list(cells.values()), "span": 0}
    return {
        "cells": [cells[column.key] for column in columns if column.group != "result"],
        "span": sum(column.group == "result" for column in columns),
        "status": row.status,
        "reason": words(row.reason or ""),
    }


def _teacher(table: Table, line: Line) -> dict[str, Any]:
    """Cells of the teacher, with its name in place of a verdict."""
    teacher = table.teacher
    if teacher is None:
        return _row(line)
    named = [teacher.name, f"weights of {teacher.origin}" if teacher.origin else "one run"]
    cells = [named if column.key == "verdict" else _cell(column, line) for column in columns_of("pdf", line.board)]
    return {"cells": cells, "span": 0}


def _readings(table: Table) -> list[dict[str, Any]]:
    return [
        {"title": row.title, "source": source(result.source), "sentences": [typeset(sentence) for sentence in sentences]}
        for row in table.rows
        for result in row.reported
        if (sentences := wording.reading(result, table))
    ]


def _missing(row: Row) -> list[dict[str, Any]]:
    """Missing runs of a row, seeds of the same reason together."""

    def why(missing: MissingRun) -> tuple[str, str]:
        return missing.status, missing.reason or ""

    if row.status == "unsupported":
        return [{"title": row.title, "seeds": "", "status": row.status, "reason": words(row.reason or "")}]
    return [
        {
            "title": row.title,
            "seeds": ", ".join(str(missing.seed) for missing in of_status),
            "status": status,
            "reason": words(reason),
        }
        for (status, reason), of_status in groupby(sorted(row.missing, key=why), key=why)
    ]


def _reported(title: str, result: ReportedResult) -> dict[str, Any]:
    return {
        "title": title,
        "score": wording.printed(result.value),
        "gain": "" if result.gain is None else typeset(wording.printed(result.gain, signed=True)),
        "teacher": "" if result.teacher is None else wording.printed(result.teacher),
        "variant": "; ".join(f"{key}\N{NO-BREAK SPACE}{value}" for key, value in result.variant.items()),
        "source": source(result.source),
        "is_secondary": result.read == "second-hand",
        "orientation": words(wording.orientation(result)),
    }


def _recipe(recipe: RecipeSummary) -> dict[str, Any]:
    return {
        "title": recipe.title,
        "paper": words(recipe.paper) if recipe.paper else None,
        "source": source(recipe.source) if recipe.source else None,
        "deviations": [words(deviation) for deviation in recipe.deviations],
    }
