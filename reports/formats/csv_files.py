"""The figures as CSV: a line a row of the leaderboard, and a line a training."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.formats.wording import verdict
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table, TeacherRow

_ROW = (
    "method", "status", "num_seeds", "mean", "sd", "next_low", "next_high", "gain", "gain_low", "gain_high", "gain_p",
    "gain_p_holm", "gap_closed", "gap_low", "gap_high", "minutes", "prior_minutes", "peak_memory_mib", "images_per_s",
    "energy_kj", "command",
)  # fmt: skip
_TUNING = (
    "num_complete", "num_pruned", "num_failed", "best_score", "recipe_score", "minutes", "saved_share", "gain", "gain_low",
    "gain_high", "gain_p", "gain_p_holm",
)  # fmt: skip


def write_csv(board: Leaderboard, path: Path) -> None:
    """A line for each method on each pair; published figures in one cell, separated by semicolons; scores in points."""
    _write(path, [_row(board, table, row) for table in board.tables for row in table.rows])


def _row(board: Leaderboard, table: Table, row: Row) -> dict[str, Any]:
    return {
        "tier": board.tier,
        "pair": table.pair,
        "dataset": table.dataset if board.full_size else board.tier_title,
        "metric": table.metric,
        **{key: getattr(row, key) for key in _ROW},
        "variant": "tuned" if row.is_tuned else "published",
        **{f"tuning_{key}": getattr(row.tuning, key, None) for key in _TUNING},
        "verdict": verdict(row, board),
        "published": ";".join(str(figure.value) for figure in row.published),
        "published_gain": ";".join("" if figure.gain is None else str(figure.gain) for figure in row.published),
        "published_source": ";".join(figure.source for figure in row.published),
    }


def runs_csv(board: Leaderboard, path: Path) -> None:
    """A line for each finished training, teachers among them; empty where a pair has no such metric."""
    lines = []
    for table in board.tables:
        if table.teacher:
            lines.append(_training(board, table, "teacher", None, table.teacher))
        lines += [_training(board, table, row.method, seed.seed, seed) for row in table.rows for seed in row.seeds]
    _write(path, lines)


def _training(board: Leaderboard, table: Table, method: str, seed: int | None, result: TeacherRow | SeedResult) -> dict[str, Any]:
    cost = result.cost.model_dump() if result.cost else {}
    return {
        "tier": board.tier,
        "pair": table.pair,
        "method": method,
        "seed": seed,
        "metric": table.metric,
        "score": result.score,
        **result.metrics,
        **cost,
        "mlflow_run_id": result.mlflow_run_id,
        "weights_sha256": result.weights_sha256,
    }


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    names = dict.fromkeys(name for line in lines for name in line)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
