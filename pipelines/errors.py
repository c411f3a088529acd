"""The end of every stage: with its work done, or with one clear line and exit code 2; and the errors of several checks as one."""

import codecs
import contextlib
import locale
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from pipelines import layout
from pipelines.runner import launch, lockfile

Result = TypeVar("Result")

_RANK_PATIENCE_S = 3.0
FULL_MIB = 16  # with less than this free, whatever failed failed for lack of space


def run(main: Callable[[], None]) -> None:
    """Call a stage's main; turn every error into one line.

    The user's errors are ``ValueError`` and ``OSError`` and explain themselves; any other is named
    with its type. The traceback goes to ``work/last_error.txt``.
    """
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
        line = " ".join(str(error).split()) or type(error).__name__
        if free_mib < FULL_MIB:
            line = f"the disk of {Path.cwd()} is full ({free_mib} MiB free); free some and run again: nothing finished is lost ({line})"
        elif not isinstance(error, (ValueError, OSError)):
            line = f"{type(error).__name__}: {line}; the traceback is in {layout.LAST_ERROR}"
        if not launch.say(line, error):
            time.sleep(_RANK_PATIENCE_S * (os.environ.get("RANK", "0") != "0"))  # torchrun ends it, once another has said it
            print(f"error: {line}", file=sys.stderr, flush=True)
        sys.exit(2)


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
