"""Published data sets that anybody may download: their missing files are fetched and unpacked.

Members are written by this module, not by the archive's own extraction: only regular files, only below the data set's folder,
without owners, modes or links, and never over a file that is there.  So an archive of any kind can do no more than add files,
and an interrupted unpacking goes on with the files that are missing.
"""

import contextlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from benchmarks.dataset import Archive, datasets
from benchmarks.published_data import missing
from pipelines.engine.fetch import Download, fetch_many
from pipelines.engine.progress import Progress
from pipelines.engine.transfer import RefusedError, check_room
from pipelines.engine.workdir import held


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


def unpack(path: Path, root: Path, *, wanted: str = "") -> None:
    """Add the files of a zip or tar archive, as far as they are missing, to a folder.

    Args:
        path: the archive.
        root: folder below which all of it goes.
        wanted: beginning of the names that are unpacked.

    Raises:
        ValueError: the archive is damaged, has a member that would leave the folder or is no plain file (nothing is unpacked
            then), or the disk has no room for it.
    """
    try:
        with _members(path) as members:
            for member in members:
                _check_name(path, member.name)
            rest = [m for m in members if m.name.startswith(wanted) and not (root / m.name).exists()]
            _room(root, sum(member.size for member in rest))
            progress = Progress(f"unpacking {path.name}", live=True)
            progress.begin(0, sum(member.size for member in rest))
            for member in rest:
                _write(member, root / member.name)
                progress.advance(member.size)
            progress.end()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and run again") from error


def _write(member: _Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"{target.name}.unpacking")
    source = member.open()
    if source is None:
        raise tarfile.TarError(f"{member.name} has no content")
    with source, half.open("wb") as file:
        shutil.copyfileobj(source, file, 2**20)
    half.replace(target)


def _check_name(path: Path, name: str) -> None:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in pure.parts[0]:
        raise ValueError(f"{path} is not unpacked: its member {name!r} would leave the folder; remove it, it is no data set's")


@contextlib.contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """Yield the files of an archive, which stays open meanwhile; ValueError for links and devices."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            kinds = {info.filename: stat.S_IFMT(info.external_attr >> 16) for info in files}
            _refuse_odd(path, [name for name, kind in kinds.items() if kind not in (0, stat.S_IFREG)])
            yield [_Member(info.filename, info.file_size, partial(archive.open, info)) for info in files]
        return
    with tarfile.open(path, "r:") as archive:
        entries = [entry for entry in archive if not entry.isdir()]
        _refuse_odd(path, [entry.name for entry in entries if not entry.isreg()])
        yield [_Member(entry.name, entry.size, partial(archive.extractfile, entry)) for entry in entries]


def _refuse_odd(path: Path, names: list[str]) -> None:
    if names:
        raise ValueError(f"{path} is not unpacked: its member {names[0]!r} is a link or a device; remove it, it is no data set's")
