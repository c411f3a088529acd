"""Backbones that start from ImageNet where they are published, and their form at a tier's scale.

A backbone is known by its published name (``resnet50``, ``resnetv1c101``, ``resnet101_caffe``): two pairs that start from the same
published weights start from the same ones here.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mmengine.config import Config, ConfigDict

from benchmarks.pair import Pair
from benchmarks.tier import ModelScale
from pipelines.engine.published import published_config
from pipelines.engine.scaling import plain_norms, scaled_backbone


@dataclass(frozen=True)
class Backbone:
    """A reduced backbone as it is trained alone.

    Args:
        scope: MMLab's package that it is of.
        config: of the backbone, undilated and nothing frozen.
        channels: width of its last level.
        preprocessing: mean, deviation and order of the channels that the pair's models expect.
    """

    scope: str
    config: dict[str, Any]
    channels: int
    preprocessing: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For stage ``pretrain``."""
        return asdict(self)


def is_pretrained(model: ConfigDict) -> bool:
    """Return True for a published model whose backbone starts from weights of ImageNet."""
    init = model.backbone.get("init_cfg") or {}
    return bool(model.get("pretrained")) or (isinstance(init, dict) and init.get("type") == "Pretrained")


def published_side(pair: Pair, side: Literal["teacher", "student"]) -> Config:
    """Return the published config of one side with the changes of the pair's authors."""
    published = getattr(pair, side)
    config = published_config(published.config)
    config.merge_from_dict(published.changes)
    return config


def backbone_of(pair: Pair, side: Literal["teacher", "student"], scale: ModelScale) -> tuple[str, Backbone] | None:
    """Return name and reduced form of the backbone that one side of a pair starts from; None where it starts from random weights.

    Raises:
        ValueError: the tier has no replacement for the backbone.
    """
    config = published_side(pair, side)
    if not is_pretrained(config.model):
        return None
    published = config.model.backbone
    reduced, widths = scaled_backbone(published, scale, is_pretrained=False)
    reduced.pop("init_cfg", None)
    if published.type.startswith("ResN"):
        # A segmenter's last stages keep their resolution; what a stage's weights are does not depend on it.
        reduced.update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(3,))
        reduced.pop("contract_dilation", None)
        reduced.setdefault("norm_cfg", ConfigDict(type="BN", requires_grad=True))  # as where nothing is said
    plain_norms(reduced)
    given = config.model.data_preprocessor
    preprocessing = {key: given[key] for key in ("mean", "std", "bgr_to_rgb") if key in given}
    found = Backbone(config.default_scope, reduced.to_dict(), widths[-1], preprocessing)
    return backbone_name(published), found


def backbone_name(published: ConfigDict) -> str:
    """``resnet50``: as the grid's ``backbones`` and the folders of their records call it."""
    size = published.get("depth") or published.get("embed_dims") or ""
    # Caffe's weights belong to other means and deviations of the input.
    return f"{published.type.lower()}{size}" + ("_caffe" if published.get("style") == "caffe" else "")


def backbones_of(pairs: dict[str, Pair], scale: ModelScale) -> dict[str, tuple[Backbone, str]]:
    """Return all backbones that the pairs start from, by name, and the first side that does, in words.

    Raises:
        ValueError: two sides call different models by one name.
    """
    found: dict[str, tuple[Backbone, str]] = {}
    for pair_name, pair in pairs.items():
        for side in ("teacher", "student"):
            named = backbone_of(pair, side, scale)
            if named is None:
                continue
            name, backbone = named
            first, whose = found.setdefault(name, (backbone, f"the {side} of {pair_name}"))
            if first != backbone:
                raise ValueError(
                    f"benchmarks/pairs/{pair_name}.yaml: its {side} starts from {name}, as does {whose}, and the two are different "
                    "models at this tier; leave one pair out"
                )
    return found
