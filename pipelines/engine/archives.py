"""Published data sets that anybody may download: their missing files are fetched and unpacked.

Members are written by this module, not by the archive's own extraction: only regular files, only below the data set's folder,
without owners, modes or links, and never over a file that is there.  So an archive of any kind can do no more than add files,
and an interrupted unpacking goes on with the files that are missing.
"""

import contextlib
import hashlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from benchmarks.dataset import Archive, datasets
from benchmarks.published_data import missing
from pipelines.engine.fetch import Download, fetch_many
from pipelines.engine.progress import Progress
from pipelines.engine.transfer import RefusedError, check_room
from pipelines.engine.workdir import held

_BLOCK = 1 << 20
_ENCRYPTED = 1  # of a zip member's flags
_LONGEST_NAME = 255  # bytes between two slashes
_SHOWN_LETTERS = 80
_MOST_MEMBERS = 2_000_000
_MOST_RATIO, _ALWAYS_BYTES = 200, 1 << 26  # unpacked to packed; images and label maps hardly become smaller, and texts tenfold


def complete(name: str, root: Path, *, test_only: bool = False) -> None:
    """Download and unpack the missing files of a published data set, or of its test split, as far as they may be downloaded freely.

    Archives stay in ``<root>/archives``: a tree that is damaged later is repaired from there.

    Raises:
        ValueError: the disk has no room for archives and data, or an archive cannot be fetched or unpacked.
    """
    archives = datasets()[name].giving(list(missing(name, root, test_only=test_only)))
    if not archives:
        return
    with held(root / "archives") as folder:
        downloads = [_download(archive, folder) for archive in archives]
        _check_room(folder, list(zip(archives, downloads, strict=True)))
        for archive, path in zip(archives, fetch_many(downloads), strict=True):
            unpack(path, root, wanted=archive.wanted)
    print(f"{root / 'archives'} is not needed any more and may be removed", flush=True)


def _download(archive: Archive, folder: Path) -> Download:
    return Download(archive.url, folder, sha256=archive.sha256, md5=archive.md5, size=archive.size)


def _check_room(folder: Path, work: list[tuple[Archive, Download]]) -> None:
    """Check the room for missing archives and for their content; of the others the room is checked when they are unpacked."""
    needed = 0
    for archive, download in work:
        if not download.target.exists():
            part = download.target.with_name(f"{download.target.name}.part")
            needed += archive.size - (part.stat().st_size if part.exists() else 0) + archive.unpacked
    _room(folder, needed)


def _room(folder: Path, needed: int) -> None:
    try:
        check_room(folder, needed)
    except RefusedError as error:
        raise ValueError(f"{error}; {error.remedy}") from error


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


class _DamagedError(Exception):
    """The archive cannot be read; the message says why."""


def unpack(path: Path, root: Path, *, wanted: str = "") -> None:
    """Add the files of a zip or tar archive, as far as they are missing, to a folder.

    Args:
        path: the archive.
        root: folder below which all of it goes.
        wanted: beginning of the names that are unpacked.

    Raises:
        ValueError: the archive is damaged; it has a member that would leave the folder, is no plain file or cannot be written
            (nothing is unpacked then); the disk has no room for it, or a file cannot be written.
    """
    try:
        with _members(path) as members:
            _check_names(path, members)
            rest = [m for m in members if m.name.startswith(wanted) and not (root / m.name).exists()]
            root.mkdir(parents=True, exist_ok=True)
            _room(root, sum(member.size for member in rest))
            progress = Progress(f"unpacking {path.name}", live=True)
            progress.begin(0, sum(member.size for member in rest))
            for member in rest:
                _write(member, root / member.name)
                progress.advance(member.size)
            progress.end()
    except _DamagedError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and run again") from error
    except OSError as error:
        raise ValueError(
            f"cannot unpack {path} into {root}: {error.strerror or error} ({error.filename or path}); correct that and run again"
        ) from error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Give what the libraries raise for bytes that are no archive one kind."""
    try:
        yield
    except (_DamagedError, ValueError) as error:
        if isinstance(error, UnicodeError):
            raise _DamagedError(f"a name is no text: {error.reason}") from error  # type: ignore[attr-defined]
        raise
    except MemoryError as error:
        raise _DamagedError("it does not fit in memory") from error
    except Exception as error:
        raise _DamagedError(" ".join(str(error).split()) or type(error).__name__) from error


class _Content:
    """Bytes of a member; what cannot be read is told from what cannot be written."""

    def __init__(self, member: _Member) -> None:
        self._member, self._done = member, 0
        with _reading():
            self._source = member.open()
        if self._source is None:
            raise _DamagedError(f"{member.name} has no content")

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; none at the end, which must be where the archive says."""
        with _reading():
            block = self._source.read(size)  # type: ignore[union-attr]
        self._done += len(block)
        if self._done > self._member.size or not (block or self._done == self._member.size):
            raise _DamagedError(f"{self._member.name} has not the {self._member.size} bytes that its head says")
        return block


def _write(member: _Member, target: Path) -> None:
    """Write a member, so that the file is there whole or not at all."""
    content = _Content(member)
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"{hashlib.sha256(target.name.encode()).hexdigest()[:16]}.unpacking")
    try:
        with half.open("wb") as file:
            shutil.copyfileobj(content, file, _BLOCK)
        half.replace(target)
    except (_DamagedError, OSError):
        half.unlink(missing_ok=True)
        raise


def _check_names(path: Path, members: Sequence[_Member]) -> None:
    """ValueError for names that would leave the folder, that no disk takes, or that would be written over each other."""
    names: set[PurePosixPath] = set()
    for member in members:
        pure = PurePosixPath(member.name)
        if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in member.name or ":" in pure.parts[0]:
            raise _refused(path, member.name, "would leave the folder")
        if not member.name.isprintable() or any(len(part.encode()) > _LONGEST_NAME for part in pure.parts):
            raise _refused(path, member.name, "has a name that no disk takes")
        if pure in names:
            raise _refused(path, member.name, "is there twice")
        names.add(pure)
    folders = {folder for name in names for folder in name.parents}
    if both := sorted(names & folders):
        raise _refused(path, str(both[0]), "is a file and a folder")


def _refused(path: Path, name: str, why: str) -> ValueError:
    shown = ascii(name) if len(name) <= _SHOWN_LETTERS else f"{name[:_SHOWN_LETTERS]!a}..."
    return ValueError(f"{path} is not unpacked: its member {shown} {why}; remove it, it is no data set's")


@contextlib.contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """Yield the files of an archive, which stays open meanwhile; ValueError for links and devices."""
    with contextlib.ExitStack() as stack:
        with _reading():
            _refuse_web_page(path)
            found = _of_zip(path, stack) if path.suffix == ".zip" else _of_tar(path, stack)
            if not found:
                raise _DamagedError("it has no files")
        yield found


def _of_zip(path: Path, stack: contextlib.ExitStack) -> list[_Member]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    files = [info for info in archive.infolist() if not info.is_dir()]
    total = 0
    for number, info in enumerate(files, start=1):
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refused(path, info.filename, "is a link or a device")
        if info.flag_bits & _ENCRYPTED:
            raise _refused(path, info.filename, "is encrypted")
        total += info.file_size
        _check_amount(path, number, total)
    return [_Member(info.filename, info.file_size, partial(archive.open, info)) for info in files]


def _of_tar(path: Path, stack: contextlib.ExitStack) -> list[_Member]:
    archive = stack.enter_context(tarfile.open(path, "r:*"))  # noqa: SIM115 (the stack closes it)
    members: list[_Member] = []
    total = 0
    for entry in archive:
        if entry.isdir():
            continue
        if not entry.isreg():
            raise _refused(path, entry.name, "is a link or a device")
        members.append(_Member(entry.name, entry.size, partial(archive.extractfile, entry)))
        total += entry.size
        _check_amount(path, len(members), total)
    # The library takes a head that it cannot read for the end.
    stream: Any = archive.fileobj
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise _DamagedError(f"behind {len(members)} files there is neither a file nor the end of a tar archive")
    # A compressed file is checked where it is read to its end.
    if len(stream.read(_BLOCK)) == _BLOCK or stream.read(1):
        raise _DamagedError("it goes on behind its end")
    return members


def _check_amount(path: Path, number: int, total: int) -> None:
    """ValueError for an archive that would fill the disk with next to nothing."""
    if number > _MOST_MEMBERS or total > _MOST_RATIO * path.stat().st_size + _ALWAYS_BYTES:
        raise ValueError(
            f"{path} is not unpacked: {path.stat().st_size} bytes would become {number} files of at least {total} bytes; "
            "remove it, it is no data set's"
        )


def _refuse_web_page(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(512).lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise _DamagedError("it is a web page")
