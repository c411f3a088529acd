"""Hooks around the iterations of every run: seeds, curve, progress, and the end on a NaN."""

import math
import operator
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner, set_random_seed
from torch import Tensor

from benchmarks.metrics import METRICS
from pipelines.durations import duration
from pipelines.engine import ranks
from pipelines.engine.state_dicts import load_whole
from pipelines.engine.tracking import Tracker
from pipelines.engine.weights import read_weights

_NUMPY_SEEDS = 2**32
_CHECK_EVERY = 20  # iterations between two looks at losses on a GPU: each waits for it
POINT_EVERY = 100  # iterations between two points of a curve; an epoch ends with one too
_LINE_EVERY_S = 15.0  # seconds between two lines of progress
# Scores in a validation's line: masks and label maps before boxes of the same evaluator; last, a backbone's accuracy.
_MAIN_SCORES = [
    *(key for metric in sorted(METRICS.values(), key=lambda metric: metric.shows == "boxes") for key in metric.validation[-1:]),
    "val_accuracy",
]


class StoppedError(Exception):
    """Raised by a hook to end a run in order."""


@HOOKS.register_module()
class InitialisationHook(Hook):  # type: ignore[misc]
    """Starts a part of the model from a verified file, read as tensors alone, once the rest of the model is initialised.

    MMEngine's own loader of initial weights compares no digest, and unpickles what it cannot read safely.

    Args:
        path: file of the part's whole state dict.
        sha256: that the file must have.
        part: path of the module.

    Raises:
        ValueError: the file is not there, is another one, or does not fit.
    """

    def __init__(self, path: str, sha256: str, part: str) -> None:
        self._path, self._sha256, self._part = path, sha256, part

    def before_train(self, runner: Runner) -> None:
        """Load, unless the run continues from a checkpoint."""
        if runner.iter:
            return
        model = getattr(runner.model, "module", runner.model)
        load_whole(operator.attrgetter(self._part)(model), read_weights(self._path, self._sha256), self._path)


class LossWatchHook(Hook):  # type: ignore[misc]
    """Keeps the last loss in :attr:`loss`; ValueError where one is not finite."""

    loss = math.nan

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:  # noqa: ARG002, D102 (MMEngine's)
        values = {key: float(value.detach()) for key, value in outputs.items()}
        bad = [key for key, value in values.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"{', '.join(bad)} is not finite at iteration {runner.iter + 1}")
        self.loss = values["loss"]


def epoch_seed(seed: int, epoch: int, rank: int) -> int:
    """Seed of an epoch, of the 32 bits that NumPy takes; a product where it fits, as it does for small seeds."""
    if rank == 0 and (product := seed * 10_000 + epoch) < _NUMPY_SEEDS:
        return product
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])


class ReseedHook(Hook):  # type: ignore[misc]
    """Seeds every epoch from the run's seed, the epoch's number and the rank.

    A resumed training then draws what an uninterrupted one would have drawn.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, numpy and torch."""
        set_random_seed(epoch_seed(self._seed, runner.epoch, ranks.rank()))


class RecorderHook(Hook):  # type: ignore[misc]
    """Keeps a run's curve in its checkpoints, reports progress, and stops on a loss that is not finite.

    The curve is a list of points ``{iteration, epoch, lr, loss, loss_...}``: means since the point
    before, over all processes; and of validations ``{iteration, epoch, val_...}`` on the validation split.
    Losses stay on their device until they are looked at.
    """

    def __init__(self, label: str, tracker: Tracker) -> None:
        self._label, self._tracker = label, tracker
        self._sums: dict[str, Tensor] = {}
        self._bad_since: dict[str, Tensor] = {}  # by loss, the first iteration at which it was not finite
        self._num = 0
        self.iteration = 0  # the last one that ended

    def before_train(self, runner: Runner) -> None:
        """Take up what a resumed checkpoint contains; validate what it was killed before validating."""
        hub = runner.message_hub
        self.curve: list[dict[str, float]] = list(hub.get_info("curve", []))
        self.train_s: float = float(hub.get_info("train_s", 0.0))
        self.num_images: int = int(hub.get_info("num_images", 0))
        self.first_iteration = self.iteration = runner.iter
        self._begun = self._line_at = time.monotonic()
        if runner.iter:
            self._check_processes(hub)
            print(f"{self._label} resumes after iteration {runner.iter}", flush=True)
            validated = any("loss" not in point and point["iteration"] == runner.iter for point in self.curve)
            if runner.val_loop is not None and not validated:
                runner.val_loop.run()

        hub.update_info("processes", ranks.number())

    def _check_processes(self, hub: Any) -> None:
        """ValueError where a checkpoint is of another number of processes; one of a run's own never is."""
        if (before := hub.get_info("processes", ranks.number())) != ranks.number():
            raise ValueError(
                f"{self._label}: the checkpoint is of {before} processes, and there are {ranks.number()}; remove it, or set "
                f"gpus_per_run: {before} in params.yaml"
            )

    def before_train_epoch(self, runner: Runner) -> None:  # noqa: ARG002 (MMEngine's)
        """Start the clock; loading counts, validation does not."""
        self._tick = time.monotonic()

    def after_train_iter(  # noqa: D102 (MMEngine's)
        self,
        runner: Runner,
        batch_idx: int,  # noqa: ARG002 (MMEngine's)
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        losses = {key: value.detach().double() for key, value in (outputs or {}).items() if key.startswith("loss")}
        self.iteration = iteration = runner.iter + 1
        for key, value in losses.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
            since = self._bad_since.get(key, value.new_full((), math.inf))
            self._bad_since[key] = torch.where(value.isfinite() | since.isfinite(), since, iteration)
        now = time.monotonic()
        self.train_s += now - self._tick
        self._tick = now
        self.num_images += ranks.number() * len(data_batch["inputs"]) if data_batch else 0
        self._num += 1
        is_due = iteration % POINT_EVERY == 0
        is_shown = ranks.is_first() and (now - self._line_at >= _LINE_EVERY_S or iteration == runner.max_iters)
        if is_due or iteration % _CHECK_EVERY == 0 or iteration == runner.max_iters or not torch.cuda.is_available():
            self._check_finite(runner)
        if is_due:
            self._close_point(runner, iteration)
        if is_shown:
            self._print(runner, iteration, {key: float(value) for key, value in losses.items()}, now)

    def _check_finite(self, runner: Runner) -> None:
        """ValueError on all ranks where a loss was not finite on any."""
        if not self._bad_since:
            return
        first = float(ranks.least(torch.stack(list(self._bad_since.values())).amin()))
        if math.isinf(first):
            return
        named = {
            key
            for keys in ranks.all_say([key for key, since in self._bad_since.items() if float(since) == first])
            for key in keys
        }
        raise ValueError(
            f"{self._label}: {', '.join(key for key in self._bad_since if key in named)} is not finite at iteration {first:.0f}; the last "
            f"checkpoint in {os.path.relpath(runner.work_dir)} is kept; lower the learning rate or the method's weight"
        )

    def after_train_epoch(self, runner: Runner) -> None:
        """Close the point: an epoch's checkpoint must contain its whole curve."""
        if self._num:
            self._check_finite(runner)
            self._close_point(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Note the scores on the validation split, in points."""
        values = {
            # MMDetection gives fractions, MMSegmentation percents.
            f"val_{key.rsplit('/', 1)[-1].removeprefix('bbox_')}": round(float(value) * (100 if "/" in key else 1), 3)
            for key, value in (metrics or {}).items()
            if float(value) >= 0
        }
        self.curve.append({"iteration": self.iteration, "epoch": runner.epoch, **values})
        runner.message_hub.update_info("curve", self.curve)
        self._tracker.metrics({f"tune/{key.removeprefix('val_')}": value for key, value in values.items()}, self.iteration)
        main = next((key for key in _MAIN_SCORES if key in values), None)
        said = f"{main.removeprefix('val_').replace('mAP', 'AP')} {values[main]:.1f}" if main else "no detections"
        where = f"epoch {runner.epoch}" if self.iteration == runner.iter else f"iteration {self.iteration}"
        print(f"{self._label} {where}: {said} on the validation split", flush=True)
        # Within an epoch, too, validating is no time of training.
        self._line_at = self._tick = time.monotonic()

    def _close_point(self, runner: Runner, iteration: int) -> None:
        sums = ranks.mean(torch.stack(list(self._sums.values()))).tolist() if self._sums else []
        means = {key: total / self._num for key, total in zip(self._sums, sums, strict=True)}
        now = time.monotonic()  # the device has finished these iterations
        self.train_s += now - self._tick
        self._tick = now
        lr = runner.optim_wrapper.get_lr()["lr"][0]
        self.curve.append({"iteration": iteration, "epoch": runner.epoch + 1, "lr": lr, **means})
        self._sums, self._num = {}, 0
        hub = runner.message_hub
        hub.update_info("curve", self.curve)
        hub.update_info("train_s", self.train_s)
        hub.update_info("num_images", self.num_images)
        self._tracker.metrics({"lr": lr, **{f"train/{key}": value for key, value in means.items()}}, iteration)

    def _print(self, runner: Runner, iteration: int, losses: Mapping[str, float], now: float) -> None:
        per_iteration = (now - self._begun) / max(1, iteration - self.first_iteration)
        left = (runner.max_iters - iteration) * per_iteration
        epoch = "" if isinstance(runner.train_loop, IterBasedTrainLoop) else f"epoch {runner.epoch + 1}/{runner.max_epochs} "
        parts = " ".join(f"{key.removeprefix('loss_')} {value:.3f}" for key, value in losses.items() if key != "loss")
        print(
            f"{self._label} {epoch}iteration {iteration}/{runner.max_iters} loss {losses['loss']:.3f} ({parts}), "
            f"{per_iteration:.3f} s/it, {duration(left)} left",
            flush=True,
        )
        self._line_at = now
