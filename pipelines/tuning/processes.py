"""Functions called in a process of their own, which is thrown away afterwards.

MMEngine's singletons, GPU memory and whatever a training leaves behind go with it.  Each is forked from a server that
has MMLab imported, as importing it takes longer than a short trial may wait.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.lifeline import die_with_parent

_TRACE = Path("work") / "last_error.txt"
_CONTEXT = multiprocessing.get_context("forkserver")
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


def _run(function: str, arguments: tuple[Any, ...], sender: Connection) -> None:
    die_with_parent()
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
