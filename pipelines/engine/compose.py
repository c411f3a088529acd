"""From pair, tier, recipe and seed to the MMEngine ``Config`` of one training or evaluation.

Everything starts from the installed published config and what the pair's authors changed in it; a tier with a
scale then replaces data (``sources.py``), models (``scaling.py``) and schedule.
Every function returns a config of its own.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config, ConfigDict

import pipelines.engine.classifier  # noqa: F401  (registers what a backbone is trained as)
from benchmarks.metrics import METRICS
from benchmarks.pair import Pair
from benchmarks.tier import Pretraining, Schedule, Tier
from methods.recipe import ResolvedPart
from pipelines.engine.backbones import Backbone, is_pretrained, published_side
from pipelines.engine.data_configs import Source, set_data
from pipelines.engine.hooks import POINT_EVERY
from pipelines.engine.scaling import plain_norms, scaled_model, set_classes
from pipelines.params import trained_as

Side = Literal["teacher", "student"]
_PRETRAINING_EVAL_BATCH = 200


@dataclass(frozen=True)
class Weights:
    """A weight file and the sha256 that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Setting:
    """A pair at a tier, on its data.

    Args:
        pair: what is published.
        tier: the scale.
        origin: where images and labels are read.
        batch_size: images a step at a published schedule, where it is not the pair's; the rate follows linearly.
    """

    pair: Pair
    tier: Tier
    origin: Source
    batch_size: int | None = None


@dataclass(frozen=True)
class Distillation:
    """What a cell adds to its student's own training.

    Args:
        parts: the combined methods.
        config: what its authors changed in the student's config, dotted key -> value.
    """

    parts: list[ResolvedPart]
    teacher: Weights
    prior: Weights | None
    config: dict[str, Any] = field(default_factory=dict)


def compose_training(
    setting: Setting, side: Side, *, seed: int, initialisation: Weights | None = None, changes: dict[str, Any] | None = None
) -> Config:
    """Return the config that trains one side of the pair on its own.

    Args:
        setting: the pair at a tier.
        side: which of the two.
        seed: of initialisation and order of the images.
        initialisation: what the backbone starts from, or None to start from random weights.
        changes: dotted key -> value, on top of what the pair says.
    """
    tier, is_teacher = setting.tier, side == "teacher"
    config = _base(setting, side, changes)
    if tier.schedule is not None:
        lengths = tier.schedule.lengths(setting.pair.head)
        epochs = lengths.teacher_epochs if is_teacher else lengths.student_epochs
        lr = lengths.teacher_lr if is_teacher else lengths.student_lr
        _set_schedule(config, tier.schedule, epochs=epochs, lr=lr)
    else:
        _keep_schedule(config, setting)
    if initialisation is not None:
        start = ConfigDict(
            type="InitialisationHook", path=str(initialisation.path), sha256=initialisation.sha256, part="backbone"
        )
        config.custom_hooks = [*(config.get("custom_hooks") or []), start]
    config.randomness = ConfigDict(seed=seed)
    return config


def compose_cell(setting: Setting, cell: Distillation, *, seed: int, initialisation: Weights | None = None) -> Config:
    """Return the config that trains the student under a method, the teacher looking on."""
    pair, tier = setting.pair, setting.tier
    config = compose_training(setting, "student", seed=seed, initialisation=initialisation, changes=cell.config)
    # Shrunk necks have other shapes on both sides, so at a scaled tier all methods start from the same student.
    parts = [part if tier.model is None else replace(part, inherits=[]) for part in cell.parts]
    change = trained_as(cell.parts)
    optimizer, loader = config.optim_wrapper.optimizer, config.train_dataloader
    optimizer.lr *= change.rate_times
    if "weight_decay" in optimizer:
        optimizer.weight_decay *= change.decay_times
    if (batch := loader.batch_size * change.batch_times) != loader.batch_size:
        loader.batch_size = max(1, round(batch))
    if change.length_times != 1:
        stretch(config, change.length_times)
    for hook in config.get("custom_hooks") or []:
        if hook.type == "InitialisationHook":
            hook.part = "student.backbone"
    config.model = ConfigDict(
        type="Distiller",
        student=config.model,
        teacher=_base(setting, "teacher").model,
        teacher_weights=str(cell.teacher.path),
        teacher_sha256=cell.teacher.sha256,
        taps=pair.modules,
        head=pair.head,
        parts=[part.as_dict() for part in parts],  # a config is of plain values
        prior_weights=cell.prior and str(cell.prior.path),
        prior_sha256=cell.prior and cell.prior.sha256,
        seed=seed,
    )
    return config


def started_from(config: Config) -> str | None:
    """The sha256 of what a composed training's backbone starts from; None where that is random weights."""
    return next((hook.sha256 for hook in config.get("custom_hooks") or [] if hook.type == "InitialisationHook"), None)


def compose_prior(
    setting: Setting, teacher: Weights, *, code: str, hparams: dict[str, Any], training: dict[str, Any], seed: int
) -> Config:
    """Return the config that learns a method's prior on the frozen teacher.

    ``code`` is the method's module, ``training`` its recipe's ``iterations``, ``lr``, ``weight_decay``, ``optimizer``
    and ``clip_grad_norm``.
    """
    config = _base(setting, "teacher")
    config.model = ConfigDict(
        type="PriorLearner",
        teacher=config.model,
        teacher_weights=str(teacher.path),
        teacher_sha256=teacher.sha256,
        taps=setting.pair.modules,
        code=code,
        hparams=hparams,
        seed=seed,
    )
    iterations = training["iterations"]
    optimizer = {"type": training["optimizer"], "lr": training["lr"], "weight_decay": training["weight_decay"]}
    if training["optimizer"] == "SGD":
        optimizer["momentum"] = 0.9
    config.optim_wrapper = ConfigDict(type="OptimWrapper", optimizer=optimizer)
    if training["clip_grad_norm"] is not None:
        config.optim_wrapper.clip_grad = ConfigDict(max_norm=training["clip_grad_norm"])
    config.param_scheduler = [ConfigDict(type="CosineAnnealingLR", by_epoch=False, T_max=iterations, eta_min=1e-6)]
    config.train_cfg = ConfigDict(type="IterBasedTrainLoop", max_iters=iterations)
    # The masked teacher is no model that anybody would use: nothing to validate.
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    config.default_hooks.checkpoint.update(by_epoch=False, interval=POINT_EVERY)
    config.train_dataloader.sampler = ConfigDict(type="InfiniteSampler", shuffle=True)
    config.train_dataloader.pop("batch_sampler", None)
    config.randomness = ConfigDict(seed=seed)
    return config


def compose_pretraining(backbone: Backbone, wanted: Pretraining, *, seed: int) -> Config:
    """Return the config that trains a backbone as a classifier of one-digit scenes."""

    def loader(split: str, batch_size: int) -> ConfigDict:
        return ConfigDict(
            batch_size=batch_size,
            num_workers=0,
            sampler=ConfigDict(type="DefaultSampler", shuffle=split == "train"),
            dataset=ConfigDict(type="OneDigitScenes", spec=wanted.scenes.model_dump(mode="json"), split=split),
            drop_last=split == "train",
        )

    config = Config(
        {
            "default_scope": backbone.scope,
            "model": {
                "type": "BackboneClassifier",
                "backbone": backbone.config,
                "channels": backbone.channels,
                "data_preprocessor": {"type": "ImgDataPreprocessor", **backbone.preprocessing},
            },
            "train_dataloader": loader("train", wanted.batch_size),
            "val_dataloader": loader("tune", _PRETRAINING_EVAL_BATCH),
            "val_evaluator": {"type": "ShareRight"},
            "val_cfg": {"type": "ValLoop"},
            "randomness": {"seed": seed},
        }
    )
    _set_schedule(config, wanted, epochs=wanted.epochs, lr=wanted.lr)
    _be_quiet(config)
    return config


def compose_test(setting: Setting, side: Side, weights: Path, predictions: Path, changes: dict[str, Any] | None = None) -> Config:
    """Return the config that writes one side's predictions on the test split.

    Args:
        setting: the pair at a tier.
        side: which of the two.
        weights: its state dict.
        predictions: a path without its ending.  COCO's result format for boxes (``.bbox.json``) and masks
            (``.segm.json``); a folder of label maps for segmentation.
        changes: what the student's method changed in its config.
    """
    config = _base(setting, side, changes)
    config.load_from = str(weights)
    pair, origin = setting.pair, setting.origin
    if origin.published is None or not origin.published.keeps_evaluator:
        config.test_evaluator = ConfigDict(METRICS[pair.metric].writer(str(origin.truth()), str(predictions)))
    return config


def _base(setting: Setting, side: Side, changes: dict[str, Any] | None = None) -> Config:
    """A side's config at the tier's scale and on the tier's data, quiet, without initialisation from a file."""
    pair, tier, origin = setting.pair, setting.tier, setting.origin
    config = published_side(pair, side)
    config.merge_from_dict(changes or {})
    pretrained = tier.pretraining is not None and is_pretrained(config.model)
    bare_backbone(config.model)
    if origin.classes is not None:
        set_classes(config.model, len(origin.classes))
    if tier.model is not None:
        config.model = scaled_model(config.model, tier.model, image_px=origin.image_px, is_pretrained=pretrained)
    plain_norms(config.model)
    set_data(
        config,
        pair,
        origin,
        batch_size=tier.schedule.lengths(pair.head).batch_size if tier.schedule else setting.batch_size or pair.batch_size,
    )
    _be_quiet(config)
    # MMEngine would hand the preprocessor, which the model has already, to whatever wraps the model.
    for unused in ("vis_backends", "auto_scale_lr", "tta_model", "tta_pipeline", "data_preprocessor"):
        config.pop(unused, None)
    return config


def _be_quiet(config: Config) -> None:
    """The hooks that every training needs, and no log of MMEngine's."""
    config.default_hooks = ConfigDict(
        timer=ConfigDict(type="IterTimerHook"),
        param_scheduler=ConfigDict(type="ParamSchedulerHook"),
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


def _set_schedule(config: Config, schedule: Schedule | Pretraining, *, epochs: int, lr: float) -> None:
    """AdamW with a linear warm-up and a cosine to zero, stepped every iteration."""
    adamw = {"type": "AdamW", "lr": lr, "weight_decay": schedule.weight_decay, "fused": True}
    config.optim_wrapper = ConfigDict(
        type="OptimWrapper", optimizer=adamw, clip_grad=ConfigDict(max_norm=schedule.clip_grad_norm)
    )
    warmup = schedule.warmup_iterations
    config.param_scheduler = [
        ConfigDict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        ConfigDict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
    ]
    config.train_cfg = ConfigDict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=1)


def stretch(config: Config, times: float) -> None:
    """Make a schedule some times as long, warm-up, steps and decay with it; whole epochs or iterations, one at least."""
    loop = config.train_cfg
    key = "max_epochs" if "max_epochs" in loop else "max_iters"
    length = max(1, round(times * loop[key]))
    factor = length / loop[key]
    loop[key] = length
    for scheduler in config.param_scheduler:
        for name in ("begin", "end", "T_max"):
            if scheduler.get(name) is not None:
                scheduler[name] = round(factor * scheduler[name])
        if "milestones" in scheduler:
            scheduler.milestones = [round(factor * step) for step in scheduler.milestones]


def _keep_schedule(config: Config, setting: Setting) -> None:
    """The published schedule; its rate is that of the pair's batch, and follows another batch linearly."""
    pair = setting.pair
    batch_size = setting.batch_size or pair.batch_size
    config.train_dataloader.batch_size = batch_size
    config.optim_wrapper.optimizer.lr *= batch_size / pair.batch_size
    by_epoch = config.train_cfg.get("type") != "IterBasedTrainLoop"
    checkpoint = config.default_hooks.checkpoint
    if not by_epoch:
        checkpoint.update(by_epoch=False, interval=config.train_cfg.val_interval)
    if pair.reported == "best":
        checkpoint.save_best = METRICS[pair.metric].save_best
    elif setting.origin.classes is None:
        # Published data have no split to validate on but the one that is reported; only the last weights are used.
        config.val_dataloader = config.val_evaluator = config.val_cfg = None
        config.train_cfg.pop("val_interval", None)
