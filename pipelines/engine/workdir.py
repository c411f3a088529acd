"""The untracked work directory of one run: locked by one process, resumed only by the same run.

A directory's name contains the digest of everything that decides the run, so a checkpoint of
another configuration is never read.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.whole_file import write_whole
from pipelines.circumstances import CircumstanceError, is_circumstance
from pipelines.runner import locks

_LEAST_FREE_MIB = 512
_PATIENCE_S = 3600.0


def check_writable(directory: Path) -> None:
    """Create the directory and make sure that results can be written there.

    Raises:
        ValueError: it cannot be created or written, or its disk is nearly full.
    """
    probe = directory / f".probe-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise CircumstanceError(f"cannot write to {directory}: {error.strerror}; make it writable or free its disk") from error
    free_mib = shutil.disk_usage(directory).free // 2**20
    if free_mib < _LEAST_FREE_MIB:
        raise CircumstanceError(
            f"only {free_mib} MiB are free on the disk of {directory}, at least {_LEAST_FREE_MIB} are needed; free some"
        )


@contextlib.contextmanager
def held(directory: Path) -> Iterator[Path]:
    """Create a directory and lock it against every other process; a job of Slurm waits for its own earlier self.

    Raises:
        ValueError: another process has locked it; the message names host, process and job.
    """
    check_writable(directory)
    try:
        with locks.held(directory / "lock", patience_s=_PATIENCE_S if "SLURM_JOB_ID" in os.environ else 0.0):
            yield directory
    except locks.BusyError as error:
        raise CircumstanceError(f"{directory} is being written by {error}; wait for it, or stop it") from error


@contextlib.contextmanager
def noting_failure(directory: Path, *, clears: bool = True) -> Iterator[None]:
    """Leave the first line of what goes wrong in ``failed.txt`` there, for the report; take an earlier attempt's away first.

    A full disk, a held directory or a signal has not failed.
    """
    note = directory / "failed.txt"
    if clears:
        note.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        if is_circumstance(error):
            raise
        with contextlib.suppress(OSError):
            write_whole(note, (" ".join(str(error).split()) or type(error).__name__) + "\n")
        raise
