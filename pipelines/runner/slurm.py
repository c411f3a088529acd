"""Units as jobs of a Slurm cluster, by submitit: one job per unit, and the coordinator on a login node.

Jobs need the checkout on a shared folder and its environment; no DVC, no database.  They outlive the coordinator: the next one
attaches to them.  Near its time limit or when preempted a job is requeued (USR2) and goes on from its last checkpoint.
Without accounting (slurmdbd) submitit does not see a job that died, so squeue is queried.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.schema import Text
from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.params import load_yaml
from pipelines.runner import unit as units
from pipelines.runner.processes import call, write_to
from pipelines.runner.unit import Unit

_DEFERRED = {"KD_TRACKING": "deferred"}
_MOST_TIMEOUTS = 1000  # a run of days in a partition of hours
_UNSEEN = (
    2  # times in a row that a job is missing from squeue before it is taken for ended: files may come later than that is seen
)


class Settings(BaseModel):
    """The contents of slurm.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: Text
    account: Text | None = None
    minutes: int = Field(ge=1, le=527_040, description="time limit of a job; one that reaches it is requeued and goes on")
    gpus: int = Field(default=1, ge=0, le=1, description="of each of a run's processes; 0: a cluster without GPUs")
    per_node: int = Field(
        default=8, ge=1, le=1024, description="processes of a run on one node; a run with more is on several nodes"
    )
    cpus: int = Field(default=4, ge=1, le=4096, description="of each process")
    memory: str | None = Field(default=None, pattern=r"^[1-9]\d{0,6}[MG]B$", description="of each node of a run, such as 32GB")
    setup: list[Text] = Field(default_factory=list, description="lines of shell before Python starts, such as module load")
    options: dict[Text, bool | int | float | str | None] = Field(
        default_factory=dict, description="further options of sbatch by name"
    )
    jobs: int = Field(default=64, ge=1, le=100_000, description="units queued or running at a time")
    warning_s: int = Field(default=120, ge=1, le=86_400, description="seconds before the time limit at which a job is requeued")
    poll_s: float = Field(default=10.0, gt=0, le=86_400, description="seconds between two calls of squeue")


@dataclass
class UnitJob:
    """A unit on a node, in the checkout; submitit pickles it."""

    folder: str
    log: str
    root: str
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> None:
        """Run the unit; what it prints goes to its log."""
        if int(os.environ.get("SLURM_PROCID", "0")):  # the first node's starts what runs on the others
            return
        os.chdir(self.root)
        os.environ.update(self.environment)
        write_to(Path(self.log))
        units.run(self.folder)

    def checkpoint(self) -> Any:
        """Requeue, on USR2: progress is in the unit's folder and in checkpoints."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415 (only on a cluster)

        units.REQUEUED.set()
        return DelayedSubmission(self)


class Slurm:
    """Jobs of a cluster.

    Args:
        settings: of slurm.yaml.
        jobs: at a time, in place of the file's.
        gpus_per_run: processes that a run is divided among.

    Raises:
        ValueError: they cannot be shared evenly by nodes.
    """

    def __init__(self, settings: Settings, jobs: int | None = None, gpus_per_run: int = 1) -> None:
        from submitit import SlurmExecutor  # noqa: PLC0415 (only who has a cluster needs it)

        self._settings, self.slots = settings, jobs or settings.jobs
        self._nodes = -(-gpus_per_run // settings.per_node)
        if gpus_per_run % self._nodes:
            raise ValueError(
                f"gpus_per_run is {gpus_per_run}, which {self._nodes} nodes of {settings.per_node} processes cannot share evenly; correct "
                "params.yaml, or per_node in slurm.yaml"
            )
        self._gpus_per_run = gpus_per_run
        self._executor = SlurmExecutor(folder=layout.WORK / "slurm", max_num_timeout=_MOST_TIMEOUTS)
        self._running: dict[str, tuple[Unit, str]] = {}
        self._unseen: dict[str, int] = {}
        self._queue: dict[str, str] = {}
        self._asked = 0.0
        self._environment = {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1" if settings.gpus == 0 else str(settings.cpus))
        }
        self._is_deferred = not os.environ.get("MLFLOW_TRACKING_URI")
        if self._is_deferred:
            self._environment |= _DEFERRED
        self._ask()

    @classmethod
    def of(cls, path: Path, jobs: int | None = None, gpus_per_run: int = 1) -> "Slurm":
        """Return the cluster that a file describes.

        Raises:
            ValueError: there is no such file, all that is wrong in it, or there is no Slurm here.
        """
        if not path.is_file():
            raise ValueError(
                f"{path} is not there; write one, at least 'partition: NAME' and 'minutes: N' (see README, Three ways to run)"
            )
        settings = load_yaml(path, Settings)
        if missing := [name for name in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(name) is None]:
            raise ValueError(f"{', '.join(missing)} is not on the PATH; start make repro on a login node of the cluster")
        return cls(settings, jobs, gpus_per_run)

    def room(self) -> int:
        """Return the number of units that may be submitted now."""
        return self.slots - len(self._running)

    def submit(self, unit: Unit) -> None:
        """Submit a unit; ValueError, in Slurm's words, where it is refused."""
        from submitit.core.utils import FailedJobError  # noqa: PLC0415 (only on a cluster)

        given = self._settings
        nodes, on_node = (self._nodes, self._gpus_per_run // self._nodes) if unit.is_divided else (1, 1)
        options = {
            "partition": given.partition, "account": given.account, "time": given.minutes,
            "cpus_per_task": given.cpus * on_node, "mem": given.memory, "nodes": nodes, "ntasks_per_node": 1,
            "gres": f"gpu:{given.gpus * on_node}" if given.gpus else None, "setup": given.setup or None,
            "job_name": f"kd {unit.key}", "signal_delay_s": given.warning_s, "additional_parameters": given.options or None,
        }  # fmt: skip
        self._executor.update_parameters(**{key: value for key, value in options.items() if value is not None})
        unit.log.unlink(missing_ok=True)
        try:
            job = self._executor.submit(UnitJob(str(unit.folder), str(unit.log), str(Path.cwd()), self._environment))
        except (FailedJobError, subprocess.CalledProcessError) as error:
            words = " ".join(str(getattr(error, "stderr", "") or error).split())
            raise ValueError(f"Slurm refuses {unit.key}: {words}; correct slurm.yaml") from error
        write_whole(unit.folder / "job.txt", str(job.job_id))
        self._running[unit.key] = (unit, str(job.job_id))

    def attach(self, unit: Unit, *, is_same: bool) -> bool:
        """Return True where a job of an earlier coordinator runs the unit; a job of it with other settings is cancelled."""
        noted = unit.folder / "job.txt"
        job = noted.read_text().strip() if noted.is_file() else None
        if job is None or job not in self._queue:
            return False
        if not is_same:
            subprocess.run(["scancel", job], check=False)
            return False
        self._running[unit.key] = (unit, job)
        return True

    def _ask(self) -> None:
        """Query squeue for all of the user's jobs at once; where it fails, the last answer stays."""
        command = ["squeue", "--me", "--noheader", "--format=%i|%T|%N"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        self._asked = time.monotonic()
        if told.returncode == 0:
            self._queue = {line.split("|")[0]: line.split("|")[1].lower() for line in told.stdout.splitlines() if "|" in line}
        elif not self._running:
            raise ValueError(f"squeue fails: {' '.join(told.stderr.split())}; is the cluster's controller up?")

    def ended(self) -> dict[str, str | None]:
        """Units that have ended since the last call, each with its failure; None where it succeeded."""
        if self._running and time.monotonic() - self._asked < self._settings.poll_s:
            return {}
        self._ask()
        found: dict[str, str | None] = {}
        for key, (unit, job) in list(self._running.items()):
            self._unseen[key] = 0 if job in self._queue else self._unseen.get(key, 0) + 1
            is_done = set(unit.done()) == set(unit.commands)
            if is_done or unit.failure() or unit.interruption() or self._unseen[key] >= _UNSEEN:
                found[key] = None if is_done else f"its Slurm job {job} has ended (cancelled, killed, or lost with its node)"
                del self._running[key]
        return found

    def finish(self, unit: Unit) -> None:
        """Log a unit to MLflow, where its job could not: a store in a file has one writer."""
        if unit.records and self._is_deferred and (said := call("pipelines.engine.tracking_records:enter", unit.records).error):
            print(f"warning: MLflow: {unit.key} is not entered: {said}", file=sys.stderr)

    def stop(self) -> None:
        """Leave the jobs alone: the next coordinator attaches to them."""
        if self._running:
            print(f"{len(self._running)} jobs stay with Slurm; make repro goes on with them (scancel ends them)", file=sys.stderr)
