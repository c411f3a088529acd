"""The end of every stage: with its work done, or with one clear line and exit code 2; and the errors of several checks as one."""

import codecs
import contextlib
import dis
import locale
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pipelines import layout
from pipelines.circumstances import FULL_MIB, interrupt_once
from pipelines.runner import launch, lockfile

Result = TypeVar("Result")

_ROOT = Path(__file__).resolve().parents[1]
_RANK_PATIENCE_S = 3.0


def run(main: Callable[[], None]) -> None:
    """Call a stage's main; turn every error into one line.

    See :func:`describe`; the traceback goes to ``work/last_error.txt``.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt_once)
    try:
        _speak_utf8()
        launch.begin_rank()
        if "DVC_STAGE" in os.environ and not launch.is_rank():
            lockfile.keep()  # DVC writes it when the stage has ended
        main()
    except KeyboardInterrupt:
        launch.end_rank()
        if not launch.is_rank():  # of several processes the one that started them says it
            print("stopped; the next dvc repro goes on from the last checkpoint", file=sys.stderr, flush=True)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 (whatever it is, the traceback is kept)
        launch.end_rank()
        free_mib = shutil.disk_usage(".").free // 2**20
        with contextlib.suppress(OSError):
            layout.LAST_ERROR.parent.mkdir(exist_ok=True)
            layout.LAST_ERROR.write_text(traceback.format_exc())
        line = describe(error)
        if free_mib < FULL_MIB:
            line = f"the disk of {Path.cwd()} is full ({free_mib} MiB free); free some and run again: nothing finished is lost ({line})"
        if not launch.say(line, error):
            time.sleep(_RANK_PATIENCE_S * (os.environ.get("RANK", "0") != "0"))  # torchrun ends it, once another has said it
            print(f"error: {line}", file=sys.stderr, flush=True)
        sys.exit(2)


def describe(error: BaseException, trace: Path = layout.LAST_ERROR) -> str:
    """Return one line about an error.

    A ``ValueError`` that this project raises explains itself.  Any other is a library's: its type, where it happened as far as
    :func:`place` said it, and the file of the traceback.

    Args:
        error: with its traceback.
        trace: file that the traceback is in.
    """
    line = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError)) and _is_ours(error) and line:
        return line
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        line = f"{error.filename}: {error.strerror}"
    where = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    return f"{where}{name}: {line or 'without a word'}; the traceback is in {trace}"


def place(error: BaseException, where: str) -> None:
    """Note where an error of a library happened: a cell, an iteration, an image."""
    if not _is_ours(error):
        error.__notes__ = [*getattr(error, "__notes__", ()), where]  # Python 3.10 has no add_note


def _is_ours(error: BaseException) -> bool:
    """Return True for an error of a ``raise`` in this project's code; C code that is called from there raises without one."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    code = last.tb_frame.f_code
    file = Path(code.co_filename).resolve()
    return (
        file.is_relative_to(_ROOT)
        and not file.is_relative_to(_ROOT / ".venv")
        and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    )


def _speak_utf8() -> None:
    """Start the process over where the locale's encoding is another: libraries read and write text in it."""
    if codecs.lookup(locale.getpreferredencoding(do_setlocale=False)).name != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606 (itself)


def all_of(calls: Iterable[Callable[[], Result]]) -> list[Result]:
    """Return the results of all calls; ValueError with the errors of all that fail."""
    results, errors = [], []
    for call in calls:
        try:
            results.append(call())
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; also: ".join(errors))
    return results
