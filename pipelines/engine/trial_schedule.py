"""A cell's run as a trial: shorter, and measured on the validation split on the way."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from benchmarks.metrics import METRICS
from methods.recipe import ResolvedPart
from pipelines.engine.compose import compose_cell
from pipelines.engine.holdout import hold_out
from pipelines.engine.hooks import StoppedError
from pipelines.engine.schedules import stretch
from pipelines.engine.setting import Setting, VerifiedData, recorded_distillation

_NEVER = 10**9


@dataclass(frozen=True)
class TrialConfig:
    """A composed trial, the parts that it combines, and its data."""

    config: Config
    parts: list[ResolvedPart]
    data: VerifiedData


def compose_trial(
    setting: Setting,
    tier: str,
    pair: str,
    method: str,
    parts: list[ResolvedPart],
    data: VerifiedData,
    *,
    seed: int,
    fraction: float,
) -> TrialConfig:
    """Return the config of a trial: of a cell with these parts, shortened and without the test split.

    Args:
        setting: the pair at the tier.
        tier: its name.
        pair: its name.
        method: name of the method.
        parts: of the method, with the values of the trial.
        data: that is trained on.
        seed: of the trial.
        fraction: of the student's schedule.
    """
    config = compose_cell(setting, recorded_distillation(setting, tier, pair, method, parts), seed=seed)
    hold_out(config, setting, data.folder / "tuning")
    shorten(config, fraction)
    config.data_digest = data.digest
    return TrialConfig(config, parts, data)


def shorten(config: Config, fraction: float) -> None:
    """Train a fraction of the schedule: warm-up, steps and decay all as much earlier; whole epochs, one at least.

    The loop no longer validates by itself; :class:`ReportHook` does.
    """
    stretch(config, fraction)
    config.train_cfg.val_begin = _NEVER
    # The last state is what is measured; nothing is kept of others but to go on from.
    config.default_hooks.checkpoint.pop("save_best", None)


class ReportHook(Hook):  # type: ignore[misc]
    """Validates at evenly spaced iterations, reports the score, and ends the run where the report's answer is True.

    Args:
        metric: the pair's.
        num: of reports; the last is at the last iteration.
        report: given report number from 1, iteration and score in points; returns True where the run is to stop.
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

    def after_train_iter(  # noqa: D102 (MMEngine's)
        self,
        runner: Runner,
        batch_idx: int,  # noqa: ARG002 (MMEngine's)
        data_batch: Any = None,  # noqa: ARG002 (MMEngine's)
        outputs: Mapping[str, Any] | None = None,  # noqa: ARG002 (MMEngine's)
    ) -> None:
        self.iterations = runner.iter + 1
        if self.iterations in self._marks:
            self._is_measuring = True
            runner.val_loop.run()
            self._is_measuring = False
            runner.model.train()
            self._hand_on(runner, self.iterations, self._score)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:  # noqa: ARG002 (MMEngine's)
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
