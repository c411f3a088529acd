"""A released student, evaluated as stage ``evaluate`` does its own, and the log that was released with it.

It verifies the weights, not the method: who can repeat the score of a file has not repeated its training.
"""

import math
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pandas as pd

from benchmarks.artefacts import ReleasedStudent, Weights
from benchmarks.metrics import METRICS
from benchmarks.published_data import check_published, data_root
from benchmarks.reported import RegistryEntry
from pipelines import layout
from pipelines.engine.compose import base_config
from pipelines.engine.evaluation import measure
from pipelines.engine.mmlab import build_model, prepare_process
from pipelines.engine.provenance import environment, git_state, peak_memory_mib
from pipelines.engine.records import write_json
from pipelines.engine.setting import open_setting
from pipelines.engine.tracking import Tracker
from pipelines.engine.weights import convert_checkpoint, save_state
from pipelines.errors import all_of
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.recipes import cell_config
from pipelines.released import files
from pipelines.released.logs import TrainingLog, read_log, summarise
from pipelines.released.registry import reported, student_named
from reports.schemas import evidence
from reports.schemas.run import Data, Metrics
from reports.stats.released import reported_score


def evaluate_student(tier_name: str, name: str) -> evidence.ReleasedStudent:
    """Evaluate a released student, read its log, and write the record.

    Args:
        tier_name: a tier with the published data and models.
        name: of the student in ``benchmarks/artefacts.yaml``.

    Raises:
        ValueError: the tier is another one; the weights cannot be had, are not the recorded ones or not this pair's student's;
            the test split is not there. Nothing is recorded then.
    """
    tier = load_tier(tier_name)
    if tier.data != "published" or tier.model is not None:
        raise ValueError(
            f"tier {tier_name} has no published data or models, so a released student cannot be evaluated there; use tier paper"
        )
    student, entry = student_named(name)
    pair, method = entry.place
    record: dict[str, Any] = {"student": name, "reported": student.reported, "tier": tier_name, "pair": pair, "method": method}
    if student.weights is not None:
        record |= _evaluate(tier_name, name, student, student.weights, entry)
    record |= _read_log(tier_name, name, student, entry)
    found = evidence.ReleasedStudent(
        **record, git=git_state(), environment=environment(), finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )  # fmt: skip
    write_json(layout.released(tier_name, name), found.model_dump())
    return found


def _evaluate(tier_name: str, name: str, student: ReleasedStudent, weights: Weights, entry: RegistryEntry) -> dict[str, Any]:
    pair_name, method = entry.place
    if pair_name is None or method is None:
        raise ValueError(
            f"{name}: {entry.setting or entry.printed_method} is no row of this suite, so its student cannot be built here"
        )
    grid, label = load_grid(), f"[released {name}]"
    dataset = load_pair(pair_name).dataset
    # What is missing of data and weights is told at once.
    found: list[Any] = all_of([
        lambda: check_published(dataset, data_root(dataset, grid.data, test_only=True), test_only=True),
        lambda: files.get(weights),
    ])  # fmt: skip
    data, (path, sha256) = found
    setting = open_setting(tier_name, pair_name, layout.data(tier_name))
    changes = cell_config(method, pair_name, setting.pair, tier_name)
    prepare_process()
    extracted = convert_checkpoint(path, sha256, build_model(base_config(setting, "student", changes)))
    work = layout.work(tier_name) / layout.RELEASED / name
    save_state(extracted.state, work / layout.STUDENT_WEIGHTS)
    print(f"{label} {path.name}: {extracted.told or 'holds the student alone'}; predicting on the test split", flush=True)
    begun = time.monotonic()
    metrics = measure(setting, "student", work / layout.STUDENT_WEIGHTS, work / "test", changes)
    seconds = time.monotonic() - begun
    files.note_first_use(weights, path, sha256)
    scores = _scores(student, metrics)
    tracker = Tracker(f"kd-{tier_name}", f"released/{name}")
    tracker.params({"pair": pair_name, "method": method, "file": weights.file})
    tracker.tags({"origin": "released", "reported": ", ".join(student.reported), "weights_sha256": sha256})
    tracker.dataset(data.name, data.digest, str(data.root), split="test")
    tracker.metrics({f"test/{key.replace(' ', '_')}": value for key, value in metrics.flat().items() if value is not None}, 0)
    tracker.finish()
    for score in scores:
        said = "agrees" if score.agrees else f"differs by {score.off:.2f}"
        print(
            f"{label} {score.measured:.2f} {score.metric} on {metrics.num_images} test images, reported {score.value} "
            f"({score.reported}): {said}; this verifies the weights, not the method",
            flush=True,
        )
    return {
        "address": weights.address, "file": path.name, "sha256": sha256, "container": extracted.told, "config_changes": changes,
        "metrics": metrics, "scores": scores, "seconds": round(seconds, 1), "peak_memory_mib": round(peak_memory_mib()),
        "data": Data(name=data.name, digest=data.digest), "mlflow_run_id": tracker.run_id,
    }  # fmt: skip


def _scores(student: ReleasedStudent, metrics: Metrics) -> list[evidence.ReportedScore]:
    entries, flat = reported(), metrics.flat()
    scores = []
    for name in student.reported:
        measured = flat.get(METRICS[entries[name].metric].key)
        if measured is not None:
            scores.append(reported_score(name, entries[name].metric, entries[name].value, measured))
    return scores


def _read_log(tier_name: str, name: str, student: ReleasedStudent, entry: RegistryEntry) -> dict[str, Any]:
    """Read a log, and enter it in MLflow; one that cannot be had or read is a reason in the record, no end of the evaluation."""
    if student.log is None:
        return {}
    try:
        path, sha256 = files.get(student.log)
        log = read_log(path)
        read = summarise(log, path, entry.metric)
    except ValueError as error:
        if student.weights is None:
            raise
        print(f"warning: [released {name}] log: {error}", flush=True)
        return {"without_log": str(error)}
    files.note_first_use(student.log, path, sha256)
    tracker = Tracker(f"kd-{tier_name}", f"reported/{name}")
    tracker.tags({"origin": "reported", "reported": ", ".join(student.reported), "log_sha256": sha256})
    for mode, step, values in _points(log):
        tracker.metrics({f"{mode}/{name}": value for name, value in values.items()}, step)
    tracker.finish()
    print(
        f"[released {name}] log: {read.metric} {read.last} at the end, best {read.best} at "
        f"{'epoch' if read.by_epoch else 'iteration'} {read.best_at}; reported {entry.value}",
        flush=True,
    )
    return {"log": read}


def _points(log: TrainingLog) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield a log's values by mode and iteration; a validation is at the last iteration of its epoch."""
    train = log.table[log.table["mode"] == "train"]
    ends = train.groupby("epoch")["iteration"].max().to_dict()
    steps = [
        int(ends.get(epoch, epoch) if pd.isna(iteration) else iteration)
        for epoch, iteration in zip(log.table["epoch"], log.table["iteration"], strict=True)
    ]
    found: dict[tuple[str, int], dict[str, float]] = {}
    for mode, step, name, value in zip(log.table["mode"], steps, log.table["name"], log.table["value"], strict=True):
        if math.isfinite(value):
            found.setdefault((mode, step), {})[name] = value
    yield from ((mode, step, values) for (mode, step), values in found.items())
