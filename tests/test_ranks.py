"""Several processes of one run: their steps, their draws, their ends, and the groups that stand for them in one process."""

import hashlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.division import Division, division_of
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.setting import Distillation, bare_setting
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_parts, impossible_reason
from tests import ranks
from tests.conftest import ROOT, copy_project, edit_yaml, run_stage, setting

PAIRS = {
    "gfl": "gfl_r101_r50", "retinanet": "retinanet_r101_r50", "atss": "atss_r101_r50", "fcos": "fcos_r101_r50",
    "faster_rcnn": "faster_rcnn_r101_r50", "segmenter": "pspnet_r101_pspnet_r18",
}  # fmt: skip
METHODS = sorted(path.stem for path in ROOT.joinpath("methods").glob("*.yaml"))
EXACT = 1e-6


@pytest.fixture(autouse=True, scope="module")
def _at_root():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        prepare_process()
        yield


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
def taken(tmp_path_factory):
    """Steps of two processes with two images each, and of four."""
    folder = tmp_path_factory.mktemp("steps")
    return folder, {
        2: ranks.steps_of_ranks(CELLS, folder, images=4, number=2),
        4: ranks.steps_of_ranks(WITH_FOUR, folder, images=8, number=4),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "method"), CELLS)
def test_groups_of_one_process_are_a_step_of_two(taken, pair, method):
    """Losses and gradients; every parameter has a gradient, on each rank and in each group."""
    folder, steps = taken
    in_groups = ranks.step(pair, method, folder, images=4, parts=2)

    assert max(ranks.difference(steps[2][pair, method], in_groups)) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "method"), WITH_FOUR)
def test_groups_of_one_process_are_a_step_of_four(taken, pair, method):
    """The same with four."""
    folder, steps = taken
    in_groups = ranks.step(pair, method, folder, images=8, parts=4)

    assert max(ranks.difference(steps[4][pair, method], in_groups)) < EXACT


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
    """What the groups are for; a test of equality that passes here, too, would measure nothing."""
    folder, steps = taken
    cell = (PAIRS["retinanet"], method)
    known = steps[2].get(cell) or ranks.steps_of_ranks([cell], folder, images=4, number=2)[cell]
    whole = ranks.step(*cell, folder, images=4, parts=1)

    assert max(ranks.difference(known, whole)) > 1e-3
