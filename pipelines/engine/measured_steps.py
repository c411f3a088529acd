"""Training steps of a published model on dummy images: no data, no downloads, the composition that a real run has.

Images are random bytes of the size that the published pipeline makes, with boxes, masks or label maps as the loader
would give them; all that follows (normalisation, model, losses, optimizer) is the run's own.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from benchmarks.digest import file_sha256
from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.data_configs import dicts
from pipelines.engine.dummy_batches import dummy_batch
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.precision import HALF, set_matmul, widen_losses
from pipelines.engine.provenance import environment, peak_memory_mib
from pipelines.engine.setting import Distillation, Setting, Weights, bare_setting
from pipelines.engine.speed import prepare_networks
from pipelines.engine.weights import save_weights
from pipelines.grid import Precision, Speed
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_config, cell_parts, load_parts

TIER = "paper"


@dataclass(frozen=True)
class Steps:
    """Size of a measurement: ``batch`` images of ``size`` (height, width; pixels) per step, so many steps after a warm-up."""

    size: tuple[int, int]
    batch: int
    iterations: int
    warmup: int
    precision: Precision
    device: str
    speed: Speed = field(default_factory=Speed)


@dataclass(frozen=True)
class Seen:
    """Measurements of training steps.

    ``losses`` are the last step's; ``finite`` is True where they and all weights after it are finite.
    Parameters are millions.
    """

    teacher_m: float
    student_m: float | None
    losses: dict[str, float]
    finite: bool
    s_per_iteration: float
    images_per_s: float
    peak_mib: float
    device: str


def published_steps(name: str, steps: Steps | None = None) -> Setting:
    """Return a pair at its published scale on data that are never opened; of a measurement, on one GPU with its batch."""
    pair, tier = load_pair(name), load_tier(TIER)
    if steps is None:
        return bare_setting(pair, tier)
    alone = pair.model_copy(update={"images_per_gpu": steps.batch})
    return bare_setting(alone, tier, steps.batch, precision=steps.precision, speed=steps.speed)


def make_teacher(name: str, path: Path) -> None:
    """Write weights of a pair's teacher as its own training would begin without ImageNet's: random, from seed 0."""
    prepare_process()
    save_weights(built(compose_training(published_steps(name), "teacher", seed=0)), path)


def train_teacher(name: str, steps: Steps) -> Seen:
    """Measure the teacher's own training, as in stage ``teachers``."""
    return try_steps(compose_training(published_steps(name, steps), "teacher", seed=0), steps)


def learn_prior(name: str, method: str, steps: Steps, teacher: Path, out: Path) -> Seen:
    """Measure a method's auxiliary module on the teacher, as in stage ``masks``; its weights are written to ``out``."""
    pair = load_pair(name)
    part, recipe = next((part, part.recipe.prior) for part in load_parts(method) if part.recipe.prior)
    training = part.auxiliary_training(name, pair.head, TIER)
    setting, weights = published_steps(name, steps), Weights(teacher, file_sha256(teacher))
    return try_steps(
        compose_auxiliary(setting, weights, code=part.code, hparams=recipe.hparams, training=training, seed=0), steps, prior=out
    )


def train_student(name: str, method: str, steps: Steps, teacher: Path, prior: Path | None) -> Seen:
    """Measure the student under a method, as in stage ``distill``."""
    pair = load_pair(name)
    parts, _ = cell_parts(method, name, pair, TIER)
    changes = cell_config(method, name, pair, TIER)
    learned = Weights(prior, file_sha256(prior)) if prior else None
    cell = Distillation(parts, Weights(teacher, file_sha256(teacher)), learned, changes)
    return try_steps(compose_cell(published_steps(name, steps), cell, seed=0), steps)


def try_steps(config: Config, steps: Steps, prior: Path | None = None) -> Seen:
    """Train a composed model for a few steps.

    Args:
        config: of a side's own training, a distillation or an auxiliary module; its learning rate is taken down to the published
            warm-up's first, for random weights bear no more.
        steps: how many, on what.
        prior: where to write an auxiliary module.
    """
    prepare_process()
    set_size(config.model, steps.size)
    _begin_warm_up(config)
    data = dummy_batch(config, steps.size, steps.batch)
    set_matmul(steps.precision)
    model = built(config).to(steps.device).train()
    prepare_model(model, steps.precision, steps.speed)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        optimizer = build_optim_wrapper(model, config.optim_wrapper)
        for iteration in range(steps.warmup + steps.iterations):
            if iteration == steps.warmup:
                begun = _now(steps.device)
            MessageHub.get_current_instance().update_info("iter", iteration)
            said = model.train_step(data, optimizer)
        seconds = (_now(steps.device) - begun) / steps.iterations
    if prior:
        save_weights(model.auxiliary, prior)
    losses = {key: float(value.detach()) for key, value in said.items() if "loss" in key}
    weights_finite = all(bool(weight.isfinite().all()) for weight in model.parameters())
    teacher, student = (getattr(model, side, None) for side in ("teacher", "student"))
    return Seen(
        teacher_m=_millions(model if teacher is None else teacher),
        student_m=None if student is None else _millions(student),
        losses={key: value for key, value in losses.items() if key != "loss"},
        finite=weights_finite and all(map(math.isfinite, losses.values())),
        s_per_iteration=seconds,
        images_per_s=steps.batch / seconds,
        peak_mib=peak_memory_mib(),
        device=environment().device,
    )


def prepare_model(model: Any, precision: Precision, speed: Speed) -> None:
    """Do what the hooks of a run do before it trains."""
    if precision in HALF:
        widen_losses(model)
    if speed.channels_last or speed.compile:
        prepare_networks(model, channels_last=speed.channels_last, compiled=speed.compile)


def built(config: Config) -> Any:
    """Build the model with its initial weights, as the Runner does."""
    MMLogger.get_current_instance().setLevel("ERROR")  # it would log how each weight is initialised
    with quiet(), DefaultScope.overwrite_default_scope(config.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
    return model


def set_size(model: ConfigDict, size: tuple[int, int]) -> None:
    """Segmenters pad to the size of the published crop, which is not always the requested one."""
    for part in dicts(model):
        if "size" in part.get("data_preprocessor", {}):
            part.data_preprocessor.size = size


def _begin_warm_up(config: Config) -> None:
    schedules = config.param_scheduler if isinstance(config.param_scheduler, list) else [config.param_scheduler]
    for schedule in schedules:
        if schedule.type == "LinearLR":
            config.optim_wrapper.optimizer.lr *= schedule.start_factor


def _millions(model: nn.Module) -> float:
    return sum(weight.numel() for weight in model.parameters()) / 1e6


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
