"""The cluster for tests: jobs that submitit sends run on it, and survive requeues, signals and the loss of a node."""

import os
import sys
import time

import pytest

from tests import cluster as harness
from tests.cluster import Cluster, SlurmError, reason_without

pytestmark = pytest.mark.slow

submitit = pytest.importorskip("submitit")
cloudpickle = pytest.importorskip("cloudpickle")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # jobs need not find the tests

REASON = reason_without()
needs_cluster = pytest.mark.skipif(REASON is not None, reason=str(REASON))


class Attempts:
    """A job that waits in its first run, and in a later one returns how often it was checkpointed and restarted.

    A file ``hold`` makes later runs wait, too.
    """

    def __init__(self, checkpoints=0):
        self.checkpoints = checkpoints

    def __call__(self, folder):
        """Checkpoints and restarts so far."""
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        (folder / f"run{restarts}").write_text(str(os.getpid()))
        while restarts == 0 or (folder / "hold").exists():
            time.sleep(0.1)
        return self.checkpoints, restarts

    def checkpoint(self, folder):
        """Write the function that the next run calls."""
        return submitit.helpers.DelayedSubmission(Attempts(self.checkpoints + 1), folder)


def device(folder, mine, other):
    """The job's CUDA_VISIBLE_DEVICES, once the other job runs, too."""
    (folder / mine).touch()
    while not (folder / other).exists():
        time.sleep(0.1)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One cluster for all tests of this file, found by the commands that submitit calls."""
    with Cluster(tmp_path_factory.mktemp("slurm"), gpus_per_node=2) as cluster, pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture
def cluster(shared):
    """The cluster; without jobs again after the test."""
    yield shared
    for job in shared.squeue():
        shared.cancel(job.job_id)
    shared.wait_until(lambda: not shared.squeue(), 60, "no job left")


def submit(folder, function, *arguments, **parameters):
    """A job that submitit has sent, with an hour of time: it takes any signal for a timeout where that is ten minutes or less."""
    executor = submitit.AutoExecutor(folder=folder / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=60, **parameters)
    return executor.submit(function, *arguments)


def result(cluster, job):
    """The value of a job; ``job.result()`` alone waits for ever for one that was lost."""
    cluster.wait_until(job.paths.result_pickle.exists, 120, f"a result of job {job.job_id}")
    return job.result()


def first_run(cluster, folder):
    """The process of a job's first run, once it waits."""
    return int(cluster.wait_until(lambda: (folder / "run0").exists() and (folder / "run0").read_text(), 60, "a first run"))


@needs_cluster
def test_a_job_returns_its_value(cluster, tmp_path):
    """By submitit's own executor."""
    assert result(cluster, submit(tmp_path, pow, 2, 10)) == 1024


@needs_cluster
def test_jobs_at_once_have_different_gpus(cluster, tmp_path):
    """Two jobs with a GPU each on one node."""
    on_n1 = {"gpus_per_node": 1, "slurm_nodelist": "n1"}
    jobs = [submit(tmp_path, device, tmp_path, *names, **on_n1) for names in (("a", "b"), ("b", "a"))]

    assert sorted(result(cluster, job) for job in jobs) == ["0", "1"]


@needs_cluster
def test_a_requeued_job_runs_again_as_it_was_submitted(cluster, tmp_path):
    """``scontrol requeue`` sends no USR2, so that submitit does not checkpoint."""
    job = submit(tmp_path, Attempts(), tmp_path)
    first_run(cluster, tmp_path)
    cluster.requeue(job.job_id)

    assert result(cluster, job) == (0, 1)


@needs_cluster
def test_a_job_resumes_from_its_checkpoint_after_usr2(cluster, tmp_path):
    """Submitit calls ``checkpoint()`` and requeues the job."""
    job = submit(tmp_path, Attempts(), tmp_path)
    first_run(cluster, tmp_path)
    cluster.signal(job.job_id, "USR2")

    assert result(cluster, job) == (1, 1)


@needs_cluster
def test_a_cancelled_job_leaves_the_queue(cluster, tmp_path):
    """Only ``squeue`` shows it: submitit asks ``sacct``, which has nothing to say without accounting."""
    job = submit(tmp_path, Attempts(), tmp_path, name="cancelled")
    first_run(cluster, tmp_path)
    before = [(one.job_id, one.name, one.state) for one in cluster.squeue()]
    cluster.cancel(job.job_id)
    cluster.wait_until(lambda: not cluster.squeue(), 60, "an empty queue")

    assert before == [(job.job_id, "cancelled", "RUNNING")]
    assert cluster.state(job.job_id) == "CANCELLED"
    assert (job.done(force_check=True), job.state) == (False, "UNKNOWN")


@needs_cluster
def test_a_job_of_a_lost_node_runs_on_the_other(cluster, tmp_path):
    """Both of its processes are alive then, until the lost node's daemon is back."""
    (tmp_path / "hold").touch()
    job = submit(tmp_path, Attempts(), tmp_path)
    first = first_run(cluster, tmp_path)
    lost = next(one.node for one in cluster.squeue())
    cluster.kill_slurmd(lost)
    cluster.wait_until((tmp_path / "run1").exists, 120, "a second run")
    assert cluster.node_states()[lost].startswith("down")
    assert first in cluster.processes()

    cluster.start_slurmd(lost)
    cluster.wait_until(lambda: first not in cluster.processes(), 60, "the end of the first process")
    cluster.wait_until(lambda: cluster.node_states()[lost] == "idle", 60, "the node in service")
    (tmp_path / "hold").unlink()

    assert result(cluster, job) == (0, 1)


@needs_cluster
def test_a_node_can_be_declared_lost(cluster, tmp_path):
    """Its job is in the queue again at once."""
    job = submit(tmp_path, Attempts(), tmp_path)
    first_run(cluster, tmp_path)
    lost = next(one.node for one in cluster.squeue())
    cluster.kill_slurmd(lost)
    cluster.declare_lost(lost)

    assert cluster.state(job.job_id) == "PENDING"
    assert result(cluster, job) == (0, 1)

    cluster.start_slurmd(lost)
    cluster.wait_until(lambda: cluster.node_states()[lost] == "idle", 60, "the node in service")


@needs_cluster
def test_nothing_is_left_of_a_second_cluster(cluster, tmp_path):
    """Not even a job's process in a session of its own; the first cluster goes on."""
    directory = tmp_path / "second"
    directory.mkdir()
    with Cluster(directory) as second:
        second.run("sbatch", "--output=/dev/null", f"--wrap=setsid sleep 1234 & touch {directory}/begun; wait")
        second.wait_until((directory / "begun").exists, 60, "a job that runs")
        second.kill_slurmd("n2")
        assert [job.state for job in second.squeue()] == ["RUNNING"]
        assert len(second.processes()) > 5

    assert second.processes() == []
    assert cluster.squeue() == []
    assert set(cluster.node_states().values()) == {"idle"}


@needs_cluster
def test_a_cluster_that_cannot_start_says_why(tmp_path, monkeypatch):
    """And leaves nothing."""
    conf = tmp_path / "wrong.conf"
    conf.write_text(harness._CONF.read_text() + "NoSuchKey=1\n")
    monkeypatch.setattr(harness, "_CONF", conf)
    cluster = Cluster(tmp_path)
    with pytest.raises(RuntimeError, match="NoSuchKey"):
        cluster.__enter__()

    assert cluster.processes() == []


@needs_cluster
def test_a_failed_command_says_why(cluster):
    """In Slurm's words."""
    with pytest.raises(SlurmError, match="Invalid job id"):
        cluster.requeue("987654")


def test_missing_programs_are_named(tmp_path, monkeypatch):
    """With what installs them."""
    monkeypatch.setattr(harness, "_PATH", str(tmp_path))

    assert "slurmctld" in reason_without()
    assert "apt install" in reason_without()


def test_paths_too_long_for_a_socket_are_refused(tmp_path):
    """Slurm's own message would not name the directory."""
    with pytest.raises(ValueError, match="at most 80 characters"):
        Cluster(tmp_path / ("x" * 80))
