"""A user's image files, read as training reads them: by OpenCV, which turns an image by its EXIF orientation.

Every file is decoded once, several at a time; what was found is kept in a file and holds while size and times of the image file do.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from benchmarks.whole_file import write_whole

LABEL_VALUES = 256
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_VERSION = f"2, OpenCV {cv2.__version__}"  # of what is kept
_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


@dataclass(frozen=True)
class Facts:
    """Result of looking at an image or a label map.

    Args:
        size: width and height in pixels, as it is read; None where it cannot be read.
        file: sha256 of the file.
        pixels: sha256 of size and pixels, equal for copies under any name and for lossless ones in another format; "" for a label map.
        mode: Pillow's, of a label map.
        counts: number of pixels by value, of a label map.
    """

    size: tuple[int, int] | None
    file: str = ""
    pixels: str = ""
    mode: str = ""
    counts: Mapping[int, int] | None = None


def of_image(path: Path) -> Facts:
    """Decode an image as MMCV's loader does."""
    try:
        content = path.read_bytes()
        pixels_HWC = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except (OSError, cv2.error):
        return Facts(None)
    if pixels_HWC is None or _is_cut(path, content):
        return Facts(None)
    height, width = pixels_HWC.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(pixels_HWC.tobytes())
    return Facts((width, height), hashlib.sha256(content).hexdigest(), digest.hexdigest())


def _is_cut(path: Path, content: bytes) -> bool:
    """Return True for a file whose end is missing, which OpenCV fills with grey without a word."""
    if content.startswith(_JPEG) and content.rstrip(b"\0").endswith(_JPEG_END):
        return False
    try:
        with Image.open(path) as image:
            image.load()
    except _UNREADABLE:
        # A format that only OpenCV knows cannot be looked at further.
        return content.startswith((_JPEG, b"\x89PNG", b"BM", b"II", b"MM", b"RIFF"))
    return False


def header_size(path: Path) -> tuple[int, int] | None:
    """Return width and height from an image's header, whatever its orientation; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except _UNREADABLE:
        return None


def of_label_map(path: Path) -> Facts:
    """Read a label map as MMSegmentation's loader does: by Pillow, indices of a palette as they are."""
    try:
        with Image.open(path) as label_map:
            size, mode = label_map.size, label_map.mode
            values = np.asarray(label_map) if mode in ("L", "P") else np.zeros(0, np.uint8)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except _UNREADABLE:
        return Facts(None)
    return Facts(size, digest, "", mode, _counts(values))


def _counts(values: npt.NDArray[Any]) -> dict[int, int]:
    counts = np.bincount(values.reshape(-1), minlength=LABEL_VALUES)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


class Seen:
    """Record of earlier looks at files, in a JSON file.

    Args:
        path: of that file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, list[Any]] = {}
        self._results: dict[str, Any] = {}
        self._is_new = False
        if path is not None and path.is_file():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                if kept["version"] == _VERSION:
                    self._found, self._results = dict(kept["found"]), dict(kept["results"])
            except (OSError, ValueError, KeyError, TypeError):
                self._found, self._results = {}, {}  # it is made again

    def look(self, paths: Iterable[Path], at: Callable[[Path], Facts], what: str) -> dict[Path, Facts]:
        """Return the facts of each file, those that are not known yet read in parallel, with a bar in a terminal.

        Args:
            paths: files.
            at: :func:`of_image` or :func:`of_label_map`.
            what: word for the bar.
        """
        stamps = {path: _stamp(path) for path in paths}
        found = {path: facts for path, stamp in stamps.items() if (facts := self._known(path, at, stamp)) is not None}
        fresh = [path for path in stamps if path not in found]
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # each file in a thread is faster than a file in all
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for path, facts in zip(
                    fresh, tqdm(pool.map(at, fresh), what, len(fresh), disable=None, leave=False), strict=True
                ):
                    found[path] = facts
                    if stamps[path] is not None:
                        self._is_new = True
                        self._found[f"{at.__name__} {path}"] = [stamps[path], *astuple(facts)]
        finally:
            cv2.setNumThreads(threads)
        return found

    def _known(self, path: Path, at: Callable[[Path], Facts], stamp: list[int] | None) -> Facts | None:
        kept = self._found.get(f"{at.__name__} {path}")
        if kept is None or stamp is None or kept[0] != stamp:
            return None
        _, size, file, pixels, mode, counts = kept
        return Facts(
            size and (size[0], size[1]), file, pixels, mode, counts and {int(value): number for value, number in counts.items()}
        )

    def result(self, key: str) -> Any:
        """Return what was concluded earlier, where it has not changed; else None."""
        return self._results.get(key)

    def add_result(self, key: str, content: Any) -> None:
        """Keep a conclusion of JSON's types, in place of the one whose key begins with the same word."""
        word, self._is_new = key.partition(" ")[0], True
        self._results = {other: kept for other, kept in self._results.items() if other.partition(" ")[0] != word} | {key: content}

    def keep(self) -> None:
        """Write the file, whole or not at all."""
        if self._path is None or not self._is_new:
            return
        write_whole(self._path, json.dumps({"version": _VERSION, "found": self._found, "results": self._results}))


def _stamp(path: Path) -> list[int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def vanishes(size: tuple[int, int], long_px: int, short_px: int) -> bool:
    """Return True for an image of which nothing is left when it is brought to a scale with its proportions kept.

    Args:
        size: width and height in pixels.
        long_px: of the longer side, at most.
        short_px: of the shorter side, at most.
    """
    factor = min(long_px / max(size), short_px / min(size))
    return int(min(size) * factor + 0.5) < 1  # as mmcv.imrescale rounds
