"""A real Slurm of two nodes on this machine, for tests: its daemons, its commands, and the loss of a node on demand.

Nothing outside the cluster's directory is read or written: it has a munge daemon and a key of its own, free ports,
and GPUs that are links to ``/dev/null``. Root rights are not needed; all jobs belong to the user who starts it.
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
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # daemons are not on every user's PATH
_LONGEST = 80  # characters of a directory: a socket below it has a path of at most 107
# The least delays that Slurm 22.05 accepts: cred_expire (5 s) is also the time before a requeued job starts again.
_CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/%n.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=3
KillWait=2
GresTypes=gpu
NodeName=DEFAULT CPUs=8 RealMemory=4000 Gres=gpu:{gpus}
NodeName=n1 NodeHostname=localhost Port={ports[1]}
NodeName=n2 NodeHostname=localhost Port={ports[2]}
PartitionName=DEFAULT Nodes=ALL MaxTime=INFINITE State=UP
PartitionName=main Default=YES PriorityTier=1 GraceTime=5
PartitionName=urgent PriorityTier=2
"""


def reason_without() -> str | None:
    """The reason why no cluster can be started here, and what to install; None if one can."""
    if sys.platform != "linux":
        return f"a Slurm cluster needs Linux, and this is {sys.platform}"
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    if missing:
        install = "apt install --no-install-recommends slurmctld slurmd slurm-client munge"
        return f"a Slurm cluster needs {', '.join(missing)} (Debian, Ubuntu: {install})"
    return None


class Job(NamedTuple):
    """One line of ``squeue``."""

    job_id: str
    name: str
    state: str
    node: str


class Cluster:
    """Two nodes of 8 CPUs each, as long as the block lasts; partition ``urgent`` preempts the default one, ``main``.

    Args:
        directory: for configuration, state and logs; an existing one with a short path.
        gpus_per_node: devices that jobs may request; 0 for none.
    """

    def __init__(self, directory: Path, gpus_per_node: int = 0) -> None:
        if len(str(directory)) > _LONGEST:
            raise ValueError(f"sockets need a directory of at most {_LONGEST} characters, got {directory}")
        self.directory = directory
        self.gpus_per_node = gpus_per_node
        self.environment = {"SLURM_CONF": f"{directory}/slurm.conf"}
        self._daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":  # noqa: PYI034 (typing.Self is of Python 3.11)
        self._configure()
        try:
            files = {name: f"--{name}-file={self.directory}/munge.{name}" for name in ("key", "log", "pid", "seed")}
            self._start("munged", "--foreground", "--force", f"--socket={self.directory}/munge.socket", *files.values())
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
        conf = _CONF.format(directory=self.directory, user=os.getuid(), ports=ports, gpus=self.gpus_per_node)
        gpus = f"Name=gpu File={self.directory}/gpu[0-{self.gpus_per_node - 1}]\n" if self.gpus_per_node else ""
        (self.directory / "slurm.conf").write_text(conf)
        (self.directory / "gres.conf").write_text(gpus)

    def _ready(self) -> bool:
        for name, daemon in self._daemons.items():
            if daemon.poll() is not None:
                raise RuntimeError(f"{name} ended: {self._report()}")
        return set(self.node_states().values()) == {"idle"}

    def _start(self, *command: str, name: str = "") -> None:
        name = name or command[0]
        with (self.directory / f"{name}.out").open("a") as out:
            self._daemons[name] = subprocess.Popen(command, env=self._full_environment(), stdout=out, stderr=out)

    def _full_environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": _PATH, **self.environment}

    def run(self, *command: str) -> str:
        """The output of a command such as ``scontrol show job``; RuntimeError with its message if it fails."""
        done = subprocess.run(command, env=self._full_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def squeue(self, *options: str) -> list[Job]:
        """All jobs that are waiting, running or ending; with ``--states=all`` also those that ended within minutes."""
        lines = self.run("squeue", "--noheader", "--format=%i|%T|%N|%j", *options).splitlines()
        fields = (line.split("|", 3) for line in lines)
        return [Job(job_id, name, state, node) for job_id, state, node, name in fields]

    def state(self, job_id: str) -> str:
        """The state of a job, also of one that has ended, such as PENDING, RUNNING, COMPLETED or CANCELLED."""
        return next((job.state for job in self.squeue("--states=all") if job.job_id == job_id), "")

    def node_states(self) -> dict[str, str]:
        """Node -> state, such as idle, mixed or down, with a ``*`` where it does not respond; empty without slurmctld."""
        with suppress(RuntimeError):
            lines = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T").splitlines()
            return dict(line.split() for line in lines)
        return {}

    def requeue(self, job_id: str) -> None:
        """Stop a running job and queue it again under the same id."""
        self.run("scontrol", "requeue", job_id)

    def cancel(self, job_id: str) -> None:
        """Cancel a job, whether it runs or not."""
        self.run("scancel", job_id)

    def signal(self, job_id: str, name: str) -> None:
        """Send a signal such as ``USR2`` to the tasks of a job's steps, not to its batch script."""
        self.run("scancel", f"--signal={name}", job_id)

    def kill_slurmd(self, node: str) -> None:
        """Kill the daemon of a node, and nothing else: processes of its jobs stay alive."""
        self._daemons[node].kill()
        self._daemons[node].wait()

    def start_slurmd(self, node: str) -> None:
        """Start the daemon of a node; one that was down returns to service."""
        self._start("slurmd", "-D", "-N", node, name=node)

    def wait_until(self, predicate: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true value of a predicate; TimeoutError with queue and log if there is none in time."""
        end = time.monotonic() + seconds
        while not (value := predicate()):
            if time.monotonic() > end:
                raise TimeoutError(f"not within {seconds} s: {what}\n{self._report()}")
            time.sleep(0.1)
        return value

    def _report(self) -> str:
        with suppress(RuntimeError):
            return "\n".join((self.run("squeue"), *(self.directory / "slurmctld.log").read_text().splitlines()[-20:]))
        return "\n".join(out.read_text()[-2000:] for out in sorted(self.directory.glob("*.out")))

    def processes(self) -> list[int]:
        """All processes with this cluster's environment but this one: daemons, slurmstepd, and what jobs have started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended meanwhile, or another user's
                if f"SLURM_CONF={self.directory}/slurm.conf".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return [process for process in found if process != os.getpid()]

    def stop(self) -> None:
        """Kill all processes of the cluster, those of jobs included; nothing is left when it returns."""

        def ended() -> bool:
            for process in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return not self.processes()

        end = time.monotonic() + 60
        while not ended() and time.monotonic() < end:
            time.sleep(0.05)
        for daemon in self._daemons.values():
            daemon.wait()
