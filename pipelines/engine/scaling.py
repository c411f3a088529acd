"""A published model reduced to a tier's scale: the same kind of model, narrower and shallower.

Sizes that a published config states in pixels of COCO's images (anchors, ranges of regression and of masks) shrink by
one factor, as the tier's objects are smaller: ``octave_base_scale`` over the 8 of GFL and ATSS.
"""

import copy
from collections.abc import Callable
from typing import Any

from mmengine.config import ConfigDict

from benchmarks.tier import MobileNetScale, ModelScale, ResNetScale, SwinScale
from pipelines.engine.data_configs import dicts

# Widths of a model's stages, in those of the first, and their strides in pixels.
_STAGE_WIDTHS = (1, 2, 4, 8)
_STAGE_STRIDES = (4, 8, 16, 32)
_MOBILENET_WIDTHS = (16, 24, 32, 64, 96, 160, 320)
_PUBLISHED_OCTAVE_BASE = 8
_FAR = 1e8  # the upper end of FCOS's last range, pixels


def scaled_model(model: ConfigDict, scale: ModelScale, *, image_px: int | None, is_pretrained: bool = False) -> ConfigDict:
    """Return the published model at a tier's scale; the number of its classes stays.

    Args:
        model: as published.
        scale: of the tier.
        image_px: side of its images.
        is_pretrained: the backbone starts from weights, as published: what the published config then freezes stays frozen.

    Raises:
        ValueError: the tier has no replacement for its backbone.
    """
    scaled = copy.deepcopy(model)
    scaled.backbone, widths = scaled_backbone(model.backbone, scale, is_pretrained=is_pretrained)
    if "decode_head" in scaled:
        _scale_segmenter(scaled, scale, widths, image_px)
        return scaled
    is_solo = scaled.get("mask_head", {}).get("type") == "SOLOHead"
    # SOLO's pyramid begins a level finer than those of other one-stage models.
    strides = [*([scale.strides[0] // 2] if is_solo else []), *scale.strides]
    _scale_neck(scaled.neck, scale, widths, strides)
    last = scaled.test_cfg.rcnn if "roi_head" in scaled else scaled.test_cfg
    last.max_per_img = scale.detections
    if "roi_head" in scaled:
        _scale_two_stage(scaled, scale)
    elif is_solo:
        _scale_solo(scaled.mask_head, scale, strides)
    else:
        _scale_dense(scaled, scale)
    return scaled


def scaled_backbone(published: ConfigDict, scale: ModelScale, *, is_pretrained: bool) -> tuple[ConfigDict, list[int]]:
    """Return the tier's backbone, and the widths of the levels that it gives; see :func:`scaled_model`."""
    name = published_name(published)
    if name not in scale.backbones:
        known = ", ".join(sorted(scale.backbones))
        raise ValueError(f"the tier does not say what replaces backbone {name} (it knows: {known}); add it under model.backbones")
    asked, backbone = scale.backbones[name], ConfigDict(published)
    if isinstance(asked, SwinScale):
        sizes = {"depths": list(asked.depths), "num_heads": list(asked.num_heads), "window_size": asked.window_size}
        backbone.update(embed_dims=asked.embed_dims, convert_weights=False, **sizes)
        return backbone, [asked.embed_dims * _STAGE_WIDTHS[index] for index in backbone.out_indices]
    if isinstance(asked, MobileNetScale):
        backbone.widen_factor = asked.widen_factor
        return backbone, [_divisible(_MOBILENET_WIDTHS[index] * asked.widen_factor) for index in backbone.out_indices]
    return _resnet(backbone, asked, is_pretrained=is_pretrained)


def published_name(published: ConfigDict) -> str:
    """Name of a published backbone in a tier's file, such as ``ResNet-101``."""
    suffix = {"SwinTransformer": "embed_dims", "MobileNetV2": None}.get(published.type, "depth")
    return published.type if suffix is None else f"{published.type}-{published[suffix]}"


def _resnet(backbone: ConfigDict, asked: ResNetScale, *, is_pretrained: bool) -> tuple[ConfigDict, list[int]]:
    # A ResNeXt's groups and deformable convolutions are of bottlenecks, which a ResNet of this depth has not.
    for key in ("groups", "base_width", "dcn", "stage_with_dcn"):
        backbone.pop(key, None)
    backbone.type = "ResNet" if backbone.type == "ResNeXt" else backbone.type
    backbone.update(depth=asked.depth, base_channels=asked.base_channels)
    if not is_pretrained:  # frozen stages, norms and batch statistics belong to a pre-trained backbone
        backbone.update(frozen_stages=-1, norm_eval=False)
        if "norm_cfg" in backbone:
            backbone.norm_cfg = ConfigDict(backbone.norm_cfg, requires_grad=True)
    if "stem_channels" in backbone or backbone.type == "ResNetV1c":
        backbone.stem_channels = asked.base_channels
    return backbone, [asked.base_channels * _STAGE_WIDTHS[index] for index in backbone.out_indices]


def _divisible(width: float) -> int:
    """MobileNetV2's rounding of widths to multiples of 8, never down by more than a tenth."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


def _groups(width: int) -> ConfigDict:
    # Published heads and necks normalise 256 channels in 32 groups.
    return ConfigDict(type="GN", num_groups=width // 8, requires_grad=True)


def _scale_neck(neck: ConfigDict, scale: ModelScale, widths: list[int], strides: list[int]) -> None:
    first = _STAGE_STRIDES[len(_STAGE_STRIDES) - len(widths) :].index(strides[0])
    neck.update(in_channels=widths, out_channels=scale.neck_channels, start_level=first, num_outs=len(strides))
    if "norm_cfg" in neck:
        neck.norm_cfg = _groups(scale.neck_channels)


def _scale_dense(model: ConfigDict, scale: ModelScale) -> None:
    head, width, strides = model.bbox_head, scale.neck_channels, list(scale.strides)
    factor = scale.octave_base_scale / _PUBLISHED_OCTAVE_BASE
    head.update(in_channels=width, feat_channels=width, stacked_convs=scale.stacked_convs)
    if head.type != "RetinaHead":  # the only one that is published without norms
        head.norm_cfg = _groups(width)
    if "anchor_generator" in head:
        generator = head.anchor_generator
        generator.update(strides=strides, octave_base_scale=generator.octave_base_scale * factor)
    if head.type == "FCOSHead":
        ends = [8 * stride * factor for stride in strides[:-1]]  # 64 pixels at stride 8
        head.update(strides=strides, regress_ranges=tuple(zip([-1, *ends], [*ends, _FAR], strict=True)))
    if head.type == "RepPointsHead":
        base = head.point_base_scale * factor
        head.update(point_feat_channels=width, point_strides=strides, point_base_scale=base)
        model.train_cfg.init.assigner.scale = base


def _scale_solo(head: ConfigDict, scale: ModelScale, strides: list[int]) -> None:
    factor = scale.octave_base_scale / _PUBLISHED_OCTAVE_BASE
    # The ends of the published ranges are 6 and 24 strides; the first and last level are open.
    ranges = [[6 * stride * factor, 24 * stride * factor] for stride in strides]
    ranges[0][0], ranges[-1][1] = 1, _FAR
    # SOLO brings its first level down to the second's size and its last up to that of the one before.
    seen = [strides[1], *strides[1:-1], strides[-2]]
    head.update(
        in_channels=scale.neck_channels,
        feat_channels=scale.neck_channels,
        stacked_convs=scale.stacked_convs,
        strides=seen,
        scale_ranges=tuple(map(tuple, ranges)),
        num_grids=list(scale.solo_grids),
        norm_cfg=_groups(scale.neck_channels),
    )


def _scale_two_stage(model: ConfigDict, scale: ModelScale) -> None:
    width, strides, roi = scale.neck_channels, list(scale.strides), scale.roi
    model.rpn_head.update(in_channels=width, feat_channels=width)
    model.rpn_head.anchor_generator.update(strides=strides, scales=[scale.octave_base_scale])
    head = model.roi_head
    _scale_extractor(head.bbox_roi_extractor, scale, roi.pool)
    sizes = {"in_channels": width, "fc_out_channels": roi.fc_channels, "roi_feat_size": roi.pool}
    _each(head.bbox_head, lambda part: part.update(**sizes))
    if "mask_head" in head:
        # A mask is pooled twice as fine as a box, and its head doubles that once more.
        _scale_extractor(head.mask_roi_extractor, scale, 2 * roi.pool)
        mask_sizes = {"in_channels": width, "conv_out_channels": width, "num_convs": scale.stacked_convs}
        _each(head.mask_head, lambda part: part.update(**mask_sizes))
        _each(model.train_cfg.rcnn, lambda part: part.update(mask_size=4 * roi.pool))
    _each(model.train_cfg.rcnn, lambda part: part.sampler.update(num=roi.samples))
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        proposals.update(nms_pre=roi.proposals, max_per_img=roi.proposals)


def _scale_extractor(extractor: ConfigDict, scale: ModelScale, side: int) -> None:
    extractor.update(featmap_strides=list(scale.strides), out_channels=scale.neck_channels, finest_scale=scale.roi.finest_px)
    extractor.roi_layer.output_size = side


def _each(parts: Any, change: Callable[[Any], object]) -> None:
    """Change a part, or each stage's of a cascade."""
    for part in parts if isinstance(parts, list) else [parts]:
        change(part)


def _scale_segmenter(model: ConfigDict, scale: ModelScale, widths: list[int], image_px: int | None) -> None:
    channels = scale.segmenter.channels
    model.decode_head.update(in_channels=widths[model.decode_head.in_index], channels=channels)
    if "dilations" in model.decode_head:
        model.decode_head.dilations = scale.segmenter.dilations
    if model.get("auxiliary_head"):
        model.auxiliary_head.update(in_channels=widths[model.auxiliary_head.in_index], channels=channels // 2)
    if image_px is not None and "size" in model.data_preprocessor:
        model.data_preprocessor.size = (image_px, image_px)


def set_classes(model: ConfigDict, number: int) -> None:
    """Set the number of classes of every head of a model."""
    for part in dicts(model):
        if "num_classes" in part:
            part["num_classes"] = number


def plain_norms(model: ConfigDict) -> bool:
    """Put batch norms of one process in place of synchronised ones, which need several; return whether there were any."""
    synchronised = [part for part in dicts(model) if part.get("type") == "SyncBN"]
    for part in synchronised:
        part["type"] = "BN"
    return bool(synchronised)
