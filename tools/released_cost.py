"""Minutes and memory that the evaluation of a released student takes at paper size.

    python -m tools.released_cost --images 50 --out reports/measurements/released_cost.md

Each student that was released with weights and is a row here, once per model: random weights, generated images of the published size
(640 x 480; Cityscapes 2048 x 1024), the whole of ``measure`` as stage ``released`` calls it, a process each.  Seconds are of the
processor and of the process that predicts, which with one thread are those of an idle machine.  Random weights find almost nothing,
so post-processing of a trained student takes somewhat longer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset
from PIL import Image

from benchmarks.dataset import datasets
from pipelines import layout
from pipelines.engine.compose import base_config
from pipelines.engine.evaluation import measure
from pipelines.engine.mmlab import build_model, prepare_process
from pipelines.engine.provenance import environment, peak_memory_mib
from pipelines.engine.setting import open_setting
from pipelines.engine.weights import save_weights
from pipelines.params import load_pair
from pipelines.recipes import cell_config
from pipelines.released.registry import artefacts, reported

_SIZES = {"coco": (640, 480), "cityscapes": (2048, 1024)}  # width, height
_WHOLE = {"coco": 5000, "cityscapes": 500}  # images of the test split


def rows() -> list[tuple[str, str]]:
    """Pair and method of one released student per student's config and changes."""
    found: dict[str, tuple[str, str]] = {}
    for student in artefacts().students.values():
        pair, method = reported()[student.reported[0]].place
        if student.weights is None or pair is None or method is None or load_pair(pair).dataset not in _SIZES:
            continue
        one = load_pair(pair).student
        changes = {**one.changes, **cell_config(method, pair, load_pair(pair), "paper")}
        of_model = {key: value for key, value in changes.items() if key.startswith("model.")}
        found.setdefault(json.dumps([one.config, of_model], sort_keys=True), (pair, method))
    return list(found.values())


def generate(name: str, root: Path, num: int) -> None:
    """Write a test split of noise in a data set's layout, and take its counts for the published ones."""
    record, random, (width, height) = datasets()[name], np.random.default_rng(0), _SIZES[name]
    split = record.splits["val"]
    images = []
    for number in range(num):
        city = "" if name == "coco" else "frankfurt/"
        path = root / split.images / f"{city}{number:012d}{record.image_suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        images.append({"id": number + 1, "file_name": path.name, "width": width, "height": height})
        if name != "coco":
            labels = root / split.annotations / f"{city}{number:012d}{record.label_suffix}"
            labels.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 19, (height, width), np.uint8)).save(labels)
    if name == "coco":
        boxes = [
            {
                "id": n + 1,
                "image_id": n + 1,
                "category_id": 1,
                "bbox": [10, 10, 90, 90],
                "area": 8100,
                "iscrowd": 0,
                "segmentation": [],
            }
            for n in range(num)
        ]
        categories = [{"id": n + 1, "name": name} for n, name in enumerate(CocoDataset.METAINFO["classes"])]
        (root / split.annotations).parent.mkdir(parents=True, exist_ok=True)
        (root / split.annotations).write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    datasets()[name] = replace(record, splits={"val": replace(split, num_images=num)}, sha256={})


def one(pair: str, method: str, num: int) -> None:
    """Print seconds and MiB of one row as JSON."""
    prepare_process()
    with tempfile.TemporaryDirectory() as scratch:
        name = load_pair(pair).dataset
        generate(name, Path(scratch), num)
        setting = open_setting("paper", pair, layout.data("paper"))
        setting = replace(setting, origin=replace(setting.origin, root=Path(scratch)))
        changes = cell_config(method, pair, setting.pair, "paper")
        model = build_model(base_config(setting, "student", changes))
        model.init_weights()
        save_weights(model, Path(scratch) / "student.pth")
        begun = time.process_time()
        measure(setting, "student", Path(scratch) / "student.pth", Path(scratch) / "test", changes)
        print(json.dumps({"seconds": time.process_time() - begun, "mib": peak_memory_mib(), "whole": _WHOLE[name]}))


def main() -> None:
    """Measure all rows, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", nargs=2, metavar=("PAIR", "METHOD"))
    args = parser.parse_args()
    if args.row:
        one(*args.row, args.images)
        return
    machine = environment()
    command = f"python -m tools.released_cost --images {args.images} --out reports/measurements/released_cost.md"
    lines = [
        "# Evaluation of released students at paper size",
        "",
        f"Made by `{command}` on {machine.device}, {machine.threads} thread(s).",
        f"{args.images} generated images, random weights; minutes of the whole test split are extrapolated from them.",
        "",
        "| pair | row | s per image | minutes, whole split | peak MiB |",
        "|---|---|---|---|---|",
    ]
    for pair, method in rows():
        words = [sys.executable, "-m", "tools.released_cost", "--images", str(args.images), "--row", pair, method]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            lines.append(f"| {pair} | {method} | failed: {done.stderr.strip().splitlines()[-1]} | | |")
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        each = found["seconds"] / args.images
        lines.append(f"| {pair} | {method} | {each:.2f} | {each * found['whole'] / 60:.0f} | {found['mib']:.0f} |")
        print(lines[-1], flush=True)
        if args.out:
            args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
