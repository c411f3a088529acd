"""Composition, the distilling model, weights and evaluation, without any stage."""

import copy
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from benchmarks.digest import file_sha256
from benchmarks.manifest import write_manifest
from benchmarks.own_check import check_own
from benchmarks.synthetic import write_scenes
from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.compose import compose_cell, compose_test, compose_training
from pipelines.engine.distiller import UnfitError
from pipelines.engine.mmlab import import_mmrazor, prepare_process
from pipelines.engine.published import published_config
from pipelines.engine.setting import Distillation, Weights
from pipelines.engine.training import _check_batch, train
from pipelines.engine.weights import read_weights, save_weights
from pipelines.params import load_pair
from pipelines.recipes import cell_config, cell_parts, impossible_reason, load_parts
from tests import trees
from tests.conftest import PAIR, ROOT, build, setting, total


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)
    prepare_process()


# One a kind: dense head, two stages, dense head without norms, pixels. `tests/test_smoke.py` takes all of them.
PAIRS = [PAIR, "faster_rcnn_r101_r50", "retinanet_r101_r50", "pspnet_r101_pspnet_r18"]
RECIPES = [*sorted(path.stem for path in ROOT.joinpath("methods").glob("*.yaml")), "crosskd+pkd"]


def random_teacher(pair_name, path, tier_name="smoke"):
    """Weights of a random teacher."""
    torch.manual_seed(1)
    save_weights(build(compose_training(setting(pair_name, tier_name), "teacher", seed=0)), path)
    return Weights(path, file_sha256(path))


@pytest.fixture
def teacher(tmp_path):
    """Weights of a random teacher at tier smoke."""
    return random_teacher(PAIR, tmp_path / "teacher.pth")


def distiller(teacher, method="mgd", seed=0, pair_name=PAIR):
    """The model of a cell at tier smoke, initialised."""
    at = setting(pair_name)
    parts, _ = cell_parts(method, pair_name, at.pair, "smoke")
    torch.manual_seed(seed)
    model = build(compose_cell(at, Distillation(parts, teacher, None), seed=seed))
    model.init_weights()
    return model


def codes(method):
    """Modules that a method's parts run."""
    return [part.code for part in load_parts(method)]


def training_batch(*, of_pixels=False):
    """Two images with a box each, or with a class for every pixel, as the loaders give them."""
    from mmdet.structures import DetDataSample  # noqa: PLC0415
    from mmengine.structures import InstanceData, PixelData  # noqa: PLC0415
    from mmseg.structures import SegDataSample  # noqa: PLC0415

    size, samples = (64, 64), []
    for number in range(2):
        about = {"img_shape": size, "ori_shape": size, "batch_input_shape": size, "pad_shape": size}
        sample = SegDataSample(metainfo=about) if of_pixels else DetDataSample(metainfo=about)
        if of_pixels:
            labels = torch.zeros(1, *size, dtype=torch.long)
            labels[:, 8:44, 8:40] = number + 1
            sample.gt_sem_seg = PixelData(data=labels)
        else:
            sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 8.0, 40.0, 44.0]]), labels=torch.tensor([number]))
        samples.append(sample)
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)), samples


def test_mmrazor_imports_unmodified():
    """The day the shim no longer suffices, this fails first; mmcv's version is put back."""
    import mmcv  # noqa: PLC0415

    assert import_mmrazor().__version__ == "1.0.0"
    assert mmcv.__version__ != "2.1.0"


def test_unknown_published_config_is_one_line():
    """A misspelt config name says so."""
    with pytest.raises(ValueError, match=r"mmdet::gfl/nope\.py"):
        published_config("mmdet::gfl/nope.py")


@pytest.mark.parametrize("pair_name", PAIRS)
@pytest.mark.parametrize("tier_name", ["smoke", "mini", pytest.param("paper", marks=pytest.mark.slow)])
def test_every_config_builds(tmp_path, tier_name, pair_name):
    """Teacher, student, cell, prior and test configs build at every tier, paper included, and are plain text."""
    at = setting(pair_name, tier_name)
    name = "maskd_seg" if at.pair.task == "segmentation" else "maskd"
    (part,) = load_parts(name)
    weights = random_teacher(pair_name, tmp_path / "teacher.pth", tier_name)
    parts, _ = cell_parts(name, pair_name, at.pair, tier_name)
    changes = cell_config(name, pair_name, at.pair, tier_name)
    model = build(compose_cell(at, Distillation(parts, weights, None, changes), seed=0))
    prior = compose_auxiliary(
        at, weights, code=name, hparams=part.recipe.prior.hparams,
        training=part.auxiliary_training(pair_name, at.pair.head, tier_name), seed=0,
    )  # fmt: skip
    learned, role = build(prior).auxiliary, "neck" if name == "maskd" else "logits"
    student, teacher = (side.get_submodule(at.pair.modules[role]) for side in (model.student, model.teacher))

    assert student.out_channels == teacher.out_channels
    assert sum(p.numel() for p in model.teacher.parameters()) > sum(p.numel() for p in model.student.parameters())
    model.distiller.method.load_prior(learned.state_dict())  # refuses tokens of other widths, or more or fewer of them
    assert compose_test(at, "student", weights.path, Path("out")).pretty_text


def test_paper_tier_keeps_what_was_published():
    """ResNet depths, widths, learning rate, schedule and batch are those of the published config."""
    at = setting(PAIR, "paper")
    student = compose_training(at, "student", seed=0)
    cell = compose_cell(at, Distillation([], Weights(Path("t"), "0"), None), seed=0)

    assert (student.model.backbone.depth, student.model.neck.out_channels, student.model.bbox_head.num_classes) == (50, 256, 80)
    assert student.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    assert student.train_cfg.max_epochs == 12
    assert student.train_dataloader.batch_size == 16
    assert cell.model.teacher.backbone.depth == 101


@pytest.mark.parametrize("pair_name", [PAIR, *(pytest.param(name, marks=pytest.mark.slow) for name in PAIRS[1:])])
def test_every_cell_takes_a_step(tmp_path, pair_name):
    """Each method on each pair, published values: finite losses of its own, gradient for the student, none for the teacher; or a reason."""
    pair = load_pair(pair_name)
    weights = random_teacher(pair_name, tmp_path / "teacher.pth")
    plain = None
    for name in ["none", *RECIPES]:
        if reason := impossible_reason(pair_name, pair, name, "smoke"):
            assert reason.startswith("needs '")
            continue
        model = distiller(weights, name, pair_name=pair_name).train()
        torch.manual_seed(2)  # for the samplers of a two-stage detector and a segmenter's dropout
        losses = model.loss(*training_batch(of_pixels=pair.task == "segmentation"))
        total(losses).backward()
        own = {key: value for key, value in losses.items() if plain is not None and key not in plain}
        plain = plain or losses

        assert bool(own) == (codes(name) != ["none"]), name
        assert all(value.isfinite() for value in own.values()), name
        # What a method adds leaves the student's own losses as they are, to the last bit.
        assert all(torch.equal(torch.as_tensor(losses[key]), torch.as_tensor(plain[key])) for key in plain), name
        assert all(parameter.grad is not None for parameter in model.student.backbone.layer4.parameters()), name
        assert all(parameter.grad is None for parameter in model.teacher.parameters()), name


def test_only_what_is_needed_of_the_teacher_runs(teacher):
    """Nothing for the control, no head for a method on the neck, no box branch beyond it for CrossKD's class scores."""
    for method, expected in {
        "none": set(),
        "pkd": {"backbone", "neck"},
        "crosskd": {"backbone", "neck", "head convolutions"},
    }.items():
        model, ran = distiller(teacher, method), set()
        parts = {
            "backbone": model.teacher.backbone,
            "neck": model.teacher.neck,
            "head": model.teacher.bbox_head,
            "head convolutions": model.teacher.bbox_head.cls_convs[0],
        }
        for name, module in parts.items():
            module.register_forward_hook(lambda *_, name=name, ran=ran: ran.add(name))
        model.loss(*training_batch())

        assert ran == expected


def test_teacher_is_outside_of_everything_that_trains(teacher):
    """Not in the checkpoint, not in the optimizer, in evaluation mode after train(), no gradient, no statistics."""
    model = distiller(teacher, "mgd").train()
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    teacher_ids = {id(parameter) for parameter in model.teacher.parameters()}

    total(model.loss(*training_batch())).backward()

    assert not any(module.training for module in model.teacher.modules())
    assert not teacher_ids & {id(parameter) for parameter in model.parameters()}
    assert not any(key.startswith("teacher") for key in model.state_dict())
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.teacher.state_dict().items())
    assert all(parameter.grad is not None for parameter in model.distiller.method.parameters())


def test_teacher_follows_the_model(teacher):
    """Moving or casting the model moves and casts the teacher."""
    model = distiller(teacher, "none").double()

    assert next(model.teacher.parameters()).dtype == torch.float64


def test_nothing_recorded_is_kept(teacher):
    """After a loss the model can be copied, and the copy gives the same loss."""
    model = distiller(teacher, "mgd").eval()
    first = model.loss(*training_batch())["loss_mgd"]
    second = copy.deepcopy(model).loss(*training_batch())["loss_mgd"]

    assert first.item() == second.item()


def test_recorded_features_are_the_models_own(teacher):
    """MGD's loss through the recorders equals its module on features taken by hand."""
    from methods.contract import Batch, View  # noqa: PLC0415

    model = distiller(teacher, "mgd").eval()
    images, samples = training_batch()
    with torch.no_grad():
        views = [View({"neck": side.extract_feat(images)}) for side in (model.student, model.teacher)]
        by_hand = model.distiller.method(*views, Batch(0, (), (), (64, 64), torch.Generator().manual_seed(0)))

    assert model.loss(images, samples)["loss_mgd"].item() == pytest.approx(by_hand["loss_mgd"].item(), rel=1e-6)


def test_every_method_starts_from_the_same_student(teacher):
    """One seed, three methods: the same student to the bit; another seed: another student."""
    states = [distiller(teacher, method).student.state_dict() for method in ("none", "mgd", "maskd")]
    other = distiller(teacher, "none", seed=1).student.state_dict()

    assert all(torch.equal(states[0][key], state[key]) for state in states[1:] for key in state)
    assert not all(torch.equal(states[0][key], other[key]) for key in other)


def test_student_takes_over_what_a_method_inherits(teacher):
    """The teacher's head where asked for, and nothing else of it; a neck of another shape is refused by name."""
    at = setting()
    parts, _ = cell_parts("fgd", PAIR, at.pair, "smoke")
    config = compose_cell(at, Distillation(parts, teacher, None), seed=0)
    assert config.model.parts[0]["inherits"] == []  # a scaled tier takes over nothing
    config.model.parts[0]["inherits"] = ["bbox_head"]
    model = build(config)
    model.init_weights()
    student, frozen = model.student.state_dict(), model.teacher.state_dict()

    assert all(torch.equal(student[key], frozen[key]) for key in student if key.startswith("bbox_head"))
    assert not torch.equal(student["neck.fpn_convs.0.conv.weight"], frozen["neck.fpn_convs.0.conv.weight"])
    config.model.parts[0]["inherits"] = ["neck"]
    with pytest.raises(ValueError, match=r"student's neck .*shape"):
        build(config)


def with_other_neck(teacher, method, *, width=16, levels=3):
    """A cell whose student's pyramid has another width or number of levels than the teacher's."""
    parts, _ = cell_parts(method, PAIR, setting().pair, "smoke")
    config = compose_cell(setting(), Distillation(parts, teacher, None), seed=0)
    student = config.model.student
    student.neck.update(out_channels=width, num_outs=levels)
    student.bbox_head.in_channels = width
    student.bbox_head.anchor_generator.strides = [8, 16, 32, 64][:levels]
    return build(config)


@pytest.mark.parametrize("method", ["pkd", "cwd", "crosskd+pkd"])
def test_necks_that_must_be_equal_and_are_not(teacher, method):
    """One line with both widths and what to do; a method that adapts the student's width takes the same pair."""
    with pytest.raises(UnfitError, match=r"'neck': .*channels .*\b24 and 16") as caught:
        with_other_neck(teacher, method, width=24)

    assert "\n" not in str(caught.value)
    assert with_other_neck(teacher, "mgd", width=24).student.neck.out_channels == 24


def test_necks_of_different_numbers_of_levels(teacher):
    """No method can pair the levels then; one that needs none is built."""
    with pytest.raises(UnfitError, match=r"'neck' .*\b4 levels .*student .*\b3 .*teacher"):
        with_other_neck(teacher, "mgd", levels=4)

    assert with_other_neck(teacher, "none", levels=4).student.neck.num_outs == 4


@pytest.mark.slow
def test_autocast_leaves_distillation_in_full_precision(teacher):
    """Under bfloat16 autocast the models run in half precision, every method's losses are float32."""
    for method in RECIPES:
        if codes(method) == ["none"] or impossible_reason(PAIR, load_pair(PAIR), method, "smoke"):
            continue
        model = distiller(teacher, method).eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halves = model.student.extract_feat(training_batch()[0])
            losses = model.loss(*training_batch())
        own = {key: value for key, value in losses.items() if key.startswith(tuple(f"loss_{part}" for part in codes(method)))}

        assert halves[0].dtype == torch.bfloat16
        assert own
        assert all(value.dtype == torch.float32 for value in own.values()), method


@pytest.mark.parametrize("damage", ["truncated", "other", "missing", "pickle"])
def test_damaged_weights_are_one_line(teacher, damage):
    """Truncated, exchanged, missing, or holding code: refused by name, and nothing in the file is run."""
    sha256 = teacher.sha256
    if damage == "truncated":
        teacher.path.write_bytes(teacher.path.read_bytes()[:-100])
    elif damage == "other":
        torch.save({"weight": torch.ones(1)}, teacher.path)
    elif damage == "missing":
        teacher.path.unlink()
    else:
        torch.save({"weight": Path("code")}, teacher.path)
        sha256 = file_sha256(teacher.path)

    with pytest.raises(ValueError, match=r"missing|recorded is|tensors alone") as caught:
        read_weights(teacher.path, sha256)
    assert str(teacher.path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_architecture_are_one_line(teacher):
    """A student's weights for the teacher: refused with the first tensor that differs."""
    model = distiller(teacher, "none")
    save_weights(model.student, teacher.path)

    with pytest.raises(ValueError, match=r"teacher\.pth .*GFL .*\d+ tensors .*backbone"):
        distiller(Weights(teacher.path, file_sha256(teacher.path)), "none")


@pytest.mark.slow
@pytest.mark.parametrize("reported", ["last", "best"])
def test_weights_of_the_epoch_that_is_reported(tmp_path, monkeypatch, reported):
    """If the authors report their best epoch, its weights are selected and no later ones."""
    from mmengine.evaluator import BaseMetric  # noqa: PLC0415 (seconds)
    from mmengine.registry import METRICS  # noqa: PLC0415

    class Falling(BaseMetric):
        scores = iter((3.0, 2.0))

        def process(self, *_):
            self.results.append(0)

        def compute_metrics(self, _):
            return {"mIoU": next(self.scores)}

    METRICS.register_module(name="Falling", module=Falling, force=True)
    at = setting("pspnet_r101_pspnet_r18", data=tmp_path / "data")
    write_scenes(at.tier.scenes, tmp_path / "data")
    config = compose_training(at, "student", seed=0)
    config.train_cfg.max_epochs = 2
    config.val_evaluator = {"type": "Falling"}
    if reported == "best":
        config.default_hooks.checkpoint.save_best = "mIoU"
    monkeypatch.chdir(tmp_path)
    quiet_tracker = Mock(run_id=None)
    train(
        config,
        name="cell",
        label="[cell]",
        code={},
        tracker_for=lambda _: quiet_tracker,
        exports={tmp_path / "w.pth": lambda model: model},
    )
    kept = {int(path.stem[-1]): torch.load(path, weights_only=False)["state_dict"] for path in Path("work").rglob("epoch_*.pth")}
    found = torch.load(tmp_path / "w.pth", weights_only=True)
    same = [epoch for epoch, state in kept.items() if all(torch.equal(found[key], state[key]) for key in found)]

    assert same == [1 if reported == "best" else 2]


def test_user_data_that_make_no_batch(tmp_path):
    """Fewer training images than a batch: one line with both numbers, and where to change which."""
    tree = trees.own_coco(tmp_path / "mine")
    write_manifest(tmp_path, [check_own(tree, trees.DETECTION)])
    config = compose_training(setting(), "student", seed=0)
    assert config.train_dataloader.batch_size == 4

    with pytest.raises(ValueError, match=r"own\.train .*\b3 images.*\b4; .*batch_size in params"):
        _check_batch(config, tmp_path / "manifest.json")
    config.train_dataloader.batch_size = 3
    _check_batch(config, tmp_path / "manifest.json")
