"""One trial: a cell's training with other hyper-parameters, shortened, measured on the tune split."""

import hashlib
import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from mmengine.config import Config

from methods.recipe import ResolvedPart
from pipelines.engine.holdout import hold_out
from pipelines.engine.provenance import environment, git_state
from pipelines.engine.stage import Job, dataset_identity, open_setting, open_tracker, write_json
from pipelines.engine.training import WORK, config_sha256, prepare_process, train
from pipelines.engine.trial_schedule import ReportHook, shorten
from pipelines.errors import FULL_MIB
from pipelines.params import cell_parts, flat_hparams, load_pair, with_hparams
from pipelines.stages.distill import composed
from pipelines.tuning.journal import storage_at
from pipelines.tuning.samplers import pruner_for
from pipelines.tuning.study import Claim, Outcome
from pipelines.tuning.task import Task

UNREAD = ("test",)  # splits that a trial does not open, not even to check them


def job_of(task: Task, parts: list[ResolvedPart], origin: str, position: tuple[int, int]) -> Job:
    """The training as stages see it."""
    return Job(
        "tune", task.tier, task.pair, task.method, task.tuning.seed, position, hparams=flat_hparams(parts), hparams_origin=origin,
        code=task.code,
    )  # fmt: skip


def trial_config(task: Task, hparams: dict[str, Any]) -> tuple[Config, list[dict[str, Any]], tuple[str, str]]:
    """The config of one trial, the parts it joins, and name and digest of its data (checked, but for the test split)."""
    setting = open_setting(task.tier, task.pair, task.sources.data)
    data = dataset_identity(setting, task.sources.data, without=UNREAD)
    parts = with_hparams(cell_parts(task.method, task.pair, setting.pair, task.tier)[0], hparams)
    config, _ = composed(setting, task.tier, task.pair, task.method, task.tuning.seed, task.sources, parts)
    hold_out(config, setting, task.sources.data / "tuning")
    shorten(config, task.tuning.share)
    config.data_digest = data[1]
    return config, parts, data


def describe(task: Task) -> dict[str, Any]:
    """What the study's record says of where it ran, and ``identity``: a digest of all that makes trials comparable.

    The search space is not in it: a study whose space changed is refused, one whose code or data changed is another.
    """
    prepare_process()
    config, _, data = trial_config(task, {})
    chosen = task.tuning.model_dump(include={"objectives", "sampler", "startup_trials", "pruner", "reports"})
    text = config_sha256(config, task.code) + json.dumps(chosen)
    return {
        "identity": hashlib.sha256(text.encode()).hexdigest(),
        "metric": load_pair(task.pair).metric,
        "git": git_state(),
        "environment": environment(),
        "data": {"name": data[0], "digest": data[1]},
        "teacher_sha256": config.model.teacher_sha256,
        "prior_sha256": config.model.prior_sha256,
    }


def run_trial(task: Task, claim: Claim, folder: Path, parent: str | None) -> Outcome:
    """Train; leave the outcome beside the journal, too, for whoever outlives the worker.

    Args:
        task: the cell.
        claim: which trial.
        folder: of the study.
        parent: MLflow run of the study.

    Raises:
        OSError: the disk is full: the trial is not to blame.
    """
    begun = time.monotonic()
    prepare_process()
    config, parts, data = trial_config(task, claim.hparams)
    job = job_of(task, parts, f"trial {claim.number} of study {task.tuning.study}", (claim.position, claim.of))
    storage = storage_at(folder)
    study = optuna.load_study(study_name=task.study_name, storage=storage, pruner=pruner_for(task.tuning))

    def report(step: int, _: int, score: float) -> bool:
        storage.set_trial_intermediate_value(claim.trial_id, step, score)
        return study.pruner.prune(study, storage.get_trial(claim.trial_id))

    reporter = ReportHook(load_pair(task.pair).metric, task.tuning.reports, report)
    trackers: list[Any] = []

    def tracker_for(resume: str | None) -> Any:
        known = {"trial": claim.number, "study": task.tuning.study} | ({"mlflow.parentRunId": parent} if parent else {})
        trackers.append(
            open_tracker(job, f"tune/{task.pair}/{task.method}/trial{claim.number}", data, task.sources.data, resume, known)
        )
        return trackers[-1]

    about: dict[str, Any] = {}
    try:
        trained = train(
            config, name=f"{task.tier}/{task.name}/trials", label=job.label, code=job.code,
            tracker_for=tracker_for, exports={}, hooks=[reporter],
        )  # fmt: skip
    except Exception as error:
        if shutil.disk_usage(WORK).free < FULL_MIB * 2**20:
            raise OSError(str(error)) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        about = {"state": "failed", "reason": reason, "train_s": round(time.monotonic() - begun, 1)}
    else:
        score, train_s = reporter.reports[-1][1], trained.train_s
        values = None if reporter.is_stopped else [score, train_s][: len(task.tuning.objectives)]
        about = {"state": "pruned" if reporter.is_stopped else "complete", "values": values, "train_s": train_s}
        about["energy_kj"] = trained.energy_kj
    outcome = Outcome(
        **about, reports=reporter.reports, iterations=reporter.iterations, full_iterations=reporter.full_iterations,
        wall_s=round(time.monotonic() - begun, 1), mlflow_run_id=trackers[-1].run_id if trackers else None,
    )  # fmt: skip
    write_json(folder / f"trial{claim.number}.json", asdict(outcome))
    for tracker in trackers[-1:]:
        tracker.tags({"state": outcome.state} | ({"reason": outcome.reason} if outcome.reason else {}))
        tracker.metrics({"score": reporter.reports[-1][1]} if reporter.reports else {}, reporter.iterations)
        tracker.finish({"complete": "FINISHED", "pruned": "KILLED"}.get(outcome.state, "FAILED"))
    if outcome.state != "failed":
        _drop_checkpoints(Path(config.work_dir))
    return outcome


def _drop_checkpoints(directory: Path) -> None:
    """A finished trial is never gone on with, and a study may have hundreds."""
    for path in (*directory.glob("*.pth"), directory / "mlflow_run_id"):
        path.unlink(missing_ok=True)
