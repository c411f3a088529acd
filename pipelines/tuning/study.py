"""One Optuna study on a journal file: several workers share it, and any of them may be killed at any moment.

A trial is assigned under a lock, together with who works on it.  Optuna's journal has no heartbeat: a trial whose
worker is gone stays RUNNING for ever, so each worker first looks for such trials, by host, process and its start; their result is
taken over where it was left behind, else they are failed and tried again.
The sampler is seeded anew for each trial by how many were assigned before it (lost ones not counted), so that neither
a second worker nor a second attempt repeats the draws of the first.
"""

import contextlib
import json
import os
import signal
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from pipelines.circumstances import CircumstanceError, is_by_signal
from pipelines.runner import locks
from pipelines.tuning.journal import backend, repair, storage_at
from pipelines.tuning.params import TuningParams
from pipelines.tuning.samplers import pruner_for, sampler_for
from pipelines.tuning.space import as_record
from pipelines.tuning.trial_result import AssignedTrial, TrialResult, result_of

_MOST_KILLS = 3  # of a trial's own process: once may be an accident, more is lack of memory
_PATIENCE_S = 300.0  # for the lock of a study, which is held for a moment
_SILENT_S = 600.0  # after which a worker on another host is taken for dead
_ALL_FAILED = 3  # trials in a row from the first on, after which a study is given up
_LEAST_TO_RANK = 4  # complete trials; fewer fit any ranking
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class SharedStudy:
    """A study as one worker sees it.

    Args:
        folder: of the journal; another for everything that makes trials comparable but the space.
        name: of the study.
        tuning: as the user set it.
        space: that is searched.
        start: the recipe's values, tried first.

    Raises:
        ValueError: the space has changed since the study began, or the journal is damaged.
    """

    def __init__(
        self, folder: Path, name: str, tuning: TuningParams, space: Mapping[str, BaseDistribution], start: dict[str, Any]
    ) -> None:
        self.folder, self.tuning, self.space = folder, tuning, dict(space)
        self._signs: dict[int, tuple[int | None, float]] = {}  # by trial, the last sign of life and when it was first seen
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        with self._alone():
            with contextlib.suppress(FileNotFoundError):
                self._repair()
            self.storage = storage_at(folder)
            directions: list[Literal["minimize", "maximize"]] = ["maximize", "minimize"]
            self.study = optuna.create_study(
                study_name=name,
                storage=self.storage,
                directions=directions[: len(tuning.objectives)],
                load_if_exists=True,
                pruner=pruner_for(tuning),
            )
            self._check_space(name)
            if not any(trial.user_attrs.get("is_recipe") for trial in self._trials()):
                self.study.enqueue_trial(start, user_attrs={"is_recipe": True})

    def _repair(self) -> None:
        # Optuna's own lock: workers that write do not take ours.
        lock = backend(self.folder / "journal.log")._lock  # noqa: SLF001 (which of its locks it takes is Optuna's business)
        lock.acquire()
        try:
            if repair(self.folder / "journal.log"):
                print(
                    f"[tune] {self.folder / 'journal.log'}: a line that was cut off when its writer was killed is taken out",
                    flush=True,
                )
        finally:
            lock.release()

    def _check_space(self, name: str) -> None:
        now = {key: distribution_to_json(one) for key, one in self.space.items()}
        begun = self.study.user_attrs.get("space")
        if begun is None:
            self.study.set_user_attr("space", now)
            return
        changed = [
            f"{key} ({'not searched' if key not in begun else _told(begun[key])} then, "
            f"{'not searched' if key not in now else _told(now[key])} now)"
            for key in sorted(begun.keys() | now.keys())
            if begun.get(key) != now.get(key)
        ]
        if changed:
            raise ValueError(
                f"study {name} in {self.folder} began with another space: {'; '.join(changed)}; put it back, or begin a new study: "
                f"tuning: {{study: {self.tuning.study}_2}} in params.yaml"
            )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the study against other workers; the lock ends with its process."""
        try:
            with locks.held(self.folder / "lock", patience_s=_PATIENCE_S):
                yield
        except locks.BusyError as error:
            raise CircumstanceError(f"the study in {self.folder} is held by {error}; end it, and run again") from error

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def counted(self) -> list[FrozenTrial]:
        """Finished trials that were not lost."""
        return [trial for trial in self._trials() if trial.state in _FINISHED and result_of(trial).state != "lost"]

    def next_trial(self) -> AssignedTrial | Literal["wait"] | None:
        """Return the next trial; ``wait`` while others work on the last ones; None when all is done.

        Raises:
            ValueError: the first trials have all failed.
        """
        with self._alone():
            self._recover()
            counted = self.counted()
            running = [trial for trial in self._trials() if trial.state == TrialState.RUNNING]
            self._check_failures(counted)
            hours = sum(result_of(trial).wall_s for trial in counted) / 3600
            index = len(counted) + len(running)
            if index >= self.tuning.trials or (self.tuning.max_hours is not None and hours >= self.tuning.max_hours):
                return "wait" if running else None
            self.study.sampler = sampler_for(self.tuning, index)
            trial = self.study.ask(self.space)
            assigned = AssignedTrial(trial.number, trial._trial_id, dict(trial.params), index + 1, self.tuning.trials)  # noqa: SLF001 (what storages go by)
            self.storage.set_trial_user_attr(assigned.trial_id, "owner", _process(os.getpid()))
            return assigned

    def _check_failures(self, counted: list[FrozenTrial]) -> None:
        results = [result_of(trial) for trial in counted]
        if len(results) >= min(_ALL_FAILED, self.tuning.trials) and all(result.state == "failed" for result in results):
            raise ValueError(
                f"all {len(results)} trials of the study in {self.folder} have failed, the first with: {results[0].reason}; repair the cause and "
                f"begin a new study: tuning: {{study: {self.tuning.study}_2}} in params.yaml"
            )

    def working_on(self, assigned: AssignedTrial, pid: int) -> None:
        """Note the process that runs a trial."""
        self.storage.set_trial_user_attr(assigned.trial_id, "process", _process(pid))

    def still_at(self, assigned: AssignedTrial) -> None:
        """Signal to workers on other hosts that this one is alive."""
        (self.folder / f"trial{assigned.number}.alive").touch()

    def note_path(self, number: int) -> Path:
        """File in which a trial's process leaves its result, for whoever outlives it."""
        return self.folder / f"trial{number}.json"

    def finish(
        self,
        assigned: AssignedTrial,
        result: TrialResult | None,
        exit_code: int | None = None,
        *,
        met_oom_killer: bool | None = None,
    ) -> None:
        """Record the result of a trial; None where its process was killed, and it is tried again.

        A trial has failed that was ended again and again by its own doing: by a fault, or for lack of memory.
        """
        with self._alone():
            (frozen,) = (trial for trial in self._trials() if trial.number == assigned.number)
            if result is not None:
                self._tell(frozen, result)
                return
            is_own = not is_by_signal(exit_code) or (exit_code == -signal.SIGKILL and met_oom_killer is not False)
            kills = int(frozen.user_attrs.get("kills", 0)) + is_own
            reason = (
                f"its process was killed ({f'signal {-exit_code}' if exit_code and exit_code < 0 else f'exit code {exit_code}'})"
            )
            if is_own and kills >= _MOST_KILLS:
                self._tell(
                    frozen, TrialResult("failed", reason=f"{reason}, {kills} times; it may want more memory than there is")
                )
            else:
                self._again(frozen, reason, kills)

    def _recover(self) -> None:
        """See to trials whose worker is gone."""
        for trial in self._trials():
            if trial.state != TrialState.RUNNING:
                continue
            owner, process = trial.user_attrs.get("owner"), trial.user_attrs.get("process")
            if any(one and self._is_alive(one, trial.number) for one in (owner, process)):
                continue
            if (noted := self._noted(trial.number)) is not None:
                self._tell(trial, noted)
            else:
                by = f"process {owner['pid']} on {owner['host']}" if owner else "its worker"
                self._again(trial, f"{by} was killed", int(trial.user_attrs.get("kills", 0)))
                print(f"[tune] trial {trial.number}: {by} is gone; it is tried again", flush=True)

    def _noted(self, number: int) -> TrialResult | None:
        """Return the result that a trial's process has left; None where there is none, or a cut one."""
        try:
            return TrialResult(**json.loads(self.note_path(number).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _is_alive(self, one: dict[str, Any], number: int) -> bool:
        if one["host"] == socket.gethostname():
            return one.get("start") is not None and locks.start_of(one["pid"]) == one["start"]
        # No two hosts' clocks are compared: this worker looks whether the sign of life changes.
        alive = self.folder / f"trial{number}.alive"
        sign = alive.stat().st_mtime_ns if alive.is_file() else 0
        before, since = self._signs.get(number, (None, 0.0))
        if sign != before:
            self._signs[number] = (sign, since := time.monotonic())
        return time.monotonic() - since < _SILENT_S

    def _again(self, trial: FrozenTrial, reason: str, kills: int) -> None:
        hparams = trial.params if trial.params.keys() == self.space.keys() else trial.system_attrs.get("fixed_params")
        known = {other.user_attrs.get("again") for other in self._trials()}
        if hparams and trial.number not in known:  # killed before it had any: the next one draws the same
            attrs = {"again": trial.number, "kills": kills, "is_recipe": bool(trial.user_attrs.get("is_recipe"))}
            self.study.enqueue_trial(hparams, user_attrs=attrs)
        self._tell(trial, TrialResult("lost", reason=reason))

    def _tell(self, trial: FrozenTrial, result: TrialResult) -> None:
        self.storage.set_trial_user_attr(trial._trial_id, "outcome", asdict(result))  # noqa: SLF001 (what storages go by)
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(result.state, TrialState.FAIL)
        self.study.tell(trial.number, result.values if state == TrialState.COMPLETE else None, state=state)

    def finished(self) -> list[tuple[FrozenTrial, TrialResult]]:
        """Every finished trial, lost ones among them, in the order of their numbers."""
        return [(trial, result_of(trial)) for trial in self._trials() if trial.state in _FINISHED]

    def front(self) -> list[int]:
        """Numbers of the complete trials that none betters in every objective; of the best one where there is one objective."""
        if len(self.tuning.objectives) > 1:
            return sorted(trial.number for trial in self.study.best_trials)
        complete = [(trial, result) for trial, result in self.finished() if result.state == "complete" and result.values]
        best = max(complete, key=lambda found: ((found[1].values or [])[0], -self.first_number(found[0])), default=None)
        return [best[0].number] if best else []

    def first_number(self, trial: FrozenTrial) -> int:
        """Return the number at which a trial's values were first tried: an interruption decides no tie."""
        numbers = {other.number: other.user_attrs.get("again") for other in self._trials()}
        number = trial.number
        while (before := numbers.get(number)) is not None:
            number = before
        return number

    def said(self) -> str:
        """Progress in words."""
        counted, running = len(self.counted()), sum(trial.state == TrialState.RUNNING for trial in self._trials())
        under_way = f", {running} under way" if running else ""
        return f"{counted} of {self.tuning.trials} trials done{under_way}"

    def importance(self) -> dict[str, float] | None:
        """Fraction of the score's variance that each hyper-parameter explains (fANOVA); None where there are too few trials."""
        complete = [result.values for _, result in self.finished() if result.state == "complete" and result.values]
        if len(complete) < _LEAST_TO_RANK or len({values[0] for values in complete}) == 1:
            return None
        found = optuna.importance.get_param_importances(
            self.study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=self.tuning.seed),
            target=lambda trial: trial.values[0],
        )
        return {name: round(float(fraction), 4) for name, fraction in found.items()}


def _process(pid: int) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": pid, "start": locks.start_of(pid)}


def _told(distribution: str) -> str:
    (one,) = as_record({"": optuna.distributions.json_to_distribution(distribution)}).values()
    return f"one of {one.choices}" if one.choices else f"{one.low:g} to {one.high:g}, {one.scale}"
