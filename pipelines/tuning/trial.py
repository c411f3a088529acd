"""One trial: a cell's run with other hyper-parameters, shortened, measured on the validation split."""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna

from pipelines import layout
from pipelines.circumstances import is_circumstance, is_full
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.provenance import environment, git_state
from pipelines.engine.records import RunSpec, open_tracker, write_json
from pipelines.engine.setting import open_setting, verified_data
from pipelines.engine.tracking import Tracker
from pipelines.engine.training import config_sha256, train
from pipelines.engine.trial_schedule import ReportHook, TrialConfig, compose_trial
from pipelines.params import load_pair
from pipelines.recipes import cell_parts, flat_hparams, with_hparams
from pipelines.tuning.journal import storage_at
from pipelines.tuning.samplers import pruner_for
from pipelines.tuning.task import Task
from pipelines.tuning.trial_result import AssignedTrial, TrialResult


def trial_config(task: Task, hparams: dict[str, Any]) -> TrialConfig:
    """Return the config of one trial; its data are verified, but for the test split, which no trial opens."""
    data = layout.data(task.tier)
    setting = open_setting(task.tier, task.pair, data).in_one_process()
    verified = verified_data(setting, data, without=("test",))
    parts = with_hparams(cell_parts(task.method, task.pair, setting.pair, task.tier)[0], hparams)
    return compose_trial(
        setting, task.tier, task.pair, task.method, parts, verified, seed=task.tuning.seed, fraction=task.tuning.share
    )


def describe(task: Task) -> dict[str, Any]:
    """Return where a study ran, for its record, and ``identity``: a digest of all that makes trials comparable.

    The search space is not in it: a study whose space changed is refused, one whose code or data changed is another.
    """
    prepare_process()
    trial = trial_config(task, {})
    config, data = trial.config, trial.data
    chosen = task.tuning.model_dump(include={"objectives", "sampler", "startup_trials", "pruner", "reports"})
    text = config_sha256(config, task.code) + json.dumps(chosen)
    return {
        "identity": hashlib.sha256(text.encode()).hexdigest(),
        "metric": load_pair(task.pair).metric,
        "git": git_state().model_dump(),
        "environment": environment().model_dump(),
        "data": {"name": data.name, "digest": data.digest},
        "teacher_sha256": config.model.teacher_sha256,
        "prior_sha256": config.model.auxiliary_sha256,
    }


def run_trial(task: Task, assigned: AssignedTrial, folder: Path, parent: str | None) -> TrialResult:
    """Train; leave the result beside the journal, too, for whoever outlives the worker.

    Args:
        task: the cell.
        assigned: the trial.
        folder: of the study.
        parent: MLflow run of the study.

    Raises:
        Exception: a circumstance, such as a full disk: the trial is not to blame.
    """
    begun = time.monotonic()
    prepare_process()
    composed = trial_config(task, assigned.hparams)
    spec = RunSpec(
        "tune", task.tier, task.pair, task.method, task.tuning.seed, (assigned.ordinal, assigned.of),
        hparams=flat_hparams(composed.parts), hparams_origin=f"trial {assigned.number} of study {task.tuning.study}", code=task.code,
    )  # fmt: skip
    storage = storage_at(folder)
    study = optuna.load_study(study_name=task.study_name, storage=storage, pruner=pruner_for(task.tuning))

    def report(step: int, _: int, score: float) -> bool:
        storage.set_trial_intermediate_value(assigned.trial_id, step, score)
        return study.pruner.prune(study, storage.get_trial(assigned.trial_id))

    reporter = ReportHook(load_pair(task.pair).metric, task.tuning.reports, report)
    trackers: list[Tracker] = []

    def tracker_for(resume: str | None) -> Tracker:
        known = {"trial": assigned.number, "study": task.tuning.study} | ({"mlflow.parentRunId": parent} if parent else {})
        name = f"tune/{task.pair}/{task.method}/trial{assigned.number}"
        trackers.append(open_tracker(spec, composed.data, resume, name=name, tags=known))
        return trackers[-1]

    about: dict[str, Any] = {}
    try:
        trained = train(
            composed.config, name=f"{task.tier}/{task.name}/trials", label=spec.label, code=spec.code,
            tracker_for=tracker_for, exports={}, hooks=[reporter],
        )  # fmt: skip
    except Exception as error:
        if is_circumstance(error) or is_full(layout.WORK):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        about = {"state": "failed", "reason": reason, "train_s": round(time.monotonic() - begun, 1)}
    else:
        score, train_s = reporter.reports[-1][1], trained.cost.train_s
        values = None if reporter.is_stopped else [score, train_s][: len(task.tuning.objectives)]
        about = {"state": "pruned" if reporter.is_stopped else "complete", "values": values, "train_s": train_s}
        about["energy_kj"] = trained.cost.energy_kj
    result = TrialResult(
        **about, reports=reporter.reports, iterations=reporter.iterations, full_iterations=reporter.full_iterations,
        wall_s=round(time.monotonic() - begun, 1), mlflow_run_id=trackers[-1].run_id if trackers else None,
    )  # fmt: skip
    write_json(folder / f"trial{assigned.number}.json", asdict(result))
    for tracker in trackers[-1:]:
        tracker.tags({"state": result.state} | ({"reason": result.reason} if result.reason else {}))
        tracker.metrics({"score": reporter.reports[-1][1]} if reporter.reports else {}, reporter.iterations)
        tracker.finish({"complete": "FINISHED", "pruned": "KILLED"}.get(result.state, "FAILED"))
    if result.state != "failed":
        _drop_checkpoints(Path(composed.config.work_dir))
    return result


def _drop_checkpoints(directory: Path) -> None:
    # A finished trial is never resumed, and a study may have hundreds.
    for path in (*directory.glob("*.pth"), directory / "mlflow_run_id"):
        path.unlink(missing_ok=True)
