"""``leaderboard.json``: one schema, one writer, from which every form of the report is made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from reports import statistics
from reports.record import Cost, Environment, Frozen, Git, Metrics, Run

Result = tuple[Run, Metrics]


class PublishedFigure(Frozen):
    """A figure from the registry: full size, published data set."""

    value: float
    gain: float | None
    teacher: float | None
    source: str


class SeedResult(Frozen):
    """One training and its result."""

    seed: int
    score: float = Field(description="points of the table's metric")
    metrics: dict[str, float | None] = Field(description="all that was measured, by name, points")
    cost: Cost
    git: Git
    config_sha256: str
    weights_sha256: str
    mlflow_run_id: str | None


class Row(Frozen):
    """One method on one pair; everything about scores in points of the table's metric, 0-100."""

    method: str
    title: str
    status: Literal["done", "not run", "impossible"]
    reason: str | None = None
    hparams: dict[str, Any] = Field(default_factory=dict)
    hparams_origin: str | None = None
    config_changes: dict[str, Any] = Field(default_factory=dict, description="to the student's published config")
    seeds: list[SeedResult] = Field(default_factory=list)
    num_seeds: int = 0
    mean: float | None = None
    sd: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    gap_closed: float | None = None
    minutes: float | None = None
    peak_memory_mib: float | None = None
    images_per_s: float | None = None
    published: list[PublishedFigure] = Field(default_factory=list)


class TeacherRow(Frozen):
    """The pair's teacher at this tier."""

    name: str
    score: float
    metrics: dict[str, float | None]
    cost: Cost | None = Field(description="None for weights that were not trained here")
    origin: str | None = Field(description="their file's name")
    weights_sha256: str
    mlflow_run_id: str | None


class Table(Frozen):
    """One pair."""

    pair: str
    title: str
    task: str
    metric: str = Field(description="what the pair is judged by, such as 'box AP' or 'mIoU'")
    dataset: str = Field(description="on which the published figures were measured")
    teacher: TeacherRow | None
    published_teacher: list[PublishedFigure]
    rows: list[Row]
    published_elsewhere: dict[str, list[PublishedFigure]] = Field(description="methods that are not in this grid")


class Leaderboard(Frozen):
    """Everything that the report says."""

    schema_version: Literal[2] = 2
    tier: str
    tier_title: str
    tables: list[Table]
    environment: Environment | None = Field(description="of most of the runs")
    data: dict[str, str | None] = Field(description="data set -> digest; None where the runs disagree")
    commits: list[str]
    dirty: bool
    train_s: float = Field(description="seconds in training iterations, all trainings together")


def seed_results(results: Sequence[Result]) -> list[SeedResult]:
    """The finished ones among a method's cells, by seed."""
    return [
        SeedResult(
            seed=run.seed,
            score=metrics.score,
            metrics=metrics.shown(),
            cost=run.cost,
            git=run.git or Git(commit=None, dirty=None),
            config_sha256=str(run.config_sha256),
            weights_sha256=str(run.weights_sha256),
            mlflow_run_id=run.mlflow_run_id,
        )
        for run, metrics in sorted(results, key=lambda result: result[0].seed)
        if metrics.score is not None and run.cost is not None
    ]


def method_row(
    method: str,
    title: str,
    results: Sequence[Result],
    *,
    control: Sequence[float],
    teacher: float | None,
    published: list[PublishedFigure],
) -> Row:
    """One row.

    Args:
        method: name.
        title: what is printed for it.
        results: the method's runs with their metrics, in any order; may be empty.
        control: scores of the control's seeds; may be empty.
        teacher: the teacher's score, or None where it is not there yet.
        published: figures of this method on this pair.
    """
    seeds = seed_results(results)
    reason = next((run.reason for run, _ in results if run.status == "impossible"), None)
    if reason is not None:
        return Row(method=method, title=title, status="impossible", reason=reason, published=published)
    if not seeds:
        return Row(method=method, title=title, status="not run", published=published)
    scores = [result.score for result in seeds]
    compared = bool(control) and method != "none"
    interval = statistics.gain_interval(scores, control) if compared else None

    def mean_cost(key: str) -> float:
        return sum(float(getattr(result.cost, key)) for result in seeds) / len(seeds)

    return Row(
        method=method,
        title=title,
        status="done",
        hparams=results[0][0].hparams,
        hparams_origin=results[0][0].hparams_origin,
        config_changes=results[0][0].config_changes,
        seeds=seeds,
        num_seeds=len(seeds),
        mean=sum(scores) / len(scores),
        sd=statistics.spread(scores),
        gain=statistics.gain(scores, control) if compared else None,
        gain_low=interval[0] if interval else None,
        gain_high=interval[1] if interval else None,
        gap_closed=statistics.gap_closed(scores, control, teacher) if compared and teacher is not None else None,
        minutes=mean_cost("train_s") / 60,
        peak_memory_mib=mean_cost("peak_memory_mib"),
        images_per_s=mean_cost("images_per_s"),
        published=published,
    )


def table(
    pair: str,
    title: str,
    methods: Mapping[str, str],
    *,
    task: str,
    metric: str,
    dataset: str,
    teacher_name: str,
    teacher: Result | None,
    results: Mapping[str, Sequence[Result]],
    published: Mapping[str, list[PublishedFigure]],
) -> Table:
    """One pair's table.

    Args:
        pair: name.
        title: what is printed for it.
        methods: the grid's methods, in order, with their printed names.
        task: what the pair's models do.
        metric: what they are judged by.
        dataset: where the published figures were measured, as printed.
        teacher_name: the published teacher's name.
        teacher: the teacher's run and metrics, or None where it is not finished.
        results: method -> its runs with their metrics.
        published: figures by method, and under ``teacher`` the teacher's.
    """
    control = [result.score for result in seed_results(results.get("none", ()))]
    row = None
    if teacher and teacher[1].score is not None:
        run, metrics = teacher
        row = TeacherRow(
            name=teacher_name,
            score=metrics.score,
            metrics=metrics.shown(),
            cost=run.cost,
            origin=run.origin,
            weights_sha256=str(run.weights_sha256),
            mlflow_run_id=run.mlflow_run_id,
        )
    rows = [
        method_row(
            name, printed, results.get(name, ()),
            control=control, teacher=row.score if row else None, published=published.get(name, []),
        )
        for name, printed in methods.items()
    ]  # fmt: skip
    return Table(
        pair=pair,
        title=title,
        task=task,
        metric=metric,
        dataset=dataset,
        teacher=row,
        published_teacher=published.get("teacher", []),
        rows=rows,
        published_elsewhere={name: found for name, found in published.items() if name not in {*methods, "teacher"}},
    )


def leaderboard(tier: str, tier_title: str, tables: list[Table], runs: Sequence[Run]) -> Leaderboard:
    """Put the tables together with what the runs share."""
    done = [run for run in runs if run.status == "done"]
    environments = Counter(run.environment.model_dump_json() for run in done if run.environment)
    digests: dict[str, set[str]] = {}
    for run in done:
        if run.data:
            digests.setdefault(run.data.name, set()).add(run.data.digest)
    return Leaderboard(
        tier=tier,
        tier_title=tier_title,
        tables=tables,
        environment=Environment.model_validate_json(environments.most_common(1)[0][0]) if environments else None,
        data={name: next(iter(found)) if len(found) == 1 else None for name, found in sorted(digests.items())},
        commits=sorted({run.git.commit for run in done if run.git and run.git.commit}),
        dirty=any(run.git.dirty for run in done if run.git),
        train_s=round(sum(run.cost.train_s for run in done if run.cost), 1),
    )
