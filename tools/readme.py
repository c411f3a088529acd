"""Compact results table of the README, from a leaderboard.

    python -m tools.readme [reports/mini/leaderboard.json] [--readme README.md]

``tests/test_documents.py`` compares the two as git has them, so both are staged together.
"""

import argparse
import re
from pathlib import Path

from pipelines.reporting.records import read_board
from reports.formats import wording
from reports.formats.headlines import is_control
from reports.schemas.leaderboard import Leaderboard, Row, Table

BASELINE, TWICE = "none", "none_twice"  # no distillation, for the pair's schedule and for twice as long
BEGIN, END = "<!-- results: begin -->\n", "\n<!-- results: end -->"
_NOTE = (
    "Points of AP or mIoU on the test split, mean ± standard deviation over n seeds; the best method is selected on the same split, "
    "and all rows are in the leaderboard."
)
_BLOCK = re.compile(f"(?<={BEGIN}).*?(?={END})", re.DOTALL)


def compact(board: Leaderboard) -> str:
    """One line per pair: teacher, baseline, and the method with the largest gain; below it the baseline of twice the length.

    Rows that are tuned or not finished are excluded.
    """
    header = "| pair | teacher | baseline | best method | its gain [95 %] |\n|---|---|---|---|---|"
    lines = [_line(table, board) for table in board.tables]
    notes = [
        _NOTE,
        *filter(None, (_twice_as_long(table, board) for table in board.tables)),
        *_order(board),
    ]
    return "\n".join([header, *lines]) + "\n\n" + "\n".join(notes)


def shown_block(readme: str) -> str:
    """Return the generated block of the README's text."""
    (block,) = _BLOCK.findall(readme)
    return block


def replaced(readme: str, block: str) -> str:
    """Return the README's text with another generated block."""
    return _BLOCK.sub(lambda _: block, readme)


def _line(table: Table, board: Leaderboard) -> str:
    teacher = f"{table.teacher.score:.1f} {wording.short(table.metric)}" if table.teacher else ""
    baseline, best = _row(table, BASELINE), _best(table, board)
    cells = [
        table.title,
        teacher,
        _score(baseline) if baseline else "",
        f"{best.title}: {_score(best)}" if best else "",
        wording.gain(best) if best else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _score(row: Row) -> str:
    return f"{wording.mean(row)} (n={row.num_seeds})"


def _row(table: Table, method: str) -> Row | None:
    return next((row for row in table.rows if row.method == method and not row.tuned and row.mean is not None), None)


def _best(table: Table, board: Leaderboard) -> Row | None:
    rows = [row for row in table.rows if row.gain is not None and not row.tuned and not is_control(row, board)]
    return max(rows, key=lambda row: row.gain or 0.0, default=None)


def _twice_as_long(table: Table, board: Leaderboard) -> str | None:
    row, best = _row(table, TWICE), _best(table, board)
    if row is None or row.gain is None:
        return None
    sentence = f"**The baseline trained twice as long gains {wording.gain(row)} on {table.title}"
    if best is None or best.gain is None:
        return sentence + ".**"
    return sentence + (", more than any method.**" if row.gain > best.gain else f", less than {best.title}.**")


def _order(board: Leaderboard) -> list[str]:
    """Return a line on the last rank correlation, which is over all pairs; none where it was not computed."""
    found = [one for one in board.rank_correlations[-1:] if one.rho is not None and one.low is not None]
    return [
        f"Rank correlation of the gains here with the reported ones: {one.rho:+.2f} [{one.low:+.2f}, {one.high:+.2f}] over "
        f"{one.num_rows} rows."
        for one in found
    ]


def main() -> None:
    """Write the leaderboard's table into the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", type=Path, nargs="?", default=Path("reports/mini/leaderboard.json"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    args = parser.parse_args()
    args.readme.write_text(replaced(args.readme.read_text(), compact(read_board(args.board))))


if __name__ == "__main__":
    main()
