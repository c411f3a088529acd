"""Results of verb ``matrix``: cells, their file, the choice of cells, and the table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TIER = "smoke"
RAN = "ran"


@dataclass(frozen=True)
class CellResult:
    """A cell of the table: ``ran`` with its last loss and score, the reason why it is unsupported, or its failure."""

    pair: str
    method: str
    status: str
    loss: float | None = None
    score: float | None = None
    seconds: float | None = None

    @property
    def ran(self) -> bool:
        """True where the cell has a score."""
        return self.status == RAN

    @property
    def failed(self) -> bool:
        """True where the cell should have run and did not."""
        return self.status.startswith("failed")


def cells_file(out: Path, pair: str) -> Path:
    """File of a pair's results so far, one JSON object per line."""
    return out / pair / "cells.jsonl"


def subset(
    pairs: Sequence[str], methods: Sequence[str], *, one_in: int, runs: Callable[[str, str], bool] = lambda _pair, _method: True
) -> dict[str, list[str]]:
    """Return one cell in ``one_in``, spread over all pairs and methods, and the baseline of every pair.

    A method that would only be in cells where it is unsupported is also in the first where it ``runs``.
    """
    chosen = {
        pair: {name for j, name in enumerate(methods) if (i + j) % one_in == 0 or name == "none"} for i, pair in enumerate(pairs)
    }
    for name in methods:
        if not any(name in chosen[pair] and runs(pair, name) for pair in pairs):
            chosen[next((pair for pair in pairs if runs(pair, name)), pairs[0])].add(name)
    return {pair: [name for name in methods if name in names] for pair, names in chosen.items()}


def as_table(results: list[CellResult], methods: list[str]) -> str:
    """Table in Markdown, one row per pair and one column per method, and the numbered reasons below it."""
    reasons = list(dict.fromkeys(result.status for result in results if not result.ran))
    cells = {(result.pair, result.method): result for result in results}

    def show(pair: str, method: str) -> str:
        result = cells.get((pair, method))
        if result is None:
            return "not requested"
        if result.ran:
            return f"{result.score:.1f}"
        return f"({reasons.index(result.status) + 1})" + (" FAILED" if result.failed else "")

    pairs = list(dict.fromkeys(result.pair for result in results))
    lines = [f"| pair | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    lines += [f"| {pair} | {' | '.join(show(pair, method) for method in methods)} |" for pair in pairs]
    lines += ["", "A number: it ran; its student's score after two iterations, which means nothing. Otherwise:", ""]
    return "\n".join([*lines, *(f"({number}) {reason}" for number, reason in enumerate(reasons, 1)), ""])
