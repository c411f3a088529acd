"""Minutes that the check of a user's own data takes: stage ``prepare`` on many JPEG files, twice.

    python -m tools.own_data_cost [--images 120000] [--folder FOLDER] [--json FILE]

A tenth of the images each are for tuning and for the test; every image has seven objects, as COCO's have.  Files are of COCO's usual
size (640 x 480) and weight (about 160 KB), 1,000 different ones, copied under other names.  The stage runs as ``make repro`` runs it, in
a folder with this checkout's code.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
_DIFFERENT, _OBJECTS = 1000, 7
_WIDTH, _HEIGHT = 640, 480
_CLASSES = ["one", "two"]


def generate(folder: Path, num: int) -> float:
    """Write three splits of images and their annotation files; return the mean file size, in KB."""
    rng = np.random.default_rng(0)
    places = _places(num)
    size_kb = []
    found: dict[str, list[str]] = {"train": [], "tune": [], "test": []}
    sources: dict[int, Path] = {}
    for number, (split, different) in enumerate(places):
        name = f"{number:012}.jpg"
        path = folder / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if different in sources:
            shutil.copyfile(sources[different], path)
        else:
            coarse = rng.integers(0, 256, (_HEIGHT // 8, _WIDTH // 8, 3)).astype(np.float32)
            smooth = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
            pixels_HWC = np.clip(smooth + rng.normal(0, 9, smooth.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(path), pixels_HWC, [cv2.IMWRITE_JPEG_QUALITY, 92])
            sources[different] = path
            size_kb.append(path.stat().st_size / 1000)
        found[split].append(name)
    for split, names in found.items():
        annotations = [_annotation(image, number, rng) for image in range(len(names)) for number in range(_OBJECTS)]
        images = [{"id": image, "file_name": name, "width": _WIDTH, "height": _HEIGHT} for image, name in enumerate(names)]
        categories = [{"id": number, "name": name} for number, name in enumerate(_CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return float(np.mean(size_kb))


def _places(num: int) -> list[tuple[str, int]]:
    """Return split and number of the picture of each image; no picture is in two splits."""
    tenth = _DIFFERENT // 10
    first = {"tune": (0, tenth), "test": (tenth, tenth), "train": (2 * tenth, 8 * tenth)}  # picture, and number of them
    splits = [("tune", "test", *["train"] * 8)[number % 10] for number in range(num)]
    return [(split, first[split][0] + number % first[split][1]) for number, split in enumerate(splits)]


def _annotation(image: int, number: int, rng: np.random.Generator) -> dict[str, Any]:
    left, top = rng.integers(0, _WIDTH - 200), rng.integers(0, _HEIGHT - 200)
    width, height = rng.integers(8, 200, 2)
    return {
        "id": image * _OBJECTS + number, "image_id": image, "category_id": number % len(_CLASSES), "iscrowd": 0,
        "bbox": [int(left), int(top), int(width), int(height)], "area": int(width * height),
    }  # fmt: skip


def project(folder: Path, data: Path) -> None:
    """Make a folder with this checkout's code and a grid of one pair on the data."""
    for name in ("benchmarks", "methods", "pipelines", "reports"):
        (folder / name).symlink_to(ROOT / name)
    splits = {split: {"images": split, "annotations": f"{split}.json"} for split in ("train", "tune", "test")}
    own = {"format": "coco", "root": str(data), "classes": _CLASSES, **splits}
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params |= {"tier": "own", "grid": {"gfl_r101_r50": ["none"]}, "seeds": [0], "own": own}
    params["tuning"]["grid"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")


def stage(folder: Path, *arguments: str) -> tuple[float, str]:
    """Run a stage; return its seconds and output."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env={**os.environ, "CI": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"{' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")
    return time.monotonic() - begun, done.stdout


def main() -> None:
    """Write the data, time the check, and print the result."""
    parser = argparse.ArgumentParser(description="Time the check of a user's own data.")
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--folder", type=Path, help="for the data; it needs 20 GB, a new one by default")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        data, folder = Path(name, "data"), Path(name, "project")
        folder.mkdir()
        mean_kb = generate(data, args.images)
        print(f"{args.images:,} images of {mean_kb:.0f} KB", flush=True)
        project(folder, data)
        stage(folder, "pipelines.stages.check", "--renew")
        times = []
        for _ in range(2):
            seconds, said = stage(folder, "pipelines.stages.prepare", "--tier", "own")
            times.append(round(seconds, 1))
            print(f"{seconds:.1f} s: {said.strip().splitlines()[-1]}", flush=True)
    if args.json:
        cores = len(os.sched_getaffinity(0))
        args.json.write_text(
            json.dumps({"images": args.images, "mean_kb": mean_kb, "cores": cores, "seconds": times}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
