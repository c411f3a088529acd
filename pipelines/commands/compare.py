"""Verb ``compare``: two leaderboards side by side."""

import subprocess
import tempfile
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipelines import layout
from pipelines.commands.terminal import console
from pipelines.reporting.records import read_board
from reports.schemas.leaderboard import Leaderboard
from reports.stats.comparison import Change, changes, differences
from reports.stats.inference import LEVEL

_FILE = layout.COMMITTED / "leaderboard.json"
_PIPE_COLUMNS = 160


def open_board(name: str) -> Leaderboard:
    """Read a leaderboard from its file or from a git revision; ValueError where there is neither."""
    if Path(name).is_file():
        return read_board(Path(name))
    done = subprocess.run(["git", "show", f"{name}:{_FILE}"], capture_output=True, text=True, check=False)
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
    """Table with one line per row of either leaderboard."""
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


def compare(first: str, second: str, /) -> None:
    """Compare two leaderboards row by row.

    A row has moved beyond its interval where the difference of the means is significant at 5 %.
    Differences in data, packages, environment and hyper-parameters are listed below the table.

    Args:
        first: a leaderboard.json, or a git revision whose committed one is meant; A in the table.
        second: the same; B in the table.
    """
    a, b = open_board(first), open_board(second)
    found = changes(a, b)
    console(_PIPE_COLUMNS).print(side_by_side(found))
    beyond = sum(change.moved == "beyond" for change in found)
    tested = sum(change.low is not None and change.moved in ("within", "beyond") for change in found)
    print(f"{beyond} of {tested} rows moved beyond their interval; {LEVEL * tested:.1f} would by chance")
    for line in differences(a, b):
        print(f"differs: {line}")
