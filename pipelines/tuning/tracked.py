"""A study's MLflow run, the parent of its trials' runs; opened and closed in processes of their own."""

import tempfile
from pathlib import Path

from pipelines.engine.tracking import Tracker
from pipelines.tuning.storage import file_in
from pipelines.tuning.task import Task
from reports.charts_tuning import draw_study
from reports.study import Study


def open_parent(task: Task, resume: str | None) -> str | None:
    """Open the run, or go on with the one that an earlier attempt opened; its id, None where MLflow cannot be reached.

    Args:
        task: the cell.
        resume: id of the run of an earlier attempt.
    """
    tracker = Tracker(f"kd-{task.tier}", f"tune/{task.pair}/{task.method}", resume=resume)
    known = {"stage": "tune", "tier": task.tier, "pair": task.pair, "method": task.method}
    asked = task.tuning.model_dump(include={"study", "trials", "share", "reports", "objectives", "sampler", "pruner", "seed"})
    tracker.params(known | asked)
    tracker.tags(known)
    return tracker.run_id


def close_parent(task: Task, study: Study, folder: Path, wall_s: float) -> None:
    """Store what was found, drawn as the report draws it, and the study's database where it is a file."""
    if study.mlflow_run_id is None:
        return
    tracker = Tracker(f"kd-{task.tier}", "", resume=study.mlflow_run_id)
    best = float("-inf")
    for trial in study.counted:
        if trial.values:
            best = max(best, trial.values[0])
            tracker.metrics({"score": trial.values[0], "best_score": best}, trial.number)
    found = study.trial(study.best) if study.best is not None else None
    tracker.tags({f"best.{name}": value for name, value in (found.hparams if found else {}).items()})
    tracker.metrics({"wall_s": wall_s, "train_s": study.train_s, "saved_share": study.saved_share or 0.0}, len(study.trials))
    with tempfile.TemporaryDirectory() as name:
        for path in draw_study(study, Path(name)):
            tracker.artifact(path)
        record = Path(name) / "study.json"
        record.write_text(study.model_dump_json(indent=2) + "\n")
        tracker.artifact(record)
    if file_in(folder).is_file():
        tracker.artifact(file_in(folder))
    tracker.finish()
