"""Reading what was downloaded without running it, and old layouts brought into today's, bit for bit."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from benchmarks.digest import file_sha256
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.published import published_config
from pipelines.engine.weights import convert_checkpoint, load_frozen, read_weights, rewrite_safely

# ResNet-50 with an eighth of the channels: built in a moment, same keys.
NARROW = {"base_channels": 8, "init_cfg": None}
NARROW_STAGES = [32, 64, 128, 256]
HEADS = {
    "fcos": ("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco", "FCOS"),
    "gfl": ("gfl/gfl_r50_fpn_1x_coco", "GFL"),
}


@pytest.fixture(autouse=True)
def process():
    """MMLab's components registered."""
    prepare_process()


def build_in(scope, config):
    """A model with random weights that no two tests share with a checkpoint."""
    with quiet(), DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(ConfigDict(config))
    for number, (key, value) in enumerate(model.state_dict().items()):
        if value.is_floating_point() and value.dim() > 0:
            drawn = torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
            value.copy_(drawn.abs() if key.endswith("running_var") else drawn)
    return model


def narrow(config):
    """A published detector's config at an eighth of the backbone's channels."""
    config = published_config(f"mmdet::{config}.py").model
    config.backbone.update(NARROW)
    config.neck.in_channels = NARROW_STAGES
    return config


def fresh(config):
    """The same architecture with weights that MMEngine draws."""
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(ConfigDict(config))


def write(content, path):
    """A file as a publisher would write it; its digest."""
    torch.save(content, path)
    return path, file_sha256(path)


def renamed(state, old_names):
    """A state dict under an older version's keys, without the versions of modules."""
    old = OrderedDict()
    for key, value in state.items():
        name = key
        for today, then in old_names.items():
            name = name.replace(today, then)
        old[name] = value
    return old


def assert_same(found, expected):
    """The same keys, in the same order, and the same bits."""
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


class Payload:
    """Code that runs when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before 1.6"])
def test_a_published_checkpoint_is_read(tmp_path, zipped):
    """Scores as numpy scalars, curves, slices, text beside the tensors: only the tensors and their versions come back."""
    state = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    beside = {
        "meta": {
            "mmdet_version": "2.0.0",
            "CLASSES": ("a", "b"),
            "hook_msgs": {"best_score": np.float64(0.4), "f": np.float32(1)},
        },
        "message_hub": {"loss": HistoryBuffer([1.0, 2.0], [1, 1]), "window": slice(1, 2), "names": np.array(["a", "b"])},
        "param_schedulers": [{"lr": np.arange(3)}],
    }
    path = tmp_path / "model.pth"
    torch.save({**beside, "state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    allowed = torch.serialization.get_safe_globals()
    found = read_weights(path, file_sha256(path)[:8])

    assert_same(found, state)
    assert found._metadata["1"] == {"version": 2}
    assert set(torch.serialization.get_safe_globals()) == set(allowed)


def harmful(marker):
    """Payloads by name; each makes the marker."""
    command = f"touch {marker}"
    return {
        "system": Payload(os.system, command),
        "eval": Payload(eval, f"__import__('os').system({command!r})"),
        "by exec": Payload(exec, f"open({str(marker)!r}, 'w').close()"),
    }


@pytest.mark.parametrize("name", ["system", "eval", "by exec"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, name, zipped):
    """The same bytes do run when they are unpickled; here the line names what was refused."""
    marker = tmp_path / "marker"
    payload = harmful(marker)[name]
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"weight": torch.ones(1)}, "meta": payload}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"model\.pth .*[Uu]nsupported (global: )?GLOBAL .*nothing in the file was run"
    ) as caught:
        read_weights(path, file_sha256(path))

    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()


class ByGetattr:
    """An attribute looked up while it is read, as in a curve's own pickle: the one function that could give others."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "register_statistics")


def test_what_the_list_knows_is_not_built_or_called(tmp_path, monkeypatch):
    """A buffer's own ``__setstate__`` and numpy's functions are never reached."""
    reached = []
    monkeypatch.setattr(HistoryBuffer, "__setstate__", lambda *_: reached.append("buffer"))
    content = {"state_dict": {"weight": torch.ones(1)}, "meta": [HistoryBuffer([1.0], [1]), ByGetattr(), np.float64(1)]}
    path, digest = write(content, tmp_path / "model.pth")

    assert list(read_weights(path, digest)) == ["weight"]
    assert reached == []


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {}, {"state_dict": {}}, {"weight": np.ones(3)}, {"a": 1}])
def test_what_is_no_state_dict_is_one_line(tmp_path, content):
    """A tensor, a list, nothing, arrays, numbers."""
    path, digest = write(content, tmp_path / "model.pth")

    with pytest.raises(ValueError, match=r"model\.pth .*(no state dict|as tensors alone)"):
        read_weights(path, digest)


@pytest.mark.parametrize("content", [b"<html>", b"", b"\x80\x02garbage", b"PK\x03\x04 cut"])
def test_what_is_no_checkpoint_is_one_line(tmp_path, content):
    """Bytes that torch does not know."""
    path = tmp_path / "model.pth"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"^weights \S+model\.pth [^\n]*$"):
        read_weights(path, file_sha256(path))


def test_fcos_of_mmdetection_1_is_converted(tmp_path):
    """``fcos_cls``, ``fcos_reg``, ``fcos_centerness``; wrapped, with the copies of an averaging hook; the model stays as it is."""
    config = narrow(HEADS["fcos"][0])
    expected = build_in("mmdet", config).state_dict()
    old = renamed(expected, {f"conv_{name}.": f"fcos_{name}." for name in ("cls", "reg", "centerness")})
    assert sum(".fcos_" in key for key in old) == 6
    old = {f"module.{key}": value for key, value in old.items()}
    old["module.ema_backbone_conv1_weight"] = torch.zeros(1)
    path, digest = write({"state_dict": old, "meta": {"epoch": 24}}, tmp_path / "fcos.pth")
    model = fresh(config)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    assert_same(convert_checkpoint(path, digest, model).state, expected)
    assert_same(model.state_dict(), before)
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        teacher = load_frozen(config, *map(str, write(expected, tmp_path / "ours.pth")))
    assert_same(teacher.state_dict(), expected)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("layer", ["DCN", "DCNv2"])
def test_offsets_of_deformable_convolutions_are_converted(tmp_path, layer):
    """``conv2_offset`` beside ``conv2`` became ``conv2.conv_offset`` within it."""
    config = {
        "type": "ResNet", "depth": 50, "base_channels": 8, "stage_with_dcn": (False, True, True, True),
        "dcn": {"type": layer, "deform_groups": 1, "fallback_on_stride": False},
    }  # fmt: skip
    expected = build_in("mmdet", config).state_dict()
    old = renamed(expected, {"conv2.conv_offset.": "conv2_offset."})
    assert sum("conv2_offset" in key for key in old) == 2 * (4 + 6 + 3)
    path, digest = write({"state_dict": old}, tmp_path / "dcn.pth")

    assert_same(convert_checkpoint(path, digest, fresh(config)).state, expected)


def test_what_today_computes_may_be_missing(tmp_path):
    """GFL's integral and the batch counters; a weight may not."""
    config = narrow(HEADS["gfl"][0])
    expected = build_in("mmdet", config).state_dict()
    computed = {key for key in expected if key.endswith((".integral.project", ".num_batches_tracked"))}
    assert len(computed) > 1
    old = {key: value for key, value in expected.items() if key not in computed}
    path, digest = write(old, tmp_path / "gfl.pth")
    found = convert_checkpoint(path, digest, fresh(config)).state

    assert_same({key: found[key] for key in old}, old)
    assert found["bbox_head.integral.project"].tolist() == list(range(17))
    del old["neck.fpn_convs.0.conv.bias"]
    path, digest = write(old, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"GFL .*\b1 tensors .*neck\.fpn_convs\.0\.conv\.bias \(the file lacks neck\."):
        convert_checkpoint(path, digest, fresh(config))


def test_another_number_of_classes_is_named(tmp_path):
    """Eighty classes against twenty."""
    config = narrow(HEADS["gfl"][0])
    path, digest = write(build_in("mmdet", config).state_dict(), tmp_path / "coco.pth")
    config.bbox_head.num_classes = 20

    with pytest.raises(
        ValueError,
        match=r"of a GFL with another number of classes: bbox_head\.gfl_cls\.weight has 80 outputs, here 20; ",
    ):
        convert_checkpoint(path, digest, fresh(config))


def segmenter():
    """DeepLabV3 of MMSegmentation on a narrow ResNet-18."""
    config = published_config("mmseg::deeplabv3/deeplabv3_r18-d8_4xb2-80k_cityscapes-512x1024.py").model
    config.pretrained = None
    config.backbone.update(base_channels=8, norm_cfg={"type": "BN"})
    config.decode_head.update(in_channels=64, channels=16, norm_cfg={"type": "BN"})
    config.auxiliary_head.update(in_channels=32, channels=8, norm_cfg={"type": "BN"})
    return build_in("mmseg", config)


def test_a_segmenter_comes_back(tmp_path):
    """MMSegmentation has kept its keys."""
    expected = segmenter()
    path, digest = write(
        {"state_dict": {f"module.{key}": value for key, value in expected.state_dict().items()}}, tmp_path / "s.pth"
    )
    model = segmenter()
    nn.init.zeros_(model.decode_head.conv_seg.weight)

    assert_same(convert_checkpoint(path, digest, model).state, expected.state_dict())


def test_a_segmenter_of_another_project_is_refused_by_its_keys(tmp_path):
    """A layout that nobody converts: the line says what is missing and what is there instead."""
    model = segmenter()
    names = {"backbone.": "pretrained.", "decode_head.": "head.", "auxiliary_head.": "auxlayer."}
    path, digest = write(renamed(model.state_dict(), names), tmp_path / "other.pth")

    with pytest.raises(ValueError, match=r"other\.pth .*EncoderDecoder") as caught:
        convert_checkpoint(path, digest, model)
    line = str(caught.value)
    assert "the file lacks backbone." in line
    assert "it has pretrained." in line
    assert "more" in line
    assert "\n" not in line


RESNET = {"type": "ResNet", "depth": 50, "base_channels": 8}


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_an_imagenet_file_is_rewritten_for_mmengine(tmp_path, prefix, monkeypatch):
    """Torchvision's layout, and mmpretrain's: parameters, with a classifier; MMEngine then loads all of it, and safely."""
    expected = build_in("mmdet", RESNET).state_dict()
    classifier = {"head.fc.weight" if prefix else "fc.weight": torch.ones(10, 256)}
    imagenet = {f"{prefix}{key}": nn.Parameter(value) for key, value in expected.items() if "num_batches" not in key}
    path, digest = write(imagenet | classifier, tmp_path / "resnet.pth")
    out = tmp_path / "plain" / "resnet.pth"
    digest_of_out = rewrite_safely(path, digest[:8], out, backbone=fresh(RESNET))
    assert digest_of_out == file_sha256(out)
    unsafe = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: unsafe.append(k["weights_only"] is not True) or load(*a, **k))
    backbone = fresh({**RESNET, "init_cfg": {"type": "Pretrained", "checkpoint": str(out)}})
    with quiet():
        backbone.init_weights()

    assert_same(backbone.state_dict(), expected)
    assert unsafe == [False]
    assert list(out.parent.iterdir()) == [out]


def test_an_imagenet_file_that_does_not_fit_is_refused(tmp_path):
    """MMEngine would only warn and train from random weights; nothing is written."""
    path, digest = write(build_in("mmdet", {**RESNET, "depth": 18}).state_dict(), tmp_path / "resnet18.pth")
    out = tmp_path / "plain.pth"

    with pytest.raises(ValueError, match=r"resnet18\.pth .*ResNet .*\d+ tensors"):
        rewrite_safely(path, digest, out, backbone=fresh(RESNET))
    assert not out.exists()


SWIN = {
    "type": "SwinTransformer",
    "embed_dims": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "strides": [4, 2],
    "out_indices": [0, 1],
}


def as_swins_authors(state):
    """MMDetection's Swin under its authors' names, which concatenate the four neighbours of a patch where it unfolds them."""
    old = {}
    for key, value in state.items():
        if key.startswith("norm"):  # of single levels: not in a classifier
            continue
        name = key.replace("stages.", "layers.").replace("attn.w_msa.", "attn.").replace("projection", "proj")
        name = name.replace("ffn.layers.0.0.", "mlp.fc1.").replace("ffn.layers.1.", "mlp.fc2.")
        if ".downsample." in name:  # channels (c, neighbour) in columns; theirs are (neighbour, c), rows within columns
            by_channel = value.reshape(*value.shape[:-1], -1, 4)
            old[name] = torch.cat([by_channel[..., neighbour] for neighbour in (0, 2, 1, 3)], dim=-1)
        else:
            old[name] = value
    return old


def test_the_file_of_swins_authors_is_rewritten(tmp_path):
    """Their names and their order of channels; a view among the values does not drag its storage along."""
    expected = build_in("mmdet", {**SWIN, "convert_weights": True, "init_cfg": None}).state_dict()
    theirs = as_swins_authors(expected) | {
        "norm.weight": torch.ones(16),
        "head.weight": torch.arange(1_000_000.0)[:160].view(10, 16),
    }
    padded = torch.zeros(1_000_000)
    weight = theirs["patch_embed.proj.weight"]
    padded[: weight.numel()] = weight.flatten()
    theirs["patch_embed.proj.weight"] = padded[: weight.numel()].view_as(weight)
    path, digest = write({"model": theirs, "epoch": np.int64(300)}, tmp_path / "swin.pth")
    out = tmp_path / "plain.pth"

    rewrite_safely(path, digest, out, backbone=fresh({**SWIN, "convert_weights": True, "init_cfg": None}))
    found = torch.load(out, weights_only=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items() if not key.startswith("norm"))
    assert out.stat().st_size < 500_000 < path.stat().st_size


def test_code_is_not_rewritten(tmp_path):
    """A hostile file with the recorded digest."""
    path, digest = write({"weight": torch.ones(1), "code": Payload(os.system, f"touch {tmp_path}/marker")}, tmp_path / "bad.pth")

    with pytest.raises(ValueError, match="nothing in the file was run"):
        rewrite_safely(path, digest, tmp_path / "plain.pth", backbone=fresh(RESNET))
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.pth"]
