"""Training schedules: a tier's own, the published one, and either of another length."""

from mmengine.config import Config, ConfigDict

from benchmarks.metrics import METRICS
from benchmarks.tier import Pretraining, Schedule
from pipelines.engine.setting import Setting


def set_schedule(config: Config, schedule: Schedule | Pretraining, *, epochs: int, lr: float) -> None:
    """Set AdamW with a linear warm-up and a cosine to zero, stepped every iteration."""
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


def keep_schedule(config: Config, setting: Setting) -> None:
    """Keep the published schedule; its learning rate is that of the pair's batch size, and follows another batch size linearly."""
    pair = setting.pair
    config.train_dataloader.batch_size = setting.total_batch
    config.optim_wrapper.optimizer.lr *= setting.total_batch / pair.batch_size
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
