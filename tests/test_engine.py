"""Composition, the distilling model, weights and evaluation, without any stage."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.scenes import CLASSES, SceneSpec, write_scenes
from pipelines.engine.compose import Distillation, Weights, compose_cell, compose_prior, compose_test, compose_training
from pipelines.engine.mmlab import import_mmrazor, published_config
from pipelines.engine.training import prepare_process, quiet, save_weights
from pipelines.engine.weights import file_sha256, read_weights
from pipelines.evaluate import box_ap
from pipelines.params import cell_parts, impossible_reason, load_pair, load_parts, load_tier
from tests.conftest import PAIR, ROOT, build, total


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)
    prepare_process()


PAIRS = sorted(path.stem for path in ROOT.joinpath("benchmarks/pairs").glob("*.yaml"))
RECIPES = [*sorted(path.stem for path in ROOT.joinpath("methods").glob("*.yaml")), "crosskd+pkd"]


@pytest.fixture
def smoke():
    """Pair and tier."""
    return load_pair(PAIR), load_tier("smoke")


def random_teacher(pair, tier, path):
    """Weights of a random teacher."""
    torch.manual_seed(1)
    save_weights(build(compose_training(pair, "teacher", tier, Path("data"), seed=0)), path)
    return Weights(path, file_sha256(path))


@pytest.fixture
def teacher(smoke, tmp_path):
    """Weights of a random teacher at tier smoke."""
    return random_teacher(*smoke, tmp_path / "teacher.pth")


def distiller(smoke, teacher, method="mgd", seed=0, pair_name=PAIR):
    """The model of a cell, initialised."""
    pair, tier = smoke
    parts, _ = cell_parts(method, pair_name, pair, "smoke")
    torch.manual_seed(seed)
    model = build(compose_cell(pair, tier, Path("data"), Distillation(parts, teacher, None), seed=seed))
    model.init_weights()
    return model


def codes(method):
    """Modules that a method's parts run."""
    return [part.code for part in load_parts(method)]


def training_batch():
    """Two images with a box each, as MMDetection's loader gives them."""
    from mmdet.structures import DetDataSample  # noqa: PLC0415
    from mmengine.structures import InstanceData  # noqa: PLC0415

    samples = []
    for number in range(2):
        sample = DetDataSample(
            metainfo={"img_shape": (64, 64), "ori_shape": (64, 64), "batch_input_shape": (64, 64), "pad_shape": (64, 64)}
        )
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 8.0, 40.0, 44.0]]), labels=torch.tensor([number]))
        samples.append(sample)
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), samples


def test_mmrazor_imports_unmodified():
    """The day the shim no longer suffices, this fails first; mmcv's version is put back."""
    import mmcv  # noqa: PLC0415

    assert import_mmrazor().__version__ == "1.0.0"
    assert mmcv.__version__ != "2.1.0"


def test_unknown_published_config_is_one_line():
    """A misspelt config name says so."""
    with pytest.raises(ValueError, match=r"no config mmdet::gfl/nope\.py"):
        published_config("mmdet::gfl/nope.py")


@pytest.mark.parametrize("pair_name", PAIRS)
@pytest.mark.parametrize("tier_name", ["smoke", "mini", "paper"])
def test_every_config_builds(teacher, tier_name, pair_name):
    """Teacher, student, cell, prior and test configs build at every tier, paper included, and are plain text."""
    pair, tier = load_pair(pair_name), load_tier(tier_name)
    (part,) = load_parts("maskd")
    recipe = part.recipe
    teacher_config = compose_training(pair, "teacher", tier, Path("data"), seed=0)
    teacher_model = build(teacher_config)
    save_weights(teacher_model, teacher.path)
    weights = Weights(teacher.path, file_sha256(teacher.path))
    parts, _ = cell_parts("maskd", pair_name, pair, tier_name)
    cell = compose_cell(pair, tier, Path("data"), Distillation(parts, weights, None), seed=0)
    prior = compose_prior(
        pair, tier, Path("data"), weights, code="maskd",
        hparams=recipe.prior.hparams, training=recipe.prior.training.model_dump(), seed=0,
    )  # fmt: skip
    model = build(cell)

    assert model.student.neck.out_channels == model.teacher.neck.out_channels
    assert sum(p.numel() for p in model.teacher.parameters()) > sum(p.numel() for p in model.student.parameters())
    assert len(build(prior).prior.mask_modules) == len(model.distiller.method.mask_modules)
    assert compose_test(pair, "student", tier, Path("data"), weights.path, Path("out")).pretty_text


def test_paper_tier_keeps_what_was_published(smoke):
    """ResNet depths, widths, learning rate, schedule and batch are those of the published config."""
    pair, tier = smoke[0], load_tier("paper")
    student = compose_training(pair, "student", tier, Path("data"), seed=0)
    cell = compose_cell(pair, tier, Path("data"), Distillation([], Weights(Path("t"), "0"), None), seed=0)

    assert (student.model.backbone.depth, student.model.neck.out_channels, student.model.bbox_head.num_classes) == (50, 256, 80)
    assert student.optim_wrapper.optimizer == {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    assert student.train_cfg.max_epochs == 12
    assert cell.model.teacher.backbone.depth == 101
    assert cell.model.student.backbone.init_cfg.checkpoint == "torchvision://resnet50"


@pytest.mark.parametrize("pair_name", PAIRS)
def test_every_cell_takes_a_step(tmp_path, pair_name):
    """Each method on each pair, published values: finite losses of its own, gradient for the student, none for the teacher; or a reason."""
    pair, tier = load_pair(pair_name), load_tier("smoke")
    weights = random_teacher(pair, tier, tmp_path / "teacher.pth")
    plain = None
    for name in ["none", *RECIPES]:
        if reason := impossible_reason(pair_name, pair, name, "smoke"):
            assert reason.startswith("needs '")
            continue
        model = distiller((pair, tier), weights, name, pair_name=pair_name).train()
        torch.manual_seed(2)  # for the samplers of a two-stage detector
        losses = model.loss(*training_batch())
        total(losses).backward()
        own = {key: value for key, value in losses.items() if plain is not None and key not in plain}
        plain = plain or losses

        assert bool(own) == (name != "none"), name
        assert all(value.isfinite() for value in own.values()), name
        # What a method adds leaves the student's own losses as they are, to the last bit.
        assert all(torch.equal(torch.as_tensor(losses[key]), torch.as_tensor(plain[key])) for key in plain), name
        assert all(parameter.grad is not None for parameter in model.student.backbone.layer4.parameters()), name
        assert all(parameter.grad is None for parameter in model.teacher.parameters()), name


def test_only_what_is_needed_of_the_teacher_runs(smoke, teacher):
    """Nothing for the control, no head for a method on the neck, no box branch beyond it for CrossKD's class scores."""
    for method, expected in {
        "none": set(),
        "pkd": {"backbone", "neck"},
        "crosskd": {"backbone", "neck", "head convolutions"},
    }.items():
        model, ran = distiller(smoke, teacher, method), set()
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


def test_teacher_is_outside_of_everything_that_trains(smoke, teacher):
    """Not in the checkpoint, not in the optimizer, in evaluation mode after train(), no gradient, no statistics."""
    model = distiller(smoke, teacher, "mgd").train()
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    teacher_ids = {id(parameter) for parameter in model.teacher.parameters()}

    total(model.loss(*training_batch())).backward()

    assert not any(module.training for module in model.teacher.modules())
    assert not teacher_ids & {id(parameter) for parameter in model.parameters()}
    assert not any(key.startswith("teacher") for key in model.state_dict())
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.teacher.state_dict().items())
    assert all(parameter.grad is not None for parameter in model.distiller.method.parameters())


def test_teacher_follows_the_model(smoke, teacher):
    """Moving or casting the model moves and casts the teacher."""
    model = distiller(smoke, teacher, "none").double()

    assert next(model.teacher.parameters()).dtype == torch.float64


def test_nothing_recorded_is_kept(smoke, teacher):
    """After a loss the model can be copied, and the copy gives the same loss."""
    model = distiller(smoke, teacher, "mgd").eval()
    first = model.loss(*training_batch())["loss_mgd"]
    second = copy.deepcopy(model).loss(*training_batch())["loss_mgd"]

    assert first.item() == second.item()


def test_recorded_features_are_the_models_own(smoke, teacher):
    """MGD's loss through the recorders equals its module on features taken by hand."""
    from methods.contract import Batch, View  # noqa: PLC0415

    model = distiller(smoke, teacher, "mgd").eval()
    images, samples = training_batch()
    with torch.no_grad():
        views = [View({"neck": side.extract_feat(images)}) for side in (model.student, model.teacher)]
        by_hand = model.distiller.method(*views, Batch(0, (), (), (64, 64), torch.Generator().manual_seed(0)))

    assert model.loss(images, samples)["loss_mgd"].item() == pytest.approx(by_hand["loss_mgd"].item(), rel=1e-6)


def test_every_method_starts_from_the_same_student(smoke, teacher):
    """One seed, three methods: the same student to the bit; another seed: another student."""
    states = [distiller(smoke, teacher, method).student.state_dict() for method in ("none", "mgd", "maskd")]
    other = distiller(smoke, teacher, "none", seed=1).student.state_dict()

    assert all(torch.equal(states[0][key], state[key]) for state in states[1:] for key in state)
    assert not all(torch.equal(states[0][key], other[key]) for key in other)


def test_student_takes_over_what_a_method_inherits(smoke, teacher):
    """The teacher's head where asked for, and nothing else of it; a neck of another shape is refused by name."""
    pair, tier = smoke
    parts, _ = cell_parts("fgd", PAIR, pair, "smoke")
    config = compose_cell(pair, tier, Path("data"), Distillation(parts, teacher, None), seed=0)
    assert config.model.parts[0]["inherits"] == []  # a scaled tier takes over nothing
    config.model.parts[0]["inherits"] = ["bbox_head"]
    model = build(config)
    model.init_weights()
    student, frozen = model.student.state_dict(), model.teacher.state_dict()

    assert all(torch.equal(student[key], frozen[key]) for key in student if key.startswith("bbox_head"))
    assert not torch.equal(student["neck.fpn_convs.0.conv.weight"], frozen["neck.fpn_convs.0.conv.weight"])
    config.model.parts[0]["inherits"] = ["neck"]
    with pytest.raises(ValueError, match="starts the student's neck from the teacher's, and theirs differ in shape"):
        build(config)


def test_autocast_leaves_distillation_in_full_precision(smoke, teacher):
    """Under bfloat16 autocast the models run in half precision, every method's losses are float32."""
    for method in RECIPES:
        if method == "none" or impossible_reason(PAIR, smoke[0], method, "smoke"):
            continue
        model = distiller(smoke, teacher, method).eval()
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


def test_weights_of_another_architecture_are_one_line(smoke, teacher):
    """A student's weights for the teacher: refused with the first tensor that differs."""
    model = distiller(smoke, teacher, "none")
    save_weights(model.student, teacher.path)

    with pytest.raises(ValueError, match=r"of another architecture than GFL here: \d+ tensors differ, the first is backbone"):
        distiller(smoke, Weights(teacher.path, file_sha256(teacher.path)), "none")


def test_box_ap_equals_mmdetections_metric(tmp_path):
    """Our reading of COCOeval against CocoMetric's, at COCO's own areas, on jittered boxes with scores."""
    from mmdet.evaluation.metrics import CocoMetric  # noqa: PLC0415

    write_scenes(
        SceneSpec(seed=1, image_px=128, digit_px=(24, 128), digits=(1, 5), noise=0, train=1, tune=1, test=30), tmp_path / "d"
    )
    truth = tmp_path / "d/test.json"
    rng = np.random.default_rng(0)
    detections = []
    for ann in json.loads(truth.read_text())["annotations"]:
        for _ in range(2):
            box = [float(v) for v in np.array(ann["bbox"]) + rng.integers(-4, 5, 4)]
            wrong = rng.random() < 0.2
            category = ann["category_id"] % 10 + 1 if wrong else ann["category_id"]
            detections.append(
                {
                    "image_id": ann["image_id"],
                    "category_id": category,
                    "bbox": [*box[:2], max(1.0, box[2]), max(1.0, box[3])],
                    "score": float(rng.random()),
                }
            )
    with quiet():
        metric = CocoMetric(ann_file=str(truth), metric="bbox", classwise=True)
        metric.dataset_meta = {"classes": CLASSES}
        by_image = {}
        for found in detections:
            by_image.setdefault(found["image_id"], []).append(found)
        for image_id, found in by_image.items():
            xyxy = np.array(
                [[f["bbox"][0], f["bbox"][1], f["bbox"][0] + f["bbox"][2], f["bbox"][1] + f["bbox"][3]] for f in found]
            )
            prediction = {
                "img_id": image_id,
                "bboxes": xyxy,
                "scores": np.array([f["score"] for f in found]),
                "labels": np.array([f["category_id"] - 1 for f in found]),
            }
            metric.results.append(({}, prediction))
        theirs = metric.compute_metrics(metric.results)

    ours, per_class = box_ap(truth, detections, (32**2, 96**2))

    for key, name in {
        "AP": "bbox_mAP",
        "AP50": "bbox_mAP_50",
        "AP75": "bbox_mAP_75",
        "APs": "bbox_mAP_s",
        "APm": "bbox_mAP_m",
        "APl": "bbox_mAP_l",
    }.items():
        expected = theirs[name]
        value = getattr(ours, key)
        assert (value is None) == (expected == -1.0)
        assert value is None or value == pytest.approx(100 * expected, abs=0.06), key
    assert per_class["three"] == pytest.approx(100 * theirs["three_precision"], abs=0.06)


def test_box_ap_of_nothing(tmp_path):
    """No detections at all is AP 0, not an error."""
    write_scenes(
        SceneSpec(seed=1, image_px=64, digit_px=(20, 40), digits=(1, 2), noise=0, train=1, tune=1, test=3), tmp_path / "d"
    )

    assert box_ap(tmp_path / "d/test.json", [], (200, 450))[0].AP == 0.0
