"""Two leaderboards side by side: what moved, and whether by more than its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.schemas.leaderboard import Leaderboard
from reports.stats.inference import welch

Moved = Literal["same weights", "measured anew", "same scores", "within", "beyond", "no interval", "only in A", "only in B"]


@dataclass(frozen=True)
class Change:
    """One row in both; scores in points.

    Args:
        moved: ``measured anew`` where the same weights have another score, ``beyond`` where Welch's 95 % interval of the difference of means excludes zero, ``within`` where it does not.
        low: of that interval; None where a side has a single training, or neither varies.
    """

    pair: str
    what: str
    moved: Moved
    a: float | None
    b: float | None
    num_a: int
    num_b: int
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float | None:
        """B less A."""
        return None if self.a is None or self.b is None else self.b - self.a


def changes(a: Leaderboard, b: Leaderboard) -> list[Change]:
    """Every teacher and row that has a score in either, in A's order, then what only B has."""
    rows_a, rows_b = _rows(a), _rows(b)
    return [_change(*key, rows_a.get(key, _NOTHING), rows_b.get(key, _NOTHING)) for key in dict.fromkeys([*rows_a, *rows_b])]


def differences(a: Leaderboard, b: Leaderboard) -> list[str]:
    """Differences beside the scores that may explain them: tier, data, packages, device, commits, hyper-parameters."""
    found = [] if a.tier == b.tier else [f"tier: {a.tier} and {b.tier}; their scores are of different things"]
    found += _unequal("data", a.data, b.data)
    if a.environment and b.environment:
        one, other = a.environment.model_dump(), b.environment.model_dump()
        for key in ("packages", "mmlab"):
            found += _unequal(key, one.pop(key), other.pop(key))
        found += _unequal("environment", one, other)
    if a.commits != b.commits:
        found.append(f"commits: {_short(a.commits)} and {_short(b.commits)}")
    in_b = {(table.pair, row.id): row for table in b.tables for row in table.rows if row.seeds}
    for table in a.tables:
        for row in table.rows:
            if row.seeds and (other_row := in_b.get((table.pair, row.id))):
                found += _unequal(f"{table.pair}/{row.id}", row.hparams, other_row.hparams)
    return found


def _unequal(what: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    keys = [key for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    return [f"{what}: {key} {a.get(key)} and {b.get(key)}" for key in keys]


def _short(commits: Sequence[str]) -> str:
    return ", ".join(commit[:8] for commit in commits) or "none"


@dataclass(frozen=True)
class _Scores:
    scores: tuple[float, ...]
    weights: tuple[str, ...]


_NOTHING = _Scores((), ())


def _rows(board: Leaderboard) -> dict[tuple[str, str], _Scores]:
    found = {}
    for table in board.tables:
        if table.teacher:
            found[table.pair, "teacher"] = _Scores((table.teacher.score,), (table.teacher.weights_sha256,))
        for row in table.rows:
            if row.seeds:
                seeds = row.seeds
                found[table.pair, row.title] = _Scores(
                    tuple(seed.score for seed in seeds), tuple(seed.weights_sha256 for seed in seeds)
                )
    return found


def _change(pair: str, what: str, a: _Scores, b: _Scores) -> Change:
    means = [sum(side.scores) / len(side.scores) if side.scores else None for side in (a, b)]
    interval = welch(b.scores, a.scores)
    moved: Moved
    if not a.scores or not b.scores:
        moved = "only in B" if not a.scores else "only in A"
    elif a.weights == b.weights:
        moved = "same weights" if a.scores == b.scores else "measured anew"
    elif sorted(a.scores) == sorted(b.scores):
        moved = "same scores"
    elif interval is None:
        moved = "no interval"
    else:
        moved = "within" if interval.low <= 0 <= interval.high else "beyond"
    return Change(
        pair, what, moved, means[0], means[1], len(a.scores), len(b.scores),
        interval.low if interval else None, interval.high if interval else None,
    )  # fmt: skip
