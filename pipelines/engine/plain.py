"""A trained model as plain MMDetection or MMSegmentation loads it: a config of one file and a checkpoint, without this project."""

from pathlib import Path
from typing import Any

import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from torch import nn

from benchmarks.whole_file import replacing
from pipelines.engine.compose import base_config
from pipelines.engine.data_configs import dicts
from pipelines.engine.mmlab import build_model, quiet
from pipelines.engine.setting import Setting, Side
from pipelines.engine.state_dicts import State, load_whole

CONFIG = "config.py"
_DATA = "data/"  # in place of the folder on this machine
_CHANGED = "pair, tier or method has changed since it was trained; run it again: make repro"


def plain_config(setting: Setting, side: Side, changes: dict[str, Any] | None = None) -> Config:
    """Return one side's config for inference: model, test pipeline and the loader of the test split, whose images have no labels.

    Args:
        setting: the pair at a tier.
        side: ``teacher`` or ``student``.
        changes: changes of the student's method in its config.
    """
    whole = base_config(setting, side, changes)
    steps = get_test_pipeline_cfg(whole)
    steps[:] = [step for step in steps if step.type.rpartition(".")[2] != "LoadAnnotations"]
    parts = {key: whole[key] for key in ("default_scope", "model", "test_dataloader")}
    config = ConfigDict(**parts, test_pipeline=steps)
    origin = setting.origin
    for part in dicts(config):
        for key, value in part.items():
            if isinstance(value, str) and value.startswith(f"{origin.root}/"):
                part[key] = (origin.published.config_root if origin.published else _DATA) + value[len(f"{origin.root}/") :]
    return Config(config.to_dict())


def preprocessing(config: Config) -> dict[str, Any]:
    """Return what the card says of the way from an image to a network's input."""
    given = config.model.data_preprocessor
    resize: Any = next((step for step in config.test_pipeline if step.type.endswith("Resize")), None)
    size = "as the image"
    if resize is not None and "scale" in resize:
        size = (
            f"{resize.scale[0]} x {resize.scale[1]} (width x height){', aspect ratio kept' if resize.get('keep_ratio') else ''}"
        )
    return {
        "mean": list(given.get("mean", (0, 0, 0))),
        "std": list(given.get("std", (1, 1, 1))),
        "is_rgb": given.get("bgr_to_rgb", False),
        "divisor": given.get("pad_size_divisor", 1),
        "size": size,
    }


def write_model(config: Config, state: State, facts: dict[str, Any], checkpoint: Path) -> nn.Module:
    """Write config and checkpoint (tensors, names of classes and facts, for ``torch.load(weights_only=True)``); return the model.

    Args:
        config: of :func:`plain_config`.
        state: the model's weights.
        facts: plain values, kept under ``meta`` and there under ``kd``.
        checkpoint: its file; the config is written beside it.

    Raises:
        ValueError: the weights are not of the config's model.
    """
    written = checkpoint.with_name(CONFIG)
    config.dump(written)
    config = Config.fromfile(written)
    model = build_model(config)
    load_whole(model, state, checkpoint, _CHANGED)
    with quiet(), DefaultScope.overwrite_default_scope(config.default_scope):
        metainfo = DATASETS.build({**config.test_dataloader.dataset, "lazy_init": True}).metainfo
    classes = list(metainfo["classes"])
    dataset_meta = {"classes": classes}
    if metainfo.get("palette"):
        dataset_meta["palette"] = [[int(value) for value in colour] for colour in metainfo["palette"][: len(classes)]]
    with replacing(checkpoint, by=checkpoint.with_suffix(".partial")) as partial:
        torch.save({"meta": {"dataset_meta": dataset_meta, "kd": facts}, "state_dict": dict(state)}, partial)
    return model.eval()
