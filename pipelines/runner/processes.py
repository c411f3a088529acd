"""Functions in processes of their own, which are thrown away afterwards: stages, trials, bench.

MMEngine's singletons, GPU memory and whatever a run leaves behind go with them.  Each is forked from the standard library's fork
server, which has MMLab imported: importing takes longer than a short run does.
"""

import contextlib
import importlib
import multiprocessing
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pipelines import layout

_PRELOADED = ["pipelines.engine.preload"]


@dataclass(frozen=True)
class Ended:
    """End of a process.

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
        """True where it neither returned nor raised."""
        return self.exit_code != 0


class Child:
    """A function in a process of its own; the process ends with the one that started it, however that ends.

    Args:
        function: ``module:name``; this process need not import it.
        arguments: its own.
        environment: variables that the process has beside this one's.
        log: file for what it prints; this process's output if None.
        trace: file for the traceback of whatever it raises.
        method: ``spawn`` imports everything anew, which CUDA needs where this process has used it.
    """

    def __init__(
        self, function: str, *arguments: Any, environment: Mapping[str, str] | None = None, log: Path | None = None,
        trace: Path = layout.LAST_ERROR, method: Literal["forkserver", "spawn"] = "forkserver",
    ) -> None:  # fmt: skip
        # Asking CUDA itself whether there is a GPU, as MMEngine does when imported, would leave it unusable after a fork.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        context: Any = multiprocessing.get_context(method)  # typeshed's base class has no Process
        context.set_forkserver_preload(_PRELOADED)
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(function, arguments, sender, dict(environment or {}), log, trace))
        self._process.start()
        sender.close()  # only the child's end is left, so that its death ends a wait
        self.pid = int(self._process.pid or 0)

    def poll(self, wait_s: float = 0.0) -> Ended | None:
        """Its end; None while it runs."""
        if not self._receiver.poll(wait_s):
            return None
        result, error = None, None
        with contextlib.suppress(EOFError):
            result, error = self._receiver.recv()
        self._process.join()
        return Ended(result, error, self._process.exitcode)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def end(self, patience_s: float = 30.0) -> None:
        """Ask it to end, wait, and kill it where it does not."""
        self.terminate()
        self._process.join(patience_s)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()


def call(
    function: str, *arguments: Any, started: Callable[[int], None] | None = None, every_s: float = 10.0,
    meanwhile: Callable[[], None] | None = None,
) -> Ended:  # fmt: skip
    """Call a function in a process of its own and wait for it.

    Args:
        function: ``module:name``.
        arguments: its own.
        started: told the process's id.
        every_s: seconds between two calls of ``meanwhile``.
        meanwhile: called while the process runs.
    """
    child = Child(function, *arguments)
    try:
        if started is not None:
            started(child.pid)
        while (ended := child.poll(every_s)) is None:
            if meanwhile is not None:
                meanwhile()
    except BaseException:
        child.kill()
        raise
    return ended


def write_to(log: Path) -> None:
    """Let this process print to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _end_with_reader(pipe: int) -> None:
    """End this process when the one that waits for its result is gone, however it went (POSIX: the pipe has no reader).

    The kernel's own signal is of no use: the parent is the fork server, which lives as long as any of its children.
    """
    broken = select.poll()
    broken.register(pipe, 0)
    broken.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def _run(
    function: str, arguments: tuple[Any, ...], sender: Connection, environment: dict[str, str], log: Path | None, trace: Path
) -> None:
    threading.Thread(target=_end_with_reader, args=(sender.fileno(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it is interrupted, too, and ends this process
    os.environ.pop("DVC_STAGE", None)
    os.environ.update(environment)
    if log is not None:
        write_to(log)
    try:
        module, _, name = function.partition(":")
        sender.send((getattr(importlib.import_module(module), name)(*arguments), None))
    except Exception as error:  # noqa: BLE001 (whatever it is, the traceback is kept)
        with contextlib.suppress(OSError):
            trace.parent.mkdir(parents=True, exist_ok=True)
            trace.write_text(traceback.format_exc())
        line = " ".join(str(error).split()) or type(error).__name__
        sender.send((None, line if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {line}"))
