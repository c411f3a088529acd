"""Circumstances of a run: a full disk, a held directory, a signal.  They are no result, so nothing is recorded as failed by them."""

import errno
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AGAIN_S = 0.01
FULL_MIB = 16  # with less than this free, whatever failed failed for lack of space

# Of the machine or the share, not of what was computed.
_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.EBUSY, errno.ESTALE,
    errno.EMFILE, errno.ENFILE, errno.EINTR, errno.ENODEV, errno.ENOTCONN,
}  # fmt: skip
# In the words of torch and SQLite, which raise errors of their own kinds.
_WORDS = ("pytorchstreamwriter failed", "killed by signal", "database or disk is full", "no space left on device", "disk quota")
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL, signal.SIGUSR1, signal.SIGUSR2}
_SHELL = 128  # added by a shell to the number of the signal that ended a command


class CircumstanceError(ValueError):
    """Something around a run has ended it; the argument says what, and what to do."""


def interrupt_once(*_: Any) -> None:
    """Handle SIGINT or SIGTERM: raise KeyboardInterrupt, and let nothing interrupt the end that it brings, which takes a bounded time."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.unraisablehook = _interrupt_again
    raise KeyboardInterrupt


def _interrupt_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Raise an interrupt once more that came within a destructor or a weak reference's callback, where Python drops it with a traceback."""
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)
        return
    signal.signal(signal.SIGALRM, interrupt_once)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


def is_circumstance(error: BaseException) -> bool:
    """Return True where an error, or what it came of, says nothing of the run itself."""
    return any(_is_one(one) for one in _chain(error)) or is_full()


def is_full(folder: Path = Path()) -> bool:
    """Return True where a folder's disk has no room left."""
    return shutil.disk_usage(folder).free < FULL_MIB * 2**20


def is_by_signal(exit_code: int | None) -> bool:
    """Return True for the exit code of a process that a signal of another process has ended, or of a shell that waited for it."""
    if exit_code is None:
        return True
    return any(exit_code in (-number, _SHELL + number) for number in _SIGNALS)


def _is_one(error: BaseException) -> bool:
    is_by_words = any(word in str(error).lower() for word in _WORDS)
    return (
        isinstance(error, CircumstanceError | KeyboardInterrupt)
        or (isinstance(error, OSError) and error.errno in _ERRNOS)
        or (isinstance(error, Exception) and not isinstance(error, ValueError) and is_by_words)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__
