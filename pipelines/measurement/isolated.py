"""A trial of bench in a process of its own: its memory is its own, is watched, and whatever happens to it is a result."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipelines.runner.processes import Child

_WATCH_S = 0.1  # seconds between two looks at the memory


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
    name = f"{function.__module__}:{function.__qualname__}"
    child = Child(name, *arguments, trace=trace, method="spawn" if on_gpu else "forkserver")
    while (ended := child.poll(_WATCH_S)) is None:
        if _resident_gib(child.pid) > memory_gib:
            child.kill()
            return Ended(problem=f"needs more than {memory_gib:g} GiB of memory", wants_memory=True)
    if ended.error is not None:
        return Ended(problem=ended.error, wants_memory=_is_want_of_memory(ended.error))
    if ended.was_killed:
        return Ended(problem=_death(ended.exit_code), wants_memory=ended.exit_code == -signal.SIGKILL)
    return Ended(ended.result)


def _is_want_of_memory(error: str) -> bool:
    """Of the GPU's or the machine's, in torch's and Python's words."""
    words = ("memoryerror", "out of memory", "can't allocate memory", "alloc_failed")
    return any(word in error.lower() for word in words)


def _resident_gib(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**30
    except psutil.NoSuchProcess:
        return 0.0


def _death(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed, as a machine does that has no memory left"
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code and exit_code < 0 else f"exit code {exit_code}"
    return f"its process ended with {how} and said nothing"
