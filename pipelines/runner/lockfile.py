"""dvc.lock, whole whatever ends its writer: written beside and renamed, and copied to work/ before each stage.

DVC writes the file in place.  An interruption leaves its beginning, which is not read or, cut at a line's end, read as if the
other stages had never run.  The coordinator writes by :func:`replace`; for a plain ``dvc repro`` there is the copy, which
``make repro`` restores.  A cut exactly between two records is as an older file out of git would be, and is left alone.
"""

import contextlib
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from benchmarks.whole_file import replacing, write_whole
from pipelines import layout

LOCK = Path("dvc.lock")
KEPT = layout.WORK / "kept.lock"
DAMAGED = layout.WORK / "damaged.lock"
_PART = ".part"
_IN_USE = Path(".dvc/tmp/rwlock")  # paths that running stages read and write; DVC writes it in place as well


def replace(path: str | Path, write: Callable[[TextIO], object]) -> None:
    """Write a text file beside ``path`` and rename it; link and mode are kept.  For one writer at a time."""
    target = Path(os.path.realpath(path))
    with (
        replacing(target, by=target.with_name(target.name + _PART), is_synced=True) as part,
        part.open("w", encoding="utf-8") as stream,
    ):
        if target.exists():
            os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
        write(stream)


def keep() -> None:
    """Copy dvc.lock to work/, unless it is cut."""
    if not LOCK.exists():
        return
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with KEPT.with_suffix(".busy").open("w") as busy:  # stages may start together
        fcntl.flock(busy, fcntl.LOCK_EX)
        text, kept = _read(LOCK), _read(KEPT)
        if text != kept and _records(text) and not _damage(text, kept):
            replace(KEPT, lambda stream: stream.write(text))


def repair() -> None:
    """Restore dvc.lock from the copy if it is cut, and copy it to work/; remove a cut rwlock.  The caller has DVC's lock.

    Raises:
        ValueError: it is cut and there is no copy.
    """
    Path(os.path.realpath(LOCK) + _PART).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        try:
            json.loads(_IN_USE.read_text())
        except ValueError:
            _IN_USE.unlink()
    text, kept = _read(LOCK), _read(KEPT)
    damage = LOCK.exists() and (_damage(text, kept) or _invalid(text))
    if damage:
        if _damage(kept, "") or _invalid(kept):
            raise ValueError(
                f"dvc.lock {damage}, as an interrupted write leaves it, and {KEPT} has no copy of it; "
                "take back the committed one (git checkout dvc.lock), or remove it where none was committed"
            )
        write_whole(DAMAGED, text)
        replace(LOCK, lambda stream: stream.write(kept))
        lost = _records(kept).keys() - list(_records(text))[:-1]
        print(
            f"dvc.lock {damage}, as an interrupted write leaves it; restored from the copy of {time.ctime(KEPT.stat().st_mtime)}: "
            f"{len(_records(kept))} stages' records, {len(lost)} of them lost otherwise; the cut file is {DAMAGED}"
        )
    keep()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _records(text: str) -> dict[str, str]:
    """Stages and their lines, in the file's order."""
    _, _, stages = text.partition("\nstages:\n")
    return {record.partition(":\n")[0]: record for record in re.split(r"(?m)^  (?=\S)", stages) if record.strip()}


def _damage(text: str, kept: str) -> str:
    """Return the trace of an interrupted write in words; empty if there is none.

    The last record is cut where the copy's record of that stage begins with the same lines and goes on.
    """
    if not text:
        return "is empty"
    if not text.endswith("\n"):
        return "ends in the middle of a line"
    name, record = next(reversed(_records(text).items()), ("", ""))
    whole = _records(kept).get(name, "")
    return f"ends in the middle of {name}" if whole != record and whole.startswith(record) else ""


def _invalid(text: str) -> str:
    import yaml  # noqa: PLC0415 (only needed here, and slow)

    try:
        content = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return "is not YAML"
    is_lock = isinstance(content, dict) and "schema" in content and isinstance(content.get("stages"), dict)
    return "" if is_lock else "has no schema or no stages"
