"""What is recorded of data that lie elsewhere: digests of annotation files, and whether they still hold.

``manifest.json`` is what DVC and reports see: no path of a machine, no time stamp, so the same data give the same bytes
everywhere.  Beside it ``verified.json`` says where the data lay and how old the files were when they were hashed: files of
the same size and age are not hashed again.

Images are not hashed: reading COCO's 118,000 takes longer than training on them starts, and DVC would do so at every status.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_AGAIN = "check it again with: dvc repro -f prepare"


@dataclass(frozen=True)
class Checked:
    """A data set in which nothing was found wrong.

    Args:
        name: of the data set.
        digest: sha256 over the digests of its annotations, its number of images and, for a user's own, its images' sizes.
        num_images: by split.
        bytes: size of all annotations.
        root: where it lies.
        annotations: size in bytes and sha256, by path or pattern relative to the root.
        stamps: the files' sizes and ages when they were hashed, as a digest.
    """

    name: str
    digest: str
    num_images: dict[str, int]
    bytes: int
    root: Path
    annotations: dict[str, tuple[int, str]]
    stamps: dict[str, str]


def listing(folder: Path) -> set[str]:
    """Paths, relative to the folder, of all files in it."""
    return {
        Path(base, name).relative_to(folder).as_posix() for base, _, names in os.walk(folder, followlinks=True) for name in names
    }


def _files(root: Path, pattern: str) -> list[Path]:
    """The files of a pattern ``folder/*ending``, at any depth; or the one file that it names."""
    if "*" not in pattern:
        return [root / pattern]
    folder, _, ending = pattern.partition("*")
    return sorted(root / folder / name for name in listing(root / folder) if name.endswith(ending))


def file_sha256(path: Path) -> str:
    """Digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    return digest.hexdigest()


def _stamp(root: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for path in _files(root, pattern):
        state = path.stat()
        digest.update(f"{path.relative_to(root)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _measure(root: Path, pattern: str) -> tuple[int, str]:
    """Bytes and sha256 of a file; of a pattern, the sum and the sha256 over its files' names and digests."""
    files = _files(root, pattern)
    num_bytes = sum(path.stat().st_size for path in files)
    if "*" not in pattern:
        return num_bytes, file_sha256(files[0])
    lines = (f"{path.relative_to(root).as_posix()} {file_sha256(path)}\n" for path in files)
    return num_bytes, hashlib.sha256("".join(lines).encode()).hexdigest()


def checked(name: str, root: Path, num_images: dict[str, int], patterns: Iterable[str], **also: Any) -> Checked:
    """Hash the annotations of a data set; ``also`` is what else its digest depends on."""
    patterns = sorted(set(patterns))
    stamps = {pattern: _stamp(root, pattern) for pattern in patterns}
    annotations = {pattern: _measure(root, pattern) for pattern in patterns}
    content = json.dumps({"annotations": annotations, "num_images": num_images, **also}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Checked(name, digest, num_images, sum(size for size, _ in annotations.values()), root, annotations, stamps)


def _read(path: Path) -> dict[str, Any]:
    """The data sets that a manifest or its companion names; ValueError where it cannot be read."""
    try:
        return dict(json.loads(path.read_text()).get("sets", {}))
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read; make it again with: dvc repro -f prepare") from error


def _verified(folder: Path) -> dict[str, Any]:
    path = folder / "verified.json"
    return _read(path) if path.is_file() else {}


def compare_with_earlier(folder: Path, found: Checked) -> None:
    """Compare with what an earlier check of the same data set recorded in the folder.

    Raises:
        ValueError: an annotation file is another one now.
    """
    earlier = _verified(folder).get(found.name, {}).get("annotations", {})
    for path, (_, sha256) in found.annotations.items():
        if path in earlier and earlier[path][1] != sha256:
            raise ValueError(
                f"{found.root / path} has changed since it was first checked (sha256 {earlier[path][1][:12]} then, {sha256[:12]} "
                f"now); put the published one back, or accept it by deleting {folder / 'verified.json'}"
            )


def write_manifest(folder: Path, sets: Iterable[Checked]) -> None:
    """Write ``verified.json`` and then, last, ``manifest.json``."""
    verified, manifest = _verified(folder), {}
    for one in sets:
        verified[one.name] = {"root": str(one.root.resolve()), "stamps": one.stamps, "annotations": one.annotations}
        manifest[one.name] = {"digest": one.digest, "num_images": one.num_images, "annotations": one.annotations}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("verified.json", verified), ("manifest.json", manifest)):
        partial = folder / f"{name}.partial"
        partial.write_text(json.dumps({"sets": content}, indent=1, sort_keys=True) + "\n")
        partial.replace(folder / name)


def identity(manifest_dir: Path, name: str, root: Path | None = None) -> tuple[str, str]:
    """Name and digest of a data set that ``prepare`` checked, after making sure that its annotations are the same still.

    Args:
        manifest_dir: folder of ``manifest.json``.
        name: of the data set: coco, voc, cityscapes, own.
        root: where it lies now; None for where ``prepare`` found it.

    Raises:
        ValueError: the manifest lacks the data set, or a file of it is missing or altered.
    """
    path = manifest_dir / "manifest.json"
    sets, before = _read(path), _verified(manifest_dir).get(name, {})
    if name not in sets:
        raise ValueError(f"{path} says nothing of data set '{name}'; {_AGAIN}")
    if root is None and "root" not in before:
        raise ValueError(f"where data set '{name}' lies is not recorded beside {path}; {_AGAIN}")
    place = root or Path(before["root"])
    for pattern, (num_bytes, sha256) in sets[name]["annotations"].items():
        try:
            if before.get("stamps", {}).get(pattern) == _stamp(place, pattern):
                continue
            found = _measure(place, pattern)
        except OSError as error:
            raise ValueError(f"{place / pattern} cannot be read ({error.strerror}); put it back, or {_AGAIN}") from error
        if found != (num_bytes, sha256):
            raise ValueError(f"{place / pattern} has changed since prepare checked it; put it back, or {_AGAIN}")
    return name, str(sets[name]["digest"])
