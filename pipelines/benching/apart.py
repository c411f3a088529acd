"""Run a function in a process of its own: its memory is its own, is watched, and whatever happens to it is a result."""

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

_WATCH_S = 0.1  # seconds between two looks at the memory
_IMPORTED = ["pipelines.benching.trial", "pipelines.benching.registered"]  # once, in the process that the others are forked from


@dataclass(frozen=True)
class Ended:
    """What a function gave, or what went wrong and whether it was a want of memory."""

    value: Any = None
    problem: str | None = None
    wants_memory: bool = False


def run_apart(function: Callable[..., Any], *arguments: Any, memory_gib: float, trace: Path, on_gpu: bool) -> Ended:
    """Call a function in another process and wait for it.

    Args:
        function: importable by its name, as are the classes of its arguments and of what it returns.
        arguments: of the function.
        memory_gib: resident memory above which the process is killed; what a GPU holds does not count.
        trace: file for the traceback of whatever it raises.
        on_gpu: whether it uses CUDA, which does not survive a fork: all is then imported anew.
    """
    context = multiprocessing.get_context("spawn" if on_gpu else "forkserver")
    context.set_forkserver_preload(_IMPORTED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, trace, function, arguments), daemon=True)
    process.start()
    sender.close()  # only the child's end is left, so that its death ends the wait
    try:
        while not receiver.poll(_WATCH_S):
            if _resident_gib(process.pid) > memory_gib:
                process.kill()
                return Ended(problem=f"needs more than {memory_gib:g} GiB of memory", wants_memory=True)
        return receiver.recv()  # type: ignore[no-any-return]
    except EOFError:
        process.join()
        return Ended(problem=_death(process.exitcode), wants_memory=process.exitcode == -signal.SIGKILL)
    finally:
        process.join()


def _answer(sender: Connection, trace: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        ended = Ended(function(*arguments))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what the function came to)
        trace.parent.mkdir(parents=True, exist_ok=True)
        trace.write_text(traceback.format_exc())
        said = " ".join(str(error).split())
        ended = Ended(problem=f"{type(error).__name__}: {said}", wants_memory=_is_want_of_memory(error))
    sender.send(ended)


def _is_want_of_memory(error: Exception) -> bool:
    """Of the GPU's or the machine's, in torch's and Python's words."""
    words = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def _resident_gib(pid: int | None) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**30
    except psutil.NoSuchProcess:
        return 0.0


def _death(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return "was killed, as a machine does that has no memory left"
    how = f"signal {signal.Signals(-exitcode).name}" if exitcode and exitcode < 0 else f"exit code {exitcode}"
    return f"its process ended with {how} and said nothing"
