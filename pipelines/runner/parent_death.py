"""End of a process with the one that started it, where that is killed (Linux)."""

import contextlib
import ctypes
import os
import signal
import sys

LAUNCHER = "KD_LAUNCHER"  # process that starts a run's ranks
_PR_SET_PDEATHSIG = 1


def die_with_parent(by: signal.Signals = signal.SIGTERM, parent: int | None = None) -> None:
    """Request a signal from the kernel when the parent dies, however it dies; exit where it has died already.

    Args:
        by: the signal.
        parent: the process that started this one; the present parent if None.
    """
    parent = os.getppid() if parent is None else parent
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        sys.exit(1)


def die_with_starter() -> None:
    """Bind a stage to the DVC that runs it, or a rank to the process that started the ranks; called before anything slow is imported.

    A killed DVC would leave the run alive, and the next ``dvc repro`` would start it a second time.
    """
    if "LOCAL_RANK" in os.environ:
        if parent := os.environ.get(LAUNCHER):
            die_with_parent(signal.SIGKILL, int(parent))  # it may wait for a rank that is gone
    elif "DVC_STAGE" in os.environ:
        die_with_parent()
        end_quietly()


def end_quietly() -> None:
    """Let Ctrl-C end this process without a traceback while it imports; :func:`pipelines.errors.run` takes over."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
