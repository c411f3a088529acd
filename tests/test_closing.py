"""Last lines of a run: page, the three largest gains, next command."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.commands import quick
from pipelines.commands.closing import best_lines, print_closing
from tests.boards import board, made_up
from tests.conftest import ROOT
from tests.small_grid import repro, scratch, stages  # noqa: F401 (scratch: a fixture)


def test_the_three_largest_gains_over_all_pairs():
    """Gains of 6, 4 and 3 points in that order; that of 1 and the baselines are no lines."""
    found = board(
        made_up(scores={"none": (10.0, 12.0), "mgd": (13.0, 15.0), "cwd": (11.0, 13.0)}),
        made_up("mIoU", "Other", scores={"none": (50.0, 52.0), "mgd": (54.0, 56.0), "cwd": (56.0, 58.0)}, name="other"),
    )
    heading, *lines = best_lines(found.model_dump())

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


def test_one_seed_each_has_no_interval():
    """Nor a spread."""
    found = board(made_up(scores={"none": (10.0,), "mgd": (13.0,)}))

    assert best_lines(found.model_dump())[1:] == ["  MGD, A pair: +3.0 AP, to 13.0 (n=1)"]


def test_the_lines_cost_no_imports():
    """Neither SciPy nor pandas, which take seconds."""
    script = "import sys, pipelines.commands.closing; print(sorted({'scipy', 'pandas', 'pydantic', 'statsmodels'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_a_run_ends_with_them(scratch):  # noqa: F811
    """Also one with nothing to do; a run within another verb ends with one line."""
    Path("board.json").write_text(board().model_dump_json())
    shown = {
        "cmd": "mkdir -p reports/mini && cp board.json reports/mini/leaderboard.json",
        "deps": ["report", "board.json"],
        "outs": [{"reports/mini/leaderboard.json": {"cache": False}}],
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages(shown=shown)}))
    first, again, bare = (repro(*arguments).stdout.splitlines() for arguments in ((), (), ("--bare",)))
    expected = [
        "page: reports/mini/leaderboard.html",
        "largest gains over the baseline [95 %]:",
        "  MGD, A pair: +3.0 [-3.1, +9.1] AP, to 14.0 ± 1.4 (n=2)",
        "next: ./kd verify (agreement of leaderboard, records, weights, dvc.lock and MLflow)",
    ]

    assert first[-5].startswith("all done in ")
    assert first[-4:] == again[-4:] == expected
    assert again[-5] == bare[-1] == "nothing to do: all 19 stages are up to date"


def test_the_small_grid_ends_with_its_own(tmp_path, monkeypatch, capsys):
    """The page where the user finds it, below work/quick; the run in there knows whose code it has."""
    ran = []

    def run(command, **options):
        ran.append((command, options["env"].get("KD_COPIED_FROM")))
        report = quick.FOLDER / "reports/quick"
        report.mkdir(parents=True, exist_ok=True)
        (report / "leaderboard.json").write_text(board().model_dump_json())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quick, "lay_out", lambda folder: folder.mkdir(parents=True))
    monkeypatch.setattr(quick.subprocess, "run", run)
    quick.quick()
    lines = capsys.readouterr().out.splitlines()

    assert (ran[-1][0][1:], ran[-1][1]) == (["-m", "pipelines", "run", "--bare"], str(tmp_path))
    assert lines[1] == "page: work/quick/reports/quick/leaderboard.html"
    assert lines[-1] == "next: ./kd estimate (cost of the grid in params.yaml), then ./kd run"
