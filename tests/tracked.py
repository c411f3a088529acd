"""A small MLflow store with the leaderboard of its runs, for tests of what the two say of each other."""

from pathlib import Path

from pipelines.engine.tracking import Tracker
from reports.stats.rows import RowRecords
from tests.boards import board, made_up, result, study, write_result

PAIR = "pair"
SCORES = {"none": (10.0, 12.0), "mgd": (13.0, 15.0), "mgd/tuned": (17.0, 18.0)}


def tracked(path, score=None, **params):
    """Id of an MLflow run that has ended."""
    tracker = Tracker("kd-mini", path)
    tracker.params({"stage": path.split("/")[0], "pair": PAIR, **params})
    tracker.dataset("scenes", "0123456789abcdef", "data/mini")
    for step in (50, 100):
        tracker.metrics({"train/loss": 100.0 / step}, step)
    tracker.metrics({} if score is None else {"test/AP": score}, 0)
    tracker.finish()
    assert tracker.run_id
    return tracker.run_id


def make_store():
    """Write mlflow/, runs/ and reports/ of seven runs into the working directory; return the runs' ids by path."""
    ids = {"teacher": tracked(f"teacher/{PAIR}/teacher", 20.0)}
    teacher = result("box AP", 20.0, None, mlflow_run_id=ids["teacher"])
    write_result(Path("runs/mini", PAIR, "teacher"), teacher)
    rows = {}
    for row, scores in SCORES.items():
        method, _, tuned = row.partition("/")
        variant = "tuned" if tuned else "published"
        found = []
        for seed, score in enumerate(scores):
            key = f"{PAIR}/{row}/seed{seed}"
            ids[key] = tracked(f"distill/{key}", score, seed=seed, method=method, variant=variant)
            found.append(result("box AP", score, method, seed, variant=variant, mlflow_run_id=ids[key]))
        rows[row] = RowRecords(found, study=study() if tuned else None)
    content = board(made_up(teacher=teacher, cells=rows, name=PAIR)).model_dump_json()
    Path("reports/mini").mkdir(parents=True)
    Path("reports/mini/leaderboard.json").write_text(content)
    return ids
