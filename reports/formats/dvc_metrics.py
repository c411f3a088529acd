"""Results in the two files that DVC shows: scores and gains as metrics, validation curves as a plot."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd

from reports.schemas.leaderboard import Leaderboard, Row, SeedResult

_DIGITS = 4  # after the point; the last bits of a mean are noise in a diff
_CURVE = ("pair", "row", "iteration", "score")


def metrics_json(board: Leaderboard) -> str:
    """Mean score and gain in points, by pair and row; what has not run has no key."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for table in board.tables:
        rows = {"teacher": {"score": table.teacher.score}} if table.teacher else {}
        rows |= {row.slug: _metrics(row) for row in table.rows if row.mean is not None}
        if rows:
            found[table.pair] = {name: {key: round(value, _DIGITS) for key, value in of.items()} for name, of in rows.items()}
    return json.dumps(found, indent=1) + "\n"


def write_curves(board: Leaderboard, path: Path) -> None:
    """Write the score on the validation split by iteration, mean over the seeds that were evaluated there; one line per point."""
    lines = [
        (table.pair, row.slug, iteration, round(score, _DIGITS))
        for table in board.tables
        for row in table.rows
        for iteration, score in _mean_curve(row.seeds)
    ]
    pd.DataFrame(lines, columns=list(_CURVE)).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _metrics(row: Row) -> dict[str, float]:
    return {key: value for key, value in (("score", row.mean), ("gain", row.gain)) if value is not None}


def _mean_curve(seeds: Sequence[SeedResult]) -> list[tuple[int, float]]:
    scores: dict[int, list[float]] = defaultdict(list)
    for seed in seeds:
        for iteration, score in seed.curve.val_score:
            scores[iteration].append(score)
    return [(iteration, fmean(scores[iteration])) for iteration in sorted(scores)]
