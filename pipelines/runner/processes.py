"""Functions in subprocesses: units, trials, measurements, the smoke table.

MMEngine's singletons, GPU memory and whatever a run leaves behind end with the process.  Each is forked from the standard library's
fork server, which has MMLab imported: importing takes longer than a short run.
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
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import psutil

from pipelines.circumstances import is_circumstance

_TRACE = Path("work") / "last_error.txt"
_PRELOADED = ["pipelines.engine.preload"]
_OUT_OF_MEMORY = ("memoryerror", "out of memory", "can't allocate memory", "alloc_failed", "gib of memory")
_MEMORY_POLL_S = 0.1  # a training step may allocate quickly


@dataclass(frozen=True)
class ProcessEnd:
    """End of a process.

    Args:
        result: of the function.
        error: one line on the exception, or on the exceeded limit; None where it returned, or was killed.
        exit_code: of the process; negative for a signal.
        is_circumstance: True where the error says nothing of the function, such as a full disk.
        met_oom_killer: whether the kernel has ended a process for lack of memory meanwhile; None where it does not say.
    """

    result: Any = None
    error: str | None = None
    exit_code: int | None = None
    is_circumstance: bool = False
    met_oom_killer: bool | None = None

    @property
    def was_killed(self) -> bool:
        """True where it neither returned nor raised."""
        return self.exit_code != 0

    @property
    def problem(self) -> str | None:
        """Reason of a failure in words; None where the function returned."""
        if self.error is not None or not self.was_killed:
            return self.error
        if self.exit_code is None or self.exit_code >= 0:
            return f"its process ended with exit code {self.exit_code}"
        name = signal.Signals(-self.exit_code).name
        return f"its process was ended by {name}" + (", as a machine does that has no memory left" if name == "SIGKILL" else "")

    @property
    def is_out_of_memory(self) -> bool:
        """True where memory was missing, the machine's or a GPU's, in torch's and Python's words."""
        if self.error is None:
            return self.exit_code == -signal.SIGKILL
        return any(word in self.error.lower() for word in _OUT_OF_MEMORY)


class Child:
    """A function in a subprocess, which ends with the process that started it, however that ends.

    Args:
        function: ``module:name``; this process need not import it.
        arguments: of the function.
        environment: variables of the process beside this one's.
        log: file for its output; this process's output if None.
        trace: file for the traceback of an exception.
        method: ``spawn`` imports everything anew, which CUDA needs where this process has used it.
    """

    def __init__(
        self, function: str, *arguments: Any, environment: Mapping[str, str] | None = None, log: Path | None = None,
        trace: Path = _TRACE, method: Literal["forkserver", "spawn"] = "forkserver",
    ) -> None:  # fmt: skip
        # Asking CUDA itself whether there is a GPU, as MMEngine does when imported, would leave it unusable after a fork.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        context: Any = multiprocessing.get_context(method)  # typeshed's base class has no Process
        context.set_forkserver_preload(_PRELOADED)
        if method == "forkserver":
            _start_server()
        self._oom_kills = _oom_kills()
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(function, arguments, sender, dict(environment or {}), log, trace))
        self._process.start()
        sender.close()  # only the child's end is left, so that its death ends a wait
        self.pid = int(self._process.pid or 0)

    def poll(self, wait_s: float = 0.0) -> ProcessEnd | None:
        """Return its end; None while it runs."""
        if not self._receiver.poll(wait_s):
            return None
        result, error, is_circumstance, has_said = None, None, False, False
        with contextlib.suppress(EOFError):
            result, error, is_circumstance = self._receiver.recv()
            has_said = True
        self._process.join()
        oom_kills = _oom_kills()
        return ProcessEnd(
            result, error, 0 if has_said else self._process.exitcode, is_circumstance,
            None if oom_kills is None or self._oom_kills is None else oom_kills > self._oom_kills,
        )  # fmt: skip

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def end(self, patience_s: float = 30.0) -> None:
        """Send SIGTERM, wait, and kill it where it does not end."""
        self.terminate()
        self._process.join(patience_s)
        self.kill()

    def kill(self) -> None:
        """Kill it and wait."""
        self._process.kill()
        self._process.join()


def call(
    function: str, *arguments: Any, started: Callable[[int], None] | None = None, every_s: float = 10.0,
    meanwhile: Callable[[], None] | None = None, memory_gib: float | None = None, trace: Path = _TRACE,
    method: Literal["forkserver", "spawn"] = "forkserver",
) -> ProcessEnd:  # fmt: skip
    """Call a function in a subprocess and wait for it.

    Args:
        function: ``module:name``.
        arguments: of the function.
        started: called with the process's id.
        every_s: seconds between two calls of ``meanwhile``.
        meanwhile: called while the process runs.
        memory_gib: resident memory above which the process is killed; memory of a GPU does not count.
        trace: as in :class:`Child`.
        method: as in :class:`Child`.
    """
    child = Child(function, *arguments, trace=trace, method=method)
    wait_s = every_s if memory_gib is None else _MEMORY_POLL_S
    try:
        if started is not None:
            started(child.pid)
        while (end := child.poll(wait_s)) is None:
            if memory_gib is not None and _resident_gib(child.pid) > memory_gib:
                child.kill()
                return ProcessEnd(error=f"needs more than {memory_gib:g} GiB of memory", exit_code=-signal.SIGKILL)
            if meanwhile is not None:
                meanwhile()
    except BaseException:
        child.kill()
        raise
    return end


def _start_server() -> None:
    """Start the fork server where there is none, with Ctrl-C ignored from its birth: it would end by a traceback while it imports."""
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)


def _oom_kills() -> int | None:
    """Return how many processes the kernel has ended for lack of memory since it started; None where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return None


def _resident_gib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**30
    except psutil.NoSuchProcess:
        return 0.0


def write_to(log: Path) -> None:
    """Redirect this process's output to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _end_with_reader(pipe: int) -> None:
    """End this process when the one that waits for its result has ended (POSIX: the pipe has no reader).

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
        sender.send((getattr(importlib.import_module(module), name)(*arguments), None, False))
    except KeyboardInterrupt:  # by a handler of SIGTERM, before a stage's own end: its modules are still imported
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # noqa: BLE001 (whatever it is, the traceback is kept)
        with contextlib.suppress(OSError):
            trace.parent.mkdir(parents=True, exist_ok=True)
            trace.write_text(traceback.format_exc())
        from pipelines.errors import describe  # noqa: PLC0415 (it imports this package)

        sender.send((None, describe(error, trace), is_circumstance(error)))
