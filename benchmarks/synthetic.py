"""The generated data set of the smoke and mini tiers: handwritten digits over photographs.

Digits are scikit-learn's bundled 8x8 scans (``load_digits``: 1797 scans by 43 writers, from the UCI
optical-recognition set), backgrounds are crops of its two bundled photographs (``load_sample_images``).
The three splits share neither scans nor photograph regions.

Bytes depend on the specification alone: all arithmetic on pixels is integer arithmetic or Pillow's
fixed-point resampling, every image is drawn from a generator of its own, and files are stored
uncompressed, so that no compression library's version or processor's instruction set can show.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from benchmarks.schema import Frozen, Seed

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "tune", "test")

# Share of every class's scans, and of the photographs' width, that each split owns.
_SHARE = {"train": (0.0, 0.6), "tune": (0.6, 0.8), "test": (0.8, 1.0)}
_MOST_SCENES, _MOST_DIGITS = 1_000_000, 100
_SCAN_PX = 8  # side of a scan
_OPAQUE = 96  # alpha (0-255) from which a pixel belongs to the digit's mask
_MIN_VISIBLE = 0.5  # a digit may hide at most this share of another one
_PLACEMENT_TRIES = 8
_MIN_CONTRAST = 180  # grey levels, summed over the three channels; less is guesswork for a person too
_COLOUR_TRIES = 100  # then the colour that stands out most

Uint8 = NDArray[np.uint8]


class SceneSpec(Frozen):
    """Appearance and number of the synthetic images; the data set is a function of it."""

    seed: Seed
    image_px: int = Field(ge=32, le=128, description="side of the square images")
    digit_px: tuple[int, int] = Field(description="least and greatest height of a digit")
    digits: tuple[int, int] = Field(description="least and greatest number of digits a scene")
    noise: int = Field(ge=0, le=127, description="half-width of the uniform pixel noise, grey levels")
    photo_brightness: tuple[int, int] = Field(
        default=(128, 256), description="least and greatest factor of the photographs' grey levels, in 256ths"
    )
    ink: tuple[int, int] = Field(
        default=(0, 255), description="least and greatest grey level of each channel of a digit's colour"
    )
    train: int = Field(ge=1, le=_MOST_SCENES, description="scenes of the split")
    tune: int = Field(ge=1, le=_MOST_SCENES)
    test: int = Field(ge=1, le=_MOST_SCENES)

    @model_validator(mode="after")
    def _ranges(self) -> "SceneSpec":
        low, high = self.digit_px
        if not _SCAN_PX <= low <= high <= self.image_px:
            raise ValueError(f"digit_px must be ordered and within {_SCAN_PX}..image_px, got {[low, high]}")
        if not 1 <= self.digits[0] <= self.digits[1] <= _MOST_DIGITS:
            raise ValueError(f"digits must be ordered and within 1..{_MOST_DIGITS}, got {list(self.digits)}")
        for name, bounds, most in (("photo_brightness", self.photo_brightness, 256), ("ink", self.ink, 255)):
            if not 0 <= bounds[0] <= bounds[1] <= most:
                raise ValueError(f"{name} must be ordered and within 0..{most}, got {list(bounds)}")
        return self


@dataclass(frozen=True)
class Scene:
    """One image with its objects, in the order in which they were drawn."""

    image_HWC: Uint8
    classes: list[int]  # 0-9
    masks: list[NDArray[np.bool_]]  # (H, W), visible pixels only

    def label_map(self) -> Uint8:
        """(H, W): 0 for background, class + 1 elsewhere."""
        labels = np.zeros(self.image_HWC.shape[:2], np.uint8)
        for class_index, mask in zip(self.classes, self.masks, strict=True):
            labels[mask] = class_index + 1
        return labels


@cache
def _scans(split: str) -> list[Uint8]:
    """Ten arrays (num_scans, 8, 8) of grey levels 0-240, the scans that the split owns by class."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 (seconds, for whoever only reads a specification)

    digits = load_digits()
    low, high = _SHARE[split]
    owned = []
    for class_index in range(len(CLASSES)):
        scans = digits.images[digits.target == class_index]
        owned.append((scans[int(low * len(scans)) : int(high * len(scans))] * 15).astype(np.uint8))
    return owned


@cache
def _photographs(split: str) -> list[Uint8]:
    """Parts (H, W, 3) of the photographs, RGB, that the split owns: full height, a range of columns."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 (seconds)

    low, high = _SHARE[split]
    return [
        np.ascontiguousarray(photo[:, int(low * photo.shape[1]) : int(high * photo.shape[1])])
        for photo in load_sample_images().images
    ]


def _background(rng: np.random.Generator, spec: SceneSpec, split: str) -> NDArray[np.int32]:
    """Crop of a photograph: random place, scale, mirroring and brightness. (H, W, 3)."""
    image_px, (low, high) = spec.image_px, spec.photo_brightness
    photo = _photographs(split)[rng.integers(2)]
    largest = min(photo.shape[:2])
    side = int(rng.integers(min(image_px, largest) // 2, largest + 1))
    top, left = (int(rng.integers(extent - side + 1)) for extent in photo.shape[:2])
    crop = Image.fromarray(photo[top : top + side, left : left + side])
    pixels = np.asarray(crop.resize((image_px, image_px), Image.Resampling.BILINEAR)).astype(np.int32)
    if rng.integers(2):
        pixels = pixels[:, ::-1]
    return pixels * int(rng.integers(low, high + 1)) // 256 + int(rng.integers(0, 48))


def _digit_alpha(rng: np.random.Generator, split: str, class_index: int, height: int) -> Uint8:
    """Scan scaled to ``height`` pixels, a little wider or narrower, and tilted. (h, w), 0-255."""
    scans = _scans(split)[class_index]
    scan = Image.fromarray(scans[rng.integers(len(scans))])
    width = max(6, height * int(rng.integers(75, 111)) // 100)
    grown = scan.resize((width, height), Image.Resampling.BICUBIC)
    tilted = grown.rotate(int(rng.integers(-12, 13)), Image.Resampling.NEAREST, expand=True)
    alpha = np.asarray(tilted)
    rows, columns = np.flatnonzero(alpha.max(1) >= _OPAQUE), np.flatnonzero(alpha.max(0) >= _OPAQUE)
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _visible_colour(rng: np.random.Generator, ink: tuple[int, int], behind: NDArray[np.int32]) -> NDArray[np.int64]:
    """Random colour at least ``_MIN_CONTRAST`` away (sum over channels) from what is behind, or the farthest one drawn."""
    farthest: NDArray[np.int64] = np.zeros(3, np.int64)
    distance = -1
    for _ in range(_COLOUR_TRIES):
        colour = rng.integers(ink[0], ink[1] + 1, size=3)
        found = int(np.abs(colour - behind).sum())
        if found >= _MIN_CONTRAST:
            return colour
        if found > distance:
            farthest, distance = colour, found
    return farthest


def draw_scene(spec: SceneSpec, split: str, index: int) -> Scene:
    """Draw image ``index`` of a split; a pure function of its arguments."""
    rng = np.random.default_rng([spec.seed, SPLITS.index(split), index])
    size = spec.image_px
    canvas = _background(rng, spec, split)
    classes: list[int] = []
    whole: list[int] = []  # pixels of each digit before others covered it
    masks: list[NDArray[np.bool_]] = []
    for _ in range(int(rng.integers(spec.digits[0], spec.digits[1] + 1))):
        class_index = int(rng.integers(len(CLASSES)))
        height = int(rng.integers(spec.digit_px[0], spec.digit_px[1] + 1))
        alpha = _digit_alpha(rng, split, class_index, height)[:size, :size]
        for _ in range(_PLACEMENT_TRIES):
            top = int(rng.integers(size - alpha.shape[0] + 1))
            left = int(rng.integers(size - alpha.shape[1] + 1))
            window = np.s_[top : top + alpha.shape[0], left : left + alpha.shape[1]]
            mask = np.zeros((size, size), bool)
            mask[window] = alpha >= _OPAQUE
            left_over = [int((other & ~mask).sum()) for other in masks]
            if all(rest >= _MIN_VISIBLE * area for rest, area in zip(left_over, whole, strict=True)):
                break
        else:
            continue
        colour = _visible_colour(rng, spec.ink, canvas[window][mask[window]].mean(0).astype(np.int32))
        weight = alpha[..., None].astype(np.int32)
        canvas[window] = (canvas[window] * (255 - weight) + colour * weight) // 255
        masks = [other & ~mask for other in masks] + [mask]
        whole.append(int(mask.sum()))
        classes.append(class_index)
    if spec.noise:
        canvas = canvas + rng.integers(-spec.noise, spec.noise + 1, size=canvas.shape)
    return Scene(np.clip(canvas, 0, 255).astype(np.uint8), classes, masks)


def _annotation(mask: NDArray[np.bool_], class_index: int, image_id: int, number: int) -> dict[str, Any]:
    """One COCO annotation: box xywh in pixels around the visible mask, mask as compressed RLE."""
    from pycocotools import mask as coco_mask  # noqa: PLC0415 (only where scenes are written)

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    width, height = int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
    return {
        "id": number,
        "image_id": image_id,
        "category_id": class_index + 1,
        "bbox": [left, top, width, height],
        # Of the box: strokes fill a third of it, and AP by size sorts detections by their boxes' areas.
        "area": width * height,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "iscrowd": 0,
    }


def _write_split(spec: SceneSpec, split: str, root: Path) -> None:
    """Write ``<split>/*.png``, ``<split>_labels/*.png`` and ``<split>.json`` under root."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    (root / split).mkdir(parents=True)
    (root / f"{split}_labels").mkdir()
    for index in range(getattr(spec, split)):
        scene = draw_scene(spec, split, index)
        name, image_id = f"{index + 1:06d}.png", index + 1
        # Level 0 stores the pixels as they are: the file's bytes then follow from the pixels alone.
        Image.fromarray(scene.image_HWC).save(root / split / name, compress_level=0)
        Image.fromarray(scene.label_map()).save(root / f"{split}_labels" / name, compress_level=0)
        images.append({"id": image_id, "file_name": name, "width": spec.image_px, "height": spec.image_px})
        for class_index, mask in zip(scene.classes, scene.masks, strict=True):
            annotations.append(_annotation(mask, class_index, image_id, len(annotations) + 1))
    coco = {
        "info": {"description": f"digits over photographs, {split} split"},
        "licenses": [],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        "images": images,
        "annotations": annotations,
    }
    (root / f"{split}.json").write_text(json.dumps(coco, separators=(",", ":")))


def _split_of(path: str) -> str:
    """Split that a file or folder of the data set belongs to, named from the root."""
    return path.partition("/")[0].removesuffix(".json").removesuffix("_labels")


def _files(root: Path, without: Collection[str] = ()) -> Iterator[tuple[str, int, str]]:
    """Relative path, bytes and sha256 of each data file, sorted by path; splits of ``without`` are not looked into."""
    tops = [top for top in root.iterdir() if _split_of(top.name) not in without]
    inside = [path for top in tops for path in (top, *top.rglob("*"))]
    for path in sorted(p for p in inside if p.is_file() and p.name != "manifest.json"):
        content = path.read_bytes()
        yield path.relative_to(root).as_posix(), len(content), hashlib.sha256(content).hexdigest()


def write_scenes(spec: SceneSpec, root: Path) -> str:
    """Write the whole data set under ``root`` and return its digest.

    What stood at ``root`` is replaced once the new data set is complete; the manifest is written last,
    so that a data set with a manifest is a whole one.
    """
    fresh = root.with_name(root.name + ".partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for split in SPLITS:
        _write_split(spec, split, fresh)
    files = {path: [num_bytes, sha256] for path, num_bytes, sha256 in _files(fresh)}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    manifest = {"digest": digest, "spec": spec.model_dump(), "files": files}
    (fresh / "manifest.json").write_text(json.dumps(manifest, indent=0, sort_keys=True))
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)
    return digest


def verify_scenes(root: Path, without: Collection[str] = ()) -> str:
    """Check every file against the manifest and return the data set's digest.

    Args:
        root: of the data set.
        without: splits whose files are neither opened nor missed.

    Raises:
        ValueError: the manifest or a file of it is missing or altered; the message names it.
    """
    manifest_path = root / "manifest.json"
    remedy = "make the data set again with: dvc repro -f prepare"
    if not manifest_path.is_file():
        raise ValueError(f"{manifest_path} is missing; {remedy}")
    try:
        manifest = json.loads(manifest_path.read_text())
    except ValueError as error:
        raise ValueError(f"{manifest_path} is cut off or damaged; {remedy}") from error
    present = {path: [num_bytes, sha256] for path, num_bytes, sha256 in _files(root, without)}
    wanted = {path: state for path, state in manifest["files"].items() if _split_of(path) not in without}
    for state, paths in {
        "missing": sorted(wanted.keys() - present.keys()),
        "altered": sorted(path for path in wanted if present.get(path, wanted[path]) != wanted[path]),
        "not in the manifest": sorted(present.keys() - wanted.keys()),
    }.items():
        if paths:
            more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
            raise ValueError(f"{root / paths[0]} is {state}{more}; {remedy}")
    return str(manifest["digest"])
