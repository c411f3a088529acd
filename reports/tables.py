"""The leaderboard as Markdown."""

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.board import Leaderboard, PublishedFigure, Row, SeedResult, Table, TeacherRow

_COLUMNS = "method", "{metric}, mean ± sd", "n", "gain", "gap closed", "min", "MiB", "published {metric}", "published gain"


def markdown(board: Leaderboard) -> str:
    """The whole report; the same leaderboard gives the same text."""
    folder = Path(__file__).parent / "templates"
    # Markdown, not HTML: nothing to escape but the registry's own words.
    environment = Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    template = environment.get_template("leaderboard.md.j2")
    datasets = " or ".join(dict.fromkeys(table.dataset for table in board.tables))
    return template.render(board=board, datasets=datasets, short=short, results=results, by_seed=by_seed).rstrip() + "\n"


def overview(board: Leaderboard) -> str:
    """Every pair's main table under its title; the README quotes it."""
    return "\n\n".join(f"**{table.title}**{_teacher(table)}\n\n{results(table)}" for table in board.tables)


def _teacher(table: Table) -> str:
    return "" if table.teacher is None else f" (teacher {table.teacher.score:.1f} {short(table.metric)})"


def short(metric: str) -> str:
    """How a table calls its metric: AP is that of boxes where nothing else is said."""
    return metric.removeprefix("box ")


def results(table: Table) -> str:
    """A pair's main table."""
    header = [column.format(metric=short(table.metric)) for column in _COLUMNS]
    return "\n".join([_line(header), "|" + "---|" * len(header), *(_row(row) for row in table.rows)])


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


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(row: Row) -> str:
    figures = [_published(row.published, "value", "{:.2f}"), _published(row.published, "gain", "{:+.2f}")]
    if row.status != "done":
        said = row.status if row.reason is None else f"{row.status}: {row.reason}"
        return _line([row.title, said, "0", "", "", "", "", *figures])
    mean = f"{row.mean:.1f}" + ("" if row.sd is None else f" ± {row.sd:.1f}")
    gain = "" if row.gain is None else f"{row.gain:+.1f}"
    if row.gain_low is not None:
        gain += f" [{row.gain_low:+.1f}, {row.gain_high:+.1f}]"
    closed = "" if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %"
    return _line(
        [row.title, mean, str(row.num_seeds), gain, closed, f"{row.minutes:.1f}", f"{row.peak_memory_mib:.0f}", *figures]
    )


def _published(figures: list[PublishedFigure], key: str, form: str) -> str:
    """As printed by their authors, who give box AP with one digit and mIoU with two."""
    if not figures:
        return "none for this pair"
    return ", ".join(form.format(v).removesuffix("0") for f in figures if (v := getattr(f, key)) is not None)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _commit(result: SeedResult) -> str:
    return f"`{(result.git.commit or 'none')[:8]}`" + ("*" if result.git.dirty else "")
