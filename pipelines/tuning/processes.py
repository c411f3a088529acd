"""Functions called in a process of their own, which is thrown away afterwards.

MMEngine's singletons, GPU memory and whatever a training leaves behind go with it.  Each is forked from a server that
has MMLab imported, as importing it takes longer than a short trial may wait.
"""

import contextlib
import importlib
import multiprocessing
import os
import select
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_TRACE = Path("work") / "last_error.txt"
_CONTEXT = multiprocessing.get_context("forkserver")
# Asking CUDA itself whether there is a GPU, as MMEngine does when imported, would leave it unusable after a fork.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
_CONTEXT.set_forkserver_preload(["pipelines.tuning.preload"])


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        result: what the function returned.
        error: one line on what it raised; None where it returned, or was killed.
        exit_code: of the process; negative for a signal.
    """

    result: Any = None
    error: str | None = None
    exit_code: int | None = None

    @property
    def was_killed(self) -> bool:
        """Whether it neither returned nor raised."""
        return self.exit_code != 0


def call(
    function: str, *arguments: Any, started: Callable[[int], None] | None = None, every_s: float = 10.0,
    meanwhile: Callable[[], None] | None = None,
) -> Ended:  # fmt: skip
    """Call a function in a process of its own.

    Args:
        function: ``module:name``; this process need not import it.
        arguments: its own.
        started: told the process's id.
        every_s: seconds between two calls of ``meanwhile``.
        meanwhile: called while the process runs.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(function, arguments, sender))
    process.start()
    sender.close()
    try:
        if started is not None:
            started(int(process.pid or 0))
        result, error = None, None
        while not receiver.poll(every_s):
            if meanwhile is not None:
                meanwhile()
        with contextlib.suppress(EOFError):
            result, error = receiver.recv()
        process.join()
    except BaseException:
        process.kill()
        raise
    return Ended(result, error, process.exitcode)


def _end_with_reader(pipe: int) -> None:
    """End this process when the one that waits for its result is gone, however it went (POSIX: the pipe has no reader).

    The kernel's own signal is of no use: the parent is the fork server, which lives as long as any of its children.
    """
    broken = select.poll()
    broken.register(pipe, 0)
    broken.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def _run(function: str, arguments: tuple[Any, ...], sender: Connection) -> None:
    threading.Thread(target=_end_with_reader, args=(sender.fileno(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker is interrupted, too, and ends this process
    os.environ.pop("DVC_STAGE", None)
    try:
        module, _, name = function.partition(":")
        sender.send((getattr(importlib.import_module(module), name)(*arguments), None))
    except Exception as error:  # noqa: BLE001 (whatever it is, the traceback is kept)
        with contextlib.suppress(OSError):
            _TRACE.parent.mkdir(exist_ok=True)
            _TRACE.write_text(traceback.format_exc())
        line = " ".join(str(error).split()) or type(error).__name__
        sender.send((None, line if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {line}"))
