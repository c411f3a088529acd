"""Cells of verb ``matrix``: teacher, auxiliary modules and students of one pair, each trained two iterations and evaluated."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from benchmarks.digest import file_sha256
from pipelines.engine.compose import Distillation, Setting, Weights, compose_cell, compose_prior, compose_training
from pipelines.engine.stage import open_setting
from pipelines.engine.training import prepare_process, quiet, save_weights
from pipelines.measurement.smoke import RAN, TIER, CellResult, cells_file
from pipelines.params import cell_parts, impossible_reason, load_pair, load_parts
from pipelines.stages.evaluate import measure


def run_pair(name: str, methods: Sequence[str], out: Path) -> None:
    """Run the cells of one pair, and write each result to its file as soon as it is there."""
    with cells_file(out, name).open("a") as file:
        for result in _cells(name, methods, out):
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()


def _cells(name: str, methods: Sequence[str], out: Path) -> Iterator[CellResult]:
    """Train a pair's teacher, and run every supported method's cell."""
    pair = load_pair(name)
    reasons = {method: impossible_reason(name, pair, method, TIER) for method in methods}
    yield from (CellResult(name, method, reason) for method, reason in reasons.items() if reason)
    possible = [method for method, reason in reasons.items() if not reason]
    if not possible:
        return

    prepare_process()
    setting, folder = open_setting(TIER, name, out / "data"), out / name
    model, _ = _train(compose_training(setting, "teacher", seed=0), folder / "teacher")
    save_weights(model, folder / "teacher.pth")
    teacher = Weights(folder / "teacher.pth", file_sha256(folder / "teacher.pth"))
    for method in possible:
        begun = time.monotonic()
        try:
            loss, score = _run_cell(setting, name, method, teacher, folder / method)
        except Exception as error:  # noqa: BLE001 (a row of the table, whatever it is)
            problem = " ".join(str(error).split()) or type(error).__name__
            yield CellResult(name, method, f"failed: {type(error).__name__}: {problem}")
        else:
            yield CellResult(name, method, RAN, loss, score, time.monotonic() - begun)


def _run_cell(setting: Setting, name: str, method: str, teacher: Weights, folder: Path) -> tuple[float, float | None]:
    prior, pair = None, setting.pair
    for part in load_parts(method):
        if part.recipe.prior is not None:
            training = part.prior_training(name, pair.head, TIER).model_dump()
            config = compose_prior(setting, teacher, code=part.code, hparams=part.recipe.prior.hparams, training=training, seed=0)
            learner, _ = _train(config, folder / "prior")
            save_weights(learner.prior, folder / "prior.pth")
            prior = Weights(folder / "prior.pth", file_sha256(folder / "prior.pth"))
    parts, _ = cell_parts(method, name, pair, TIER)
    model, loss = _train(compose_cell(setting, Distillation(parts, teacher, prior), seed=0), folder / "student")
    save_weights(model.student, folder / "student.pth")
    return loss, measure(setting, "student", folder / "student.pth", folder / "test").score


class _LastLoss(Hook):
    """The last iteration's loss; ValueError where any is not finite."""

    loss = math.nan

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:  # noqa: ARG002 (MMEngine's)
        """Check and keep the losses of an iteration."""
        values = {key: float(value) for key, value in outputs.items()}
        bad = [key for key, value in values.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"{', '.join(bad)} is not finite at iteration {runner.iter + 1}")
        self.loss = values["loss"]


def _train(config: Config, folder: Path) -> tuple[nn.Module, float]:
    """Train a config to its end; return the model and its last loss. ValueError where a loss is not finite."""
    config.work_dir, config.experiment_name = str(folder), f"{folder}-{time.monotonic_ns()}"
    config.default_hooks.checkpoint = None
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    watch = _LastLoss()
    with quiet():
        runner = Runner.from_cfg(config)
        runner.register_hook(watch)
        runner.train()
    return runner.model, watch.loss
