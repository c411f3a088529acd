"""The MMEngine ``Config`` of one run or evaluation, from setting, recipe and seed.

Everything starts from the installed published config and what the pair's authors changed in it; a tier with a scale then
replaces data (``data_configs.py``), models (``scaling.py``) and schedule (``schedules.py``).
Every function returns a config of its own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

import pipelines.engine.distiller
import pipelines.engine.iteration_info  # noqa: F401 (registers the hook that every config names)
from benchmarks.metrics import METRICS
from pipelines.engine.backbones import is_pretrained, published_side
from pipelines.engine.data_configs import set_data
from pipelines.engine.division import divide, rounded
from pipelines.engine.precision import set_precision
from pipelines.engine.scaling import plain_norms, scaled_model, set_classes
from pipelines.engine.schedules import keep_schedule, set_schedule, stretch
from pipelines.engine.setting import Distillation, Setting, Side, Weights
from pipelines.engine.speed import set_speed
from pipelines.engine.workers import seed_workers
from pipelines.recipes import trained_as


def compose_training(setting: Setting, side: Side, *, seed: int, initialisation: Weights | None = None) -> Config:
    """Return the config that trains one side of the pair on its own.

    Args:
        setting: the pair at a tier.
        side: which of the two.
        seed: of initialisation and order of the images.
        initialisation: what the backbone starts from, or None to start from random weights.
    """
    config = _training(setting, side, seed=seed, initialisation=initialisation)
    finish(config, setting)
    return config


def finish(config: Config, setting: Setting) -> None:
    """Divide the batch of a composed training among its processes; set its workers' seeds, number format and speed."""
    divide(config, setting)
    seed_workers(config)
    set_precision(config, setting.precision)
    set_speed(config, setting.speed)


def _training(
    setting: Setting, side: Side, *, seed: int, initialisation: Weights | None = None, changes: dict[str, Any] | None = None
) -> Config:
    """Return a side's training with the whole batch in one process.

    Args:
        setting: the pair at a tier.
        side: which of the two.
        seed: of initialisation and order of the images.
        initialisation: what the backbone starts from, or None to start from random weights.
        changes: dotted key -> value, on top of what the pair says.
    """
    tier, is_teacher = setting.tier, side == "teacher"
    config = base_config(setting, side, changes, keeps_synchronised=setting.processes > 1)
    if tier.schedule is not None:
        lengths = tier.schedule.lengths(setting.pair.head)
        epochs = lengths.teacher_epochs if is_teacher else lengths.student_epochs
        lr = lengths.teacher_lr if is_teacher else lengths.student_lr
        set_schedule(config, tier.schedule, epochs=epochs, lr=lr)
    else:
        keep_schedule(config, setting)
    if initialisation is not None:
        start = ConfigDict(
            type="InitialisationHook", path=str(initialisation.path), sha256=initialisation.sha256, part="backbone"
        )
        config.custom_hooks = [*(config.get("custom_hooks") or []), start]
    config.randomness = ConfigDict(seed=seed)
    return config


def compose_cell(setting: Setting, cell: Distillation, *, seed: int) -> Config:
    """Return the config that trains the student under a method, beside the frozen teacher."""
    pair, tier = setting.pair, setting.tier
    config = _training(setting, "student", seed=seed, initialisation=cell.start, changes=cell.config)
    # Necks of reduced models have other shapes on both sides, so there all methods start from the same student.
    parts = [part if tier.model is None else replace(part, inherits=[]) for part in cell.parts]
    change = trained_as(cell.parts)
    optimizer, loader = config.optim_wrapper.optimizer, config.train_dataloader
    optimizer.lr *= change.rate_times
    if "weight_decay" in optimizer:
        optimizer.weight_decay *= change.decay_times
    if (batch := loader.batch_size * change.batch_times) != loader.batch_size:
        loader.batch_size = rounded(batch, setting)
    if change.length_times != 1:
        stretch(config, change.length_times)
    for hook in config.get("custom_hooks") or []:
        if hook.type == "InitialisationHook":
            hook.part = "student.backbone"
    config.model = ConfigDict(
        type="Distiller",
        student=config.model,
        teacher=base_config(setting, "teacher").model,
        teacher_weights=str(cell.teacher.path),
        teacher_sha256=cell.teacher.sha256,
        hook_points=pair.modules,
        head=pair.head,
        parts=[part.as_dict() for part in parts],  # a config is of plain values
        auxiliary_weights=cell.auxiliary and str(cell.auxiliary.path),
        auxiliary_sha256=cell.auxiliary and cell.auxiliary.sha256,
        seed=seed,
    )
    finish(config, setting)
    return config


def compose_test(setting: Setting, side: Side, weights: Path, predictions: Path, changes: dict[str, Any] | None = None) -> Config:
    """Return the config that writes one side's predictions on the test split.

    Args:
        setting: the pair at a tier.
        side: which of the two.
        weights: its state dict.
        predictions: a path without its ending.  COCO's result format for boxes (``.bbox.json``) and masks
            (``.segm.json``); a folder of label maps for segmentation.
        changes: changes of the student's method in its config.
    """
    config = base_config(setting, side, changes)
    config.load_from = str(weights)
    pair, origin = setting.pair, setting.origin
    if origin.published is None or not origin.published.keeps_evaluator:
        config.test_evaluator = ConfigDict(origin.evaluator(METRICS[pair.metric].writer(str(origin.truth()), str(predictions))))
    return config


def base_config(
    setting: Setting, side: Side, changes: dict[str, Any] | None = None, *, keeps_synchronised: bool = False
) -> Config:
    """Return a side's config at the tier's scale and on the tier's data, quiet, without initialisation from a file.

    Args:
        setting: the pair at a tier.
        side: which of the two.
        changes: dotted key -> value, on top of what the pair says.
        keeps_synchronised: norms that several processes synchronise stay; plain ones of one process are the same function.
    """
    pair, tier, origin = setting.pair, setting.tier, setting.origin
    config = published_side(pair, side)
    config.merge_from_dict(changes or {})
    pretrained = tier.pretraining is not None and is_pretrained(config.model)
    bare_backbone(config.model)
    if origin.classes is not None:
        set_classes(config.model, len(origin.classes))
    if tier.model is not None:
        config.model = scaled_model(config.model, tier.model, image_px=origin.image_px, is_pretrained=pretrained)
    if not keeps_synchronised:
        config.has_plain_norms = plain_norms(config.model)
    set_data(config, pair, origin, batch_size=setting.total_batch)
    set_hooks(config)
    # MMEngine would hand the preprocessor, which the model has already, to whatever wraps the model.
    for unused in ("vis_backends", "auto_scale_lr", "tta_model", "tta_pipeline", "data_preprocessor"):
        config.pop(unused, None)
    return config


def set_hooks(config: Config) -> None:
    """Set the hooks that every run needs, and no log of MMEngine's."""
    config.default_hooks = ConfigDict(
        timer=ConfigDict(type="IterTimerHook"),
        param_scheduler=ConfigDict(type="ParamSchedulerHook"),
        runtime_info=ConfigDict(type="IterationInfoHook"),
        sampler_seed=ConfigDict(type="DistSamplerSeedHook"),
        # Two are kept: a run that is killed while it writes the newer one goes on from the other.
        checkpoint=ConfigDict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
        logger=None,
    )
    config.log_level = "ERROR"
    config.visualizer = None


def bare_backbone(model: ConfigDict) -> None:
    """Take the ImageNet weights out: they are named by a scheme that needs torchvision or the network."""
    model.backbone.pop("init_cfg", None)
    if "pretrained" in model:
        model.pretrained = None
