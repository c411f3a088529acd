"""The smoke grid of tests through a real Slurm, disturbed: the same weights and leaderboard as on one machine, each run tracked once."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster import Cluster, reason_without
from tests.conftest import METHODS, PAIR, copy_project, edit_yaml, read, run_stage, tuning
from tests.small_grid import wait_for

pytestmark = pytest.mark.slow

REASON = reason_without()
SLURM = ("pipelines", "run", "--executor", "slurm")
# Of a row, what a machine's load does not change.
SAME = ("method", "status", "mean", "gain", "gain_low", "gain_high", "num_seeds")


@pytest.fixture
def cluster(tmp_path_factory, monkeypatch):
    """A cluster, found by the commands that submitit calls."""
    with Cluster(tmp_path_factory.mktemp("slurm")) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


def started(project):
    """A coordinator in the background."""
    environment = {**os.environ, "CI": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", *SLURM], cwd=project, env=environment, **quiet)


def shown(project):
    """The leaderboard's rows, and the digest of each seed's weights."""
    (table,) = read(project / "reports/smoke/leaderboard.json")["tables"]
    return [({key: row[key] for key in SAME}, [seed["weights_sha256"] for seed in row["seeds"]]) for row in table["rows"]]


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_the_smoke_grid_on_a_cluster_that_is_not_left_in_peace(finished, cluster, tmp_path):
    """The coordinator is killed, a job requeued, one cancelled; then it is as if nothing had been."""
    project = copy_project(tmp_path)
    edit_yaml(project / "params.yaml", tuning=tuning())
    settings = {"partition": "main", "minutes": 60, "gpus": 0, "cpus": 4, "jobs": 3, "poll_s": 0.5}
    (project / "slurm.yaml").write_text(yaml.safe_dump(settings))
    first = started(project)
    wait_for((project / f"work/units/{PAIR}/teacher/started.json").is_file, "the teacher is at work", 300)
    first.send_signal(signal.SIGKILL)
    first.wait()
    teacher = (project / f"work/units/{PAIR}/teacher/job.txt").read_text()
    cluster.requeue(teacher)
    second = started(project)
    wait_for(
        lambda: (project / f"work/units/{PAIR}/mgd/seed0/started.json").is_file() or second.poll() is not None,
        "a cell is at work",
        300,
    )
    assert second.poll() is None
    cluster.cancel((project / f"work/units/{PAIR}/mgd/seed0/job.txt").read_text())
    assert second.wait(300) == 2
    third = run_stage(project, *SLURM)

    assert third.returncode == 0, third.stdout + third.stderr
    assert cluster.state(teacher.strip()) == "COMPLETED"
    assert shown(project) == shown(finished)
    assert run_stage(project, "dvc", "status", "--json").stdout.strip() == "{}"
    recorded, expected = (yaml.safe_load((folder / "dvc.lock").read_text())["stages"].keys() for folder in (project, finished))
    assert list(recorded) == list(expected)
    agree = run_stage(project, "pipelines", "verify")
    assert agree.returncode == 0, agree.stdout
    assert re.search(r"^6 of 6 runs agree", agree.stdout, re.MULTILINE), agree.stdout
    assert tracked(project) == tracked(finished)


def tracked(project):
    """Names of MLflow's runs and whether they ended well."""
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(f"sqlite:///{project}/mlflow/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("kd-smoke").experiment_id])
    assert f"{METHODS[0]} s0 | {PAIR}" in {run.info.run_name for run in runs}
    return sorted((run.info.run_name, run.info.status) for run in runs)
