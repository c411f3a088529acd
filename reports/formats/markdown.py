"""The leaderboard as Markdown."""

from collections.abc import Collection, Iterable
from itertools import compress
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.formats import studies, wording
from reports.formats.wording import short
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table, TeacherRow
from reports.schemas.study import Study
from reports.stats import answers

_COLUMNS = (
    "method", "{metric}, mean ± sd", "n", "reads", "gain [95 %]", "gap closed [95 %]", "verdict", "min", "MiB", "images/s",
    "published {metric}", "published gain",
)  # fmt: skip
_COSTS = ("min", "MiB", "images/s")  # which differ from machine to machine
MAIN_PICTURES = ("scores", "forest")  # the others are in the page and the PDF


def markdown(board: Leaderboard) -> str:
    """The whole report; the same leaderboard gives the same text."""
    folder = Path(__file__).parents[1] / "templates"
    # Markdown, not HTML: nothing to escape but the registry's own words.
    environment = Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    template = environment.get_template("leaderboard.md.j2")
    pictures = [picture for picture in board.pictures if picture.name in MAIN_PICTURES]
    shown = {"board": board, "w": wording, "s": studies, "pictures": pictures, "results": results, "by_seed": by_seed}
    shown["sections"] = answers.sections(board)
    return template.render(**shown, searched=searched).rstrip() + "\n"


def overview(board: Leaderboard) -> str:
    """Every pair's main table without costs under its title; the README quotes it."""
    return "\n\n".join(f"**{table.title}**{_teacher(table)}\n\n{results(table, board, without=_COSTS)}" for table in board.tables)


def _teacher(table: Table) -> str:
    if table.teacher is None:
        return ""
    reads = wording.reads(table.teacher)
    return f" (teacher {table.teacher.score:.1f} {short(table.metric)}{': ' + reads if reads else ''})"


def results(table: Table, board: Leaderboard, *, without: Collection[str] = ()) -> str:
    """A pair's main table; ``without`` names columns to be dropped."""
    kept = [column not in without for column in _COLUMNS]
    header = [column.format(metric=short(table.metric)) for column in _COLUMNS]
    lines = [_line(compress(cells, kept)) for cells in (header, *(_row(row, board) for row in table.rows))]
    return "\n".join([lines[0], "|" + "---|" * sum(kept), *lines[1:]])


def by_seed(table: Table) -> str:
    """Every training of a pair on its own, the teacher first."""
    trained: list[tuple[str, str, TeacherRow | SeedResult, str]] = [("teacher", "", table.teacher, "")] if table.teacher else []
    trained += [(row.title, str(seed.seed), seed, _commit(seed)) for row in table.rows for seed in row.seeds]
    names = list(dict.fromkeys(name for _, _, result, _ in trained for name in result.metrics))
    header = ["method", "seed", *names, "images/s", "commit", "MLflow run"]
    lines = [
        _line([
            title, seed, *(_figure(result.metrics.get(name)) for name in names),
            f"{result.cost.images_per_s:.0f}" if result.cost else "", commit, f"`{(result.mlflow_run_id or 'none')[:8]}`",
        ])
        for title, seed, result, commit in trained
    ]  # fmt: skip
    return "\n".join([_line(header), "|" + "---|" * len(header), *lines])


def searched(study: Study) -> str:
    """What a study looked for, a line a hyper-parameter."""
    header = ["hyper-parameter", "searched", "recipe", "handed out", "importance"]
    lines = [
        _line([f"`{one.name}`", one.looked, one.recipe, one.best, one.importance or "unknown"]) for one in studies.searched(study)
    ]
    return "\n".join([_line(header), "|" + "---|" * len(header), *lines])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(row: Row, board: Leaderboard) -> list[str]:
    # A tuned row's are its method's own, directly above.
    none = "" if row.is_tuned else "none"
    figures = [say(row.published) if row.published else none for say in (wording.published_scores, wording.published_gains)]
    if row.status != "done":
        return [row.title, "", "0", "", "", "", row.status, "", "", "", *figures]
    return [
        row.title, wording.mean(row), str(row.num_seeds), wording.reads(row), wording.gain(row), wording.gap(row), wording.verdict(row, board),
        wording.minutes(row), f"{row.peak_memory_mib:.0f}", f"{row.images_per_s:.0f}", *figures,
    ]  # fmt: skip


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _commit(result: SeedResult) -> str:
    return f"`{(result.git.commit or 'none')[:8]}`" + ("*" if result.git.dirty else "")
