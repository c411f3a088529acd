"""Several processes of one run: their steps, their draws, their ends, and the groups that stand for them in one process."""

import itertools
import json
import random
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.engine import ranks as engine_ranks
from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.division import Division, division_of
from pipelines.engine.setting import Distillation, bare_setting
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_parts, impossible_reason
from tests import ranks
from tests.conftest import ROOT, setting

PAIRS = {
    "gfl": "gfl_r101_r50", "retinanet": "retinanet_r101_r50", "atss": "atss_r101_r50", "fcos": "fcos_r101_r50",
    "faster_rcnn": "faster_rcnn_r101_r50", "segmenter": "pspnet_r101_pspnet_r18",
}  # fmt: skip
METHODS = sorted(path.stem for path in ROOT.joinpath("methods").glob("*.yaml"))
EXACT = 1e-6

pytestmark = pytest.mark.usefixtures("at_root")


def cells_of_methods():
    """Each method on the first head that it runs on, and the baseline and one more method on the others."""
    first = {
        method: pair
        for method in METHODS
        for pair in reversed(PAIRS.values())
        if impossible_reason(pair, load_pair(pair), method, "smoke") is None
    }
    others = [(pair, method) for pair in PAIRS.values() for method in ("none", "mgd", "mgd_seg")]
    return [(pair, method) for method, pair in first.items()] + [
        (pair, method) for pair, method in others if impossible_reason(pair, load_pair(pair), method, "smoke") is None
    ]


CELLS = sorted(set(cells_of_methods()))
WITH_FOUR = [(PAIRS[head], "none" if head == "segmenter" else "mgd") for head in PAIRS] + [(PAIRS["gfl"], "crosskd")]


@pytest.fixture(scope="module")
def taken(tmp_path_factory, at_root):
    """Steps of two processes with two images each, and of four."""
    folder = tmp_path_factory.mktemp("steps")
    return folder, {
        2: ranks.steps_of_ranks(CELLS, folder, images=4, number=2),
        4: ranks.steps_of_ranks(WITH_FOUR, folder, images=8, number=4),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("number", "pair", "method"), [*((2, *cell) for cell in CELLS), *((4, *cell) for cell in WITH_FOUR)])
def test_groups_of_one_process_are_a_step_of_several(taken, number, pair, method):
    """Losses and gradients; every parameter has a gradient, on each rank and in each group."""
    folder, steps = taken
    in_groups = ranks.step(pair, method, folder, images=2 * number, parts=number)

    assert max(ranks.difference(steps[number][pair, method], in_groups)) < EXACT


@pytest.mark.slow
def test_two_processes_of_two_groups_are_a_step_of_four(taken):
    """A head that averages its divisors over GPUs averages them over both."""
    folder, steps = taken
    cells = [(PAIRS["gfl"], "crosskd"), (PAIRS["faster_rcnn"], "mgd")]
    divided = ranks.steps_of_ranks(cells, folder, images=8, number=2, parts=2)

    for cell in cells:
        assert max(ranks.difference(steps[4][cell], divided[cell])) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pkd", "crosskd"])
def test_the_whole_batch_is_another_step(taken, method):
    """Groups are there for this; a test of equality that passes here, too, would measure nothing."""
    folder, steps = taken
    cell = (PAIRS["retinanet"], method)
    known = steps[2].get(cell) or ranks.steps_of_ranks([cell], folder, images=4, number=2)[cell]
    whole = ranks.step(*cell, folder, images=4, parts=1)

    assert max(ranks.difference(known, whole)) > 1e-3


def of(pair="gfl_r101_r50", tier="paper", batch_size=None, *, whole=False, **more):
    """Division of a pair's batch."""
    at = bare_setting(load_pair(pair), load_tier(tier), batch_size, **more)
    return division_of(at.total_batch, at, whole=whole)


@pytest.mark.parametrize(
    ("asked", "division", "images"),
    [
        ({}, Division(16, 1, 8), 2),
        ({"processes": 2}, Division(16, 2, 8), 2),
        ({"processes": 8}, Division(16, 8, 8), 2),
        ({"batch_size": 32, "processes": 16}, Division(32, 16, 16), 2),
        ({"pair": "faster_rcnn_r101_r50_voc"}, Division(16, 1, 2), 8),  # 2 GPUs of 8 images
        ({"pair": "pspnet_r101_pspnet_r18", "whole": True}, Division(16, 1, 1), 16),
        ({"pair": "pspnet_r101_pspnet_r18", "whole": True, "processes": 8}, Division(16, 8, 8), 2),
        ({"tier": "smoke"}, Division(4, 1, 1), 4),
        ({"tier": "smoke", "processes": 2}, Division(4, 2, 2), 2),
        ({"tier": "smoke", "groups": 2}, Division(4, 1, 2), 2),  # a trial, in place of two processes
    ],
)
def test_a_batch_is_divided_as_published(asked, division, images):
    """As many images are formed together as were on one GPU, whatever the number of processes."""
    assert of(**asked) == division
    assert division.images_per_group == images


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"processes": 3}, r"a batch of 16 images, 2 per GPU as published, .*3 processes.*multiple of 6"),
        ({"processes": 16}, r"a batch of 16 images, 2 per GPU.*16 processes"),
        ({"batch_size": 15}, r"a batch of 15 images, 2 per GPU.*1 processes"),
        ({"tier": "smoke", "processes": 3}, r"a batch of 4 images.*3 processes"),
    ],
)
def test_a_batch_that_does_not_divide(asked, line):
    """The line names the numbers, and the setting to change."""
    with pytest.raises(ValueError, match=line):
        of(**asked)


def test_the_config_says_how_a_batch_is_divided():
    """The loader has a process's part; groups are trained on by a hook; the rate is that of the whole batch."""
    at = setting("gfl_r101_r50", "paper")
    one, four, eight = (compose_training(replace(at, processes=number), "student", seed=3) for number in (1, 4, 8))

    assert [config.train_dataloader.batch_size for config in (one, four, eight)] == [16, 4, 2]
    assert [[hook for hook in config.custom_hooks if hook.type == "GroupsHook"] for config in (one, four, eight)] == [
        [{"type": "GroupsHook", "groups": groups, "seed": 3}] for groups in (8, 2, 1)
    ]
    assert len({config.optim_wrapper.optimizer.lr for config in (one, four, eight)}) == 1


def test_synchronised_norms(monkeypatch):
    """Norms stay synchronised where several processes have GPUs; they are plain in one process and in the teacher."""
    at = setting("pspnet_r101_pspnet_r18", "paper")
    several = replace(at, processes=8)
    with pytest.raises(ValueError, match=r"gpus_per_run is 8.*PSPNet.*SyncBN.*set it to 1"):
        compose_training(several, "student", seed=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    parts, _ = cell_parts("mgd_seg", "pspnet_r101_pspnet_r18", at.pair, "paper")
    cell = compose_cell(several, Distillation(parts, ranks.Weights(Path("w.pth"), "abc")), seed=0)
    monkeypatch.undo()
    alone = compose_cell(at, Distillation(parts, ranks.Weights(Path("w.pth"), "abc")), seed=0)

    assert '"SyncBN"' in json.dumps(cell.model.student.to_dict())
    assert '"SyncBN"' not in json.dumps(cell.model.teacher.to_dict())
    assert '"SyncBN"' not in json.dumps(alone.model.to_dict())
    assert not [hook for hook in alone.get("custom_hooks") or [] if hook.type == "GroupsHook"]


def test_resuming_with_another_number_of_processes():
    """A checkpoint that was put there by hand; a run's own lies in a directory of its own."""
    from mmengine.logging import MessageHub  # noqa: PLC0415

    from pipelines.engine.hooks import RecorderHook  # noqa: PLC0415

    hub = MessageHub.get_instance("another_number")
    hub.update_info("processes", 8)
    with pytest.raises(ValueError, match=r"checkpoint is of 8 processes.*there are 1.*gpus_per_run: 8"):
        RecorderHook("[x]", None)._check_processes(hub)


@pytest.mark.parametrize(
    ("gpus", "line"),
    [
        (None, "this torch has no gloo, which 2 processes need"),
        (1, "rank 1 has no GPU of its own: there are 1 here; lower gpus_per_run"),
    ],
)
def test_what_a_rank_lacks(monkeypatch, gpus, line):
    """A backend, or a device."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus is not None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_gloo_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    with pytest.raises(ValueError, match=line):
        engine_ranks.join()


def test_draws_differ_by_group_and_follow_the_seed():
    """Of a method: a group's generator is a function of seed, iteration and group, each with its own; the first is one process's."""
    from pipelines.engine.distiller import MethodDistiller  # noqa: PLC0415

    def seed_of(seed, iteration, group):
        return MethodDistiller.generator(types.SimpleNamespace(_seed=seed), torch.device("cpu"), iteration, group).initial_seed()

    keys = list(itertools.product((0, 1, 20261130), (0, 1, 175_000), range(9)))

    assert len({seed_of(*key) for key in keys}) == len(keys)
    assert seed_of(3, 5, 0) == (3 << 32) + 5


def test_epochs_differ_by_rank_and_follow_the_seed(monkeypatch):
    """Of what else is drawn."""
    from pipelines.engine import hooks  # noqa: PLC0415

    def drawn(seed, epoch, rank):
        monkeypatch.setattr(engine_ranks, "rank", lambda: rank)
        hooks.ReseedHook(seed).before_train_epoch(types.SimpleNamespace(epoch=epoch))
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002, S311

    keys = list(itertools.product((0, 1), (0, 1), (0, 1, 7)))
    values = [drawn(*key) for key in keys]

    assert values == [drawn(*key) for key in keys]
    assert all(len(set(column)) == len(keys) for column in zip(*values, strict=True))
