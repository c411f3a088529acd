"""A backbone trained as a classifier: the model, its images, its accuracy and its config.

What is learned here takes the place of ImageNet's weights; the linear layer behind the backbone is thrown away.
"""

import hashlib
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.synthetic import CLASSES, SceneSpec, draw_scene
from benchmarks.tier import Pretraining
from pipelines.engine.backbones import Backbone
from pipelines.engine.compose import set_hooks
from pipelines.engine.schedules import set_schedule

_EVAL_BATCH = 200


@MODELS.register_module()
class BackboneClassifier(BaseModel):  # type: ignore[misc]
    """A backbone, its last level averaged over all positions, and a linear layer.

    Args:
        backbone: config; it gives a tuple of levels (N, C, H, W), or one.
        channels: C of the last of them.
        data_preprocessor: MMEngine's, which brings images to the mean and deviation that the backbone's detectors use.
    """

    def __init__(self, backbone: dict[str, Any], channels: int, data_preprocessor: dict[str, Any]) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(channels, len(CLASSES))

    def forward(self, inputs: Tensor, data_samples: list[int], mode: str = "tensor") -> Any:
        """Return logits (N, K), or the loss, or as predictions a list of ``{right}`` per image; ``data_samples`` are classes."""
        levels = self.backbone(inputs)
        last_NCHW = levels[-1] if isinstance(levels, (tuple, list)) else levels
        logits_NK = self.head(last_NCHW.mean(dim=(2, 3)))
        labels_N = torch.as_tensor(data_samples, device=logits_NK.device)
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(logits_NK, labels_N)}
        if mode == "predict":
            return [{"right": right} for right in (logits_NK.argmax(1) == labels_N).tolist()]
        return logits_NK


@DATASETS.register_module()
class OneDigitScenes(Dataset[dict[str, Any]]):
    """Synthetic images of one digit, drawn at construction and kept in memory: ``{inputs: (3, H, W) BGR, data_samples: class}``.

    Args:
        spec: a :class:`SceneSpec`, of one digit per image.
        split: of the specification.
    """

    def __init__(self, spec: dict[str, Any], split: str) -> None:
        described = SceneSpec.model_validate(spec)
        scenes = [draw_scene(described, split, index) for index in range(getattr(described, split))]
        images_NCHW = np.stack([scene.image_HWC[..., ::-1].transpose(2, 0, 1) for scene in scenes])
        self.images_NCHW = torch.from_numpy(np.ascontiguousarray(images_NCHW))
        self.labels_N = [scene.classes[0] for scene in scenes]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels_N)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One image."""
        return {"inputs": self.images_NCHW[index], "data_samples": self.labels_N[index]}


@METRICS.register_module()
class DigitAccuracy(BaseMetric):  # type: ignore[misc]
    """Fraction of images whose class is named, as ``scenes/accuracy``."""

    def process(self, data_batch: Any, data_samples: Any) -> None:  # noqa: ARG002 (MMEngine's)
        """Keep which were right."""
        self.results.extend(float(sample["right"]) for sample in data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Average."""
        return {"scenes/accuracy": sum(results) / len(results)}


def scenes_digest(spec: SceneSpec) -> str:
    """Digest of all that the synthetic data depend on, except the code that draws them."""
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def compose_pretraining(backbone: Backbone, wanted: Pretraining, *, seed: int) -> Config:
    """Return the config that trains a backbone as a classifier of synthetic images of one digit."""

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
            "val_dataloader": loader("tune", _EVAL_BATCH),
            "val_evaluator": {"type": "DigitAccuracy"},
            "val_cfg": {"type": "ValLoop"},
            "randomness": {"seed": seed},
        }
    )
    set_schedule(config, wanted, epochs=wanted.epochs, lr=wanted.lr)
    set_hooks(config)
    return config
