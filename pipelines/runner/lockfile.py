"""dvc.lock, whole whatever ends its writer: written beside and renamed, and copied to work/ before each stage.

DVC writes the file in place.  An interruption leaves its beginning, which is not read or, cut at a line's end, read as if the
other stages had never run.  The coordinator writes by :func:`replace`; for a plain ``dvc repro`` there is the copy, which
``make repro`` restores.  A cut exactly between two records is as an older file out of git would be, and is left alone.
"""

import contextlib
import json
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import psutil

from benchmarks.whole_file import replacing, write_whole
from pipelines import layout
from pipelines.runner import locks

LOCK = Path("dvc.lock")
KEPT = layout.WORK / "kept.lock"
DAMAGED = layout.WORK / "damaged.lock"
_PART = ".part"
_PATIENCE_S = 60.0
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
    # Stages may start together; one that is suspended meanwhile costs a copy.
    with contextlib.suppress(locks.BusyError), locks.held(KEPT.with_suffix(".busy"), patience_s=_PATIENCE_S):
        text, kept = _read(LOCK), _read(KEPT)
        if text != kept and _records(text) and not _damage(text, kept):
            replace(KEPT, lambda stream: stream.write(text))


def repair() -> None:
    """Restore dvc.lock from the copy if it is cut, and copy it to work/.  The caller has DVC's lock.

    Raises:
        ValueError: it is cut and there is no copy.
    """
    Path(os.path.realpath(LOCK) + _PART).unlink(missing_ok=True)
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


def free() -> None:
    """Remove a cut rwlock, and from a whole one the entries of processes that have ended.  The caller has DVC's lock.

    DVC takes any living process with the number of an entry for the one that wrote it, and reads no empty file.
    """
    if not _IN_USE.is_file():
        return
    try:
        found = json.loads(_IN_USE.read_text())
        kept = {
            "write": {path: one for path, one in found.get("write", {}).items() if _is_at_work(one)},
            "read": {path: [one for one in ones if _is_at_work(one)] for path, ones in found.get("read", {}).items()},
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        print(f"{_IN_USE} is cut off, as a killed dvc leaves it; it is removed", flush=True)
        _IN_USE.unlink()
        return
    kept["read"] = {path: ones for path, ones in kept["read"].items() if ones}
    if kept != {"write": found.get("write", {}), "read": found.get("read", {})}:
        print(f"{_IN_USE} names processes that have ended; they are taken out", flush=True)
        replace(_IN_USE, lambda stream: json.dump(kept, stream))


def _is_at_work(entry: dict[str, Any]) -> bool:
    """Return True where the process of an entry lives and may be the one that wrote it: of the same command, in no other project."""
    if entry["pid"] == os.getpid():  # it has written nothing yet
        return False
    try:
        process = psutil.Process(entry["pid"])
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            place, line = Path(process.cwd()), " ".join(process.cmdline())
        program, *words = entry["cmd"].split()
        name = Path(program).parent.name if Path(program).stem == "__main__" else Path(program).name
        is_elsewhere = not place.is_relative_to(Path.cwd()) and (place / ".dvc").is_dir()
        return not is_elsewhere and name in line and set(words) <= set(line.split())
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False


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
