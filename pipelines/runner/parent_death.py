"""End of a process with the one that started it, where that is killed (Linux)."""

import contextlib
import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Request a signal from the kernel when the parent dies, however it dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)


def die_with_dvc() -> None:
    """Do the same in a stage that DVC runs.

    A killed DVC would leave the run alive, and the next ``dvc repro`` would start it a second time.
    """
    if "DVC_STAGE" in os.environ and "LOCAL_RANK" not in os.environ:  # a rank ends with what started it, at once
        die_with_parent()
