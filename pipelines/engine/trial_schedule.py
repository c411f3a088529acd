"""A cell's training as a trial runs it: shorter, and measured on the tune split on the way."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from benchmarks.metrics import METRICS
from pipelines.engine.compose import stretch
from pipelines.engine.hooks import StoppedError

_NEVER = 10**9


def shorten(config: Config, share: float) -> None:
    """Train a share of the schedule: warm-up, steps and decay all as much earlier; whole epochs, one at least.

    The loop no longer validates by itself; :class:`ReportHook` does.
    """
    stretch(config, share)
    config.train_cfg.val_begin = _NEVER
    # The last state is what is measured; nothing is kept of others but to go on from.
    config.default_hooks.checkpoint.pop("save_best", None)


class ReportHook(Hook):
    """Validates at evenly spaced iterations, hands the score on, and ends the training where it is told to.

    Args:
        metric: the pair's.
        num: of reports; the last is at the last iteration.
        report: given report number from 1, iteration and score in points, says whether the training is to stop.
    """

    def __init__(self, metric: str, num: int, report: Callable[[int, int, float], bool]) -> None:
        self._keys, self._num, self._report = METRICS[metric].validation, num, report
        self.reports: list[tuple[int, float]] = []
        self.iterations = self.full_iterations = 0
        self.is_stopped = self._is_measuring = False

    def before_train(self, runner: Runner) -> None:
        """Report again what a resumed training measured before; it may have been another trial's."""
        self.full_iterations, self.iterations = runner.max_iters, runner.iter
        steps = range(1, self._num + 1)
        self._marks = {max(1, math.ceil(step * runner.max_iters / self._num)): step for step in steps}
        for iteration, score in runner.message_hub.get_info("reports", []):
            self._hand_on(runner, iteration, score)

    def after_train_iter(  # noqa: D102
        self,
        runner: Runner,
        batch_idx: int,  # noqa: ARG002
        data_batch: Any = None,  # noqa: ARG002
        outputs: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> None:
        self.iterations = runner.iter + 1
        if self.iterations in self._marks:
            self._is_measuring = True
            runner.val_loop.run()
            self._is_measuring = False
            runner.model.train()
            self._hand_on(runner, self.iterations, self._score)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Take the score from the point that the recorder has just made of it; a model that finds nothing has none."""
        if self._is_measuring:
            point = runner.message_hub.get_info("curve")[-1]
            self._score = next((float(point[key]) for key in self._keys if key in point), 0.0)

    def _hand_on(self, runner: Runner, iteration: int, score: float) -> None:
        self.reports.append((iteration, score))
        runner.message_hub.update_info("reports", self.reports)
        if self._report(self._marks[iteration], iteration, score) and iteration < self.full_iterations:
            self.is_stopped = True
            raise StoppedError
