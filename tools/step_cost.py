"""Costs of a training step and of its parts: student step, the teacher's forward that is needed, the method's own loss.

    python -m tools.step_cost [method ...] [--json reports/measurements/step_cost.json]

The whole step and its parts run by turns on the same batch of 16 images, tier mini, random weights.
The method's own loss is its forward pass and the backward pass down to the student's features.
"""

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.digest import file_sha256
from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.dummy_batches import dummy_batch
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.setting import Distillation, Weights
from pipelines.engine.weights import save_weights
from pipelines.params import load_grid
from pipelines.recipes import cell_parts, impossible_reason
from tests.conftest import build, setting, total

IMAGES = 16


def leaves(model: Any, recorded: Any) -> list[torch.Tensor]:
    """Return what a method's loss has gradients for: the student's recorded features and predictions, its own parameters."""
    found = [level for levels in model.distiller.maps(of_student=True).values() for level in levels]
    dense, roi = recorded.handles()
    if dense:
        said = [dense.prediction.class_logits_NPK] if dense._outputs else []  # noqa: SLF001 (whether it was recorded)
        found += [*(level for tower in dense.towers for level in tower), *said]
    if roi:
        predicted = roi.predict(roi.proposals)
        found += [predicted.class_logits_RK, predicted.box_deltas_RD]
    return [*found, *(parameter for parameter in model.distiller.method.parameters() if parameter.requires_grad)]


def measure(model: Any, inputs: torch.Tensor, samples: list[Any], turns: int) -> dict[str, float]:
    """Median seconds of the whole step, of its parts, and the median share by which the whole exceeds them."""
    seconds: dict[str, list[float]] = {"step": [], "student": [], "teacher": [], "own loss": []}

    def clocked(name: str, run: Any) -> Any:
        begun = time.perf_counter()
        result = run()
        seconds[name].append(time.perf_counter() - begun)
        return result

    def own_loss(tap: Any, features: Any) -> None:
        losses = model.distil(inputs, samples, tap, features)
        torch.autograd.grad(total(losses), leaves(model, tap), allow_unused=True)

    for _ in range(turns + 1):
        model.zero_grad()
        clocked("step", lambda: total(model.loss(inputs, samples)).backward())
        model.zero_grad()
        clocked("student", lambda: total(model.student(inputs, samples, mode="loss")).backward())
        if model.distiller.needs:
            _, tap = model.run_student(inputs, samples)
            features = clocked("teacher", lambda: model.run_teacher(inputs))
            clocked("own loss", partial(own_loss, tap, features))
            model.distiller.clear()
    parts = {name: values[1:] or [0.0] * turns for name, values in seconds.items()}  # the first turn warms up
    sums = [sum(turn) for turn in zip(parts["student"], parts["teacher"], parts["own loss"], strict=True)]
    row = {f"{name.replace(' ', '_')}_ms": round(1000 * statistics.median(values), 1) for name, values in parts.items()}
    return row | {"excess": round(statistics.median(parts["step"]) / statistics.median(sums) - 1, 3)}


def main() -> None:
    """Print a line per cell; write JSON where requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--turns", type=int, default=30)
    args = parser.parse_args()
    prepare_process()
    grid, rows = load_grid(), []
    print("| pair | method | step ms | student ms | teacher ms | own loss ms | excess |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for pair_name in grid.pairs:
            at, path = setting(pair_name, "mini"), Path(folder) / f"{pair_name}.pth"
            save_weights(build(compose_training(at, "teacher", seed=0)), path)
            weights = Weights(path, file_sha256(path))
            for name in args.methods or grid.rows[pair_name]:
                if impossible_reason(pair_name, at.pair, name, "mini"):
                    continue
                parts, _ = cell_parts(name, pair_name, at.pair, "mini")
                config = compose_cell(at, Distillation(parts, weights, None), seed=0)
                model = build(config).train()
                batch = model.data_preprocessor(dummy_batch(config, (at.tier.scenes.image_px,) * 2, IMAGES), training=True)
                row = {"pair": pair_name, "method": name} | measure(model, batch["inputs"], batch["data_samples"], args.turns)
                rows.append(row)
                print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "images": IMAGES, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
