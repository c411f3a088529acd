"""Last lines of a run: its page, the largest gains, the next command."""

from pathlib import Path

from pipelines.reporting.records import read_board
from reports.formats import wording
from reports.schemas.leaderboard import Leaderboard

_NUM_BEST = 3


def print_closing(report: Path, following: str) -> None:
    """Print the lines; none where the folder has no leaderboard.

    Args:
        report: folder of a tier's leaderboard.
        following: the next command, and its purpose.
    """
    file = report / "leaderboard.json"
    if not file.is_file():
        return
    lines = [f"page: {report / 'leaderboard.html'}", *best_lines(read_board(file)), f"next: {following}"]
    print("\n".join(lines), flush=True)


def best_lines(board: Leaderboard) -> list[str]:
    """Return a heading and the rows with the largest gains, a line each; nothing where no row has a gain."""
    found = [(row.gain, row, table) for table in board.tables for row in table.rows if row.gain is not None]
    best = sorted(found, key=lambda one: one[0], reverse=True)[:_NUM_BEST]
    lines = [
        f"  {row.title}, {table.title}: {wording.gain(row)} {wording.short(table.metric)}, to {wording.mean(row)} (n={row.num_seeds})"
        for _, row, table in best
    ]
    return ["largest gains over the baseline [95 %]:", *lines] if lines else []
