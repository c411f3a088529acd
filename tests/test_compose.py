"""Composed configs: schedules, initialisation, and the authors' changes to the student's training alone."""

import re
from pathlib import Path

import pytest
import yaml

from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.compose import compose_cell, compose_test, compose_training
from pipelines.engine.data_configs import dicts
from pipelines.engine.published import published_config
from pipelines.engine.setting import Distillation, Weights
from pipelines.params import load_pair
from pipelines.recipes import cell_config, cell_parts, impossible_reason, load_parts
from tests.conftest import ROOT, copy_project, edit_yaml, renew, run_here, setting
from tests.published import RUNNABLE, SEGMENTATION

TEACHER = Weights(Path("teacher.pth"), "0" * 64)
CLIP = {"max_norm": 35, "norm_type": 2}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)


def cell(pair_name, method, tier="paper", at=None, **more):
    """A cell's config."""
    pair = load_pair(pair_name)
    parts, _ = cell_parts(method, pair_name, pair, tier)
    changes = cell_config(method, pair_name, pair, tier)
    return compose_cell(at or setting(pair_name, tier), Distillation(parts, TEACHER, None, changes, **more), seed=0)


def with_batch(at, batch_size):
    """The same with another batch."""
    return type(at)(at.pair, at.tier, at.origin, batch_size)


@pytest.mark.parametrize(("batch_size", "lr"), [(None, 0.01), (16, 0.01), (4, 0.0025), (64, 0.04)])
def test_the_rate_follows_the_batch(batch_size, lr):
    """GFL's 0.01 belongs to 16 images; both sides and every cell scale it alike."""
    at = with_batch(setting("gfl_r101_r50", "paper"), batch_size)
    for config in (
        compose_training(at, "teacher", seed=0),
        compose_training(at, "student", seed=0),
        cell("gfl_r101_r50", "pkd", at=at),
    ):
        assert config.optim_wrapper.optimizer.lr == pytest.approx(lr)
        assert config.train_dataloader.batch_size == (batch_size or 16)


def test_the_rate_follows_the_batch_from_the_authors_rate():
    """MasKD's authors train RetinaNet at 0.02; half of the batch halves that."""
    at = with_batch(setting("retinanet_r101_r50", "paper"), 8)

    assert cell("retinanet_r101_r50", "maskd", at=at).optim_wrapper.optimizer.lr == pytest.approx(0.01)


def test_a_scaled_schedule_has_its_own_batch():
    """``batch_size`` speaks of published schedules: tier mini is left as it is."""
    at = setting("gfl_r101_r50", "mini")
    mine, plain = (compose_training(one, "student", seed=0) for one in (with_batch(at, 4), at))

    assert mine.pretty_text == plain.pretty_text
    assert plain.train_dataloader.batch_size == at.tier.schedule.batch_size


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_the_published_schedule_is_kept(pair_name):
    """Length, decay, optimizer and clipping are the installed config's with the pair's changes, for both sides."""
    at = setting(pair_name, "paper")
    for side in ("teacher", "student"):
        config, model = compose_training(at, side, seed=0), getattr(at.pair, side)
        expected = published_config(model.config)
        expected.merge_from_dict(dict(model.changes))

        assert config.optim_wrapper == expected.optim_wrapper
        assert config.param_scheduler == expected.param_scheduler
        assert config.train_cfg.get("max_epochs") == expected.train_cfg.get("max_epochs")
        assert config.train_cfg.get("max_iters") == expected.train_cfg.get("max_iters")


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_published_test_data_choose_nothing_unless_the_authors_let_them(pair_name):
    """The test images are looked at during a training only where the authors report the best epoch on them."""
    at = setting(pair_name, "paper")
    config = compose_training(at, "student", seed=0)
    best = config.default_hooks.checkpoint.get("save_best")

    assert (best is not None) == (config.val_dataloader is not None) == (at.pair.reported == "best")
    assert best == ("mIoU" if best else None)


def test_segmenters_keep_points_by_iteration():
    """40,000 iterations in one loop: a checkpoint every 4,000, as often as its authors validate."""
    hook = compose_training(setting("pspnet_r101_pspnet_r18", "paper"), "student", seed=0).default_hooks.checkpoint

    assert (hook.by_epoch, hook.interval) == (False, 4000)


def test_crosskd_changes_the_students_neck_alone():
    """Its RetinaNet students make the extra levels of the neck's output, the teacher and the control of its input."""
    config, control = cell("retinanet_r101_r50", "crosskd"), cell("retinanet_r101_r50", "none")

    assert config.model.student.neck.add_extra_convs == "on_output"
    assert config.model.teacher.neck.add_extra_convs == control.model.student.neck.add_extra_convs == "on_input"
    assert config.model.teacher == control.model.teacher


def test_maskd_changes_the_training():
    """Rate 0.02, clipping at 35, a warm-up of 1000 iterations; nothing of it in the control."""
    config, control = cell("retinanet_r101_r50", "maskd"), cell("retinanet_r101_r50", "none")

    assert (config.optim_wrapper.optimizer.lr, config.optim_wrapper.clip_grad, config.param_scheduler[0].end) == (
        0.02,
        CLIP,
        1000,
    )
    assert (control.optim_wrapper.optimizer.lr, control.optim_wrapper.get("clip_grad"), control.param_scheduler[0].end) == (
        0.01,
        None,
        500,
    )


def test_joined_methods_change_what_each_changes():
    """CrossKD's neck and MasKD's rate in one cell."""
    config = cell("retinanet_r101_r50", "crosskd+maskd")

    assert (config.model.student.neck.add_extra_convs, config.optim_wrapper.optimizer.lr) == ("on_output", 0.02)


@pytest.mark.parametrize("tier", ["smoke", "mini"])
@pytest.mark.parametrize(
    ("pair_name", "method"),
    [("retinanet_r101_r50", "crosskd"), ("retinanet_r101_r50", "maskd"), ("pspnet_r101_pspnet_r18", "mgd_seg")],
)
def test_nothing_is_changed_at_a_scaled_tier(tier, pair_name, method):
    """Every method's student trains there exactly as the control."""
    config, control = cell(pair_name, method, tier), cell(pair_name, "none", tier)
    for one in (config, control):
        del one.model["parts"]

    assert config.pretty_text == control.pretty_text


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_what_is_tested_is_what_was_trained(pair_name):
    """A student is built for the test with what its method changed in it."""
    changes = {"model.backbone.out_indices": (0, 1, 2, 3), "model.made_up": 7}
    config = compose_test(setting(pair_name, "paper"), "student", Path("w.pth"), Path("out"), changes)

    assert config.model.made_up == 7
    assert config.load_from == "w.pth"
    assert "made_up" not in compose_test(setting(pair_name, "paper"), "student", Path("w.pth"), Path("out")).model


def started(config):
    """The hooks that start a part of the model from a file."""
    return [hook for hook in config.get("custom_hooks") or [] if hook.type == "InitialisationHook"]


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_initialisation(pair_name):
    """The student's backbone starts from the verified file alone; of the teacher of a cell nothing is initialised."""
    file = Weights(Path("initialisation.pth"), "abc")
    config = cell(pair_name, "none", start=file)
    alone = compose_training(setting(pair_name, "paper"), "teacher", seed=0, initialisation=file)
    bare = compose_training(setting(pair_name, "paper"), "student", seed=0)
    hook = {"type": "InitialisationHook", "path": "initialisation.pth", "sha256": "abc"}

    assert started(config) == [{**hook, "part": "student.backbone"}]
    assert started(alone) == [{**hook, "part": "backbone"}]
    assert not started(bare)
    for model in (config.model.teacher, config.model.student, bare.model):
        assert "Pretrained" not in [part.get("type") for part in dicts(model)]
        assert not model.get("pretrained")


def test_prior_is_learned_on_the_teacher_as_the_recipe_says():
    """Adam at 0.01 down to 1e-6 over 2000 iterations, nothing validated, an endless stream of the teacher's batches."""
    at, (part,) = setting("retinanet_r101_r50", "paper"), load_parts("maskd")
    training = part.auxiliary_training("retinanet_r101_r50", "retinanet", "paper")
    config = compose_auxiliary(at, TEACHER, code="maskd", hparams=part.recipe.prior.hparams, training=training, seed=0)

    assert config.optim_wrapper.optimizer == {"type": "Adam", "lr": 0.01, "weight_decay": 1e-3}
    assert [(schedule.T_max, schedule.eta_min) for schedule in config.param_scheduler] == [(2000, 1e-6)]
    assert config.train_cfg == {"type": "IterBasedTrainLoop", "max_iters": 2000}
    assert config.train_dataloader.sampler.type == "InfiniteSampler"
    assert config.division == {"batch_size": 16, "processes": 1, "groups": 8}
    assert config.val_dataloader is None
    assert config.model.teacher.backbone.depth == 101


def test_fcos_tokens_are_learned_with_clipped_gradients():
    """At 35, as the base of the authors' config has it; no other family's."""
    (part,) = load_parts("maskd")
    clipped = {}
    for pair_name in ("fcos_r101_r50", "retinanet_r101_r50"):
        at = setting(pair_name, "paper")
        training = part.auxiliary_training(pair_name, at.pair.head, "paper")
        config = compose_auxiliary(at, TEACHER, code="maskd", hparams=part.recipe.prior.hparams, training=training, seed=0)
        clipped[pair_name] = config.optim_wrapper.get("clip_grad")

    assert clipped == {"fcos_r101_r50": {"max_norm": 35}, "retinanet_r101_r50": None}


def test_voc_objects_of_any_size_are_learned():
    """In the configs of teacher, student and every method neither part of the data has the filter at 32 pixels."""
    pair_name = "faster_rcnn_r101_r50_voc"
    at, methods = setting(pair_name, "paper"), sorted(path.stem for path in (ROOT / "methods").glob("*.yaml"))
    configs = [compose_training(at, side, seed=0) for side in ("teacher", "student")]
    configs += [cell(pair_name, name) for name in methods if not impossible_reason(pair_name, at.pair, name, "paper")]
    filters = [part.filter_cfg for config in configs for part in config.train_dataloader.dataset.dataset.datasets]

    assert len(configs) > 8
    assert len(filters) == 2 * len(configs)
    assert filters == [{"filter_empty_gt": True, "min_size": 32, "bbox_min_size": None}] * len(filters)


def test_one_recipe_for_two_others_that_are_both_there(tmp_path):
    """A method whose values beside two others differ, in a combination of all three: one line of the first stage."""
    project = copy_project(tmp_path)
    recipe = project / "methods/pkd.yaml"
    content = yaml.safe_load(recipe.read_text())
    content["overrides"].append({"combined_with": "fitnet", "hparams": {"loss_weight": 3.0, "num_levels": 5}, "why": "a test's"})
    recipe.write_text(yaml.safe_dump(content))
    edit_yaml(project / "params.yaml", grid={"gfl_r101_r50": ["none", "crosskd+pkd+fitnet"]})
    refused = run_here(project, "pipelines.stages.check")
    edit_yaml(project / "params.yaml", grid={"gfl_r101_r50": ["none", "crosskd+pkd", "pkd+fitnet"]})
    renew(project)
    accepted = run_here(project, "pipelines.stages.check")

    words = r"error: methods/pkd\.yaml: loss_weight .*6\.0 .*crosskd .*3\.0 .*fitnet, .*pkd\+crosskd\+fitnet .*\n"
    assert re.fullmatch(words, refused.stderr), refused.stderr
    assert (refused.returncode, accepted.returncode) == (2, 0)


def test_two_authors_who_disagree(tmp_path):
    """Joined methods that set one key differently: one line of the first stage; not where that cell is not asked for or impossible."""
    project = copy_project(tmp_path)
    recipe = project / "methods/pkd.yaml"
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**content, "config": {"optim_wrapper.optimizer.lr": 0.5}}))
    edit_yaml(project / "params.yaml", tier="paper", grid={"retinanet_r101_r50": ["none", "maskd+pkd"]})
    refused = run_here(project, "pipelines.stages.check")
    elsewhere = {"retinanet_r101_r50": ["none", "maskd"], "resnet34_resnet18": ["none", "maskd+pkd"]}
    edit_yaml(project / "params.yaml", grid=elsewhere)
    renew(project)
    not_asked = run_here(project, "pipelines.stages.check")

    words = r"error: maskd\+pkd .*retinanet_r101_r50: .*optim_wrapper\.optimizer\.lr .*0\.02 and 0\.5.*\n"
    assert re.fullmatch(words, refused.stderr), refused.stderr
    assert (refused.returncode, not_asked.returncode) == (2, 0)


def test_every_pair_of_pixels_has_its_own_size():
    """The preprocessor pads to the published crop, and to the scene's size at a scaled tier."""
    for pair_name in SEGMENTATION:
        crop = (512, 512) if pair_name.startswith("pspnet") else (512, 1024)
        sizes = [
            compose_training(setting(pair_name, tier), "student", seed=0).model.data_preprocessor.size
            for tier in ("paper", "mini")
        ]

        assert [tuple(size) for size in sizes] == [crop, (64, 64)]
