"""Published models shrunk to a tier's scale: every one builds, and sizes in pixels are those worked out by hand."""

import pytest
import torch
from mmengine.config import ConfigDict

from benchmarks.synthetic import CLASSES
from pipelines.engine.compose import compose_training
from pipelines.engine.data_configs import dicts
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.scaling import plain_norms, scaled_model
from pipelines.params import load_tier
from pipelines.stages.teachers import check_hook_points
from tests.conftest import ROOT, build, setting
from tests.published import RUNNABLE, SEGMENTATION

SIDES = ("teacher", "student")
FAR = 1e8


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)
    prepare_process()


def model(pair_name, side="student", tier="mini"):
    """A side's config."""
    return compose_training(setting(pair_name, tier), side, seed=0).model


@pytest.mark.parametrize("pair_name", RUNNABLE)
@pytest.mark.parametrize("tier", ["smoke", "mini"])
def test_both_sides_build_and_know_the_scenes_classes(tier, pair_name):
    """Ten digits in every head, and the background where pixels are labelled; all taps are there; no teacher is the smaller."""
    classes = len(CLASSES) + (pair_name in SEGMENTATION)
    sizes = {}
    for side in SIDES:
        config = compose_training(setting(pair_name, tier), side, seed=0)
        sizes[side] = sum(weight.numel() for weight in build(config).parameters())

        assert {part["num_classes"] for part in dicts(config.model) if "num_classes" in part} == {classes}

    check_hook_points(setting(pair_name, tier), pair_name)
    assert sizes["teacher"] > sizes["student"] or (tier == "smoke" and sizes["teacher"] == sizes["student"])


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_nothing_of_a_pretrained_backbone_is_frozen(pair_name):
    """Backbones of a tier that trains none first start from random weights: every weight and statistic of them is learned."""
    at = setting(pair_name, "smoke")
    bare = type(at)(at.pair, at.tier.model_copy(update={"pretraining": None}), at.origin)
    for side in SIDES:
        backbone = build(compose_training(bare, side, seed=0)).backbone
        backbone.train()

        assert all(weight.requires_grad for weight in backbone.parameters())
        assert all(module.training for module in backbone.modules())


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_one_process_has_plain_norms(pair_name):
    """Synchronised norms want several processes; no tier keeps one."""
    for tier in ("smoke", "paper"):
        for side in SIDES:
            config = model(pair_name, side, tier)

            assert "SyncBN" not in {part["type"] for part in dicts(config) if isinstance(part.get("type"), str)}


def test_plain_norms_have_the_same_weights():
    """Names and shapes of a synchronised segmenter's weights are the plain one's: published checkpoints fit."""
    config = ConfigDict(
        type="ResNetV1c", depth=18, base_channels=4, stem_channels=4, norm_cfg={"type": "SyncBN", "requires_grad": True}
    )
    synchronised = build(ConfigDict(default_scope="mmseg", model=ConfigDict(config)))
    plain_norms(config)
    plain = build(ConfigDict(default_scope="mmseg", model=config))

    assert any(isinstance(module, torch.nn.SyncBatchNorm) for module in synchronised.modules())
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in plain.modules())
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in synchronised.state_dict().items()}


@pytest.mark.parametrize(
    ("pair_name", "side", "expected"),
    [
        ("retinanet_r101_r50", "teacher", [16, 32, 64, 128]),
        ("retinanet_x101_r50", "teacher", [16, 32, 64, 128]),
        ("retinanet_r50_r18", "teacher", [8, 16, 32, 64]),
        ("retinanet_r50_r18", "student", [4, 8, 16, 32]),
        ("retinanet_swint_r50", "teacher", [48, 96, 192]),
    ],
)
def test_necks_begin_with_the_backbones_widths(pair_name, side, expected):
    """Tier mini's widths of the first stage, doubled stage by stage; Swin's detector takes the last three."""
    config = model(pair_name, side)
    found = build(ConfigDict(default_scope="mmdet", model=config)).backbone(torch.zeros(1, 3, 64, 64))

    assert list(config.neck.in_channels) == expected == [level.shape[1] for level in found]


def test_mobilenet_by_hand():
    """A quarter of 320 is 80; a quarter of 24 is 6, rounded to 8, the least."""
    config = model("deeplabv3_r101_deeplabv3_mbv2")
    levels = build(ConfigDict(default_scope="mmseg", model=config)).backbone(torch.zeros(1, 3, 64, 64))

    assert config.decode_head.in_channels == 80
    assert [levels[0].shape[1], levels[-1].shape[1]] == [8, 80]
    assert config.get("auxiliary_head") is None


@pytest.mark.parametrize(
    "pair_name", ["retinanet_r101_r50", "atss_r101_r50", "fcos_r101_r50", "reppoints_x101dcn_r50", "solo_r101_r50"]
)
def test_levels_have_the_strides_that_heads_are_told(pair_name):
    """The pyramid of 64 pixels: 8, 4 and 2 positions per side at strides 8, 16 and 32; SOLO's begins at 4."""
    detector = build(ConfigDict(default_scope="mmdet", model=model(pair_name)))
    sides = [level.shape[-1] for level in detector.extract_feat(torch.zeros(1, 3, 64, 64))]

    assert sides == ([16, 8, 4, 2] if pair_name == "solo_r101_r50" else [8, 4, 2])


def test_anchors_by_hand():
    """RetinaNet's are published with 4, 4 * 2^(1/3) and 4 * 2^(2/3) strides a side, ATSS's with 8; at tier mini a quarter."""
    retina, atss = (
        build(ConfigDict(default_scope="mmdet", model=model(name))).bbox_head.prior_generator
        for name in ("retinanet_r101_r50", "atss_r101_r50")
    )
    squares = [level[:, 2] - level[:, 0] for level in atss.base_anchors]
    retina_areas = [sorted({round(float(w * h), 1) for w, h in (level[:, 2:] - level[:, :2])}) for level in retina.base_anchors]

    assert [float(side) for side in squares] == [16, 32, 64]
    assert retina_areas == [
        pytest.approx([side**2, side**2 * 2 ** (2 / 3), side**2 * 2 ** (4 / 3)], abs=0.1) for side in (8, 16, 32)
    ]


def test_fcos_ranges_by_hand():
    """Published ends are 64 pixels at stride 8 and twice as much at the next; at tier mini a quarter of it."""
    head = model("fcos_r101_r50").bbox_head

    assert head.strides == [8, 16, 32]
    assert head.regress_ranges == ((-1, 16), (16, 32), (32, FAR))


def test_reppoints_by_hand():
    """Points are initialised, and objects assigned to levels, at a quarter of the published 4 strides."""
    config = model("reppoints_x101dcn_r50")

    assert config.bbox_head.point_strides == [8, 16, 32]
    assert config.bbox_head.point_base_scale == config.train_cfg.init.assigner.scale == 1
    assert config.bbox_head.point_feat_channels == 48


def test_solo_by_hand():
    """Published: levels of strides 4 to 64 with ranges from 6 to 24 strides (96 at 4), the first from 1, the last open."""
    head = model("solo_r101_r50").mask_head

    assert head.scale_ranges == ((1, 24), (12, 48), (24, 96), (48, FAR))
    assert head.num_grids == [12, 8, 6, 4]
    assert head.strides == [8, 8, 16, 16]


def test_solo_at_a_scale_of_one_is_the_published_one():
    """The rule by which ranges and strides shrink gives the published ones of five levels back."""
    published = compose_training(setting("solo_r101_r50", "paper"), "student", seed=0).model
    scale = load_tier("mini").model.model_copy(
        update={"octave_base_scale": 8, "strides": (8, 16, 32, 64), "neck_channels": 256, "solo_grids": (40, 36, 24, 16, 12)}
    )
    head = scaled_model(published, scale, image_px=None).mask_head

    assert [list(pair) for pair in published.mask_head.scale_ranges] == [[1, 96], [48, 192], [96, 384], [192, 768], [384, 2048]]
    assert [list(pair) for pair in head.scale_ranges] == [[1, 96], [48, 192], [96, 384], [192, 768], [384, FAR]]
    assert list(head.strides) == list(published.mask_head.strides) == [8, 8, 16, 32, 32]


def test_two_stages_by_hand():
    """Proposals of 16 pixels come from the finest level; masks are pooled twice as fine as boxes and doubled once more."""
    config = model("cascade_mask_x101dcn_mask_rcnn_r50", "teacher")
    heads, samplers = config.roi_head.bbox_head, config.train_cfg.rcnn

    assert config.rpn_head.anchor_generator.strides == [8, 16, 32]
    assert config.rpn_head.anchor_generator.scales == [2]
    assert config.roi_head.bbox_roi_extractor.finest_scale == 16
    assert [head.roi_feat_size for head in heads] == [4, 4, 4] == [config.roi_head.bbox_roi_extractor.roi_layer.output_size] * 3
    assert config.roi_head.mask_roi_extractor.roi_layer.output_size == 8
    assert [stage.mask_size for stage in samplers] == [16, 16, 16]
    assert [stage.sampler.num for stage in samplers] == [16, 16, 16]


def test_a_backbone_that_the_tier_does_not_know():
    """One line with what to add and where."""
    scale = load_tier("mini").model
    without = scale.model_copy(update={"backbones": {"ResNet-50": scale.backbones["ResNet-50"]}})

    with pytest.raises(ValueError, match=r"ResNet-101 \(.*ResNet-50\).*model\.backbones"):
        scaled_model(compose_training(setting("gfl_r101_r50", "paper"), "teacher", seed=0).model, without, image_px=None)
