"""A study's MLflow run, the parent of its trials' runs; opened and closed in processes of their own."""

import tempfile
from pathlib import Path

import optuna

from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.engine.provenance import git_state
from pipelines.engine.tracking import Tracker
from pipelines.engine.tracking_names import source_tags
from pipelines.tuning.journal import storage_at
from pipelines.tuning.studies import name_objectives
from pipelines.tuning.task import Task
from reports.plots.tuning import draw_study
from reports.schemas.study import Study


def open_parent(task: Task, folder: Path) -> str | None:
    """Open the run, or go on with the one that an earlier attempt opened; its id, None where MLflow cannot be reached.

    The study's objectives get their names here, too: in the stage's own process, once per attempt.

    Args:
        task: the cell.
        folder: of the study, where the id is kept for other workers.
    """
    name_objectives(optuna.load_study(study_name=task.study_name, storage=storage_at(folder)), task.pair)
    noted = folder / "mlflow_run_id"
    tracker = Tracker(f"kd-{task.tier}", f"tune/{task.pair}/{task.method}", resume=noted.read_text() if noted.is_file() else None)
    known = {"stage": "tune", "tier": task.tier, "pair": task.pair, "method": task.method}
    asked = task.tuning.model_dump(include={"study", "trials", "share", "reports", "objectives", "sampler", "pruner", "seed"})
    tracker.params(known | asked)
    tracker.tags(source_tags("tune", git_state()))
    if tracker.run_id:
        write_whole(noted, tracker.run_id)
    return tracker.run_id


def close_parent(task: Task, study: Study, folder: Path, wall_s: float) -> None:
    """Store the results of the study, drawn as the report draws them."""
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
    tracker.metrics({"wall_s": wall_s, "train_s": study.train_s, "saved_share": study.saved_fraction or 0.0}, len(study.trials))
    with tempfile.TemporaryDirectory() as name:
        for path in draw_study(study, Path(name)):
            tracker.artifact(path)
        record = Path(name) / layout.STUDY
        record.write_text(study.model_dump_json(indent=2) + "\n")
        tracker.artifact(record)
    tracker.artifact(folder / "journal.log")
    tracker.finish()
