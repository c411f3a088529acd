"""Results where DVC shows them: `dvc metrics`, `dvc plots` and `dvc params`; students pulled from a remote."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from reports.formats.csv_files import write_csv
from reports.formats.dvc_metrics import metrics_json, write_curves
from reports.stats.rows import RowRecords
from tests.boards import board, made_up, result
from tests.conftest import PAIR, committed, copy_project, edit_yaml, git, renew
from tests.small_grid import repro

AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def dvc(folder, *arguments):
    """Standard output of a DVC command that succeeds."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder):
    """Commit everything there is."""
    if not (folder / ".git").is_dir():
        git("init", "-q", at=folder)
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
        (folder / ".gitignore").write_text("/runs\n/work\n/.dvc/tmp\n/.dvc/cache\n/dvc_plots\n")
    git("add", "-A", at=folder)
    git(*AUTHOR, "commit", "-qm", "results", at=folder)


def write_reports(folder, found):
    """Write the files of a leaderboard that DVC shows, as stage `report` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(metrics_json(found))
    write_csv(found, folder / "leaderboard.csv")
    write_curves(found, folder / "curves.csv")


@pytest.fixture
def reported(tmp_path):
    """A project with two commits: MGD has 13 and 15 in the first, 14 and 16 in the second; the baseline 10 and 12 in both."""
    project = copy_project(tmp_path)
    for scores in ((13.0, 15.0), (14.0, 16.0)):
        mgd = [
            result("box AP", score, "mgd", seed, curve=[{"iteration": 10, "val_mAP": score}]) for seed, score in enumerate(scores)
        ]
        write_reports(project / "reports/smoke", board(made_up(cells={"mgd": RowRecords(mgd)})))
        commit(project)
    return project


def test_metrics_are_means_and_gains_of_what_has_run():
    """The teacher's score, the mean of 10 and 12, and that of 13 and 15 with the difference; CWD, which has not run, is no key."""
    assert json.loads(metrics_json(board())) == {
        "pair": {"teacher": {"score": 20.0}, "none": {"score": 11.0}, "mgd": {"score": 14.0, "gain": 3.0}}
    }


def test_metrics_are_rounded_and_named_apart():
    """A tuned row has a name of its own; a mean of thirds has four digits."""
    tuned = RowRecords([result("box AP", score, "mgd", seed, variant="tuned") for seed, score in enumerate((1.0, 1.0, 2.0))])
    found = json.loads(metrics_json(board(made_up(cells={"mgd/tuned": tuned}))))

    assert found["pair"]["mgd-tuned"] == {"score": 1.3333, "gain": -9.6667}


def test_a_board_without_results_has_no_metrics(tmp_path):
    """Files that DVC can read all the same."""
    table = made_up(scores={"none": (1.0,)})
    empty = board(table.model_copy(update={"teacher": None, "rows": []}))
    write_curves(empty, tmp_path / "curves.csv")

    assert json.loads(metrics_json(empty)) == {}
    assert (tmp_path / "curves.csv").read_text() == "pair,row,iteration,score\n"


def test_curves_are_means_over_the_seeds_that_have_a_point(tmp_path):
    """At 10 iterations the mean of 1 and 2, at 20 of the one seed that came so far."""
    curves = ([{"iteration": 10, "val_mAP": 1.0}, {"iteration": 20, "val_mAP": 5.0}], [{"iteration": 10, "val_mAP": 2.0}])
    cells = {"mgd": RowRecords([result("box AP", 13.0, "mgd", seed, curve=curve) for seed, curve in enumerate(curves)])}
    write_curves(board(made_up(cells=cells)), tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open() as file:
        lines = [tuple(line.values()) for line in csv.DictReader(file)]

    assert lines == [("pair", "mgd", "10", "1.5"), ("pair", "mgd", "20", "5.0")]


def test_committed_metrics_are_those_of_the_leaderboard():
    """Means and gains of leaderboard.json, rounded, and of no other rows."""
    metrics, tables = (json.loads(committed(f"reports/mini/{name}.json")) for name in ("metrics", "leaderboard"))
    expected = {
        table["pair"]: {"teacher": round(table["teacher"]["score"], 4)}
        | {row["method"] + "-tuned" * row["tuned"]: round(row["mean"], 4) for row in table["rows"] if row["mean"] is not None}
        for table in tables["tables"]
    }

    assert {pair: {row: values["score"] for row, values in rows.items()} for pair, rows in metrics.items()} == expected
    assert metrics[PAIR]["crosskd"]["gain"] == pytest.approx(expected[PAIR]["crosskd"] - expected[PAIR]["none"], abs=1e-4)


def test_metrics_of_two_commits(reported):
    """`dvc metrics diff` has the points that MGD won, and nothing of what stayed."""
    found = json.loads(dvc(reported, "metrics", "diff", "HEAD~1", "HEAD", "--json"))

    assert found == {
        "reports/smoke/metrics.json": {
            "pair.mgd.score": {"old": 14.0, "new": 15.0, "diff": 1.0},
            "pair.mgd.gain": {"old": 3.0, "new": 4.0, "diff": 1.0},
        }
    }
    assert json.loads(dvc(reported, "metrics", "show", "--json"))[""]["data"]["reports/smoke/metrics.json"]["data"]["pair"][
        "mgd"
    ] == {
        "score": 15.0,
        "gain": 4.0,
    }


def test_plots_of_two_commits(reported):
    """Both plots have the rows of both commits, by the templates of the project."""
    gains, curves = (
        json.loads(dvc(reported, "plots", "diff", "HEAD~1", "HEAD", "--show-vega", "--targets", name))
        for name in ("gains", "curves")
    )
    points = [(one["rev"], one["method"], one["gain"]) for one in gains["data"]["values"] if one["method"] == "mgd"]
    curve = [(one["rev"], one["row"], one["iteration"], one["score"]) for one in curves["data"]["values"]]

    assert sorted(points) == [("HEAD", "mgd", "4.0"), ("HEAD~1", "mgd", "3.0")]
    assert sorted(curve) == [("HEAD", "mgd", "10", "15.0"), ("HEAD~1", "mgd", "10", "14.0")]
    assert gains["facet"]["row"]["field"] == curves["facet"]["field"] == "pair"
    assert "<DVC_METRIC" not in json.dumps([gains, curves])


def test_experiments_show_results_and_few_parameters(reported):
    """Columns are the metrics and the values of params.yaml, with one value of grid.yaml, however many stages that lists."""
    edit_yaml(reported / "params.yaml", seeds=3)
    renew(reported)
    (workspace, *_) = json.loads(dvc(reported, "exp", "show", "--json"))
    data = workspace["data"]

    assert data["metrics"]["reports/smoke/metrics.json"]["data"]["pair"]["mgd"]["score"] == 15.0
    assert Counter(data["params"].keys()) == Counter(["params.yaml", "grid.yaml"])
    assert data["params"]["grid.yaml"]["data"] == {"annotations": {"test": "runs/resolved/prepare.json"}}
    assert data["params"]["params.yaml"]["data"].keys() == yaml.safe_load((reported / "params.yaml").read_text()).keys()
    assert len(yaml.safe_load((reported / "grid.yaml").read_text())["stages"]["distill"]) > 10


@pytest.mark.slow
def test_pulled_students_are_not_trained(scratch, tmp_path_factory):
    """Pushed to a folder, cloned, pulled: `make repro` has nothing to do."""
    (remote, other) = (tmp_path_factory.mktemp(name) for name in ("remote", "other"))
    assert repro().returncode == 0
    commit(scratch)
    dvc(scratch, "remote", "add", "-d", "store", str(remote))
    dvc(scratch, "push")
    commit(scratch)
    git("clone", "-q", str(scratch), str(other / "copy"), at=scratch)
    shutil.rmtree(scratch / ".dvc/cache")
    dvc(other / "copy", "pull")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other / "copy")
        done = repro()

    assert done.returncode == 0, done.stderr
    assert "nothing to do: all 18 stages are up to date" in done.stdout
    assert Path(other / "copy/runs/a/mgd/seed0/student.pth").read_text() == "first\n"
