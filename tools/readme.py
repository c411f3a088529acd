"""README's table of results, made anew from a leaderboard.

    python -m tests.readme [reports/leaderboard.json] [--readme README.md]

``tests/test_documents.py`` compares the two as git has them, so both are staged together.
"""

import argparse
import re
from pathlib import Path

from pipelines.reporting.records import read_board
from reports.formats.markdown import overview

BEGIN, END = "<!-- results: begin -->\n", "\n<!-- results: end -->"
_TABLE = re.compile(f"(?<={BEGIN}).*(?={END})", re.DOTALL)


def shown_table(readme: str) -> str:
    """The table that README's text holds."""
    (table,) = _TABLE.findall(readme)
    return table


def main() -> None:
    """Put the leaderboard's table into README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", type=Path, nargs="?", default=Path("reports/leaderboard.json"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    args = parser.parse_args()
    table = overview(read_board(args.board))
    args.readme.write_text(_TABLE.sub(lambda _: table, args.readme.read_text()))


if __name__ == "__main__":
    main()
