"""The leaderboard as one HTML file to explore: no request to any network, plain tables where scripts are off."""

import base64
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.formats import studies, wording
from reports.formats.html_curves import Panel, panels
from reports.schemas.leaderboard import Leaderboard, Picture, PublishedFigure, Row, Table
from reports.stats import answers

COLUMNS = {
    "tier": "Tier",
    "pair": "Pair",
    "method": "Method",
    "verdict": "Verdict",
    "score": "Score, mean\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}sd",
    "n": "n",
    "reads": "Reads",
    "gain": "Gain [95\N{NO-BREAK SPACE}%]",
    "gap": "Gap closed [95\N{NO-BREAK SPACE}%]",
    "published": "Published score",
    "published_gain": "Published gain",
    "minutes": "Minutes",
    "mib": "MiB",
    "speed": "Images/s",
}
WORDS = ("tier", "pair", "method", "verdict")  # columns of words; all others hold figures

_MEDIA = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}
_TONES = {  # how a verdict begins -> its colour; the first that fits
    "reproduced": "good",
    "gain above zero, not": "open",
    "gain above zero": "good",
    "not reproduced": "bad",
    "loss below zero, not": "open",
    "loss below zero": "bad",
    "inconclusive": "open",
    "gain not shown": "open",
    "not run": "absent",
    "impossible": "absent",
    "failed": "bad",
}
_MIN_A_DAY = 600  # minutes from which hours read better


@dataclass(frozen=True)
class Pill:
    """A verdict: its words, those without counts to filter by, and its colour."""

    text: str
    kind: str
    tone: str


@dataclass(frozen=True)
class Cell:
    """One figure of the table: as printed, and to sort by; None sorts last."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Line:
    """One line of the main table; ``row`` is None for the teacher's."""

    key: str
    tier: str
    board: Leaderboard
    table: Table
    row: Row | None
    pills: list[Pill]
    cells: dict[str, Cell]
    panels: list[Panel]
    search: studies.Search | None = None


def page(boards: Sequence[Leaderboard], folder: Path) -> str:
    """One self-contained HTML file; the same leaderboards and pictures give the same text.

    Args:
        boards: this grid's first; the rows of others (another tier, another machine) join its table.
        folder: where the first board's pictures are; one that is not there, or of another kind than SVG, PNG and JPEG, is
            left out.
    """
    loader = FileSystemLoader(Path(__file__).parents[1] / "templates")
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(when=_when, duration=_duration, apart=_apart, one_digit=_one_digit, others=_others)
    labels = _labels(boards)
    joined = list(zip(labels, boards, strict=True))
    lines = [line for index, (label, board) in enumerate(joined) for line in _lines(index, label, board)]
    recipes = {name: recipe for board in reversed(boards) for name, recipe in board.recipes.items()}
    text = environment.get_template("page.html.j2").render(
        board=boards[0],
        joined=joined,
        lines=lines,
        columns={key: name for key, name in COLUMNS.items() if key != "tier" or len(boards) > 1},
        word_columns=WORDS,
        pairs={line.table.pair: line.table.title for line in lines},
        methods=_methods(lines, {name: recipe.title for name, recipe in recipes.items()}),
        verdicts=list(dict.fromkeys(pill.kind for line in lines for pill in line.pills)),
        tally=_tally(lines),
        recipes=recipes,
        absent=[(label, *what) for label, board in joined for what in _absent(board)],
        elsewhere=_elsewhere(boards),
        notes=_notes(boards),
        pictures=[(picture, data) for picture in boards[0].pictures if (data := _data(picture, folder))],
        wording=wording,
        searches=studies,
        answers=answers,
    )
    return text.rstrip() + "\n"


def _labels(boards: Sequence[Leaderboard]) -> list[str]:
    """Names that tell the boards apart: the tier; the device where two share it; a number where they share that too."""
    labels: list[str] = []
    tiers = [board.tier for board in boards]
    for board in boards:
        shared = tiers.count(board.tier) > 1 and board.environment is not None
        name = f"{board.tier}, {board.environment.device}" if shared and board.environment else board.tier
        taken = sum(label == name or label.startswith(f"{name} (") for label in labels)
        labels.append(f"{name} ({taken + 1})" if taken else name)
    return labels


def _lines(index: int, label: str, board: Leaderboard) -> Iterator[Line]:
    """Every pair's teacher and methods, in the grid's order."""
    prefix = "" if index == 0 else f"{index}-"
    for table in board.tables:
        found = {f"{one.study.method}/tuned": one for one in studies.searches(table, board)}
        control = [seed.curve for row in table.rows if row.method == "none" for seed in row.seeds]
        teacher = table.teacher
        word = "teacher" if teacher else "not run"
        drawn = panels([teacher.curve], [], table) if teacher else []
        pills = [Pill(word, word, _tone(word))]
        yield Line(f"{prefix}{table.pair}-teacher", label, board, table, None, pills, _teacher_cells(table), drawn)
        for row in table.rows:
            drawn = panels([seed.curve for seed in row.seeds], [] if row.method == "none" else control, table)
            key = f"{prefix}{table.pair}-{row.slug}"
            yield Line(key, label, board, table, row, _pills(row, board), _cells(row), drawn, found.get(row.method))


def _pills(row: Row, board: Leaderboard) -> list[Pill]:
    """One, or at full size one a verdict where sources disagree."""
    said = wording.verdict(row, board)
    texts = said.split(", ") if board.full_size and row.status == "done" else [said]
    return [Pill(text, kind := re.sub(r" \(\d+ of \d+\)$", "", text), _tone(kind)) for text in texts]


def _tone(verdict: str) -> str:
    return next((tone for begins, tone in _TONES.items() if verdict.startswith(begins)), "plain")


def _cells(row: Row) -> dict[str, Cell]:
    return {
        "score": Cell(wording.mean(row), row.mean),
        "n": Cell(str(row.num_seeds), row.num_seeds),
        "reads": Cell(wording.reads(row), row.foreground if row.right is None else row.right),
        "gain": Cell(wording.gain(row), row.gain),
        "gap": Cell(wording.gap(row), row.gap_closed),
        **_published(row.published),
        "minutes": Cell(wording.minutes(row), row.minutes),
        "mib": _whole(row.peak_memory_mib),
        "speed": _whole(row.images_per_s),
    }


def _teacher_cells(table: Table) -> dict[str, Cell]:
    teacher, nothing = table.teacher, Cell("", None)
    cost = teacher.cost if teacher else None
    return {
        "score": Cell(f"{teacher.score:.1f}", teacher.score) if teacher else nothing,
        "n": Cell("1", 1) if teacher else Cell("0", 0),
        "reads": Cell(wording.reads(teacher), teacher.metrics.get("right class", teacher.metrics.get("foreground IoU")))
        if teacher
        else nothing,
        "gain": nothing,
        "gap": nothing,
        **_published(table.published_teacher),
        "minutes": Cell(f"{cost.train_s / 60:.1f}", cost.train_s / 60) if cost else nothing,
        "mib": _whole(cost.peak_memory_mib if cost else None),
        "speed": _whole(cost.images_per_s if cost else None),
    }


def _published(figures: list[PublishedFigure]) -> dict[str, Cell]:
    """Sorted by the highest of those that are printed."""
    gains = [figure.gain for figure in figures if figure.gain is not None]
    return {
        "published": Cell(wording.published_scores(figures), max((figure.value for figure in figures), default=None)),
        "published_gain": Cell(wording.published_gains(figures), max(gains, default=None)),
    }


def _whole(value: float | None) -> Cell:
    return Cell("" if value is None else f"{value:.0f}", value)


def _methods(lines: Sequence[Line], titles: dict[str, str]) -> dict[str, str]:
    """What the table can be filtered by: every recipe that a row is made of, and the teacher."""
    parts = dict.fromkeys(part for line in lines for part in (line.row.parts if line.row else ["teacher"]))
    return {part: titles.get(part, part) for part in parts}


def _tally(lines: Sequence[Line]) -> Counter[tuple[str, str, str]]:
    """How many methods' rows came to each verdict: tier, verdict, colour."""
    return Counter(
        (line.tier, pill.kind, pill.tone) for line in lines if line.row for pill in line.pills if pill.kind != "control"
    )


def _absent(board: Leaderboard) -> Iterator[tuple[str, str, str, str, str]]:
    """What was asked for and is not there: pair, method, seeds, status, reason."""
    for table in board.tables:
        if table.teacher is None:
            yield table.title, "teacher", "", "not run", ""
        for row in table.rows:
            for (status, reason), group in groupby(row.missing, key=lambda missing: (missing.status, missing.reason)):
                yield table.title, row.title, ", ".join(str(missing.seed) for missing in group), status, reason or ""
            if row.status != "done" and not row.missing:
                yield table.title, row.title, "", row.status, row.reason or ""


def _elsewhere(boards: Sequence[Leaderboard]) -> list[tuple[Table, str, PublishedFigure]]:
    """Published for a pair, and not in any grid here; each once."""
    found = {
        (table.pair, figure.id): (table, method, figure)
        for board in boards
        for table in board.tables
        for method, figures in table.published_elsewhere.items()
        for figure in figures
    }
    return list(found.values())


def _notes(boards: Sequence[Leaderboard]) -> dict[str, list[str]]:
    """By pair; each once."""
    found: dict[str, dict[str, None]] = {}
    for board in boards:
        for table in board.tables:
            found.setdefault(table.title, {}).update(dict.fromkeys(table.notes))
    return {title: list(notes) for title, notes in found.items() if notes}


def _data(picture: Picture, folder: Path) -> str | None:
    """A picture as a data URI."""
    path, media = folder / picture.file, _MEDIA.get(Path(picture.file).suffix.lower())
    if media is None or not path.is_file():
        return None
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _when(stamp: str | None) -> str:
    """``2026-11-20 10:00 UTC`` from ISO 8601 in UTC."""
    return "not recorded" if stamp is None else f"{stamp[:10]} {stamp[11:16]} UTC"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < _MIN_A_DAY else f"{minutes / 60:.0f} h"


def _apart(text: str) -> tuple[str, str]:
    """A figure and what follows it: ``+5.7`` and ``[+3.2, +8.3]``, so that figures stand below each other."""
    match = re.fullmatch(r"([^\s,]+(?: %)?) ([\[±+].*)", text)
    return (match[1], match[2]) if match else (text, "")


def _others(figure: PublishedFigure, figures: Sequence[PublishedFigure]) -> str:
    """What it disagrees with: the values that stand beside it, by name what does not."""
    beside = {other.id: wording.printed(other.value) for other in figures}
    return ", ".join(beside.get(name, name) for name in figure.disagrees_with)


def _one_digit(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
