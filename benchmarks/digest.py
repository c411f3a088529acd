"""Digest of a file's bytes."""

import hashlib
from pathlib import Path
from typing import Literal

_BLOCK = 1 << 20


def file_digest(path: Path, algorithm: Literal["sha256", "md5"] = "sha256") -> str:
    """Return the digest of a file, as hex digits, read a mebibyte at a time."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, as hex digits."""
    return file_digest(path)
