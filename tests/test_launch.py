"""A run of two processes as a user starts it: results, and the ends of its processes."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from tests.cluster import Cluster, reason_without
from tests.conftest import PAIR, edit_yaml, read, run_here, run_stage
from tests.small_grid import without_git_warning

pytestmark = pytest.mark.slow

REASON = reason_without()
CELL = f"{PAIR}/mgd/seed0"
COMMAND = ("pipelines.stages.distill", "--tier", "smoke", "--cell", CELL, "--out", "out")


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory):
    """The finished project with runs of two processes and 20 iterations, and the weights of an undisturbed one."""
    project = tmp_path_factory.mktemp("two") / "project"
    shutil.copytree(finished, project, symlinks=True)
    edit_yaml(project / "params.yaml", gpus_per_run=2)
    tier = yaml.safe_load((project / "benchmarks/tiers/smoke.yaml").read_text())
    tier["schedule"]["student_epochs"] = 10
    (project / "benchmarks/tiers/smoke.yaml").write_text(yaml.safe_dump(tier))
    checked = run_here(project, "pipelines.stages.check")
    assert checked.returncode == 0, checked.stderr
    done = run_stage(project, *COMMAND)
    assert done.returncode == 0, done.stdout + done.stderr
    return project, digest(project), done


@pytest.fixture
def project(made):
    """The project, with nothing left of a run of the cell."""
    project, *_ = made
    shutil.rmtree(project / "out", ignore_errors=True)
    shutil.rmtree(project / "work/smoke" / CELL, ignore_errors=True)
    return project


def digest(project):
    """Return the digest of the student's weights."""
    return hashlib.sha256((project / "out/student.pth").read_bytes()).hexdigest()


def start(project, **environment):
    """Start the stage; its output is captured."""
    return subprocess.Popen(
        [sys.executable, "-m", *COMMAND], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CI": "1", **environment},
    )  # fmt: skip


def ranks_of(process):
    """Its ranks that have begun, in their order; a shell comes before each."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "python" in child.name() and "RANK" in (environment := child.environ()):
                found[int(environment["RANK"])] = child
        except psutil.Error:
            continue
    return [found[rank] for rank in sorted(found)]


def wait_for_checkpoint(project, process, number=1):
    """Wait until that many epochs are kept."""
    until = time.monotonic() + 120
    while len(list((project / "work/smoke" / CELL).glob("*/epoch_*.pth"))) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_two_processes_leave_one_record(made):
    """The first alone prints and tracks; world size and images per GPU are in record, MLflow and digest."""
    project, _, done = made
    run = read(project / "out/run.json")
    said = [line for line in done.stdout.splitlines() if " done in " in line]

    assert len(said) == 1
    assert without_git_warning(done.stderr) == ""
    assert (run["processes"], run["batch_size"], run["images_per_gpu"], run["precision"]) == (2, 4, 2, "fp32")
    assert run["cost"]["num_images"] == 80
    assert run["config_sha256"] != read(project / f"runs/smoke/{CELL}/run.json")["config_sha256"]
    assert not list((project / "work/ranks").iterdir())
    params = MlflowClient(f"sqlite:///{project}/mlflow/mlflow.db").get_run(run["mlflow_run_id"]).data.params
    assert (params["processes"], params["images_per_gpu"], params["precision"]) == ("2", "2", "fp32")


def test_a_killed_rank_leaves_a_run_that_goes_on(made, project):
    """The others end, one line says who was killed, and the next start, by torchrun as a user types it, has the same weights."""
    _, expected, _ = made
    killed = time.time_ns() % 2
    process = start(project)
    wait_for_checkpoint(project, process, 2)
    others = ranks_of(process)
    others[killed].kill()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert (
        without_git_warning(err)
        == f"error: rank {killed} of 2 ended by SIGKILL; the next start goes on from the last checkpoint\n"
    )
    assert not [one for one in others if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    done = run_stage(project, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", *COMMAND)
    assert done.returncode == 0, done.stderr
    assert "resumes after iteration" in done.stdout
    assert digest(project) == expected


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_two_nodes_of_a_cluster_are_the_same(made, project, tmp_path_factory):
    """A process on each of two nodes: the weights of two processes on one."""
    _, expected, _ = made
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with Cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        job = cluster.run(
            "sbatch", "--parsable", "--partition=main", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", f"--chdir={project}",
            f"--output={project}/job.txt", f"--export=ALL,CI=1,PATH={python}", f"--wrap={sys.executable} -m {' '.join(COMMAND)}",
        ).strip()  # fmt: skip
        cluster.wait_until(lambda: cluster.state(job) in ("COMPLETED", "FAILED"), 180, "the job has ended")
        assert cluster.state(job) == "COMPLETED", (project / "job.txt").read_text()

    assert digest(project) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_what_started_it(project, number):
    """Whatever ends it."""
    process = start(project)
    wait_for_checkpoint(project, process)
    others = ranks_of(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(others, timeout=20)

    assert not alive
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert without_git_warning(err) == (
        "" if number == signal.SIGKILL else "stopped; the next dvc repro goes on from the last checkpoint\n"
    )


def test_a_loss_that_is_not_finite_on_one_rank(made, project):
    """All ranks end together with one line, that of the loss; nothing is written."""
    method = project / "methods/mgd.py"
    before = method.read_text()
    spoilt = (
        "        import dataclasses, os\n"
        "        if os.environ.get('RANK') == '1' and batch.iteration == 6:\n"
        "            nan = {name: tuple(level * float('nan') for level in levels) for name, levels in student.features.items()}\n"
        "            student = dataclasses.replace(student, features=nan)\n"
    )
    head, body = re.split(r"(?<=-> dict\[str, Tensor\]:\n)", before, maxsplit=1)
    method.write_text(head + spoilt + body)
    try:
        assert run_here(project, "pipelines.stages.check").returncode == 0
        done = run_stage(project, *COMMAND)
    finally:
        method.write_text(before)
        run_here(project, "pipelines.stages.check")

    assert done.returncode == 2
    assert re.fullmatch(
        r"error: \[distill .*loss.* is not finite at iteration 7; the last checkpoint in \S+ is kept; .*\n", done.stderr
    )
    assert not (project / "out/student.pth").exists()


def test_a_rank_that_cannot_reach_the_first(project):
    """One line with host and port, once the time is over."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    group = {
        "WORLD_SIZE": "2",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "KD_TIMEOUT_S": "2",
    }
    done = run_stage(project, *COMMAND, **group)

    assert done.returncode == 2
    assert re.search(
        rf"^error: rank 1 of 2 cannot reach rank 0 at localhost:{port} within 2 s; .*\n\Z", done.stderr, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"gpus_per_run": 4096}, r"error: params\.yaml: gpus_per_run: .*1024.*\n"),
        ({"gpus_per_run": 3}, r"error: a batch of 4 images cannot be divided among 3 processes; .*gpus_per_run.*\n"),
        ({"gpus_per_run": 2, "precision": "fp16"}, r"error: params\.yaml: precision fp16 is for a GPU.*fp32 or bf16\n"),
        ({"precision": "int8"}, r"error: params\.yaml: precision: .*'fp32', 'tf32', 'bf16' or 'fp16', got 'int8'\n"),
    ],
)
def test_what_cannot_run(made, project, changes, line):
    """Stage check, or the stage before it starts anything, says so in one line."""
    before = (project / "params.yaml").read_text()
    edit_yaml(project / "params.yaml", **changes)
    try:
        done = run_here(project, "pipelines.stages.check")
        if done.returncode == 0:
            done = run_stage(project, *COMMAND)
    finally:
        (project / "params.yaml").write_text(before)
        run_here(project, "pipelines.stages.check")

    assert done.returncode == 2
    assert re.fullmatch(line, without_git_warning(done.stderr))
    assert not (project / "out").exists()


def test_more_processes_than_cores(made, project):
    """Each process has a core where there are no GPUs."""
    many = 2 ** (len(os.sched_getaffinity(0)).bit_length() + 1)
    before = {name: (project / name).read_text() for name in ("params.yaml", "benchmarks/tiers/smoke.yaml")}
    edit_yaml(project / "params.yaml", gpus_per_run=many)
    path = project / "benchmarks/tiers/smoke.yaml"
    path.write_text(re.sub(r"batch_size: \d+", f"batch_size: {many}", path.read_text()))
    try:
        assert run_here(project, "pipelines.stages.check").returncode == 0
        done = run_stage(project, *COMMAND, CUDA_VISIBLE_DEVICES="")
    finally:
        for name, text in before.items():
            (project / name).write_text(text)
        run_here(project, "pipelines.stages.check")

    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: gpus_per_run is {many}, and there are \d+ cores, without a GPU on a node; lower it in params.yaml\n",
        done.stderr,
    )
