"""Published files by URL: fetched once, verified, shared by all processes.

A file is stored as ``<folder>/<first digits of its digest>-<its name>``: two files of one name do not collide, and one
file that several pairs use is fetched once.
Once its digest has been computed, a note beside it keeps size and time of change, and as long as these are unchanged the
file is trusted: an archive of 18 GB is not read again for every stage.  (Weights are hashed whenever they are read,
by :func:`pipelines.engine.weights.read_weights`.)
"""

import contextlib
import fcntl
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

from benchmarks.digest import file_digest
from pipelines import layout
from pipelines.engine.progress import Progress
from pipelines.engine.transfer import Patience, RefusedError, Transfer, check_room
from pipelines.runner import locks

MOST_CONNECTIONS = 2  # to a publisher who gives the files away
_SHOWN_DIGITS = 8
_ASK_LOCK_EVERY_S = 0.2
_SILENT_S = 600.0  # without a byte, after which whoever holds a target is waited for no longer


def downloads() -> Path:
    """Folder of downloaded weights: ``KD_DOWNLOADS``, or ``data/weights``."""
    return layout.downloads()


@dataclass(frozen=True)
class Download:
    """A file to fetch and how it is recognised: by a digest (whole, or its leading digits), or by its size alone.

    Args:
        url: where from, http or https.
        folder: where to.
        sha256: digest that the file must have.
        md5: the same for publishers who give no other; read only where ``sha256`` is not given.
        size: bytes that the file must have.
        label: what progress lines call it; its name where None.
        unknown: nothing is recorded; the caller recognises the file by itself.
    """

    url: str
    folder: Path
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    label: str | None = None
    unknown: bool = False

    def __post_init__(self) -> None:
        """ValueError where nothing distinguishes the right file from a wrong one, or there is no file name."""
        if urlsplit(self.url).scheme not in {"http", "https"} or not self.name:
            raise ValueError(f"{self.url!r} is no http or https address of a file; correct it where it is written down")
        if not self.unknown and self.sha256 is None and self.md5 is None and self.size is None:
            raise ValueError(f"nothing is recorded by which {self.url} could be recognised; give sha256, md5 or size")

    @property
    def name(self) -> str:
        """The file's name at its publisher, in characters that any disk takes."""
        return re.sub(r"[^\w.+-]", "_", unquote(urlsplit(self.url).path).rsplit("/", 1)[-1])

    @property
    def target(self) -> Path:
        """Path of the file once it is there."""
        digits = self.sha256 or self.md5 or hashlib.sha256(self.url.encode()).hexdigest()
        return self.folder / f"{digits[:_SHOWN_DIGITS]}-{self.name}"

    @property
    def algorithm(self) -> Literal["sha256", "md5"]:
        """Algorithm of the file's digest."""
        return "md5" if self.md5 and not self.sha256 else "sha256"


def fetch(
    url: str,
    *,
    folder: Path,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    label: str | None = None,
    patience: Patience = Patience(),  # noqa: B008 (frozen)
) -> Path:
    """Return the verified file of a URL, downloading what of it is not there yet.

    A file that the user has put at the target by hand is verified and used; of several processes one downloads
    and the others wait for it.

    Args:
        url: where from, http or https.
        folder: where to.
        sha256: digest that the file must have, or its leading digits.
        md5: the same for publishers who give no other.
        size: bytes that the file must have; one of the three must be given.
        label: what progress lines call it; its name where None.
        patience: time-outs, attempts and waits.

    Raises:
        ValueError: one line with the URL, what happened and what to do.
    """
    return _fetch(Download(url, folder, sha256, md5, size, label), patience, live=True, stop=threading.Event())


def fetch_many(downloads: Sequence[Download], parallel: int = MOST_CONNECTIONS, patience: Patience = Patience()) -> list[Path]:  # noqa: B008 (it is frozen)
    """Fetch several files, at most two at a time; one that fails does not stop the others.

    Returns:
        The files, in the order of the downloads.

    Raises:
        ValueError: the files of known size do not all fit on a disk (nothing is fetched then), or some could not be
            fetched (one line for all).
    """
    _check_room_for_all(downloads)
    stop = threading.Event()
    live = len(downloads) == 1
    with ThreadPoolExecutor(max(1, min(parallel, MOST_CONNECTIONS))) as pool:
        futures = [pool.submit(_fetch, download, patience, live=live, stop=stop) for download in downloads]
        try:
            errors = [error for error in (future.exception() for future in futures) if error]
        except BaseException:  # the user interrupts: what is under way ends at its next block
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    unexpected = [error for error in errors if not isinstance(error, ValueError)]
    if unexpected:
        raise unexpected[0]
    if errors:
        raise ValueError("; ".join(str(error) for error in errors))
    return [future.result() for future in futures]


def _fetch(download: Download, patience: Patience, *, live: bool, stop: threading.Event) -> Path:
    target = download.target
    progress = Progress(download.label or download.name, live=live)
    try:
        download.folder.mkdir(parents=True, exist_ok=True)
        with _held(target, progress, stop):
            if target.exists():
                if problem := _problem(target, download):
                    raise ValueError(
                        f"{target} is not the file of {download.url}: {problem}; remove it to have it downloaded, "
                        "or put the right one there, and run again"
                    )
                return target
            return _download(download, patience, progress, stop)
    except RefusedError as error:
        remedy = error.remedy or f"download it by hand to this path: {target}, then run again"
        raise ValueError(f"cannot fetch {download.url}: {error}; {remedy}") from error
    except OSError as error:
        raise ValueError(
            f"cannot write {target} for {download.url}: {error.strerror or error}; make room or the folder writable, then run again"
        ) from error


def _download(download: Download, patience: Patience, progress: Progress, stop: threading.Event) -> Path:
    part = download.target.with_name(f"{download.target.name}.part")

    def is_whole() -> bool:
        return _problem(part, download) is None

    has_digest = download.sha256 is not None or download.md5 is not None
    transfer = Transfer(download.url, part, download.size, patience, progress, stop, is_whole if has_digest else None)
    for is_last in (False, True):
        transfer.run()
        progress.end()
        problem = _problem(part, download)
        if problem is None:
            break
        transfer.discard()
        if is_last or not transfer.continued:
            raise RefusedError(f"what came is not the recorded file: {problem}")
        progress.say(f"{problem}; it was put together from several answers, so once more from the start")
    part.replace(download.target)
    _note_file(part).replace(_note_file(download.target))
    transfer.forget()
    return download.target


def _problem(path: Path, download: Download) -> str | None:
    """Return the reason why a file is not the recorded one; None if it is, and then a note is left beside it."""
    stat = path.stat()
    if download.size is not None and stat.st_size != download.size:
        return f"it has {stat.st_size} bytes, recorded are {download.size}"
    note = {"bytes": stat.st_size, "changed_ns": stat.st_mtime_ns, "algorithm": download.algorithm}
    known = _read_note(path)
    found = known["digest"] if {**known, "digest": None} == {**note, "digest": None} else file_digest(path, download.algorithm)
    recorded = download.sha256 or download.md5 or ""
    if not found.startswith(recorded.lower()):
        return f"its {download.algorithm} is {found}, recorded is {recorded}"
    _note_file(path).write_text(json.dumps({**note, "digest": found}) + "\n", encoding="utf-8")
    return None


def _note_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(_note_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


@contextlib.contextmanager
def _held(target: Path, progress: Progress, stop: threading.Event) -> Iterator[None]:
    """Hold a target against other processes and threads, waiting for whoever has it as long as something arrives."""
    part = target.with_name(f"{target.name}.part")
    with target.with_name(f"{target.name}.lock").open("a+") as lock:
        told, since, seen = False, time.monotonic(), -1
        while not _is_ours(lock):
            if not told:
                progress.say(f"another process is fetching it ({locks.holder(lock)}); waiting for that")
                told = True
            size = part.stat().st_size if part.exists() else 0
            if size != seen:
                since, seen = time.monotonic(), size
            if time.monotonic() - since > _SILENT_S:
                raise RefusedError(
                    f"{locks.holder(lock)} holds it, and nothing has arrived for {_SILENT_S:.0f} s",
                    "end that process, and run again",
                )
            if stop.wait(_ASK_LOCK_EVERY_S):
                raise RefusedError("stopped", "run again")
        locks.sign(lock)
        yield


def _is_ours(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_room_for_all(downloads: Sequence[Download]) -> None:
    """ValueError where the files whose sizes are known do not fit together."""
    needed: dict[int, tuple[Path, int]] = {}
    for download in downloads:
        download.folder.mkdir(parents=True, exist_ok=True)
        if download.size is None or download.target.exists():
            continue
        part = download.target.with_name(f"{download.target.name}.part")
        rest = max(0, download.size - (part.stat().st_size if part.exists() else 0))
        disk = download.folder.stat().st_dev
        folder, so_far = needed.get(disk, (download.folder, 0))
        needed[disk] = (folder, so_far + rest)
    for folder, total in needed.values():
        try:
            check_room(folder, total)
        except RefusedError as error:
            raise ValueError(f"{len(downloads)} files: {error}; {error.remedy}") from error
