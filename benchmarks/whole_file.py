"""Files that are written whole or not at all, whatever ends their writer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path, *, by: Path | None = None, is_synced: bool = False) -> Iterator[Path]:
    """Yield a path beside a file's to write to, and rename it to the file's when the block ends; for one writer at a time.

    What a killed writer leaves is overwritten by the next.

    Args:
        path: the file; its folder is created.
        by: the path to write to, where its name matters: torch writes it into an archive.
        is_synced: whether file and folder are on the disk before this returns, for what a power cut must not cost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = by or path.with_name(f"{path.name}{PARTIAL}")
    try:
        yield partial
        if is_synced:
            _sync(partial)
        partial.replace(path)
    except BaseException:  # KeyboardInterrupt, too
        partial.unlink(missing_ok=True)
        raise
    if is_synced:
        with suppress(OSError):  # some shares cannot
            _sync(path.parent)


def write_whole(path: Path, content: str | bytes, *, is_synced: bool = False) -> None:
    """Write a text (UTF-8) or bytes, as :func:`replacing` does."""
    with replacing(path, is_synced=is_synced) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
