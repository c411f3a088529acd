"""Committed documents against the committed results."""

import re

import pytest

from pipelines.params import load_grid
from reports.formats.markdown import markdown
from reports.schemas.leaderboard import Leaderboard
from tests.conftest import ROOT, committed
from tools.readme import compact, replaced, shown_block


@pytest.fixture
def board():
    """The committed leaderboard."""
    return Leaderboard.model_validate_json(committed("reports/mini/leaderboard.json"))


def test_committed_report_is_made_from_the_committed_numbers(board):
    """leaderboard.md is what leaderboard.json gives."""
    assert committed("reports/mini/leaderboard.md") == markdown(board)


def test_readme_shows_the_committed_table(board):
    """The README's table is the leaderboard's."""
    readme = committed("README.md")

    assert shown_block(readme) == compact(board)
    assert replaced(readme, compact(board)) == readme


def test_compact_table_has_the_largest_gain(board):
    """The first pair: its method with the largest gain, tuned rows excluded, and the baseline of twice the length."""
    table = board.tables[0]
    gains = {row.method: row.gain for row in table.rows if row.gain is not None and not row.tuned}
    baselines = [gains.pop(name) for name in ("none", "none_twice") if name in gains]
    best = max(gains, key=gains.get)
    (title,) = [row.title for row in table.rows if row.method == best]
    block = compact(board)

    assert f"| {title}: " in block.splitlines()[2]
    assert f"gains {baselines[0]:+.1f} [" in block


def test_committed_results_are_of_the_committed_grid(board, tmp_path):
    """Tier, pairs, methods, tuned rows and seeds of the default grid, all of them run."""
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    grid = load_grid(tmp_path / "params.yaml")

    assert board.tier == grid.tier
    assert [table.pair for table in board.tables] == grid.pairs
    for table in board.tables:
        methods, tuned = grid.rows[table.pair], grid.tuning.rows.get(table.pair, [])
        assert [row.method for row in table.rows] == [row for m in methods for row in ([m, f"{m}/tuned"] if m in tuned else [m])]
        for row in (row for row in table.rows if row.status == "done"):
            has_more = row.method == "none" and table.repeats is None and grid.baseline_seeds
            assert [result.seed for result in row.seeds] == (grid.baseline_seeds if has_more else grid.seeds)
        assert not any(row.status == "not run" for row in table.rows)


def test_lock_file_names_no_host():
    """Every line is a pinned name, whatever index it comes from."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()

    assert len(lines) > 100
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^ ]+( ; .*)?", line) for line in lines)
    assert not any("://" in line for line in lines)
