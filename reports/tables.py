"""The leaderboard as Markdown."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.board import Leaderboard, PublishedFigure, Row, Table
from reports.record import Ap

_HEADER = (
    "| method | AP, mean ± sd | n | gain | gap closed | min | MiB | published AP | published gain |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def markdown(board: Leaderboard) -> str:
    """The whole report; the same leaderboard gives the same text."""
    folder = Path(__file__).parent / "templates"
    # Markdown, not HTML: nothing to escape but the registry's own words.
    environment = Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, autoescape=False)  # noqa: S701
    template = environment.get_template("leaderboard.md.j2")
    return template.render(board=board, results=results, aps=_aps).rstrip() + "\n"


def overview(board: Leaderboard) -> str:
    """Every pair's main table under its title; the README quotes it."""
    return "\n\n".join(f"**{table.title}**{_teacher(table)}\n\n{results(table)}" for table in board.tables)


def _teacher(table: Table) -> str:
    return "" if table.teacher is None else f" (teacher {table.teacher.box.AP:.1f} AP)"


def results(table: Table) -> str:
    """A pair's main table."""
    return "\n".join([_HEADER, *(_row(row) for row in table.rows)])


def _row(row: Row) -> str:
    figures = [_published(row.published, "value", "{:.1f}"), _published(row.published, "gain", "{:+.1f}")]
    if row.status != "done":
        said = row.status if row.reason is None else f"{row.status}: {row.reason}"
        return "| " + " | ".join([row.title, said, "0", "", "", "", "", *figures]) + " |"
    mean = f"{row.mean_ap:.1f}" + ("" if row.sd_ap is None else f" ± {row.sd_ap:.1f}")
    gain = "" if row.gain_ap is None else f"{row.gain_ap:+.1f}"
    if row.gain_low_ap is not None:
        gain += f" [{row.gain_low_ap:+.1f}, {row.gain_high_ap:+.1f}]"
    closed = "" if row.gap_closed is None else f"{100 * row.gap_closed:.0f} %"
    cells = [row.title, mean, str(row.num_seeds), gain, closed, f"{row.minutes:.1f}", f"{row.peak_memory_mib:.0f}", *figures]
    return "| " + " | ".join(cells) + " |"


def _published(figures: list[PublishedFigure], key: str, form: str) -> str:
    if not figures:
        return "none for this pair"
    return ", ".join(form.format(v) for f in figures if (v := getattr(f, key)) is not None)


def _aps(box: Ap) -> str:
    return " | ".join("-" if value is None else f"{value:.1f}" for value in box.model_dump().values())
