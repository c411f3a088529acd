"""A trial by itself, without a training: its schedule, its reports, its process and a full disk."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub

from methods.recipe import ResolvedPart
from pipelines.circumstances import CircumstanceError
from pipelines.engine.hooks import RecorderHook, StoppedError
from pipelines.engine.trial_schedule import ReportHook, shorten
from pipelines.params import load_pair
from pipelines.tuning import trial
from pipelines.tuning.params import TuningParams
from pipelines.tuning.space import search_space
from pipelines.tuning.study import SharedStudy
from pipelines.tuning.task import Task
from tests.conftest import PAIR, ROOT, read, tuning
from tests.test_pipeline import ends


def test_a_shorter_schedule_is_the_same_by_epochs():
    """Half of 12 epochs with a warm-up of 500 iterations and steps after 8 and 11."""
    config = Config({
        "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 12, "val_begin": 1},
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500},
            {"type": "MultiStepLR", "by_epoch": True, "begin": 0, "end": 12, "milestones": [8, 10], "gamma": 0.1},
        ],
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1, "save_best": "auto"}},
    })  # fmt: skip
    shorten(config, 0.5)
    warmup, steps = config.param_scheduler

    assert (config.train_cfg.max_epochs, warmup.begin, warmup.end, warmup.start_factor) == (6, 0, 250, 0.001)
    assert (steps.begin, steps.end, steps.milestones, steps.gamma) == (0, 6, [4, 5], 0.1)
    assert config.train_cfg.val_begin > 12
    assert config.default_hooks.checkpoint == {"type": "CheckpointHook", "interval": 1}

    shorten(config, 0.01)
    assert (config.train_cfg.max_epochs, config.param_scheduler[0].end) == (1, 42)  # 250 / 6


def test_a_shorter_schedule_is_the_same_by_iterations():
    """A quarter of 40 000 iterations of polynomial decay, and of a cosine with a period of its own."""
    config = Config({
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 40_000, "val_interval": 4_000},
        "param_scheduler": [
            {"type": "PolyLR", "eta_min": 1e-4, "power": 0.9, "by_epoch": False, "begin": 0, "end": 40_000},
            {"type": "CosineAnnealingLR", "by_epoch": False, "T_max": 20_000, "begin": 20_000, "end": 40_000},
        ],
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 4_000}},
    })  # fmt: skip
    shorten(config, 0.25)
    poly, cosine = config.param_scheduler

    assert (config.train_cfg.max_iters, poly.begin, poly.end, poly.power, poly.eta_min) == (10_000, 0, 10_000, 0.9, 1e-4)
    assert (cosine.begin, cosine.end, cosine.T_max) == (5_000, 10_000, 5_000)
    assert config.train_cfg.val_begin > 40_000


class Training:
    """A runner as its hooks see it: iterations of a second, validations of a hundred that give these scores (fractions)."""

    def __init__(self, hooks, scores, num=10, begun=0):
        self.hooks, self.scores, self.max_iters = hooks, iter(scores), num
        self.begun = self.iter = begun
        self.epoch = 0
        self.clock_s = 0.0
        self.message_hub = MessageHub.get_instance(f"training{id(self)}")
        self.optim_wrapper = SimpleNamespace(get_lr=lambda: {"lr": [0.1]})
        self.val_loop = SimpleNamespace(run=self.validate)
        self.model = SimpleNamespace(train=lambda: None)

    def validate(self):
        """As the loop does, by COCO's names."""
        self.clock_s += 100
        score = next(self.scores)
        for hook in self.hooks:
            hook.after_val_epoch(self, {} if score is None else {"coco/bbox_mAP": score, "coco/bbox_mAP_50": 0.99})

    def run(self):
        """Train to the end or until a hook has enough."""
        for hook in self.hooks:
            hook.before_train(self)
        for hook in self.hooks:
            hook.before_train_epoch(self)
        for number in range(self.begun, self.max_iters):
            self.iter = number
            self.clock_s += 1
            for hook in self.hooks:
                hook.after_train_iter(self, 0, None, {})


def reporter(num=4, stop_at=None):
    """A hook and what it hands on; told to stop at one of its reports."""
    found = []
    return ReportHook("box AP", num, lambda *report: bool(found.append(report)) or report[0] == stop_at), found


@pytest.fixture
def training(monkeypatch):
    """A training with the recorder before the reporter, by a clock of its own."""

    def begin(hook, scores, **about):
        tracker = SimpleNamespace(metrics=lambda *_: None)
        made = Training([RecorderHook("[tune]", tracker), hook], scores, **about)
        monkeypatch.setattr("pipelines.engine.hooks.time", SimpleNamespace(monotonic=lambda: made.clock_s))
        monkeypatch.setattr(RecorderHook, "_print", lambda *_: None)
        return made

    return begin


def test_reports_are_evenly_spaced_and_the_last_is_the_result(training):
    """Four of ten iterations: after 3, 5, 8 and 10; in points; 0 where nothing is found. Validating is no training."""
    hook, found = reporter(stop_at=4)
    run = training(hook, [0.125, None, 0.5, 0.25])
    run.run()

    assert found == [(1, 3, 12.5), (2, 5, 0.0), (3, 8, 50.0), (4, 10, 25.0)]
    assert hook.reports == [(3, 12.5), (5, 0.0), (8, 50.0), (10, 25.0)]
    assert (hook.iterations, hook.full_iterations) == (10, 10)
    assert not hook.is_stopped  # there was nothing left to stop
    assert (run.hooks[0].train_s, run.clock_s) == (10.0, 410.0)


def test_more_reports_than_iterations(training):
    """Two iterations, each reported once, under the later of the numbers that fall on it."""
    hook, found = reporter(num=4)
    training(hook, [0.125, 0.25], num=2).run()

    assert found == [(2, 1, 12.5), (4, 2, 25.0)]


def test_a_training_stops_at_the_report_that_says_so(training):
    """After 5 of 10 iterations, of which it trained 5 seconds."""
    hook, found = reporter(stop_at=2)
    run = training(hook, [0.125, 0.0])
    with pytest.raises(StoppedError):
        run.run()

    assert hook.is_stopped
    assert hook.reports == [(3, 12.5), (5, 0.0)]
    assert (hook.iterations, hook.full_iterations, run.hooks[0].train_s) == (5, 10, 5.0)
    assert len(found) == 2


def test_a_resumed_training_reports_again_what_it_had(training):
    """Its trial has another number and needs them; it may be stopped by the last of them before it trains."""
    hook, found = reporter()
    run = training(hook, [None, 0.5, 0.25], begun=5)  # the first: the recorder's, of a checkpoint without its validation
    run.message_hub.update_info("reports", [(3, 12.5), (5, 20.0)])
    run.run()

    assert found == [(1, 3, 12.5), (2, 5, 20.0), (3, 8, 50.0), (4, 10, 25.0)]
    assert hook.reports == [(3, 12.5), (5, 20.0), (8, 50.0), (10, 25.0)]

    hook, found = reporter(stop_at=2)
    run = training(hook, [None], begun=5)
    run.message_hub.update_info("reports", [(3, 12.5), (5, 20.0)])
    with pytest.raises(StoppedError):
        run.run()

    assert (hook.is_stopped, hook.iterations, run.clock_s) == (True, 5, 100.0)


@pytest.mark.parametrize(
    ("error", "free_mib", "has_failed"),
    [
        (RuntimeError("shapes do not match"), 1000, True),
        (ValueError("loss is not finite"), 1000, True),
        (RuntimeError("shapes do not match"), 3, False),
        (OSError(errno.ENOSPC, "No space left on device"), 1000, False),
        (RuntimeError("[enforce fail at inline_container.cc:626] . PytorchStreamWriter failed writing file data/1"), 1000, False),
        (RuntimeError("DataLoader worker (pid 4711) is killed by signal: Terminated."), 1000, False),
        (CircumstanceError("work/x is being written by process 4711 on n1"), 1000, False),
    ],
)
def test_a_circumstance_is_not_the_trials(tmp_path, monkeypatch, error, free_mib, has_failed):
    """An error of its own is its outcome, with the reason; a full disk, a signal, a held directory leave none."""
    monkeypatch.chdir(ROOT)
    task = Task("smoke", PAIR, "mgd", TuningParams(**tuning()), code={})
    space, start = search_space(task.tuning, "mgd", PAIR, load_pair(PAIR), "smoke")
    study = SharedStudy(tmp_path / "study", task.study_name, task.tuning, space, start)
    assigned = study.next_trial()

    def end(*_, **__):
        raise error

    parts = [ResolvedPart("mgd", "mgd", start, [])]
    monkeypatch.setattr(trial, "prepare_process", lambda: None)
    monkeypatch.setattr(trial, "trial_config", lambda *_: SimpleNamespace(config=None, parts=parts, data=None))
    monkeypatch.setattr(trial, "train", end)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_mib * 2**20))
    if not has_failed:
        with pytest.raises(type(error), match=re.escape(str(error))):
            trial.run_trial(task, assigned, study.folder, None)

        assert not study.note_path(assigned.number).exists()
        return
    outcome = trial.run_trial(task, assigned, study.folder, None)

    assert (outcome.state, outcome.values, outcome.iterations) == ("failed", None, 0)
    assert outcome.reason == str(error)
    assert read(study.note_path(assigned.number))["reason"] == outcome.reason


WORKER = """
import sys, time
from pathlib import Path
from pipelines.runner import processes

def nap(seconds):
    time.sleep(seconds)

if __name__ == "__main__":
    processes._PRELOADED.clear()
    processes.call("worker:nap", 60, started=lambda pid: Path("pid").write_text(str(pid)))
"""


def test_a_trials_process_ends_with_its_worker(tmp_path):
    """Kill -9 of the worker ends what it was waiting for, too, within seconds."""
    (tmp_path / "worker.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    worker = subprocess.Popen([sys.executable, "worker.py"], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process = int((tmp_path / "pid").read_text())
    worker.kill()
    worker.wait()
    try:
        assert ends(process, within_s=5)
    finally:
        if not ends(process, within_s=0):
            os.kill(process, signal.SIGKILL)
