"""Two leaderboards side by side."""

import subprocess
import sys

import pytest

from pipelines.commands.compare import open_board
from reports.schemas.run import Environment
from reports.stats.comparison import changes, differences
from reports.stats.rows import RowRecords
from tests.boards import board, made_up, result
from tests.conftest import ROOT


def moved(a, b):
    """Verdicts by row."""
    return {change.what: change.moved for change in changes(board(made_up(**a)), board(made_up(**b)))}


def test_what_moved_by_hand():
    """Three seeds each of deviation 1: four apart is beyond (error 0.8, 2.78 of it 2.27), one apart within."""
    a = {"scores": {"none": (10.0, 11.0, 12.0), "mgd": (13.0, 14.0, 15.0)}}
    b = {"scores": {"none": (11.0, 12.0, 13.0), "mgd": (17.0, 18.0, 19.0)}}
    found = changes(board(made_up(**a)), board(made_up(**b)))

    assert [(change.what, change.a, change.b, change.difference) for change in found] == [
        ("teacher", 20.0, 20.0, 0.0), ("none (control)", 11.0, 12.0, 1.0), ("MGD", 14.0, 18.0, 4.0),
    ]  # fmt: skip
    half = 2.776445 * (2 / 3) ** 0.5
    assert (found[2].low, found[2].high) == pytest.approx((4 - half, 4 + half), abs=1e-5)


def trained(scores, digest):
    """MGD's cells with weights of their own."""
    return {"mgd": RowRecords([result("box AP", s, "mgd", n, weights_sha256=f"{digest}{n}") for n, s in enumerate(scores)])}


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (((13.0, 14.0, 15.0), "a"), ((17.0, 18.0, 19.0), "b"), "beyond"),
        (((13.0, 14.0, 15.0), "a"), ((14.0, 15.0, 16.0), "b"), "within"),
        (((13.0, 14.0, 15.0), "a"), ((14.0, 13.0, 15.0), "b"), "same scores"),
        (((13.0, 14.0, 15.0), "a"), ((13.0, 14.0, 15.0), "a"), "same weights"),
        (((13.0, 14.0, 15.0), "a"), ((13.0, 14.0, 15.5), "a"), "measured anew"),
        (((13.0,), "a"), ((14.0, 15.0, 16.0), "b"), "no interval"),
        (((13.0,), "a"), ((), "b"), "only in A"),
        (((), "a"), ((14.0,), "b"), "only in B"),
    ],
)
def test_each_word(a, b, word):
    """The verdict on MGD."""
    control = {"none": (10.0, 11.0)}

    assert moved({"scores": control, "cells": trained(*a)}, {"scores": control, "cells": trained(*b)})["MGD"] == word


def test_what_else_differs():
    """Tier, data, a package, a hyper-parameter; nothing where all is equal."""
    environment = Environment(
        python="3.11", platform="-", device="CPU", num_cpus=2, threads=1, packages={"torch": "1", "numpy": "2"}, mmlab={}
    )
    runs = [result("box AP", 1.0, environment=environment).run]
    a = board(made_up(cells={"mgd": RowRecords([result("box AP", 1.0, "mgd", hparams={"alpha": 1.0})])}), runs=runs)
    other = environment.model_copy(update={"packages": {"torch": "3", "numpy": "2"}, "device": "GPU"})
    runs = [result("box AP", 1.0, environment=other, data="e").run]
    b = board(made_up(cells={"mgd": RowRecords([result("box AP", 1.0, "mgd", hparams={"alpha": 2.0})])}), runs=runs)
    b = b.model_copy(update={"tier": "paper", "commits": ["0123456789"]})

    assert differences(a, a) == []
    assert differences(a, b) == [
        "tier: mini and paper; their scores are of different things",
        "data: scenes d and e",
        "packages: torch 1 and 3",
        "environment: device CPU and GPU",
        "commits: none and 01234567",
        "pair/mgd: alpha 1.0 and 2.0",
    ]


@pytest.mark.slow
def test_as_a_user_runs_it(tmp_path):
    """Two files; the table names the row that moved, and says how many would by chance."""
    for name, scores in (("a", (13.0, 14.0, 15.0)), ("b", (17.0, 18.0, 19.0))):
        made = board(made_up(scores={"none": (10.0, 11.0)}, cells=trained(scores, name)))
        (tmp_path / f"{name}.json").write_text(made.model_dump_json())
    command = [sys.executable, "-m", "pipelines", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "+4.00 [+1.73, +6.27]" in done.stdout
    assert "1 of 1 rows moved beyond their interval; 0.1 would by chance" in done.stdout


def test_neither_file_nor_revision(monkeypatch):
    """One line."""
    monkeypatch.chdir(ROOT)

    with pytest.raises(ValueError, match=r"^nowhere: .*reports/mini/leaderboard\.json"):
        open_board("nowhere")
