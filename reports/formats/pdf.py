"""The leaderboard as a PDF, set by typst: ``templates/leaderboard.typ`` has the layout and the prose."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typst

from reports.formats import studies, wording
from reports.formats.typst_text import duration, energy, minute, source, stacked, typeset, words
from reports.schemas.leaderboard import Leaderboard, Missing, PublishedFigure, Recipe, Row, SeedResult, Table, TeacherRow
from reports.stats import answers

_TEMPLATES = Path(__file__).parents[1] / "templates"
_HEX = 12  # digits of a digest that are printed


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
            pictures.append({"title": picture.title, "caption": words(picture.caption), "file": name})
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
        "warning": typeset(warning) if warning else None,
        "question": typeset(wording.question(board)),
        "sections": [[title, [typeset(words) for words in paragraphs]] for title, paragraphs in answers.sections(board)],
        "beforehand": wording.beforehand(board),
        "when": [minute(board.first_finished), minute(board.last_finished)],
        "duration": duration(board.train_s),
        "energy": None if board.energy_kj is None else energy(board.energy_kj),
        "environment": board.environment.model_dump() if board.environment else None,
        "data": list(board.data.items()),
        "commits": board.commits,
        "dirty": board.dirty,
        "problems": [words(problem) for problem in board.problems],
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
        "readings": _readings(table) if board.full_size else [],
        "missing": [line for row in table.rows for line in _missing(row)],
        "trainings": _trainings(table),
        "searches": [_search(search, board) for search in studies.searches(table, board)],
        "published": [_figure(title, figure) for title, figures in in_grid for figure in figures],
        "elsewhere": [_figure(name, figure) for name, figures in table.published_elsewhere.items() for figure in figures],
        "notes": [words(note) for note in table.notes],
        "settings": [_settings(row) for row in table.rows if row.status == "done"],
        "commands": [[row.title, row.command] for row in table.rows if row.command],
    }


def _teacher(table: Table) -> dict[str, Any]:
    found = table.teacher
    return {
        "name": found.name if found else None,
        "score": f"{found.score:.1f}" if found else None,
        "origin": found.origin if found else None,
        "reads": _on_two_lines(wording.reads(found) if found else ""),
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
        "reason": words(row.reason or ""),
        "score": [typeset(wording.mean(row)), typeset(next_one)],
        "n": str(row.num_seeds),
        "reads": _on_two_lines(wording.reads(row)),
        "gain": stacked(wording.gain(row)),
        "gap": stacked(wording.gap(row)),
        "verdict": wording.verdict(row, board),
        "p": [wording.p_value(p) for p in (row.gain_p, row.gain_p_holm) if p is not None] if tested else None,
        "published": wording.published_scores(row.published),
        "published_gain": typeset(wording.published_gains(row.published)),
        "minutes": wording.minutes(row),
        "energy": None if row.energy_kj is None else energy(row.energy_kj),
        "mib": "" if row.peak_memory_mib is None else f"{row.peak_memory_mib:.0f}",
    }


def _on_two_lines(said: str) -> list[str]:
    first, _, second = said.partition(", ")
    return [first, second]


def _outcomes(table: Table, board: Leaderboard) -> list[list[str]]:
    """Every verdict on the pair with the methods that it was given to."""
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        if row.method != "none":
            methods.setdefault(wording.verdict(row, board), []).append(row.title)
    return [[verdict, ", ".join(titles)] for verdict, titles in methods.items()]


def _readings(table: Table) -> list[dict[str, Any]]:
    return [
        {"title": row.title, "source": source(figure.source), "sentences": [typeset(sentence) for sentence in sentences]}
        for row in table.rows
        for figure in row.published
        if (sentences := wording.reading(figure, table))
    ]


def _missing(row: Row) -> list[dict[str, Any]]:
    """What is not there of a row, seeds of the same reason together."""

    def why(missing: Missing) -> tuple[str, str]:
        return missing.status, missing.reason or ""

    if row.status == "impossible":
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
        "finished": minute(seed.finished_at) if seed else None,
        "target": result.target,
        "digests": [digest[:_HEX] for digest in digests],
    }


def _search(search: studies.Search, board: Leaderboard) -> dict[str, Any]:
    told = [words for words in (studies.division(search, board), studies.account(search)) if words]
    return {
        "title": search.title,
        "told": [typeset(words) for words in told],
        "metric": search.metric,
        "searched": [asdict(one) for one in studies.searched(search.study)],
        "tried": [asdict(one) for one in studies.tried(search.study)],
    }


def _figure(title: str, figure: PublishedFigure) -> dict[str, Any]:
    return {
        "title": title,
        "score": wording.printed(figure.value),
        "gain": "" if figure.gain is None else typeset(wording.printed(figure.gain, signed=True)),
        "teacher": "" if figure.teacher is None else wording.printed(figure.teacher),
        "variant": "; ".join(f"{key}\N{NO-BREAK SPACE}{value}" for key, value in figure.variant.items()),
        "source": source(figure.source),
        "second_hand": figure.read == "second-hand",
        "orientation": words(wording.orientation(figure)),
    }


def _recipe(recipe: Recipe) -> dict[str, Any]:
    return {
        "title": recipe.title,
        "paper": words(recipe.paper) if recipe.paper else None,
        "source": source(recipe.source) if recipe.source else None,
        "notes": [words(note) for note in recipe.notes],
        "deviations": [words(deviation) for deviation in recipe.deviations],
    }


def _settings(row: Row) -> dict[str, Any]:
    return {
        "title": row.title,
        "hparams": [f"{key} = {wording.setting(value)}" for key, value in row.hparams.items()],
        "config_changes": [f"{key} = {value}" for key, value in row.config_changes.items()],
        "origin": words(row.hparams_origin or ""),
    }
