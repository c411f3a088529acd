"""From pair, tier, recipe and seed to the MMEngine ``Config`` of one training or evaluation.

Everything starts from the installed published config; a tier with a scale then replaces backbone,
pyramid, head size, data and schedule.
Every function returns a config of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config, ConfigDict

from benchmarks.pair import Pair
from benchmarks.scenes import CLASSES
from benchmarks.tier import ModelScale, Schedule, Tier
from pipelines.engine.hooks import POINT_EVERY
from pipelines.engine.mmlab import published_config

Side = Literal["teacher", "student"]

# Stage widths of a ResNet, in base_channels, when it is built of basic blocks (depth 18 and 34).
_STAGE_WIDTHS = (1, 2, 4, 8)
_RESNET_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Weights:
    """A weight file and the sha256 that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Distillation:
    """What a cell adds to its student's own training."""

    parts: list[dict[str, Any]]  # {name, code, hparams, inherits} of each method that is joined
    teacher: Weights
    prior: Weights | None


def compose_training(pair: Pair, side: Side, tier: Tier, data: Path, *, seed: int) -> Config:
    """Return the config that trains one side of the pair on its own."""
    config = _base(pair, side, tier, data)
    if tier.schedule is not None:
        is_teacher = side == "teacher"
        epochs = tier.schedule.teacher_epochs if is_teacher else tier.schedule.student_epochs
        lr = tier.schedule.teacher_lr if is_teacher else tier.schedule.student_lr
        _set_schedule(config, tier.schedule, epochs=epochs, lr=lr)
    config.randomness = ConfigDict(seed=seed)
    return config


def compose_cell(pair: Pair, tier: Tier, data: Path, cell: Distillation, *, seed: int) -> Config:
    """Return the config that trains the student under a method, the teacher looking on."""
    config = compose_training(pair, "student", tier, data, seed=seed)
    # Shrunk necks have other shapes on both sides, so at a scaled tier all methods start from the same student.
    parts = [part if tier.model is None else {**part, "inherits": []} for part in cell.parts]
    config.model = ConfigDict(
        type="Distiller",
        student=config.model,
        teacher=_without_initialisation(_base(pair, "teacher", tier, data).model),
        teacher_weights=str(cell.teacher.path),
        teacher_sha256=cell.teacher.sha256,
        taps=dict(pair.taps),
        head=pair.head,
        parts=parts,
        prior_weights=cell.prior and str(cell.prior.path),
        prior_sha256=cell.prior and cell.prior.sha256,
        seed=seed,
    )
    return config


def compose_prior(
    pair: Pair,
    tier: Tier,
    data: Path,
    teacher: Weights,
    *,
    code: str,
    hparams: dict[str, Any],
    training: dict[str, Any],
    seed: int,
) -> Config:
    """Return the config that learns a method's prior on the frozen teacher.

    ``code`` is the method's module, ``training`` its recipe's ``iterations``, ``lr``, ``weight_decay``.
    """
    config = _base(pair, "teacher", tier, data)
    config.model = ConfigDict(
        type="PriorLearner",
        teacher=_without_initialisation(config.model),
        teacher_weights=str(teacher.path),
        teacher_sha256=teacher.sha256,
        taps=dict(pair.taps),
        code=code,
        hparams=hparams,
        seed=seed,
    )
    iterations = training["iterations"]
    adam = {"type": "Adam", "lr": training["lr"], "weight_decay": training["weight_decay"]}
    config.optim_wrapper = ConfigDict(type="OptimWrapper", optimizer=adam)
    config.param_scheduler = [ConfigDict(type="CosineAnnealingLR", by_epoch=False, T_max=iterations, eta_min=1e-6)]
    config.train_cfg = ConfigDict(type="IterBasedTrainLoop", max_iters=iterations)
    # The masked teacher is no detector that anybody would use: nothing to validate.
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    config.default_hooks.checkpoint.update(by_epoch=False, interval=POINT_EVERY)
    config.train_dataloader.sampler = ConfigDict(type="InfiniteSampler", shuffle=True)
    config.train_dataloader.pop("batch_sampler", None)
    config.randomness = ConfigDict(seed=seed)
    return config


def compose_test(pair: Pair, side: Side, tier: Tier, data: Path, weights: Path, predictions: Path) -> Config:
    """Return the config that writes one side's detections on the test split, in COCO's result format.

    ``predictions`` is a path without its ending; mmdet adds ``.bbox.json``.
    """
    config = _base(pair, side, tier, data)
    config.load_from = str(weights)
    config.test_evaluator = ConfigDict(
        type="CocoMetric",
        ann_file=config.test_dataloader.dataset.ann_file
        if tier.scenes is None
        else str(data / config.test_dataloader.dataset.ann_file),
        metric="bbox",
        format_only=True,
        outfile_prefix=str(predictions),
    )
    config.model = _without_initialisation(config.model)
    return config


def _base(pair: Pair, side: Side, tier: Tier, data: Path) -> Config:
    """The published config of a side at the tier's scale, quiet and deterministic."""
    config = published_config(getattr(pair, side).config)
    if tier.model is not None and tier.scenes is not None and tier.schedule is not None:
        config.model = _scaled_model(config.model, tier.model, num_classes=len(CLASSES))
        _set_scenes(config, data, image_px=tier.scenes.image_px, batch_size=tier.schedule.batch_size)
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
    config.pop("vis_backends", None)
    return config


def _scaled_model(model: ConfigDict, scale: ModelScale, *, num_classes: int) -> ConfigDict:
    """The published model shrunk: backbone by the tier's table, trained from scratch, fewer levels."""
    scaled = _without_initialisation(model)
    published = f"{model.backbone.type}-{model.backbone.depth}"
    if published not in scale.backbones:
        known = ", ".join(sorted(scale.backbones))
        raise ValueError(
            f"the tier does not say what replaces backbone {published} (it knows: {known}); add it under model.backbones"
        )
    backbone = scale.backbones[published]
    scaled.backbone.update(depth=backbone.depth, base_channels=backbone.base_channels)
    # Frozen stages and frozen batch statistics belong to a pretrained backbone.
    scaled.backbone.update(frozen_stages=-1, norm_eval=False)
    widths = [backbone.base_channels * width for width in _STAGE_WIDTHS]
    # Stage 1 of a ResNet has stride 4, and each further one twice that.
    start_level = _RESNET_STRIDES.index(scale.strides[0])
    scaled.neck.update(in_channels=widths, out_channels=scale.neck_channels, start_level=start_level, num_outs=len(scale.strides))
    if "roi_head" in scaled:
        _scale_two_stage(scaled, scale, num_classes)
    else:
        _scale_one_stage(scaled.bbox_head, scale, num_classes)
    return scaled


def _scale_one_stage(head: ConfigDict, scale: ModelScale, num_classes: int) -> None:
    head.update(
        num_classes=num_classes,
        in_channels=scale.neck_channels,
        feat_channels=scale.neck_channels,
        stacked_convs=scale.stacked_convs,
        # The published head normalises 256 channels in 32 groups.
        norm_cfg=ConfigDict(type="GN", num_groups=scale.neck_channels // 8, requires_grad=True),
    )
    head.anchor_generator.update(strides=list(scale.strides), octave_base_scale=scale.octave_base_scale)


def _scale_two_stage(model: ConfigDict, scale: ModelScale, num_classes: int) -> None:
    width, strides = scale.neck_channels, list(scale.strides)
    model.rpn_head.update(in_channels=width, feat_channels=width)
    model.rpn_head.anchor_generator.update(strides=strides, scales=[scale.octave_base_scale])
    extractor, head = model.roi_head.bbox_roi_extractor, model.roi_head.bbox_head
    extractor.update(featmap_strides=strides, out_channels=width, finest_scale=scale.roi.finest_px)
    extractor.roi_layer.output_size = scale.roi.pool
    head.update(num_classes=num_classes, in_channels=width, fc_out_channels=scale.roi.fc_channels, roi_feat_size=scale.roi.pool)
    model.train_cfg.rcnn.sampler.num = scale.roi.samples
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms_pre=scale.roi.proposals, max_per_img=scale.roi.proposals)


def _without_initialisation(model: ConfigDict) -> ConfigDict:
    """The model without its ImageNet weights: it is trained from scratch or gets a checkpoint."""
    bare = ConfigDict(model)
    bare.backbone = ConfigDict(bare.backbone)
    bare.backbone.pop("init_cfg", None)
    return bare


def _set_scenes(config: Config, data: Path, *, image_px: int, batch_size: int) -> None:
    """Read the generated scenes: train for training, tune for validation, test for the result."""
    load = [ConfigDict(type="LoadImageFromFile"), ConfigDict(type="LoadAnnotations", with_bbox=True)]
    # Not flipped: a mirrored digit is no digit.
    resize = ConfigDict(type="Resize", scale=(image_px, image_px), keep_ratio=True)
    meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    pipeline = [*load, resize, ConfigDict(type="PackDetInputs", meta_keys=meta)]

    def loader(split: str, *, training: bool) -> ConfigDict:
        dataset = ConfigDict(
            type="CocoDataset",
            data_root=f"{data}/",
            ann_file=f"{split}.json",
            data_prefix=ConfigDict(img=f"{split}/"),
            metainfo=ConfigDict(classes=CLASSES),
            pipeline=pipeline,
            test_mode=not training,
        )
        if training:
            dataset.filter_cfg = ConfigDict(filter_empty_gt=True)
        sampler = ConfigDict(type="DefaultSampler", shuffle=training)
        return ConfigDict(
            batch_size=batch_size if training else 50, num_workers=0, sampler=sampler, dataset=dataset, drop_last=training
        )

    config.train_dataloader = loader("train", training=True)
    config.val_dataloader = loader("tune", training=False)
    config.test_dataloader = loader("test", training=False)
    config.val_evaluator = ConfigDict(type="CocoMetric", ann_file=f"{data}/tune.json", metric="bbox")


def _set_schedule(config: Config, schedule: Schedule, *, epochs: int, lr: float) -> None:
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
