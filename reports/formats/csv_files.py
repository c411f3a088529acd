"""The leaderboard as CSV: one line per row, and one line per run."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from reports.formats.columns import columns_of, line_frame, lines_of, methods_of
from reports.formats.printable import with_texts
from reports.schemas.leaderboard import Leaderboard, RunResult, Table

_NUMBERS = re.compile(r"[-+]?\d[\d.]*(;[-+]?[\d.]*)*")


def write_csv(board: Leaderboard, path: Path) -> None:
    """Write one line per method and pair; reported results in one cell, separated by semicolons; scores in points."""
    lines = lines_of(methods_of(line_frame(with_texts(board))))
    cells = {column.key: [(column.data or column.value)(line) for line in lines] for column in columns_of("csv")}
    _write(pd.DataFrame(cells, dtype=object), path)


def run_frame(board: Leaderboard) -> pd.DataFrame:
    """One line per finished run, including teachers; None where a pair has no such metric."""
    lines = []
    for table in board.tables:
        if table.teacher:
            lines.append(_run(board, table, "teacher", None, table.teacher))
        lines += [_run(board, table, row.id, seed.seed, seed) for row in table.rows for seed in row.seeds]
    names = dict.fromkeys(name for line in lines for name in line)
    return pd.DataFrame([[line.get(name) for name in names] for line in lines], columns=list(names), dtype=object)


def runs_csv(board: Leaderboard, path: Path) -> None:
    """Write :func:`run_frame`."""
    _write(run_frame(with_texts(board)), path)


def _run(board: Leaderboard, table: Table, row: str, seed: int | None, result: RunResult) -> dict[str, Any]:
    method, _, variant = row.partition("/")
    cost = getattr(result, "cost", None)
    return {
        "tier": board.tier,
        "pair": table.pair,
        "method": method,
        "tuned": bool(variant),
        "seed": seed,
        "metric": table.metric,
        "score": result.score,
        **result.metrics,
        **(cost.model_dump() if cost else {}),
        "mlflow_run_id": result.mlflow_run_id,
        "weights_sha256": result.weights_sha256,
    }


def _write(frame: pd.DataFrame, path: Path) -> None:
    columns = {_quoted(name): [_quoted(cell) for cell in frame[name]] for name in frame}
    pd.DataFrame(columns, dtype=object).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _quoted(cell: Any) -> Any:
    """Put an apostrophe before words that a spreadsheet would compute; numbers, several in a cell, too, stay."""
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")) and not _NUMBERS.fullmatch(cell)
    return f"'{cell}" if is_formula else cell
