"""One Optuna study in a database: several workers share it, and any of them may be killed at any moment.

A study has as many slots as trials are asked for, and each trial says which slot it fills.  A slot is free while all its
trials are lost; whoever finds the lowest free slot puts a waiting trial into it, and the database hands each waiting trial
to one worker.  Two workers may both put one there: then only the first is handed out.  So there are never more trials than
slots, whoever is killed and whenever, and no lock is held.

A worker gives signs of life while its trial runs; Optuna fails a trial that is without, and it is lost.
The next trial in its slot tries the same hyper-parameters.  The sampler is seeded anew for each slot, so that neither a
second worker nor a second attempt repeats the draws of the first.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pipelines.tuning.samplers import pruner_for, sampler_for
from pipelines.tuning.settings import Tuning
from pipelines.tuning.space import as_record
from pipelines.tuning.storage import SILENT_S, explained, place_of, storage_at

_MOST_KILLS = 3  # of a trial's own process: once may be an accident, more is want of memory
_ALL_FAILED = 3  # trials in a row from the first on, after which a study is given up
_LEAST_TO_RANK = 4  # complete trials; fewer fit any ranking
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)
_KILLED = "its process was killed"
_SILENT = {"state": "lost", "reason": f"its worker was killed, or silent for {SILENT_S} s"}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        values: of the study's objectives; complete trials only.
        reports: (iteration, points on the tune split).
        full_iterations: what it would have trained unpruned; 0 where it never got to know.
    """

    state: Literal["complete", "pruned", "failed", "lost"]
    values: list[float] | None = None
    reports: list[tuple[int, float]] = field(default_factory=list)
    iterations: int = 0
    full_iterations: int = 0
    train_s: float = 0.0
    wall_s: float = 0.0
    energy_kj: float | None = None
    reason: str | None = None
    mlflow_run_id: str | None = None


@dataclass(frozen=True)
class Claim:
    """A trial that this process is to run; ``position`` counts from 1."""

    number: int
    trial_id: int
    hparams: dict[str, Any]
    position: int
    of: int


class LostError(Exception):
    """Others took this worker for dead, and its trial is theirs."""


class SharedStudy:
    """A study as one worker sees it.

    Args:
        folder: of its database, where no server keeps it.
        name: in the database; another for everything that makes trials comparable but the space.
        tuning: as asked for.
        space: what is searched.
        start: the recipe's values, tried first.

    Raises:
        ValueError: the space has changed since the study began, or the database cannot be used.
    """

    def __init__(
        self, folder: Path, name: str, tuning: Tuning, space: Mapping[str, BaseDistribution], start: dict[str, Any]
    ) -> None:
        self.folder, self.tuning, self.space, self.start = folder, tuning, dict(space), start
        self.place = place_of(folder)
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.storage = storage_at(folder)
        with explained(folder):
            self.study = optuna.create_study(
                study_name=name, storage=self.storage, directions=_DIRECTIONS[: len(tuning.objectives)],
                load_if_exists=True, pruner=pruner_for(tuning),
            )  # fmt: skip
            self._check_space(name)

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
                f"study {name} in {self.place} began with another space: {'; '.join(changed)}; put it back, or begin a new study: "
                f"tuning: {{study: {self.tuning.study}_2}} in params.yaml"
            )

    @property
    def parent(self) -> str | None:
        """MLflow run of the study, once the stage has opened it."""
        return self.study.user_attrs.get("mlflow_run_id")

    @parent.setter
    def parent(self, run_id: str | None) -> None:
        self.study.set_user_attr("mlflow_run_id", run_id)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def counted(self) -> list[FrozenTrial]:
        """Finished trials that were not lost."""
        return [trial for trial in self._trials() if _counts(trial)]

    def claim(self) -> Claim | Literal["wait"] | None:
        """The next trial; ``wait`` while others work on the last ones; None when all is done.

        Raises:
            ValueError: the first trials have all failed.
        """
        while True:
            optuna.storages.fail_stale_trials(self.study)
            trials = self._trials()
            counted, running = [one for one in trials if _counts(one)], [one for one in trials if one.state == TrialState.RUNNING]
            self._check_failures([outcome_of(one) for one in counted])
            taken = {slot_of(one) for one in counted + running}
            slot = next((number for number in range(self.tuning.trials) if number not in taken), None)
            hours = sum(outcome_of(one).wall_s for one in counted) / 3600
            if slot is None or (self.tuning.max_hours is not None and hours >= self.tuning.max_hours):
                return "wait" if running else None
            here = [one for one in trials if slot_of(one) == slot]
            waiting = next((one for one in here if one.state == TrialState.WAITING), None)
            if waiting is None:
                self.study.enqueue_trial({}, user_attrs={"slot": slot})
            elif self._is_mine(waiting):
                return self._drawn(waiting, slot, {name: value for one in here for name, value in one.params.items()})

    def _check_failures(self, counted: list[Outcome]) -> None:
        if len(counted) >= min(_ALL_FAILED, self.tuning.trials) and all(outcome.state == "failed" for outcome in counted):
            raise ValueError(
                f"all {len(counted)} trials of the study in {self.place} have failed, the first with: {counted[0].reason}; mend the cause and "
                f"begin a new study: tuning: {{study: {self.tuning.study}_2}} in params.yaml"
            )

    def _is_mine(self, waiting: FrozenTrial) -> bool:
        # The sign of life comes first: Optuna waits for ever for a running trial that never gave any.
        self.storage.record_heartbeat(waiting._trial_id)  # noqa: SLF001 (what storages go by)
        with contextlib.suppress(UpdateFinishedTrialError):
            return self.storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING)  # noqa: SLF001
        return False

    def _drawn(self, waiting: FrozenTrial, slot: int, tried: dict[str, Any]) -> Claim:
        """What Study.ask does with a trial of its own choice; what has been tried in the slot is tried again."""
        trial_id = waiting._trial_id  # noqa: SLF001
        for name, value in {**(self.start if slot == 0 else {}), **tried}.items():
            self.storage.set_trial_param(trial_id, name, self.space[name].to_internal_repr(value), self.space[name])
        self.study.sampler = sampler_for(self.tuning, slot)
        trial = optuna.Trial(self.study, trial_id)
        hparams = {name: trial._suggest(name, distribution) for name, distribution in self.space.items()}  # noqa: SLF001
        return Claim(trial.number, trial_id, hparams, slot + 1, self.tuning.trials)

    def still_at(self, claim: Claim) -> None:
        """Give a sign of life; LostError where it comes too late."""
        with contextlib.suppress(StorageInternalError):  # the next one may get through
            self.storage.record_heartbeat(claim.trial_id)
            trial = self.storage.get_trial(claim.trial_id)
            if trial.state == TrialState.FAIL and outcome_of(trial).state == "lost":
                raise LostError

    def finish(self, claim: Claim, outcome: Outcome | None, exit_code: int | None = None) -> None:
        """Tell the study how a trial ended; None where its process was killed, and it is tried again."""
        tell(self.study, claim, outcome or self._killed(claim, exit_code))

    def _killed(self, claim: Claim, exit_code: int | None) -> Outcome:
        reason = f"{_KILLED} ({f'signal {-exit_code}' if exit_code and exit_code < 0 else f'exit code {exit_code}'})"
        before = [outcome_of(trial) for trial in self._trials() if slot_of(trial) == claim.position - 1]
        kills = 1 + sum((one.reason or "").startswith(_KILLED) for one in before)
        if kills < _MOST_KILLS:
            return Outcome("lost", reason=reason)
        return Outcome("failed", reason=f"{reason}, {kills} times; it may want more memory than there is")

    def release(self, claim: Claim) -> None:
        """Let others have a trial that this worker does not finish; nothing where it has."""
        with contextlib.suppress(StorageInternalError):
            tell(self.study, claim, Outcome("lost", reason="its worker was stopped"))

    def finished(self) -> list[tuple[FrozenTrial, Outcome]]:
        """Every finished trial, lost ones among them, in the order of their numbers."""
        return [(trial, outcome_of(trial)) for trial in self._trials() if trial.state in _FINISHED]

    def front(self) -> list[int]:
        """Numbers of the complete trials that none betters in every objective; of the best one where there is one objective."""
        if len(self.tuning.objectives) > 1:
            return sorted(trial.number for trial in self.study.best_trials)
        complete = [(trial, outcome) for trial, outcome in self.finished() if outcome.state == "complete" and outcome.values]
        best = max(complete, key=lambda found: (found[1].values or [])[0], default=None)
        return [best[0].number] if best else []

    def said(self) -> str:
        """How far it is, in words."""
        counted, running = len(self.counted()), sum(trial.state == TrialState.RUNNING for trial in self._trials())
        under_way = f", {running} under way" if running else ""
        return f"{counted} of {self.tuning.trials} trials done{under_way}"

    def importance(self) -> dict[str, float] | None:
        """Share of the score's variance that each hyper-parameter explains (fANOVA); None where too few trials tell."""
        complete = [outcome.values for _, outcome in self.finished() if outcome.state == "complete" and outcome.values]
        if len(complete) < _LEAST_TO_RANK or len({values[0] for values in complete}) == 1:
            return None
        found = optuna.importance.get_param_importances(
            self.study,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=self.tuning.seed),
            target=lambda trial: trial.values[0],
        )
        return {name: round(float(share), 4) for name, share in found.items()}


def tell(study: optuna.Study, claim: Claim, outcome: Outcome) -> None:
    """Tell a study how a trial ended; nothing where it knows."""
    state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(outcome.state, TrialState.FAIL)
    with contextlib.suppress(UpdateFinishedTrialError):
        study._storage.set_trial_user_attr(claim.trial_id, "outcome", asdict(outcome))  # noqa: SLF001 (as Trial.set_user_attr does)
        study.tell(claim.number, outcome.values if state == TrialState.COMPLETE else None, state=state, skip_if_finished=True)


def outcome_of(trial: FrozenTrial) -> Outcome:
    """How a trial ended; one whose worker did not live to tell is lost."""
    told = trial.user_attrs.get("outcome", _SILENT)
    is_half_told = trial.state == TrialState.FAIL and told["state"] in ("complete", "pruned")
    return Outcome(**(_SILENT if is_half_told else told))


def slot_of(trial: FrozenTrial) -> int:
    """Which of a study's trials it is, from 0, whichever attempt; the recipe's values are tried in the first."""
    return int(trial.user_attrs["slot"])


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in _FINISHED and outcome_of(trial).state != "lost"


def _told(distribution: str) -> str:
    (one,) = as_record({"": optuna.distributions.json_to_distribution(distribution)}).values()
    return f"one of {one.choices}" if one.choices else f"{one.low:g} to {one.high:g}, {one.scale}"
