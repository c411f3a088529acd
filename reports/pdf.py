"""The leaderboard as a PDF, set by typst: ``templates/leaderboard.typ`` has the layout and the prose."""

import json
import re
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typst

from reports import wording
from reports.board import Leaderboard, Missing, PublishedFigure, Recipe, Row, SeedResult, Table, TeacherRow

_TEMPLATES = Path(__file__).parent / "templates"
_CODE = re.compile(r"`([^`]+)`")
_ADDRESS = re.compile(r"https?://[^\s<>)]*[^\s<>).,;]|arXiv:\d{4}\.\d{4,5}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(?=[ ,]|$)")
_REVISION = re.compile(r" at ([0-9a-f]{7,40}|v\d[\w.]*)\b")
_HEX = 12  # digits of a digest that are printed
_TWO_HOURS_S = 7200
_MOST_KJ = 10_000  # more is said in kWh

Words = list[dict[str, str]]  # pieces of a line; some have a "url", or are "code"


def write_pdf(board: Leaderboard, folder: Path, out: Path) -> None:
    """Set the whole report; the same leaderboard and pictures give the same bytes.

    Args:
        board: what is said.
        folder: where its pictures lie; one that is not there is left out.
        out: the file that is written; its folder is there.
    """
    with TemporaryDirectory() as scratch:
        document = prepare(board, folder, Path(scratch).resolve())
        # Neither the clock nor the fonts of this machine: those built into typst are the same everywhere.
        made = typst.compile(document, root=document.parent, ignore_system_fonts=True, timestamp=0)
    if not isinstance(made, bytes):
        raise TypeError(f"typst made {type(made).__name__}, and a PDF is one piece")
    out.write_bytes(made)


def prepare(board: Leaderboard, folder: Path, target: Path) -> Path:
    """Lay out all that typst reads in an empty folder; returns the document to be set."""
    for template in sorted(_TEMPLATES.glob("*.typ")):
        shutil.copyfile(template, target / template.name)
    pictures: list[dict[str, Any]] = []
    for picture in board.pictures:
        if (folder / picture.file).is_file():
            name = f"picture{len(pictures)}{Path(picture.file).suffix}"
            shutil.copyfile(folder / picture.file, target / name)
            pictures.append({"title": picture.title, "caption": _words(picture.caption), "file": name})
    (target / "leaderboard.json").write_text(json.dumps({**_contents(board), "pictures": pictures}))
    return target / "leaderboard.typ"


def _contents(board: Leaderboard) -> dict[str, Any]:
    """All words and figures, in the order in which they are printed; None where there is nothing to say."""
    warning = wording.scale_warning(board)
    return {
        "tier": board.tier,
        "tier_title": board.tier_title,
        "full_size": board.full_size,
        "datasets": wording.datasets(board),
        "warning": _typeset(warning) if warning else None,
        "question": _typeset(wording.question(board)),
        "when": [_minute(board.first_finished), _minute(board.last_finished)],
        "duration": _duration(board.train_s),
        "energy": None if board.energy_kj is None else _energy(board.energy_kj),
        "environment": board.environment.model_dump() if board.environment else None,
        "data": list(board.data.items()),
        "commits": board.commits,
        "dirty": board.dirty,
        "problems": [_words(problem) for problem in board.problems],
        "tables": [_table(table, board) for table in board.tables],
        "recipes": [_recipe(recipe) for recipe in board.recipes.values()],
    }


def _table(table: Table, board: Leaderboard) -> dict[str, Any]:
    in_grid = [("teacher", table.published_teacher), *((row.title, row.published) for row in table.rows)]
    return {
        **table.model_dump(include={"pair", "title", "task", "dataset", "schedule"}),
        "metric": wording.short(table.metric),
        "teacher": _teacher(table),
        "rows": [_row(row, board) for row in table.rows],
        "outcomes": _outcomes(table, board),
        "num_done": sum(row.num_seeds for row in table.rows),
        "num_asked": sum(row.num_seeds + len(row.missing) for row in table.rows),
        "readings": _readings(table),
        "missing": [line for row in table.rows for line in _missing(row)],
        "trainings": _trainings(table),
        "published": [_figure(title, figure) for title, figures in in_grid for figure in figures],
        "elsewhere": [_figure(name, figure) for name, figures in table.published_elsewhere.items() for figure in figures],
        "notes": [_words(note) for note in table.notes],
        "settings": [_settings(row) for row in table.rows if row.status == "done"],
        "commands": [[row.title, row.command] for row in table.rows if row.command],
    }


def _teacher(table: Table) -> dict[str, Any]:
    found = table.teacher
    return {
        "name": found.name if found else None,
        "score": f"{found.score:.1f}" if found else None,
        "origin": found.origin if found else None,
        "minutes": f"{found.cost.train_s / 60:.1f}" if found and found.cost else "",
        "mib": f"{found.cost.peak_memory_mib:.0f}" if found and found.cost else "",
        "published": wording.published_scores(table.published_teacher),
    }


def _row(row: Row, board: Leaderboard) -> dict[str, Any]:
    """A row of the main table; an interval stands apart from its estimate, for a line of its own."""
    next_one = "" if row.next_low is None else f"[{row.next_low:.1f}, {row.next_high:.1f}]"
    tested = not board.full_size and row.gain_p is not None and row.gain_p_holm is not None
    return {
        "title": row.title,
        "done": row.status == "done",
        "reason": _words(row.reason or ""),
        "score": [_typeset(wording.mean(row)), _typeset(next_one)],
        "n": str(row.num_seeds),
        "gain": _stacked(wording.gain(row)),
        "gap": _stacked(wording.gap(row)),
        "verdict": wording.verdict(row, board),
        "p": [wording.p_value(p) for p in (row.gain_p, row.gain_p_holm) if p is not None] if tested else None,
        "published": wording.published_scores(row.published),
        "published_gain": _typeset(wording.published_gains(row.published)),
        "minutes": wording.minutes(row),
        "energy": None if row.energy_kj is None else _energy(row.energy_kj),
        "mib": "" if row.peak_memory_mib is None else f"{row.peak_memory_mib:.0f}",
    }


def _outcomes(table: Table, board: Leaderboard) -> list[list[str]]:
    """Every verdict on the pair with the methods that it was given to."""
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        if row.method != "none":
            methods.setdefault(wording.verdict(row, board), []).append(row.title)
    return [[verdict, ", ".join(titles)] for verdict, titles in methods.items()]


def _readings(table: Table) -> list[dict[str, Any]]:
    return [
        {"title": row.title, "source": _source(figure.source), "sentences": [_typeset(sentence) for sentence in sentences]}
        for row in table.rows
        for figure in row.published
        if (sentences := wording.reading(figure, table))
    ]


def _missing(row: Row) -> list[dict[str, Any]]:
    """What is not there of a row, seeds of the same reason together."""

    def why(missing: Missing) -> tuple[str, str]:
        return missing.status, missing.reason or ""

    if row.status == "impossible":
        return [{"title": row.title, "seeds": "", "status": row.status, "reason": _words(row.reason or "")}]
    return [
        {
            "title": row.title,
            "seeds": ", ".join(str(missing.seed) for missing in of_status),
            "status": status,
            "reason": _words(reason),
        }
        for (status, reason), of_status in groupby(sorted(row.missing, key=why), key=why)
    ]


def _trainings(table: Table) -> dict[str, Any]:
    """Every finished training on its own, the teacher first."""
    found: list[tuple[str, SeedResult | TeacherRow]] = [("teacher", table.teacher)] if table.teacher else []
    found += [(row.title, seed) for row in table.rows for seed in row.seeds]
    names = list(dict.fromkeys(name for _, result in found for name in result.metrics))
    return {"metrics": names, "rows": [_training(title, result, names) for title, result in found]}


def _training(title: str, result: SeedResult | TeacherRow, names: Iterable[str]) -> dict[str, Any]:
    seed = result if isinstance(result, SeedResult) else None
    digests = (seed.config_sha256 if seed else "", result.weights_sha256, result.run_sha256, result.metrics_sha256)
    return {
        "title": title,
        "seed": str(seed.seed) if seed else "",
        "metrics": ["" if (value := result.metrics.get(name)) is None else f"{value:.1f}" for name in names],
        "images_per_s": f"{result.cost.images_per_s:.0f}" if result.cost else "",
        "commit": (seed.git.commit or "")[:8] if seed else "",
        "dirty": bool(seed and seed.git.dirty),
        "mlflow": (result.mlflow_run_id or "")[:8],
        "finished": _minute(seed.finished_at) if seed else None,
        "target": result.target,
        "digests": [digest[:_HEX] for digest in digests],
    }


def _figure(title: str, figure: PublishedFigure) -> dict[str, Any]:
    return {
        "title": title,
        "score": wording.printed(figure.value),
        "gain": "" if figure.gain is None else _typeset(wording.printed(figure.gain, signed=True)),
        "teacher": "" if figure.teacher is None else wording.printed(figure.teacher),
        "variant": "; ".join(f"{key}\N{NO-BREAK SPACE}{value}" for key, value in figure.variant.items()),
        "source": _source(figure.source),
        "second_hand": figure.read == "second-hand",
    }


def _recipe(recipe: Recipe) -> dict[str, Any]:
    return {
        "title": recipe.title,
        "paper": _words(recipe.paper) if recipe.paper else None,
        "source": _source(recipe.source) if recipe.source else None,
        "notes": [_words(note) for note in recipe.notes],
        "deviations": [_words(deviation) for deviation in recipe.deviations],
    }


def _settings(row: Row) -> dict[str, Any]:
    return {
        "title": row.title,
        "hparams": [f"{key} = {value}" for key, value in row.hparams.items()],
        "config_changes": [f"{key} = {value}" for key, value in row.config_changes.items()],
        "origin": _words(row.hparams_origin or ""),
    }


def _source(text: str) -> Words:
    """A source's words; where they begin with a repository, that is a link, to the revision if they name one."""
    found = _REPOSITORY.match(text)
    if found is None:
        return _words(text)
    revision = _REVISION.search(text)
    url = f"https://github.com/{found[0]}" + (f"/tree/{revision[1]}" if revision else "")
    return [{"text": found[0], "url": url}, *_words(text[found.end() :])]


def _words(text: str) -> Words:
    """Cut into plain words, code between backticks, and addresses."""
    pieces: Words = []
    for index, piece in enumerate(_CODE.split(text)):
        if index % 2:
            pieces.append({"text": piece, "code": "yes"})
            continue
        end = 0
        for found in _ADDRESS.finditer(piece):
            url = found[0].replace("arXiv:", "https://arxiv.org/abs/")
            pieces += [{"text": piece[end : found.start()]}, {"text": found[0], "url": url}]
            end = found.end()
        pieces.append({"text": piece[end:]})
    return [piece for piece in pieces if piece["text"]]


def _stacked(estimate: str) -> list[str]:
    """An estimate and its interval, which may be empty."""
    value, bracket, interval = _typeset(estimate).partition(" [")
    return [value, f"[{interval}" if bracket else ""]


def _typeset(words: str) -> str:
    """With true minus signs, and no line break between a figure and its unit."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", words).replace(" %", "\N{NO-BREAK SPACE}%")


def _minute(moment: str | None) -> str | None:
    """``2026-11-20 10:00``."""
    return moment[:16].replace("T", " ") if moment else None


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < _TWO_HOURS_S else f"{seconds / 3600:.1f} h"


def _energy(energy_kj: float) -> str:
    return f"{energy_kj:.0f} kJ" if energy_kj < _MOST_KJ else f"{energy_kj / 3600:.1f} kWh"
