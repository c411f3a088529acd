"""Records of data outside the project: digests of annotation files, and their verification.

``manifest.json`` is what DVC and reports see: no path of a machine, no time stamp, so the same data give the same bytes
everywhere.  Beside it ``verified.json`` says where the data lay and how old the files were when they were hashed: files of
the same size and age are not hashed again.

Images of published data sets are not hashed: reading COCO's 118,000 takes longer than training on them starts, and DVC would do so
at every status.  Those of a user's own data are, once, when they are checked; later only files of another size or age are.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.digest import file_sha256
from benchmarks.whole_file import write_whole

_AGAIN = "check it again with: dvc repro -f prepare"


@dataclass(frozen=True)
class Checked:
    """A data set in which nothing was found wrong.

    Args:
        name: of the data set.
        digest: sha256 over the digests of its annotations, its number of images and, for a user's own, its images' sizes.
        num_images: by split.
        bytes: size of all annotations.
        root: its folder.
        annotations: size in bytes and sha256, by path or pattern relative to the root.
        stamps: the files' sizes and ages when they were hashed, as a digest.
        files: sha256 of each file of a pattern that names many, by pattern and path.
        images: sha256 of each image by split and path, where images are checked.
        usable: how much of each split a training uses, where that is counted.
    """

    name: str
    digest: str
    num_images: dict[str, int]
    bytes: int
    root: Path
    annotations: dict[str, tuple[int, str]]
    stamps: dict[str, str]
    files: dict[str, dict[str, str]]
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    usable: dict[str, dict[str, Any]] = field(default_factory=dict)


def listing(folder: Path) -> set[str]:
    """Paths, relative to the folder, of all files in it."""
    start = len(os.path.join(folder, ""))  # noqa: PTH118 (pathlib takes seconds for a hundred thousand names)
    return {
        os.path.join(base, name)[start:]  # noqa: PTH118 (as above)
        for base, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def _files(root: Path, pattern: str) -> list[Path]:
    """Files of a pattern ``folder/*ending``, at any depth; or the one file that it names."""
    if "*" not in pattern:
        return [root / pattern]
    folder, _, ending = pattern.partition("*")
    return sorted(root / folder / name for name in listing(root / folder) if name.endswith(ending))


def _stamp(root: Path, pattern: str) -> str:
    digest = hashlib.sha256()
    for path in _files(root, pattern):
        state = path.stat()
        digest.update(f"{path.relative_to(root)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _hashes(root: Path, pattern: str, left_out: Callable[[str], bool] = lambda _: False) -> dict[str, str]:
    """Digest of each file of a pattern, by its path from the root; those that are left out are not opened."""
    paths = {path.relative_to(root).as_posix(): path for path in _files(root, pattern)}
    return {name: file_sha256(path) for name, path in paths.items() if not left_out(name)}


def _sum(root: Path, pattern: str, hashes: dict[str, str]) -> tuple[int, str]:
    num_bytes = sum((root / path).stat().st_size for path in hashes)
    lines = "".join(f"{path} {sha256}\n" for path, sha256 in hashes.items())
    return num_bytes, hashlib.sha256(lines.encode()).hexdigest() if "*" in pattern else hashes[pattern]


def _measure(root: Path, pattern: str) -> tuple[int, str]:
    """Bytes and sha256 of a file; of a pattern, the sum and the sha256 over its files' names and digests."""
    return _sum(root, pattern, _hashes(root, pattern))


def checked(
    name: str, root: Path, num_images: dict[str, int], patterns: Iterable[str], *, images: dict[str, dict[str, str]] | None = None,
    usable: dict[str, dict[str, Any]] | None = None, **also: Any,
) -> Checked:  # fmt: skip
    """Hash the annotations of a data set.

    Args:
        name: of the data set.
        root: its folder.
        num_images: by split.
        patterns: files of its annotations.
        images: see :class:`Checked`; its digest depends on them.
        usable: see :class:`Checked`.
        also: what else its digest depends on.
    """
    if images is not None:
        also["images"] = images
    patterns = sorted(set(patterns))
    stamps = {pattern: _stamp(root, pattern) for pattern in patterns}
    hashes = {pattern: _hashes(root, pattern) for pattern in patterns}
    annotations = {pattern: _sum(root, pattern, hashes[pattern]) for pattern in patterns}
    content = json.dumps({"annotations": annotations, "num_images": num_images, **also}, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    num_bytes = sum(size for size, _ in annotations.values())
    return Checked(
        name,
        digest,
        num_images,
        num_bytes,
        root,
        annotations,
        stamps,
        {p: hashes[p] for p in patterns if "*" in p},
        images or {},
        usable or {},
    )


def _read(path: Path) -> dict[str, Any]:
    """Read the data sets that a manifest or its companion names; ValueError where it cannot be read."""
    try:
        return dict(json.loads(path.read_text()).get("sets", {}))
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read; make it again with: dvc repro -f prepare") from error


def _verified(folder: Path) -> dict[str, Any]:
    path = folder / "verified.json"
    try:
        return _read(path) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} cannot be read; delete it, and {_AGAIN}") from error


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


def _age(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def changed_image(folder: Path, name: str, root: Path, without: Iterable[str] = ()) -> Path | None:
    """Return an image that is missing or has other content since it was checked; None where there is none.

    Args:
        folder: of ``images.json``.
        name: of the data set.
        root: its folder.
        without: splits whose images are not looked at.
    """
    path = folder / "images.json"
    if not path.is_file():
        return None
    known: dict[str, dict[str, Any]] = _read(path).get(name, {})
    for split, files in known.items():
        for image, (size, age, sha256) in files.items() if split not in without else ():
            try:
                same = _age(root / image) == (size, age) or file_sha256(root / image) == sha256
            except OSError:
                same = False
            if not same:
                return root / image
    return None


def write_manifest(folder: Path, sets: Iterable[Checked]) -> None:
    """Write ``images.json``, ``verified.json`` and then, last, ``manifest.json``."""
    verified, manifest, images = _verified(folder), {}, {}
    for one in sets:
        verified[one.name] = {
            "root": str(one.root.resolve()), "stamps": one.stamps, "annotations": one.annotations, "files": one.files,
        }  # fmt: skip
        manifest[one.name] = {"digest": one.digest, "num_images": one.num_images, "annotations": one.annotations}
        if one.usable:
            manifest[one.name]["usable"] = one.usable
        images[one.name] = {
            split: {path: [*_age(one.root / path), sha256] for path, sha256 in files.items()}
            for split, files in one.images.items()
        }
    for name, content in (("images.json", images), ("verified.json", verified), ("manifest.json", manifest)):
        write_whole(folder / name, json.dumps({"sets": content}, indent=1, sort_keys=True) + "\n")


def identity(
    manifest_dir: Path, name: str, root: Path | None = None, left_out: Callable[[str], bool] | None = None,
    without: Iterable[str] = (),
) -> tuple[str, str]:  # fmt: skip
    """Name and digest of a data set that ``prepare`` checked, after making sure that its annotations are the same still.

    Args:
        manifest_dir: folder of ``manifest.json``.
        name: of the data set: coco, voc, cityscapes, own.
        root: its folder now; None for that in which ``prepare`` found it.
        left_out: whether a file, named from the root, is neither opened nor missed.
        without: splits whose images are neither opened nor missed.

    Raises:
        ValueError: the manifest lacks the data set, or a file of it is missing or altered.
    """
    path = manifest_dir / "manifest.json"
    sets, before = _read(path), _verified(manifest_dir).get(name, {})
    if name not in sets:
        raise ValueError(f"{path} says nothing of data set '{name}'; {_AGAIN}")
    if root is None and "root" not in before:
        raise ValueError(f"the folder of data set '{name}' is not recorded beside {path}; {_AGAIN}")
    place = root or Path(before["root"])
    for pattern, recorded in sets[name]["annotations"].items():
        try:
            same = _is_same(place, pattern, tuple(recorded), before, left_out)
        except OSError as error:
            raise ValueError(f"{place / pattern} cannot be read ({error.strerror}); put it back, or {_AGAIN}") from error
        if not same:
            raise ValueError(f"{place / pattern} has changed since prepare checked it; put it back, or {_AGAIN}")
    if (image := changed_image(manifest_dir, name, place, without)) is not None:
        raise ValueError(f"{image} is missing or has changed since prepare checked it; put it back, or {_AGAIN}")
    return name, str(sets[name]["digest"])


def _is_same(
    root: Path, pattern: str, recorded: tuple[int, str], before: dict[str, Any], left_out: Callable[[str], bool] | None
) -> bool:
    """Return True where the files of a pattern, but for the excluded ones, are as ``prepare`` recorded them.

    The digest over many files says nothing of some of them: these are compared one by one.
    """
    if left_out is not None:
        known = before.get("files", {}).get(pattern) if "*" in pattern else {pattern: recorded[1]}
        if known is None:
            raise ValueError(f"of {root / pattern} the files are not recorded one by one; {_AGAIN}")
        kept = {path: sha256 for path, sha256 in known.items() if not left_out(path)}
        if len(kept) < len(known):
            return not kept or _hashes(root, pattern, left_out) == kept
    return before.get("stamps", {}).get(pattern) == _stamp(root, pattern) or _measure(root, pattern) == recorded
