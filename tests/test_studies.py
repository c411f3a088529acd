"""Optuna's pages: studies of a tier under names that say what is optimized, on a copy."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import requests

from pipelines import layout
from pipelines.tuning import parent_run
from pipelines.tuning.studies import copied_studies, name_objectives
from pipelines.tuning.study import SharedStudy
from pipelines.tuning.task import Task
from tests.conftest import ROOT
from tests.test_tuning_study import SPACE, START, TuningParams, run, tuning

PAIR = "gfl_r101_r50"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of a study in a project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("benchmarks", "methods"):
        (tmp_path / name).symlink_to(ROOT / name)
    found = layout.work("mini") / PAIR / "mgd/tuning/default-0123456789ab"
    found.mkdir(parents=True)
    return found


def opened(folder, **changes):
    """The study in it, as a worker opens it."""
    given = TuningParams(**tuning(**{"trials": 6, "pruner": "none", **changes}))
    return SharedStudy(folder, f"mini/{PAIR}/mgd/default", given, SPACE, START)


def test_a_copy_has_trials_and_a_named_objective(folder):
    """By pair and method; the study's own file is not written to."""
    study = opened(folder)
    run(study, most=4)
    journal = (folder / "journal.log").read_bytes()
    copies = copied_studies("mini")
    copy = optuna.load_study(study_name=f"{PAIR}/mgd/default-0123456789ab", storage=copies)
    copy.set_user_attr("note", "written in the pages")

    assert copy.metric_names == ["box AP on the validation split"]
    assert [trial.values for trial in copy.trials] == [trial.values for trial in study.study.trials]
    assert len(copy.trials) == 4
    assert (folder / "journal.log").read_bytes() == journal


def test_two_objectives_have_two_names(folder):
    """The pair's metric and the time."""
    study = opened(folder, objectives=["score", "train_s"])
    name_objectives(study.study, PAIR)

    assert study.study.metric_names == ["box AP on the validation split", "training time (s)"]


def test_a_study_without_names_gets_them_and_goes_on(folder, monkeypatch):
    """One that an earlier version began: stage tune names its objective once, and its trials count."""
    run(opened(folder), most=3)
    monkeypatch.setattr(parent_run, "Tracker", lambda *_arguments, **_more: NoTracker())
    given = TuningParams(**tuning(trials=6, pruner="none", study="default"))
    for _ in range(2):
        assert parent_run.open_parent(Task("mini", PAIR, "mgd", given, {}), folder) is None
    names = (folder / "journal.log").read_text().count("study:metric_names")
    resumed = opened(folder)
    run(resumed)

    assert names == 1
    assert resumed.study.metric_names == ["box AP on the validation split"]
    assert len(resumed.counted()) == 6


class NoTracker:
    """MLflow out of reach."""

    run_id = None

    def params(self, values):
        """Do nothing."""

    def tags(self, values):
        """Do nothing."""


def test_no_study_is_one_line(folder):
    """With what makes one; a damaged journal is a warning beside it."""
    with pytest.raises(ValueError, match=r"^no study is in work/mini/.*'tuning:'$"):
        copied_studies("mini")


def test_a_damaged_study_does_not_hide_the_others(folder, capsys):
    """It is a warning."""
    run(opened(folder), most=1)
    other = folder.with_name("other-0123456789ab")
    other.mkdir()
    (other / "journal.log").write_text("no JSON\n" * 3)

    assert len(copied_studies("mini").get_all_studies()) == 1
    assert "other-0123456789ab/journal.log: line 1 is damaged" in capsys.readouterr().err


def test_without_the_package(folder, monkeypatch):
    """The command that installs it."""
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    from pipelines.commands.studies import studies  # noqa: PLC0415

    with pytest.raises(ValueError, match=r"pip install optuna-dashboard==0.21.0$"):
        studies()


@pytest.mark.slow
def test_the_pages_open(folder):
    """``./kd studies`` lists the study with the objective's name."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    run(opened(folder), most=3)
    Path("params.yaml").write_text(f"tier: mini\ngrid: {{{PAIR}: [none, mgd]}}\nseeds: 1\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pipelines", "studies", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        first = process.stdout.readline()
        deadline, found = time.monotonic() + 60, None
        while found is None and time.monotonic() < deadline:
            try:
                found = requests.get(f"http://127.0.0.1:{port}/api/studies/0", timeout=10).json()
            except requests.ConnectionError:
                time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)

    assert first == f"1 studies: http://127.0.0.1:{port}/dashboard/\n"
    assert found["objective_names"] == ["box AP on the validation split"]
    assert len(found["trials"]) == 3
