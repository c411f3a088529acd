"""Rows of the leaderboard from the records of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reports.schemas.leaderboard import Conflict, Curve, MissingRun, Row, SeedResult, Table, TeacherResult
from reports.schemas.reported import Margin, ReportedResult
from reports.schemas.run import Git, Metrics, Run
from reports.schemas.study import Study
from reports.stats import inference
from reports.stats.tuning import gain_fields, tuning
from reports.stats.verdicts import judged

_BOOTSTRAP_SEED = 20261121


@dataclass(frozen=True)
class Result:
    """A finished and evaluated run with the digests of its two files, and DVC's name of the stage that trained it."""

    run: Run
    metrics: Metrics
    run_sha256: str
    metrics_sha256: str
    target: str


@dataclass(frozen=True)
class RowRecords:
    """Records of one method on one pair.

    Args:
        results: of the finished runs.
        missing: the other requested runs.
        unsupported: why the method cannot run on this pair, where it cannot.
        auxiliary: the run of its auxiliary module, where it has one.
        command: that makes the row again.
        study: of a tuned row, the search behind it; None where it has not ended.
    """

    results: Sequence[Result] = ()
    missing: Sequence[MissingRun] = ()
    unsupported: str | None = None
    auxiliary: Run | None = None
    command: str | None = None
    study: Study | None = None

    @property
    def scores(self) -> list[float]:
        """Scores of the finished runs."""
        return [result.metrics.score for result in self.results if result.metrics.score is not None]


@dataclass(frozen=True)
class PairInfo:
    """Contents of a pair's file, in words for the report."""

    name: str
    title: str
    task: str
    metric: str
    dataset: str
    schedule: str
    teacher_name: str
    notes: list[str] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    repeats: str | None = None
    curve_key: str = "val_mAP"  # of the metric, in a point of a run's curve


def curve(run: Run, key: str, method_losses: set[str]) -> Curve:
    """Curve of a run without the losses that are the method's."""
    own = [
        (int(point["iteration"]), round(point["loss"] - sum(point.get(name, 0.0) for name in method_losses), 6))
        for point in run.curve
        if "loss" in point
    ]
    return Curve(own_loss=own, val_score=[(int(point["iteration"]), point[key]) for point in run.curve if key in point])


def _losses(results: Sequence[Result]) -> set[str]:
    return {key for result in results for point in result.run.curve for key in point if key.startswith("loss_")}


def _seed(result: Result, curve_key: str, method_losses: set[str]) -> SeedResult | None:
    run, metrics = result.run, result.metrics
    if metrics.score is None or run.cost is None:
        return None
    return SeedResult(
        **_run_fields(result, curve_key, method_losses),
        seed=run.seed,
        git=run.git or Git(commit=None, dirty=None),
        finished_at=run.finished_at,
        config_sha256=str(run.config_sha256),
    )


def _run_fields(result: Result, curve_key: str, method_losses: set[str]) -> dict[str, Any]:
    """Fields that a student and a teacher have in common."""
    run, metrics = result.run, result.metrics
    return {
        "score": metrics.score,
        "metrics": metrics.shown(),
        "per_class": metrics.per_class,
        "curve": curve(run, curve_key, method_losses),
        "cost": run.cost,
        "weights_sha256": str(run.weights_sha256),
        "run_sha256": result.run_sha256,
        "metrics_sha256": result.metrics_sha256,
        "mlflow_run_id": run.mlflow_run_id,
        "target": result.target,
    }


def method_row(
    row_id: str,
    title: str,
    records: RowRecords,
    *,
    curve_key: str,
    baseline: Sequence[float] = (),
    baseline_losses: set[str] | None = None,
    teacher: float | None = None,
    reported: Sequence[ReportedResult] = (),
    margin: Margin | None = None,
    untuned: Sequence[float] = (),
) -> Row:
    """One row.

    Args:
        row_id: name of the method, and of a tuned row ``/tuned`` behind it.
        title: printed name.
        records: of its runs.
        curve_key: of the pair's metric in a point of a run's curve.
        baseline: scores of the baseline's seeds; may be empty.
        baseline_losses: names of the losses that the baseline has, too; None where it has not run.
        teacher: the teacher's score, or None where it is not there yet.
        reported: results of this method on this pair.
        margin: of the pair's data set and metric; None where results may not be compared.
        untuned: of a tuned row, the scores of the same method's with the recipe's values; may be empty.
    """
    method, _, variant = row_id.partition("/")
    own: dict[str, Any] = {"method": method, "tuned": bool(variant), "title": title, "parts": method.split("+")}
    own["command"] = records.command
    if records.unsupported is not None:
        return Row(**own, status="unsupported", reason=records.unsupported, reported=list(reported))
    method_losses = set() if baseline_losses is None else _losses(records.results) - baseline_losses
    seeds = sorted(
        (seed for result in records.results if (seed := _seed(result, curve_key, method_losses))), key=lambda found: found.seed
    )
    scores = [result.score for result in seeds]
    own["missing"] = list(records.missing)
    # The baseline's tuned row is compared with the baseline once: its gain is that of tuning.
    own["tuning"] = tuning(records.study, scores, () if method == "none" else untuned) if records.study else None
    if not seeds:
        failed = next((missing for missing in records.missing if missing.status in ("failed", "unreadable")), None)
        status, reason = ("failed", f"{failed.status}: {failed.reason}") if failed else ("not run", None)
        return Row(**own, status=status, reason=reason, reported=list(reported))
    is_compared = bool(baseline) and row_id != "none"
    next_low, next_high = inference.prediction_interval(scores) or (None, None)
    first = records.results[0].run
    return Row(
        **own,
        status="done",
        hparams=first.hparams,
        hparams_origin=first.hparams_origin,
        config_changes=first.config_changes,
        division="; ".join(dict.fromkeys(said for result in records.results if (said := result.run.division))) or None,
        seeds=seeds,
        num_seeds=len(seeds),
        mean=sum(scores) / len(scores),
        sd=inference.spread(scores),
        next_low=next_low,
        next_high=next_high,
        **(_gain(scores, baseline, teacher) if is_compared else {}),
        **_recognition(seeds),
        **_costs(seeds, records.auxiliary),
        reported=[judged(figure, scores, baseline if is_compared else (), margin) for figure in reported],
    )


def _gain(scores: Sequence[float], baseline: Sequence[float], teacher: float | None) -> dict[str, Any]:
    found = gain_fields(scores, baseline)
    if teacher is not None:
        rng = np.random.default_rng(_BOOTSTRAP_SEED)
        low, high = inference.gap_closed_interval(scores, baseline, teacher, rng=rng) or (None, None)
        found |= {"gap_closed": inference.gap_closed(scores, baseline, teacher), "gap_low": low, "gap_high": high}
    return found


def _recognition(seeds: Sequence[SeedResult]) -> dict[str, float | None]:
    """Means over the seeds of objects found and named rightly, or of the foreground's IoU."""
    names = {"found": "objects found", "right": "right class", "foreground": "foreground IoU"}
    values = {key: [seed.metrics.get(name) for seed in seeds] for key, name in names.items()}
    known = {key: [value for value in found if value is not None] for key, found in values.items()}
    return {key: sum(found) / len(found) if found else None for key, found in known.items()}


def _costs(seeds: Sequence[SeedResult], auxiliary: Run | None) -> dict[str, float | None]:
    def mean(key: str) -> float:
        return sum(float(getattr(result.cost, key)) for result in seeds) / len(seeds)

    return {
        "minutes": mean("train_s") / 60,
        "auxiliary_minutes": auxiliary.cost.train_s / 60 if auxiliary and auxiliary.cost else None,
        "peak_memory_mib": mean("peak_memory_mib"),
        "images_per_s": mean("images_per_s"),
        "energy_kj": mean("energy_kj") if all(result.cost.energy_kj is not None for result in seeds) else None,
    }


def table(
    pair: PairInfo,
    methods: Mapping[str, str],
    *,
    teacher: Result | None,
    records: Mapping[str, RowRecords],
    reported: Mapping[str, list[ReportedResult]],
    margin: Margin | None = None,
) -> Table:
    """One pair's table.

    Args:
        pair: in words.
        methods: ids of the grid's rows, in order, with their printed names; a tuned row behind its method's.
        teacher: None where it is not finished.
        records: by row.
        reported: results by method, and under ``teacher`` the teacher's.
        margin: how far from a reported result counts as the same; None where results may not be compared.
    """
    baseline = records.get("none", RowRecords())
    row = _teacher_row(teacher, pair) if teacher else None
    rows = [
        method_row(
            name,
            printed,
            records.get(name, RowRecords()),
            curve_key=pair.curve_key,
            baseline=baseline.scores,
            baseline_losses=_losses(baseline.results) if baseline.results else None,
            teacher=row.score if row else None,
            reported=reported.get(name, []),
            margin=margin,
            untuned=records.get(name.partition("/")[0], RowRecords()).scores if "/" in name else (),
        )
        for name, printed in methods.items()
    ]
    return Table(
        pair=pair.name,
        title=pair.title,
        task=pair.task,
        metric=pair.metric,
        dataset=pair.dataset,
        schedule=pair.schedule,
        teacher=row,
        reported_teacher=reported.get("teacher", []),
        rows=rows,
        reported_elsewhere={name: found for name, found in reported.items() if name not in {*methods, "teacher"}},
        notes=pair.notes,
        conflicts=pair.conflicts,
        repeats=pair.repeats,
    )


def _teacher_row(teacher: Result, pair: PairInfo) -> TeacherResult | None:
    if teacher.metrics.score is None:
        return None
    return TeacherResult(**_run_fields(teacher, pair.curve_key, set()), name=pair.teacher_name, origin=teacher.run.origin)
