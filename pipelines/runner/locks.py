"""Locks of files, also between the hosts of a shared folder; a lock's file names its holder.  Identities of processes."""

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from pipelines.circumstances import CircumstanceError

_POLL_S = 0.1
_SAY_AFTER_S = 1.0
_STARTED = 19  # of the fields of /proc/PID/stat behind the name
BEAT_S = 1.0  # between two signs of life of a coordinator


class BusyError(CircumstanceError):
    """A lock is held; the argument names its holder."""


def me() -> str:
    """Name the running process: ``process 4711 on n1, job 12``."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"process {os.getpid()} on {socket.gethostname()}" + (f", job {job}" if job else "")


def start_of(pid: int) -> str | None:
    """Return when a process was started, comparable within a host: the boot's id and clock ticks since, which no step of the clock moves.

    None where there is no such process, or where it has ended and only waits to be looked at.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        boot, stat = Path("/proc/sys/kernel/random/boot_id"), Path(f"/proc/{pid}/stat")
        if not boot.is_file():
            return f"at {process.create_time()}"
        return f"boot {boot.read_text().strip()}, tick {stat.read_text().rpartition(')')[2].split()[_STARTED]}"
    except (psutil.Error, OSError, IndexError):
        return None


def owner(path: Path) -> str | None:
    """Return the holder of a lock in words; None where it is free."""
    if not path.is_file():
        return None
    with path.open("r+") as lock:
        if _taken(lock):
            return None
        return holder(lock)


@contextlib.contextmanager
def held(path: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a lock; it ends with its process.

    Args:
        path: file; it is created.
        patience_s: seconds to wait for its holder.

    Raises:
        BusyError: it is still held then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        since, has_said = time.monotonic(), False
        while not _taken(lock):
            if time.monotonic() - since >= patience_s:
                raise BusyError(holder(lock))
            if not has_said and time.monotonic() - since > _SAY_AFTER_S:
                print(f"{path.parent} is held by {holder(lock)}; waiting for it", flush=True)
                has_said = True
            time.sleep(_POLL_S)
        sign(lock)
        yield


def sign(lock: IO[str]) -> None:
    """Write this process's name into the file of a lock that it holds; on a full disk the lock holds without a name."""
    with contextlib.suppress(OSError):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), me().encode())


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def holder(lock: IO[str]) -> str:
    """Name the holder of a lock by its file, and say where it is suspended."""
    lock.seek(0)
    name = lock.read().strip()
    known = re.match(r"process (\d+) on (\S+?)(,|$)", name)
    is_here = known and known[2] == socket.gethostname()
    return (name or "an unknown process") + (suspended(int(known[1])) if known and is_here else "")


def suspended(pid: int) -> str:
    """Say what to do about a process of this host that is suspended; nothing where it is not."""
    with contextlib.suppress(psutil.Error):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            return f", which is suspended: kill -CONT {pid} lets it go on, kill -KILL {pid} ends it"
    return ""


def check_shared(path: Path, beat: Path, patience_s: float = 15.0) -> None:
    """Make sure that a lock of another host's living process is seen here.

    That process writes something new to ``beat`` every :data:`BEAT_S` seconds; no two hosts' clocks are compared.

    Raises:
        ValueError: the lock can be had although its holder lives: two writers could meet.
    """
    if not path.is_file() or owner(path) is not None:
        return
    before, until = beat.read_text() if beat.is_file() else "", time.monotonic() + patience_s
    while time.monotonic() < until:
        time.sleep(BEAT_S / 2)
        if beat.is_file() and beat.read_text() != before:
            raise ValueError(
                f"locks do not hold between hosts in {path.parent.resolve()}: {socket.gethostname()} could take {path.name}, which the "
                "coordinator holds; mount the shared folder with locks (NFS: without nolock or local_lock), or move the checkout"
            )
