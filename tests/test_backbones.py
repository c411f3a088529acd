"""Starts of models: backbones by name, trained as classifiers, verified before they are believed."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mmengine.registry import HOOKS, MODELS, DefaultScope

from benchmarks.digest import file_sha256
from benchmarks.synthetic import SceneSpec, draw_scene
from benchmarks.tier import Pretraining, Tier
from pipelines import layout, stage_list
from pipelines.engine.backbones import backbone_of, backbones_of
from pipelines.engine.classifier import DigitAccuracy, OneDigitScenes, compose_pretraining
from pipelines.engine.compose import compose_training
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.setting import Weights
from pipelines.engine.training import config_sha256
from pipelines.estimation.completed import Completed
from pipelines.estimation.estimate import make_estimate
from pipelines.grid import Grid
from pipelines.params import load_pair, load_tier
from pipelines.stage_list import backbones_needed, stages
from pipelines.stages import teachers
from pipelines.stages.check import check_repeat
from pipelines.stages.pretrain import judged
from reports.schemas.run import Run
from tests.conftest import PAIR, ROOT, build, setting
from tests.published import RUNNABLE
from tests.test_compose import cell
from tests.test_weights import Payload
from tests.trees import refused

SPEC = {"seed": 1, "image_px": 64, "digit_px": [28, 56], "digits": [1, 1], "noise": 0, "train": 6, "tune": 3, "test": 1}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)
    prepare_process()


@pytest.mark.parametrize("tier", ["mini", "smoke"])
def test_a_name_is_one_model_for_all_pairs(tier):
    """Every pair together: no two sides mean different models by one name, and what is published from scratch has none."""
    found = backbones_of({name: load_pair(name) for name in RUNNABLE}, load_tier(tier).model)

    assert {"resnet50", "resnet101", "resnetv1c18", "resnetv1c101", "resnet101_caffe"} <= found.keys()
    assert backbone_of(load_pair("deeplabv3_r101_deeplabv3_r18_scratch"), "student", load_tier(tier).model) is None


@pytest.mark.parametrize("pair_name", RUNNABLE)
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_what_is_trained_alone_fits_into_the_model(pair_name, side):
    """Tensor for tensor: the backbone that is pre-trained has the keys and shapes of the one in the pair's model."""
    named = backbone_of(load_pair(pair_name), side, load_tier("mini").model)
    if named is None:
        pytest.skip("starts from random weights")
    with quiet(), DefaultScope.overwrite_default_scope(named[1].scope):
        alone = MODELS.build(dict(named[1].config))
    whole = build(compose_training(setting(pair_name, "mini"), side, seed=0)).backbone

    assert {k: v.shape for k, v in alone.state_dict().items()} == {k: v.shape for k, v in whole.state_dict().items()}


def test_frozen_as_published_only_where_it_has_learned_something():
    """GFL's published ResNet freezes its first stage and keeps its batch statistics."""
    at = setting(PAIR, "mini")
    bare = at.tier.model_copy(update={"pretraining": None})
    kept, free = (
        compose_training(type(at)(at.pair, tier, at.origin), "student", seed=0).model.backbone for tier in (at.tier, bare)
    )

    assert (kept.frozen_stages, kept.norm_eval) == (1, True)
    assert (free.frozen_stages, free.norm_eval) == (-1, False)


def start(tmp_path, pair_name=PAIR):
    """A file that a student's backbone can start from, filled with a constant, and its config's hook."""
    state = build(compose_training(setting(pair_name, "mini"), "student", seed=0)).backbone.state_dict()
    path = tmp_path / "start.pth"
    torch.save({key: torch.full_like(value, 3) for key, value in state.items()}, path)
    return Weights(path, file_sha256(path))


def loaded(weights, model, iteration=0):
    """Run the hook of a composed training on a model."""
    (hook,) = compose_training(setting(PAIR, "mini"), "student", seed=0, initialisation=weights).custom_hooks
    HOOKS.build(hook).before_train(SimpleNamespace(iter=iteration, model=model))
    return model.backbone.state_dict()


def test_the_backbone_alone_starts_from_the_file(tmp_path):
    """All of it at iteration 0, nothing of the rest, and nothing where a run goes on from its checkpoint."""
    fresh = build(compose_training(setting(PAIR, "mini"), "student", seed=0))
    neck = {key: value.clone() for key, value in fresh.neck.state_dict().items()}
    before = {key: value.clone() for key, value in fresh.backbone.state_dict().items()}
    resumed = loaded(start(tmp_path), fresh, iteration=7)
    assert all(torch.equal(resumed[key], value) for key, value in before.items())
    begun = loaded(start(tmp_path), fresh)

    assert all((value == 3).all() for value in begun.values())
    assert all(torch.equal(fresh.neck.state_dict()[key], value) for key, value in neck.items())


def test_an_altered_file_is_refused(tmp_path):
    """One byte."""
    weights = start(tmp_path)
    content = bytearray(weights.path.read_bytes())
    content[-1] ^= 1
    weights.path.write_bytes(content)

    assert "have sha256" in refused(loaded, weights, build(compose_training(setting(PAIR, "mini"), "student", seed=0)))


def test_code_in_the_file_is_not_run(tmp_path):
    """Even with the recorded digest: the file is read as tensors alone."""
    path = tmp_path / "start.pth"
    torch.save({"weight": torch.ones(1), "code": Payload(os.system, f"touch {tmp_path}/marker")}, path)
    model = build(compose_training(setting(PAIR, "mini"), "student", seed=0))

    assert "nothing in the file was run" in refused(loaded, Weights(path, file_sha256(path)), model)
    assert not (tmp_path / "marker").exists()


def test_another_start_is_another_work_directory():
    """And so is other code: a run never goes on from a checkpoint that began elsewhere."""
    starts = (None, Weights(Path("a.pth"), "1" * 64), Weights(Path("a.pth"), "2" * 64))
    codes = ({"methods.none": "1"}, {"methods.none": "2"}, {"methods.none": "2", "methods.contract": "1"})
    digests = {config_sha256(cell(PAIR, "none", "mini", start=weights), code) for weights in starts for code in codes}

    assert len(digests) == 9


def record(folder, **changes):
    """A pre-trained backbone's record beside its weights."""
    known = {"stage": "pretrain", "status": "done", "tier": "mini", "pair": folder.name, "method": None, "seed": 0}
    (folder / "run.json").write_text(Run(**{**known, **changes}).model_dump_json())


def test_teachers_copy_the_recorded_file(tmp_path):
    """The copy has the backbone's own digest; without a record, or with another digest, nothing is copied."""
    at, folder = setting(PAIR, "mini"), tmp_path / "resnet50"
    weights = start(tmp_path)
    folder.mkdir()
    weights.path.rename(folder / "weights.pth")
    out = tmp_path / "teacher/initialisation.pth"
    assert "backbone resnet50 " in refused(teachers.write_initialisation, at, "student", out, tmp_path)
    record(folder, weights_sha256="0" * 64)
    assert "recorded is 000000000000" in refused(teachers.write_initialisation, at, "student", out, tmp_path)
    assert not out.exists()
    record(folder, weights_sha256=weights.sha256)

    assert teachers.write_initialisation(at, "student", out, tmp_path) == Weights(out, weights.sha256)
    assert file_sha256(out) == weights.sha256


def test_scenes_of_one_digit():
    """The drawn scene in BGR, and as its label the digit's class."""
    scenes = OneDigitScenes(SPEC, "train")
    drawn = [draw_scene(SceneSpec(**SPEC), "train", index) for index in range(6)]

    assert len(scenes) == 6
    assert [scenes[index]["data_samples"] for index in range(6)] == [scene.classes[0] for scene in drawn]
    assert np.array_equal(scenes[4]["inputs"].numpy(), drawn[4].image_HWC.transpose(2, 0, 1)[::-1])


def test_the_classifier_learns_and_counts():
    """Loss and predictions of a composed classifier by torch's own formula."""
    named = backbone_of(load_pair(PAIR), "student", load_tier("smoke").model)
    config = compose_pretraining(named[1], load_tier("smoke").pretraining, seed=0)
    torch.manual_seed(0)
    model = build(config).eval()
    images, labels = torch.randn(4, 3, 64, 64), [1, 7, 7, 0]
    logits = model(images, labels)
    expected = -torch.log_softmax(logits, dim=1)[range(4), labels].mean()
    right = [{"right": bool(row.argmax() == label)} for row, label in zip(logits, labels, strict=True)]

    assert torch.equal(logits, model.head(model.backbone(images)[-1].flatten(2).mean(2)))
    assert torch.allclose(model(images, labels, mode="loss")["loss"], expected)
    assert model(images, labels, mode="predict") == right


def test_share_right():
    """Three of four."""
    metric = DigitAccuracy()
    metric.process({}, [{"right": True}, {"right": True}])
    metric.process({}, [{"right": False}, {"right": True}])

    assert metric.evaluate(4) == {"scenes/accuracy": 0.75}


def test_a_backbone_that_did_not_learn():
    """Below the tier's floor there is no record, and the line says what to change."""
    wanted = load_tier("mini").pretraining
    curve = [{"iteration": 1, "val_accuracy": 99.0}, {"iteration": 2, "val_accuracy": wanted.least_accuracy - 0.1}, {"loss": 1.0}]

    assert "resnet50" in refused(judged, "resnet50", curve, wanted)
    assert judged("resnet50", curve[:1], wanted) == {"accuracy": 99.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": {**SPEC, "digits": [1, 2]}}, r"must be \[1, 1\]"),
        ({"batch_size": 7}, "epoch .*step"),
    ],
)
def test_pretraining_that_cannot_be(changes, message):
    """Two digits have no one class; fewer scenes than a batch make no step."""
    good = load_tier("smoke").pretraining.model_dump() | {"scenes": SPEC, "batch_size": 6}
    Pretraining(**good)

    with pytest.raises(ValueError, match=message):
        Pretraining(**{**good, **changes})


def test_a_schedule_whose_epoch_has_no_step():
    """Named is the part of the schedule whose batch is too large."""
    tier = yaml.safe_load((ROOT / "benchmarks/tiers/mini.yaml").read_text())
    tier["scenes"]["train"] = 10

    with pytest.raises(ValueError, match=r"schedule\.batch_size 16"):
        Tier(**tier)
    tier["schedule"]["batch_size"] = 5
    tier["schedule"]["heads"] = {"solo": {**tier["schedule"]["heads"]["segmenter"], "batch_size": 11}}
    with pytest.raises(ValueError, match=r"schedule.heads.solo.batch_size 11"):
        Tier(**tier)


def grid(**changes):
    """The control on GFL's pair at tier mini."""
    return Grid(**{"tier": "mini", "rows": {PAIR: ["none"]}, "seeds": [0], **changes})


def test_what_the_grid_needs():
    """Each backbone that a pair starts from, described, once for all pairs; nothing where the tier trains none."""
    both = [PAIR, "faster_rcnn_r101_r50"]
    found = backbones_needed(grid(), both)

    assert found.keys() == {"resnet101", "resnet50"}
    assert (found["resnet50"]["config"]["base_channels"], found["resnet50"]["channels"]) == (8, 64)
    assert backbones_needed(grid(tier="paper"), both) == {}


def test_who_starts_from_which():
    """A stage for each backbone and its file for teacher and student; their own settings where they start from none."""
    scratch = "deeplabv3_r101_deeplabv3_r18_scratch"
    rows = {PAIR: ["none"], "faster_rcnn_r101_r50": ["none"], scratch: ["none"]}
    found, full = stages(grid(rows=rows)), stages(grid(tier="paper", rows=rows))
    published = {pair: layout.resolved("teachers", pair).relative_to("runs").as_posix() for pair in rows}

    assert found["pretrain"] == ["resnet101", "resnet50", "resnetv1c101"]
    for pair in (PAIR, "faster_rcnn_r101_r50"):
        assert found["teachers"][pair] == {
            "data": "scenes",
            "teacher_start": "mini/backbones/resnet101/weights.pth",
            "student_start": "mini/backbones/resnet50/weights.pth",
        }
    assert found["teachers"][scratch]["teacher_start"] == "mini/backbones/resnetv1c101/weights.pth"
    assert found["teachers"][scratch]["student_start"] == published[scratch]
    assert full["pretrain"] == []
    assert {pair: (one["teacher_start"], one["student_start"]) for pair, one in full["teachers"].items()} == {
        pair: (own, own) for pair, own in published.items()
    }


def test_a_backbone_that_the_tier_has_no_scale_for(monkeypatch):
    """One line that names the tier's file and where to add it, before anything trains."""
    tier = load_tier("mini")
    fewer = {name: scale for name, scale in tier.model.backbones.items() if name != "ResNet-50"}
    monkeypatch.setattr(
        stage_list, "load_tier", lambda _: tier.model_copy(update={"model": tier.model.model_copy(update={"backbones": fewer})})
    )
    said = refused(backbones_needed, grid(), [PAIR])

    assert re.match(r"benchmarks/tiers/mini\.yaml: .*ResNet-50.*model\.backbones", said), said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 24}, r"again\.yaml: .*\bepochs\b"),
        ({"teacher_seed": 0}, r"again\.yaml: .*teacher_seed 0"),
        ({}, None),
    ],
)
def test_a_pair_once_more_under_a_second_teacher(changes, said):
    """The same but for the teacher's seed; at full size, where the teacher is fetched, the two would be one."""
    pair = load_pair(f"{PAIR}_teacher1").model_copy(update=changes)
    if said:
        assert re.search(said, refused(check_repeat, "again", pair, load_tier("mini")))
        return
    check_repeat("again", pair, load_tier("mini"))
    assert re.match(r"params\.yaml: again .*teacher", refused(check_repeat, "again", pair, load_tier("paper")))


@pytest.mark.parametrize(("tier", "done", "expected"), [("mini", set(), 2), ("mini", {"resnet50"}, 1), ("paper", set(), 0)])
def test_the_plan_counts_them(tmp_path, tier, done, expected):
    """Once each, with as many images as the tier's pre-training sees; not those that are there, and none where none are trained."""
    finished = Completed("as told", backbones=done)
    plan = make_estimate(grid(tier=tier), finished, device="none such", tflops=1.0, downloads=tmp_path)
    found = [work for work in plan.work if work.kind == "backbones"]

    assert [work.times for work in found] == [1] * expected
    assert {work.images for work in found} <= {5 * (10000 // 32) * 32}
