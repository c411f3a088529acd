"""Last lines of a run: page, the three largest gains, next command."""

import pytest

from pipelines.commands.closing import best_lines, print_closing
from tests.boards import board, made_up


def test_the_three_largest_gains_over_all_pairs():
    """Gains of 6, 4 and 3 points in that order; that of 1 and the baselines are no lines."""
    found = board(
        made_up(scores={"none": (10.0, 12.0), "mgd": (13.0, 15.0), "cwd": (11.0, 13.0)}),
        made_up("mIoU", "Other", scores={"none": (50.0, 52.0), "mgd": (54.0, 56.0), "cwd": (56.0, 58.0)}, name="other"),
    )
    heading, *lines = best_lines(found)

    assert heading == "largest gains over the baseline [95 %]:"
    # Welch's interval of two and two seeds with variances of 2: the t quantile at 2 degrees of freedom, 4.303, times sqrt(2).
    assert lines == [
        "  CWD, Other: +6.0 [-0.1, +12.1] mIoU, to 57.0 ± 1.4 (n=2)",
        "  MGD, Other: +4.0 [-2.1, +10.1] mIoU, to 55.0 ± 1.4 (n=2)",
        "  MGD, A pair: +3.0 [-3.1, +9.1] AP, to 14.0 ± 1.4 (n=2)",
    ]


def test_lines_of_a_folder(tmp_path, capsys):
    """Page first, command last; no row has a gain, so none is named."""
    found = board(made_up(scores={"none": (10.0,)}))
    (tmp_path / "leaderboard.json").write_text(found.model_dump_json())
    print_closing(tmp_path, "./kd verify")

    assert capsys.readouterr().out.splitlines() == [f"page: {tmp_path}/leaderboard.html", "next: ./kd verify"]


def test_no_leaderboard_no_lines(tmp_path, capsys):
    """As of a grid whose report did not run."""
    print_closing(tmp_path, "./kd verify")

    assert capsys.readouterr().out == ""


def test_a_leaderboard_of_another_schema_is_an_error(tmp_path):
    """In one line, with the remedy."""
    (tmp_path / "leaderboard.json").write_text('{"schema_version": 1}')
    with pytest.raises(ValueError, match=r"is of schema 1, .*make it again"):
        print_closing(tmp_path, "./kd verify")
