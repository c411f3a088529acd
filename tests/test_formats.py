"""Number formats, memory layouts and the other settings of speed: what they leave as it is, and what they may change."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import FUNCTIONS, TRANSFORMS
from torch.utils.data import DataLoader, Dataset

from pipelines.engine import hooks
from pipelines.engine.compose import compose_training
from pipelines.engine.precision import check_precision, set_matmul
from pipelines.engine.workers import seed_worker
from pipelines.grid import Speed
from tests import ranks
from tests.conftest import setting

CELLS = [
    ("gfl_r101_r50", "crosskd"), ("faster_rcnn_r101_r50", "mgd"), ("reppoints_x101dcn_r50", "none"), ("pspnet_r101_pspnet_r18", "none"),
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("at_root")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of teachers' weights."""
    return tmp_path_factory.mktemp("formats")


def plain(cell, folder):
    """The step in float32 and the usual layout."""
    return ranks.step(*cell, folder, images=4, parts=1)


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_close(cell, folder):
    """A detector with RoIs, one with deformable convolutions, a dense one, a segmenter: mmcv's operators know no bfloat16."""
    of_losses, of_gradients = ranks.difference(
        plain(cell, folder), ranks.step(*cell, folder, images=4, parts=1, precision="bf16")
    )

    assert 0 < of_losses < 0.05
    assert 0 < of_gradients < 0.25


@pytest.mark.parametrize("cell", CELLS)
def test_channels_last_is_the_same_but_for_last_digits(cell, folder):
    """RoI pooling of mmcv reads features of any layout as if it were the usual one: a gradient is then off by two thirds."""
    laid_out = ranks.step(*cell, folder, images=4, parts=1, speed=Speed(channels_last=True))

    assert max(ranks.difference(plain(cell, folder), laid_out)) < 1e-5


@pytest.mark.slow
def test_compiled_networks_are_the_same_but_for_last_digits(folder):
    """Recorded features and losses included."""
    cell = ("gfl_r101_r50", "mgd")
    compiled = ranks.step(*cell, folder, images=4, parts=1, speed=Speed(compile=True))

    assert max(ranks.difference(plain(cell, folder), compiled)) < 1e-5


def test_half_precision_losses_are_in_float32(folder):
    """Losses of a method, and of the student's own head."""
    config, model = ranks.model_of("gfl_r101_r50", "crosskd", folder)
    ranks.prepare_model(model, "bf16", Speed())
    batch = model.data_preprocessor(ranks.dummy_batch(config, (64, 64), 2), True)  # noqa: FBT003 (MMEngine's)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        levels = model.student.extract_feat(batch["inputs"])
        losses = model.loss(batch["inputs"], batch["data_samples"])

    assert levels[0].dtype == torch.bfloat16
    assert {value.dtype for loss in losses.values() for value in (loss if isinstance(loss, list) else [loss])} == {torch.float32}


def test_the_config_has_the_format():
    """The wrapper, the hooks, and nothing of them at the defaults."""
    at = setting("gfl_r101_r50", "smoke")
    usual = compose_training(at, "student", seed=0)
    half = compose_training(
        replace(at, precision="bf16", speed=Speed(channels_last=True, cache_images=True, pinned_memory=True)), "student", seed=0
    )
    fused = compose_training(replace(setting("gfl_r101_r50", "paper"), speed=Speed(fused_optimizer=True)), "student", seed=0)

    assert usual.optim_wrapper.type == "OptimWrapper"
    assert not usual.get("custom_hooks")
    assert half.optim_wrapper.type == "Bf16OptimWrapper"
    assert half.optim_wrapper.clip_grad == usual.optim_wrapper.clip_grad
    assert [hook.type for hook in half.custom_hooks] == ["FullPrecisionLossesHook", "NetworksHook"]
    assert half.train_dataloader.dataset.pipeline[0].type == "LoadImageOnce"
    assert half.val_dataloader.dataset.pipeline[0].type == "LoadImageFromFile"
    assert half.train_dataloader.pin_memory is True
    assert fused.optim_wrapper.optimizer.fused is True


@pytest.mark.parametrize(
    ("precision", "gpu", "line"),
    [
        ("fp16", None, "precision fp16 is for a GPU"),
        ("tf32", None, "precision tf32 is for a GPU"),
        ("bf16", (7, 0), "precision bf16 needs a GPU of compute capability 8.0"),
        ("tf32", (7, 5), "precision tf32 needs a GPU of compute capability 8.0"),
        ("int8", None, "precision is 'int8'; there are: fp32, tf32, bf16, fp16"),
    ],
)
def test_a_device_without_the_format(monkeypatch, precision, gpu, line):
    """Said before anything is built."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
    with pytest.raises(ValueError, match=line):
        check_precision(precision)


def test_float32_is_float32():
    """Torch alone rounds the inputs of a GPU's convolutions to 10 bits."""
    for precision, rounds in (("tf32", True), ("fp32", False), ("bf16", False)):
        set_matmul(precision)
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (rounds, rounds)


def test_images_are_decoded_once(tmp_path):
    """Every time the same array, one that may be written into; beyond its memory it decodes anew."""
    import cv2  # noqa: PLC0415 (as MMCV does)

    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    usual, once = (TRANSFORMS.build({"type": name}) for name in ("LoadImageFromFile", "LoadImageOnce"))
    once._free = image.nbytes
    first = once({"img_path": str(tmp_path / "a.png")})
    first["img"][:] = 0
    once({"img_path": str(tmp_path / "b.png")})
    (tmp_path / "a.png").unlink()
    again, expected = once({"img_path": str(tmp_path / "a.png")}), usual({"img_path": str(tmp_path / "b.png")})

    assert np.array_equal(again["img"], expected["img"])
    assert again.keys() == expected.keys()
    assert (again["img_shape"], again["ori_shape"]) == (expected["img_shape"], expected["ori_shape"])
    (tmp_path / "b.png").unlink()
    with pytest.raises(FileNotFoundError):
        once({"img_path": str(tmp_path / "b.png")})


class _Draws(Dataset):
    """Random numbers as a worker's transforms draw them."""

    def __len__(self):
        return 8

    def __getitem__(self, _):
        return np.random.random(), random.random(), float(torch.rand(()))  # noqa: NPY002, S311 (what MMCV's draw from)


def _epochs(monkeypatch, first, rank="0"):
    """Draws of epochs from ``first`` to 2, seeded as a run's are."""
    monkeypatch.setenv("RANK", rank)
    loader = DataLoader(_Draws(), num_workers=2, worker_init_fn=seed_worker, collate_fn=list)
    hook, found = hooks.ReseedHook(5), []
    for epoch in range(first, 3):
        hook.before_train_epoch(type("Runner", (), {"epoch": epoch}))
        found.append([one for batch in loader for one in batch])
    return found


def test_workers_draw_the_same_after_a_resume(monkeypatch):
    """The draws of an epoch are its own; other epochs, ranks and workers draw others."""
    whole, resumed, other = _epochs(monkeypatch, 0), _epochs(monkeypatch, 1), _epochs(monkeypatch, 0, rank="1")

    assert whole[1:] == resumed
    values = [value for epoch in [*whole, *other] for image in epoch for value in image]
    assert len(set(values)) == len(values)
    assert FUNCTIONS.get("seed_worker") is seed_worker


def test_published_loaders_have_such_workers():
    """MMEngine's default would seed them once for all epochs."""
    loader = compose_training(setting("gfl_r101_r50", "paper"), "student", seed=0).train_dataloader

    assert loader.num_workers > 0
    assert (loader.persistent_workers, loader.worker_init_fn) == (False, {"type": "seed_worker"})


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_loss_that_is_not_finite_is_named_with_its_iteration(monkeypatch, has_gpu):
    """At once on a CPU; on a GPU at the next look, with the iteration and the loss that came first."""
    from mmengine.logging import MessageHub  # noqa: PLC0415

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    runner = type("Runner", (), {
        "iter": 0, "epoch": 0, "max_iters": 100, "max_epochs": 1, "work_dir": str(Path.cwd()), "val_loop": None, "train_loop": None,
        "message_hub": MessageHub.get_instance(f"finite {has_gpu}"),
    })()  # fmt: skip
    recorder = hooks.RecorderHook("[x]", None)
    recorder.before_train(runner)
    recorder.before_train_epoch(runner)
    seen = []
    with pytest.raises(ValueError, match=r"\[x\]: loss, loss_mgd is not finite at iteration 7; ") as caught:  # noqa: PT012
        for iteration in range(100):
            seen.append(runner.iter)
            spoilt = math.nan if iteration >= 6 else 1.0
            later = math.inf if iteration >= 9 else 1.0
            recorder.after_train_iter(
                runner,
                0,
                {"inputs": [0]},
                {"loss": torch.tensor(spoilt), "loss_cls": torch.tensor(later), "loss_mgd": torch.tensor(spoilt)},
            )
            runner.iter += 1
    assert caught
    assert len(seen) == (20 if has_gpu else 7)
