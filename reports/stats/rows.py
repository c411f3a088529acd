"""From the records of trainings to the rows of the leaderboard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reports.schemas.leaderboard import Curve, Margin, Missing, PublishedFigure, Row, SeedResult, Table, TeacherRow
from reports.schemas.run import Git, Metrics, Run
from reports.schemas.study import Study
from reports.stats import inference
from reports.stats.tuning import tuning
from reports.stats.verdicts import judged

_BOOTSTRAP_SEED = 20261121


@dataclass(frozen=True)
class Result:
    """A finished and evaluated training with the digests of its two files, and DVC's name of the stage that trained it."""

    run: Run
    metrics: Metrics
    run_sha256: str
    metrics_sha256: str
    target: str


@dataclass(frozen=True)
class Cells:
    """All that is known of one method on one pair.

    Args:
        results: of the finished trainings.
        missing: the others that were asked for.
        impossible: why the method cannot run on this pair, where it cannot.
        prior: of the training that its prior took, where it has one.
        command: that makes the row again.
        study: of a tuned row, the search behind it; None where it has not ended.
    """

    results: Sequence[Result] = ()
    missing: Sequence[Missing] = ()
    impossible: str | None = None
    prior: Run | None = None
    command: str | None = None
    study: Study | None = None

    @property
    def scores(self) -> list[float]:
        """Of the finished trainings."""
        return [result.metrics.score for result in self.results if result.metrics.score is not None]


@dataclass(frozen=True)
class PairInfo:
    """What the pair's file says, in words for the report."""

    name: str
    title: str
    task: str
    metric: str
    dataset: str
    schedule: str
    teacher_name: str
    notes: list[str] = field(default_factory=list)
    repeats: str | None = None
    curve_key: str = "val_mAP"  # of the metric, in a point of a training's curve


def curve(run: Run, key: str, method_losses: set[str]) -> Curve:
    """A training's curve without the losses that are the method's."""
    own = [
        (int(point["iteration"]), round(point["loss"] - sum(point.get(name, 0.0) for name in method_losses), 6))
        for point in run.curve
        if "loss" in point
    ]
    return Curve(own_loss=own, tune_score=[(int(point["iteration"]), point[key]) for point in run.curve if key in point])


def _losses(results: Sequence[Result]) -> set[str]:
    return {key for result in results for point in result.run.curve for key in point if key.startswith("loss_")}


def _seed(result: Result, curve_key: str, method_losses: set[str]) -> SeedResult | None:
    run, metrics = result.run, result.metrics
    if metrics.score is None or run.cost is None:
        return None
    return SeedResult(
        **_training(result, curve_key, method_losses),
        seed=run.seed,
        git=run.git or Git(commit=None, dirty=None),
        finished_at=run.finished_at,
        config_sha256=str(run.config_sha256),
    )


def _training(result: Result, curve_key: str, method_losses: set[str]) -> dict[str, Any]:
    """What is told alike of a student and of a teacher."""
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
    method: str,
    title: str,
    cells: Cells,
    *,
    curve_key: str,
    control: Sequence[float] = (),
    control_losses: set[str] | None = None,
    teacher: float | None = None,
    published: Sequence[PublishedFigure] = (),
    margin: Margin | None = None,
    untuned: Sequence[float] = (),
) -> Row:
    """One row.

    Args:
        method: name; a tuned row's has ``/tuned`` behind it.
        title: what is printed for it.
        cells: all that is known.
        curve_key: of the pair's metric in a point of a training's curve.
        control: scores of the control's seeds; may be empty.
        control_losses: names of the losses that the control has, too; None where it has not run.
        teacher: the teacher's score, or None where it is not there yet.
        published: figures of this method on this pair.
        margin: of the pair's data set and metric; None where figures may not be compared.
        untuned: of a tuned row, the scores of the same method's with the recipe's values; may be empty.
    """
    parts = method.partition("/")[0].split("+")
    own: dict[str, Any] = {"method": method, "title": title, "parts": parts, "command": cells.command}
    if cells.impossible is not None:
        return Row(**own, status="impossible", reason=cells.impossible, published=list(published))
    method_losses = set() if control_losses is None else _losses(cells.results) - control_losses
    seeds = sorted(
        (seed for result in cells.results if (seed := _seed(result, curve_key, method_losses))), key=lambda found: found.seed
    )
    scores = [result.score for result in seeds]
    own["missing"] = list(cells.missing)
    # The control's tuned row is compared with the control once: its gain is what tuning brought.
    own["tuning"] = tuning(cells.study, scores, () if method.startswith("none/") else untuned) if cells.study else None
    if not seeds:
        failed = next((missing for missing in cells.missing if missing.status in ("failed", "unreadable")), None)
        status, reason = ("failed", f"{failed.status}: {failed.reason}") if failed else ("not run", None)
        return Row(**own, status=status, reason=reason, published=list(published))
    is_compared = bool(control) and method != "none"
    next_low, next_high = inference.prediction_interval(scores) or (None, None)
    first = cells.results[0].run
    return Row(
        **own,
        status="done",
        hparams=first.hparams,
        hparams_origin=first.hparams_origin,
        config_changes=first.config_changes,
        seeds=seeds,
        num_seeds=len(seeds),
        mean=sum(scores) / len(scores),
        sd=inference.spread(scores),
        next_low=next_low,
        next_high=next_high,
        **(_gain(scores, control, teacher) if is_compared else {}),
        **_reads(seeds),
        **_costs(seeds, cells.prior),
        published=[judged(figure, scores, control if is_compared else (), margin) for figure in published],
    )


def _gain(scores: Sequence[float], control: Sequence[float], teacher: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"gain": inference.gain(scores, control), "untested": inference.untested(scores, control)}
    if interval := inference.welch(scores, control):
        found |= {"gain_low": interval.low, "gain_high": interval.high, "gain_p": interval.p}
    if teacher is not None:
        rng = np.random.default_rng(_BOOTSTRAP_SEED)
        low, high = inference.gap_closed_interval(scores, control, teacher, rng=rng) or (None, None)
        found |= {"gap_closed": inference.gap_closed(scores, control, teacher), "gap_low": low, "gap_high": high}
    return found


def _reads(seeds: Sequence[SeedResult]) -> dict[str, float | None]:
    """Means of what tells at a glance what a model can do."""
    names = {"found": "objects found", "right": "right class", "foreground": "foreground IoU"}
    values = {key: [seed.metrics.get(name) for seed in seeds] for key, name in names.items()}
    known = {key: [value for value in found if value is not None] for key, found in values.items()}
    return {key: sum(found) / len(found) if found else None for key, found in known.items()}


def _costs(seeds: Sequence[SeedResult], prior: Run | None) -> dict[str, float | None]:
    def mean(key: str) -> float:
        return sum(float(getattr(result.cost, key)) for result in seeds) / len(seeds)

    return {
        "minutes": mean("train_s") / 60,
        "prior_minutes": prior.cost.train_s / 60 if prior and prior.cost else None,
        "peak_memory_mib": mean("peak_memory_mib"),
        "images_per_s": mean("images_per_s"),
        "energy_kj": mean("energy_kj") if all(result.cost.energy_kj is not None for result in seeds) else None,
    }


def table(
    pair: PairInfo,
    methods: Mapping[str, str],
    *,
    teacher: Result | None,
    cells: Mapping[str, Cells],
    published: Mapping[str, list[PublishedFigure]],
    margin: Margin | None = None,
) -> Table:
    """One pair's table.

    Args:
        pair: in words.
        methods: the grid's methods, in order, with their printed names; a tuned row behind its method's.
        teacher: None where it is not finished.
        cells: by method.
        published: figures by method, and under ``teacher`` the teacher's.
        margin: how far from a published figure counts as the same; None where they may not be compared.
    """
    controls = cells.get("none", Cells())
    row = _teacher_row(teacher, pair) if teacher else None
    rows = [
        method_row(
            name,
            printed,
            cells.get(name, Cells()),
            curve_key=pair.curve_key,
            control=controls.scores,
            control_losses=_losses(controls.results) if controls.results else None,
            teacher=row.score if row else None,
            published=published.get(name, []),
            margin=margin,
            untuned=cells.get(name.partition("/")[0], Cells()).scores if "/" in name else (),
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
        published_teacher=published.get("teacher", []),
        rows=rows,
        published_elsewhere={name: found for name, found in published.items() if name not in {*methods, "teacher"}},
        notes=pair.notes,
        repeats=pair.repeats,
    )


def _teacher_row(teacher: Result, pair: PairInfo) -> TeacherRow | None:
    if teacher.metrics.score is None:
        return None
    return TeacherRow(**_training(teacher, pair.curve_key, set()), name=pair.teacher_name, origin=teacher.run.origin)
