"""Two leaderboards side by side: ``python -m pipelines.commands.compare A B``; each a leaderboard.json or a git revision that has one."""

import argparse
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import errors, layout
from pipelines.reporting.collect import read_board
from reports.schemas.leaderboard import Leaderboard
from reports.stats.comparison import Change, changes, differences
from reports.stats.inference import LEVEL

_FILE = layout.COMMITTED / "leaderboard.json"
_PIPE_COLUMNS = 160


def open_board(name: str) -> Leaderboard:
    """A leaderboard by its file, or as a git revision has it; ValueError where it is neither."""
    if Path(name).is_file():
        return read_board(Path(name))
    done = subprocess.run(["git", "show", f"{name}:{_FILE}"], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode != 0:
        raise ValueError(f"{name}: is neither a file nor a git revision that has {_FILE}; name one of these")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leaderboard.json"
        path.write_text(done.stdout)
        try:
            return read_board(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), f"{name}:{_FILE}")) from error


def side_by_side(found: list[Change]) -> Table:
    """One line a row of either."""
    table = Table("pair", "method", "A (n)", "B (n)", "B - A [95 %]", "moved", title="scores on the test split, points")
    for change in found:
        table.add_row(
            Text(change.pair),
            Text(change.what),
            _mean(change.a, change.num_a),
            _mean(change.b, change.num_b),
            _difference(change),
            change.moved,
        )
    return table


def _mean(value: float | None, num: int) -> str:
    return "" if value is None else f"{value:.2f} ({num})"


def _difference(change: Change) -> Text:
    if change.difference is None:
        return Text("")
    interval = "" if change.low is None else f" [{change.low:+.2f}, {change.high:+.2f}]"
    return Text(f"{change.difference:+.2f}{interval}")


def main() -> None:
    """Print what moved, and what else differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    args = parser.parse_args()
    a, b = open_board(args.a), open_board(args.b)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_COLUMNS)
    found = changes(a, b)
    console.print(side_by_side(found))
    beyond = sum(change.moved == "beyond" for change in found)
    tested = sum(change.low is not None and change.moved in ("within", "beyond") for change in found)
    print(f"{beyond} of {tested} rows moved beyond their interval; {LEVEL * tested:.1f} would by chance")
    for line in differences(a, b):
        print(f"differs: {line}")


if __name__ == "__main__":
    errors.run(main)
