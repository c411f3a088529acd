"""Sizes of every pair's published models, for estimates of what training them costs.

    python -m tools.model_sizes [pair ...] [--json benchmarks/complexity.json]

A forward pass of one image of the published size through the model with random weights; a two-stage detector is
given as many proposals as it is trained on.  Named pairs are added to what the file has.
"""

import argparse
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from benchmarks.pair import Model
from benchmarks.throughput import Complexity, PairSize, Size
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.published import published_config
from pipelines.params import load_pair

ABOUT = "Published models at their input size; schema: Complexity in benchmarks/throughput.py."
MASKED = 100  # proposals whose masks count, as in mmdet's own count; a cascade's forward pass would mask all of them
DIVISOR = 32  # detectors pad their images to multiples of it


def count_gmac(model: nn.Module, run: Any) -> float:
    """10^9 multiply-adds of all convolutions (deformable ones too) and linear layers that ``run()`` calls."""
    total = 0.0

    def add(module: Any, inputs: Any, output: Any, *, most: float) -> None:
        nonlocal total
        grid = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        # A filter is applied once for each of its outputs (of a transposed convolution: for each input).
        total += grid[0].numel() * min(len(grid), most) * module.weight[0].numel()

    hooks = []
    for name, layer in model.named_modules():
        if getattr(getattr(layer, "weight", None), "dim", int)() in {2, 4} and not isinstance(layer, nn.Embedding):
            most = MASKED if "mask_head" in name else math.inf
            hooks.append(layer.register_forward_hook(partial(add, most=most)))
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total / 1e9


def image_px(config: Config, *, training: bool) -> tuple[int, int]:
    """Height and width of the largest image that the config's pipeline makes, padded as the model pads it."""
    dataset = (config.train_dataloader if training else config.test_dataloader).dataset
    while "pipeline" not in dataset:
        dataset = dataset.dataset if "dataset" in dataset else dataset.datasets[0]
    steps = {step["type"]: step for step in _steps(dataset.pipeline)}
    if "RandomCrop" in steps:
        size = steps["RandomCrop"]["crop_size"]
        return (size, size) if isinstance(size, int) else tuple(size)
    scales = [s for name in ("RandomChoiceResize", "Resize") if name in steps for s in _scales(steps[name])]
    long, short = max(scales, key=lambda scale: scale[0] * scale[1])
    return -(-short // DIVISOR) * DIVISOR, -(-long // DIVISOR) * DIVISOR


def _steps(pipeline: Any) -> list[Any]:
    """Return the steps of a pipeline in order, including those among which one is chosen."""
    steps = []
    for step in pipeline:
        steps += [one for way in step["transforms"] for one in _steps(way)] if step["type"] == "RandomChoice" else [step]
    return steps


def _scales(step: Any) -> list[tuple[int, int]]:
    return [tuple(scale) for scale in step["scales"]] if "scales" in step else [tuple(step["scale"])]


def read(model: Model) -> Config:
    """Return a side's config with the pair's changes."""
    config = published_config(model.config)
    config.merge_from_dict(model.changes)
    return config


def measure(config: Config, scope: str, size: tuple[int, int]) -> Size:
    """Build the model and pass an image through it."""
    if "rpn" in (config.model.get("test_cfg") or {}):
        rcnn = config.model.train_cfg.rcnn
        config.model.test_cfg.rpn.max_per_img = (rcnn[0] if isinstance(rcnn, list) else rcnn).sampler.num
    with quiet(), DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(config.model).eval()
        image = torch.rand(1, 3, *size)
        samples = None
        if scope == "mmdet":
            from mmdet.structures import DetDataSample  # noqa: PLC0415 (seconds)

            meta = {
                "img_shape": size,
                "ori_shape": size,
                "batch_input_shape": size,
                "pad_shape": size,
                "scale_factor": (1.0, 1.0),
            }
            samples = [DetDataSample(metainfo=meta)]
        gmac = count_gmac(model, lambda: model(image, samples, mode="tensor"))
    millions = [sum(weight.numel() for weight in part.parameters()) / 1e6 for part in (model, model.backbone)]
    return Size(forward_gmac=round(gmac, 1), parameters_m=round(millions[0], 2), backbone_parameters_m=round(millions[1], 2))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="*")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    prepare_process()
    for package in ("mmdet", "mmseg"):
        __import__(f"{package}.utils", fromlist=["register_all_modules"]).register_all_modules(init_default_scope=False)
    sizes: dict[str, PairSize] = {}
    measured: dict[str, Size] = {}  # many pairs share a model
    if args.pairs and args.json and args.json.is_file():
        sizes |= Complexity.model_validate_json(args.json.read_text()).pairs
    for name in args.pairs or sorted(path.stem for path in Path("benchmarks/pairs").glob("*.yaml")):
        pair = load_pair(name)
        if pair.not_run:
            continue
        configs, scope = {"teacher": read(pair.teacher), "student": read(pair.student)}, pair.student.config.split("::")[0]
        train_px, test_px = (image_px(configs["student"], training=training) for training in (True, False))
        found = {}
        for side, config in configs.items():
            key = json.dumps([config.model.to_dict(), train_px], sort_keys=True)
            found[side] = measured[key] = measured.get(key) or measure(config, scope, train_px)
        sizes[name] = PairSize(train_px=train_px, test_px=test_px, teacher=found["teacher"], student=found["student"])
        print(name, sizes[name].model_dump_json(), flush=True)
    if args.json:
        content = Complexity(about=ABOUT, command="python -m tools.model_sizes --json benchmarks/complexity.json", pairs=sizes)
        args.json.write_text(json.dumps(content.model_dump(), indent=1) + "\n")


if __name__ == "__main__":
    main()
