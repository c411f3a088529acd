"""The grid as jobs of a real Slurm of two nodes: whatever happens to jobs, nodes and coordinator, each unit is recorded once."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipelines.runner import locks
from pipelines.runner.slurm import Settings, Slurm
from pipelines.runner.unit import Unit
from tests.cluster import Cluster, reason_without
from tests.small_grid import CELL, KEYS, ONCE, PYTHON, dvc, ran, repro, stages, started, wait_for, without_git_warning

pytestmark = pytest.mark.slow

REASON = reason_without()
needs_cluster = pytest.mark.skipif(REASON is not None, reason=str(REASON))
SLURM = ("--executor", "slurm")
HELD = KEYS[2]  # of this cell the first stage goes on as long as there is a file `hold`


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One cluster for all tests of this file, found by the commands that submitit calls."""
    with Cluster(tmp_path_factory.mktemp("slurm"), gpus_per_node=2) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
            PYTHON[name] = value
        yield cluster
    for name in cluster.environment:
        PYTHON.pop(name)


@pytest.fixture
def cluster(shared, scratch):
    """The cluster with an empty queue and all nodes in service, and a grid for it whose one cell is held."""
    content = stages()
    hold = "trap '' TERM; while test -e hold && test ${item} = " + HELD + "; do sleep 0.1; done; "
    mark = "mkdir -p on && echo $SLURM_JOB_ID $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES >> on/$(echo ${item} | tr / -); "
    content["distill"]["do"]["cmd"] = mark + CELL["distill"]["do"]["cmd"].replace("&& cp word", "; " + hold + "cp word", 1)
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": content}))
    Path("slurm.yaml").write_text("partition: main\nminutes: 60\ngpus: 1\ncpus: 1\njobs: 4\npoll_s: 0.3\n")
    yield shared
    Path("hold").unlink(missing_ok=True)
    for node, state in shared.node_states().items():
        if state.startswith("down"):
            shared.start_slurmd(node)
    for job in shared.squeue():
        shared.cancel(job.job_id)
    shared.wait_until(lambda: not shared.squeue(), 120, "empty queue")
    shared.wait_until(lambda: set(shared.node_states().values()) == {"idle"}, 120, "nodes idle")


def job_of(cluster, key=HELD):
    """The id of the running job of a unit, once its first stage has begun."""
    cluster.wait_until(lambda: Path("ran", key).is_file(), 120, f"{key} runs")
    return Path("work/units", key, "job.txt").read_text().strip()


def assert_whole(done, **counts):
    """The run ended well, each unit is recorded once, and nothing is stale."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran() == ONCE | {key: {"distill": number, "evaluate": 1} for key, number in counts.items()}
    assert json.loads(dvc("status", "--json")) == {}
    assert Path("report").read_text().count("first") == len(KEYS)
    assert not list(Path("work/units").rglob("unit.json"))


@needs_cluster
def test_the_grid_runs_through_slurm(cluster, tmp_path_factory):
    """dvc.lock is what plain dvc repro writes; jobs of a node have GPUs of their own; both nodes work."""
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(Path.cwd(), other)
    done = repro(*SLURM)
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=other, env=PYTHON, check=True)

    assert_whole(done)
    assert Path("dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()
    devices = {tuple(file.read_text().split()[1:]) for file in Path("on").iterdir()}
    assert devices <= {(node, gpu) for node in ("n1", "n2") for gpu in ("0", "1")}
    assert len(devices) >= 2


@needs_cluster
def test_a_killed_coordinator_is_followed_by_one_that_attaches(cluster):
    """SIGKILL, then SIGINT: jobs go on; what ended meanwhile is recorded, what runs is not submitted again."""
    Path("hold").touch()
    for number in (signal.SIGKILL, signal.SIGINT):
        beat = Path("work/coordinator.beat")
        before = beat.read_text() if beat.is_file() else ""
        with started(*SLURM) as coordinator:
            wait_for(lambda: beat.is_file() and beat.read_text() != before, "it is at work")  # noqa: B023
            job = job_of(cluster)
            wait_for(lambda: sum(map(bool, ran().values())) >= 4, "others run, too")
            coordinator.send_signal(number)
            _, err = coordinator.communicate(timeout=60)
        status = repro("--status").stdout
        assert re.search(rf"running +{HELD} +\d+ s, process \d+ on \S+, job {job}", status), status
        assert "coordinator: none at work" in status
    assert "jobs stay with Slurm" in err
    Path("hold").unlink()
    done = repro(*SLURM)

    assert_whole(done)
    assert cluster.state(job) == "COMPLETED"


@needs_cluster
def test_a_job_that_is_requeued_goes_on(cluster):
    """By USR2, as before a time limit, and by scontrol: the job keeps its id, and the coordinator waits for it."""
    Path("hold").touch()
    with started(*SLURM) as coordinator:
        job = job_of(cluster)
        cluster.signal(job, "USR2")
        cluster.wait_until(lambda: ran()[HELD]["distill"] == 2, 120, "it runs again after USR2")
        cluster.requeue(job)
        cluster.wait_until(lambda: ran()[HELD]["distill"] == 3, 120, "it runs again after scontrol requeue")
        Path("hold").unlink()
        out, err = coordinator.communicate(timeout=120)

    assert_whole(subprocess.CompletedProcess((), coordinator.returncode, out, err), **{HELD: 3})
    assert len({line.split()[0] for line in Path("on", HELD.replace("/", "-")).read_text().splitlines()}) == 1


@needs_cluster
def test_two_processes_of_one_unit_never_meet(cluster):
    """A node is lost to Slurm while its job works on: the job that is started elsewhere waits for it, and finds its work done."""
    Path("hold").touch()
    with started(*SLURM) as coordinator:
        job = job_of(cluster)
        (node,) = (one.node for one in cluster.squeue() if one.job_id == job)
        cluster.kill_slurmd(node)
        cluster.declare_lost(node)
        log = Path("work/logs", f"{HELD}.log")
        cluster.wait_until(lambda: log.is_file() and "waiting for it" in log.read_text(), 120, "its second process waits")
        assert re.search(rf"work/units/{HELD} is held by process \d+ on \S+, job {job}; waiting for it", log.read_text())
        assert ran()[HELD] == {"distill": 1}
        Path("hold").unlink()
        out, err = coordinator.communicate(timeout=120)
        cluster.start_slurmd(node)

    assert_whole(subprocess.CompletedProcess((), coordinator.returncode, out, err))


@needs_cluster
def test_a_cancelled_job_is_a_stopped_unit_that_runs_the_next_time(cluster):
    """Though nothing but the queue tells of it: no accounting, no last word."""
    Path("hold").touch()
    with started(*SLURM) as coordinator:
        job = job_of(cluster)
        cluster.cancel(job)
        out, err = coordinator.communicate(timeout=120)
    Path("hold").unlink()

    assert coordinator.returncode == 2
    # The shell of a test's stage may be killed a moment before the process that could not tell.
    why = rf"(its Slurm job {job} |distill@{HELD} ended with exit code -\d+)"
    assert re.search(rf"{HELD} STOPPED after \d+ s: {why}", out), out
    assert re.fullmatch(rf"error: 1 .*\({HELD}\), 1 .*work/logs/.*\n", without_git_warning(err)), err
    assert_whole(repro(*SLURM), **{HELD: 2})


@needs_cluster
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"partition": "huge"}, r".*check: sbatch: error: .*\bhuge .*slurm\.yaml"),
        (
            {"options": {"gres": "gpu:3"}},
            r".*check: sbatch: error: .*node configuration is not available.*slurm\.yaml",
        ),
    ],
)
def test_a_refused_job_is_one_line(cluster, change, words):
    """In Slurm's words, with the unit; nothing is recorded."""
    Path("slurm.yaml").write_text(yaml.safe_dump(yaml.safe_load(Path("slurm.yaml").read_text()) | change))
    done = repro(*SLURM)

    assert done.returncode == 2
    assert re.search(rf"^error: {words}$", done.stderr, re.MULTILINE), done.stderr
    assert not Path("dvc.lock").exists()


def test_a_shared_folder_without_locks_is_refused(tmp_path):
    """The coordinator lives, and its lock can be had: as where NFS does not carry locks to other hosts."""
    lock, beat = tmp_path / "coordinator.lock", tmp_path / "coordinator.beat"
    lock.write_text("process 1 on login")
    done = threading.Event()

    def live():
        while not done.wait(0.1):
            beat.write_text(str(time.monotonic()))

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(ValueError, match=rf"{tmp_path}: .*coordinator\.lock"):
            locks.check_shared(lock, beat)
    finally:
        done.set()
        thread.join()
    locks.check_shared(lock, beat, patience_s=1)  # a coordinator that is gone
    with locks.held(lock):
        subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path; from pipelines.runner import locks; locks.check_shared(*map(Path, {[str(lock), str(beat)]}), 0)"],
            env=PYTHON, check=True,
        )  # fmt: skip


class _Executor:
    """Notes what a job asks for, and submits nothing."""

    def __init__(self, asked, **_):
        self._asked = asked

    def update_parameters(self, **options):
        """Note them."""
        self._asked.update(options)

    def submit(self, _):
        """A job's number."""
        return SimpleNamespace(job_id=7)


@pytest.mark.parametrize(
    ("processes", "per_node", "key", "nodes", "gres", "cpus"),
    [
        (1, 8, "distill@gfl/mgd/seed0", 1, "gpu:1", 4),
        (8, 8, "distill@gfl/mgd/seed0", 1, "gpu:8", 32),
        (16, 8, "teachers@gfl", 2, "gpu:8", 32),
        (16, 8, "evaluate@gfl/mgd/seed0", 1, "gpu:1", 4),  # not divided
    ],
)
def test_a_job_has_the_nodes_of_its_run(monkeypatch, tmp_path, processes, per_node, key, nodes, gres, cpus):
    """Nodes, GPUs and cores; a unit that is not divided has one GPU."""
    asked = {}
    monkeypatch.setattr("submitit.SlurmExecutor", partial(_Executor, asked))
    monkeypatch.setattr(Slurm, "_ask", lambda _: None)
    monkeypatch.chdir(tmp_path)
    unit = Unit("gfl/mgd/seed0", {key: "exec true"})
    unit.write()
    Slurm(Settings(partition="main", minutes=60, per_node=per_node), gpus_per_run=processes).submit(unit)

    assert (asked["nodes"], asked["gres"], asked["cpus_per_task"], asked["ntasks_per_node"]) == (nodes, gres, cpus, 1)


def test_processes_that_nodes_cannot_share():
    """Said by the coordinator, with both numbers."""
    with pytest.raises(ValueError, match=r"gpus_per_run is 9, which 2 nodes of 8 processes cannot share evenly"):
        Slurm(Settings(partition="main", minutes=60), gpus_per_run=9)
