"""A real Slurm of two nodes on this machine, for tests: its daemons, its commands, and the loss of a node on demand.

Nothing outside the cluster's directory is written: it has a munge daemon and a key of its own, free ports, and GPUs that
are links to ``/dev/null``. Root rights are not needed; all jobs belong to the user who starts it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

NODES = ("n1", "n2")
_CONF = Path(__file__).with_name("slurm.conf")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # daemons are not on every user's PATH
_LONGEST = 80  # characters of a directory: a socket below it has a path of at most 107


def reason_without() -> str | None:
    """The reason why no cluster can be started here, and what to install; None if one can."""
    if sys.platform != "linux":
        return f"a Slurm cluster needs Linux, and this is {sys.platform}"
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    if missing:
        install = "apt install --no-install-recommends slurmctld slurmd slurm-client munge"
        return f"a Slurm cluster needs {', '.join(missing)} (Debian, Ubuntu: {install})"
    return None


class SlurmError(RuntimeError):
    """A command of Slurm that failed, with its message."""


class Job(NamedTuple):
    """One line of ``squeue``."""

    job_id: str
    name: str
    state: str
    node: str


class Cluster:
    """Two nodes of 8 CPUs each, as long as the block lasts; partition ``urgent`` preempts the default one, ``main``.

    Args:
        directory: for configuration, state and logs; an existing, empty one with a short path.
        gpus_per_node: devices that jobs may request.
    """

    def __init__(self, directory: Path, gpus_per_node: int = 0) -> None:
        if len(str(directory)) > _LONGEST:
            raise ValueError(f"sockets need a directory of at most {_LONGEST} characters, got {directory}")
        self.directory = directory
        self.gpus_per_node = gpus_per_node
        self.environment = {"SLURM_CONF": f"{directory}/slurm.conf"}  # by which commands and jobs find the cluster
        self._daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":  # noqa: PYI034 (typing.Self is of Python 3.11)
        self._configure()
        try:
            files = (f"--{name}-file={self.directory}/munge.{name}" for name in ("key", "log", "pid", "seed"))
            self._start("munged", "--foreground", "--force", f"--socket={self.directory}/munge.socket", *files)
            self.wait_until((self.directory / "munge.socket").exists, 60, "munged ready")
            self._start("slurmctld", "-D")
            for node in NODES:
                self.start_slurmd(node)
            self.wait_until(self._ready, 60, "both nodes idle")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _configure(self) -> None:
        for name in ("state", *NODES):
            (self.directory / name).mkdir()
        key = self.directory / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        for number in range(self.gpus_per_node):
            (self.directory / f"gpu{number}").symlink_to("/dev/null")
        with ExitStack() as held:  # all at once, so that no port comes twice
            sockets = [held.enter_context(socket.create_server(("", 0))) for _ in range(1 + len(NODES))]
            ports = [one.getsockname()[1] for one in sockets]
        fields = {"directory": self.directory, "user": os.getuid(), "ports": ports, "gpus": self.gpus_per_node}
        (self.directory / "slurm.conf").write_text(_CONF.read_text().format(**fields))
        gpus = f"Name=gpu File={self.directory}/gpu[0-{self.gpus_per_node - 1}]\n" if self.gpus_per_node else ""
        (self.directory / "gres.conf").write_text(gpus)

    def _start(self, *command: str, name: str = "") -> None:
        name = name or command[0]
        with (self.directory / f"{name}.out").open("a") as out:
            self._daemons[name] = subprocess.Popen(command, env=self._full_environment(), stdout=out, stderr=out)

    def _ready(self) -> bool:
        for name, daemon in self._daemons.items():
            if daemon.poll() is not None:
                raise RuntimeError(f"{name} ended:\n{self._report()}")
        return set(self.node_states().values()) == {"idle"}

    def _report(self) -> str:
        outputs = [f"{out.name}: {out.read_text()[-2000:]}" for out in sorted(self.directory.glob("*.out"))]
        with suppress(SlurmError):
            outputs.append(self.run("squeue"))
        return "\n".join(outputs)

    def _full_environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": _PATH, **self.environment}

    def run(self, *command: str) -> str:
        """The output of a command such as ``scontrol show job``."""
        done = subprocess.run(command, env=self._full_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SlurmError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def wait_until(self, predicate: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true value of a predicate; TimeoutError with logs and queue if there is none in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(SlurmError):  # of a controller that is busy or not there yet
                if value := predicate():
                    return value
            time.sleep(0.1)
        raise TimeoutError(f"not within {seconds} s: {what}\n{self._report()}")

    def squeue(self, *options: str) -> list[Job]:
        """All jobs that are waiting, running or ending; with ``--states=all`` also those that ended within minutes."""
        lines = self.run("squeue", "--noheader", "--format=%i|%T|%N|%j", *options).splitlines()
        fields = (line.split("|", 3) for line in lines)
        return [Job(job_id, name, state, node) for job_id, state, node, name in fields]

    def state(self, job_id: str) -> str:
        """The state of a job, also of one that has ended, such as PENDING, RUNNING, COMPLETED or CANCELLED."""
        return next((job.state for job in self.squeue("--states=all") if job.job_id == job_id), "")

    def node_states(self) -> dict[str, str]:
        """Node -> state, such as idle, mixed or down; with a ``*`` where it does not respond."""
        lines = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    def requeue(self, job_id: str) -> None:
        """The end of a running job (SIGTERM, SIGKILL 5 s later) and its start under the same id 6 s after that."""
        self.run("scontrol", "requeue", job_id)

    def cancel(self, job_id: str) -> None:
        """The end of a job, whether it runs (SIGTERM, SIGKILL 5 s later) or waits."""
        self.run("scancel", job_id)

    def signal(self, job_id: str, name: str) -> None:
        """A signal such as ``USR2`` to all processes of a job's steps, but not to its batch script."""
        self.run("scancel", f"--signal={name}", job_id)

    def kill_slurmd(self, node: str) -> None:
        """The loss of a node: its daemon ends by SIGKILL, processes of its jobs stay alive."""
        self._daemons[node].kill()
        self._daemons[node].wait()

    def declare_lost(self, node: str) -> None:
        """The requeue of a lost node's jobs at once instead of after about 12 s, when Slurm finds it lost."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def start_slurmd(self, node: str) -> None:
        """The start of a node's daemon; a lost node returns to service, and what was left of its jobs ends."""
        self._start("slurmd", "-D", "-N", node, name=node)

    def processes(self) -> list[int]:
        """All processes with this cluster's environment but this one: daemons, slurmstepd, and what jobs have started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if f"SLURM_CONF={self.directory}/slurm.conf".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return [process for process in found if process != os.getpid()]

    def stop(self) -> None:
        """The end of all processes of the cluster by SIGKILL, those of jobs included."""
        while processes := self.processes():
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.02)
        for daemon in self._daemons.values():
            daemon.wait()
