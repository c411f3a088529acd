"""Last lines of a run: its page, the largest gains, the next command."""

import json
from pathlib import Path
from typing import Any

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
    # As plain values: the schema's modules bring SciPy and pandas, seconds where there is nothing else to do.
    lines = [f"page: {report / 'leaderboard.html'}", *best_lines(json.loads(file.read_text())), f"next: {following}"]
    print("\n".join(lines), flush=True)


def best_lines(board: dict[str, Any]) -> list[str]:
    """Return a heading and the rows with the largest gains under a trained teacher, a line each; nothing where none gains."""
    controls = {name for name, recipe in board["recipes"].items() if recipe.get("is_control")}
    found = [
        (row["gain"], row, table)
        for table in board["tables"]
        for row in table["rows"]
        if (row["gain"] or 0) > 0 and not controls.issuperset(row["parts"])
    ]
    best = sorted(found, key=lambda one: one[0], reverse=True)[:_NUM_BEST]
    lines = [
        f"  {row['title']}, {table['title']}: {_gain(row)} {table['metric'].removeprefix('box ')}, {_score(row)}"
        for _, row, table in best
    ]
    return ["largest gains over the baseline [95 %]:", *lines] if lines else []


def _gain(row: dict[str, Any]) -> str:
    return f"{row['gain']:+.1f}" + ("" if row["gain_low"] is None else f" [{row['gain_low']:+.1f}, {row['gain_high']:+.1f}]")


def _score(row: dict[str, Any]) -> str:
    return f"to {row['mean']:.1f}" + ("" if row["sd"] is None else f" ± {row['sd']:.1f}") + f" (n={row['num_seeds']})"
