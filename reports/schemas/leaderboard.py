"""``leaderboard.json``: one schema, from which every form of the report is made."""

from typing import Any, Literal

from pydantic import Field

from reports.schemas.answers import RankCorrelation, SeedPower, TeacherEffect
from reports.schemas.evidence import LedgerEntry, ReleasedStudent
from reports.schemas.reported import Margin, ReportedResult
from reports.schemas.run import Cost, Environment, Frozen, Git
from reports.schemas.study import Study


class Curve(Frozen):
    """Training curves of one run; two series, each of an iteration and a value."""

    own_loss: list[tuple[int, float]] = Field(
        description="the student's (teacher's) own losses, without the method's; means since the point before"
    )
    val_score: list[tuple[int, float]] = Field(description="points of the pair's metric on the validation split")


class RunResult(Frozen):
    """Fields that the run of a student and that of a teacher have in common."""

    score: float = Field(description="points of the table's metric")
    metrics: dict[str, float | None] = Field(description="all that was measured, by name, points")
    per_class: dict[str, float | None] = Field(description="the table's metric by class, points")
    curve: Curve
    weights_sha256: str
    run_sha256: str = Field(description="of run.json")
    metrics_sha256: str = Field(description="of metrics.json")
    mlflow_run_id: str | None
    target: str = Field(description="DVC's name of the stage that made it")


class SeedResult(RunResult):
    """One student's run and its result."""

    seed: int
    cost: Cost
    git: Git
    finished_at: str | None
    config_sha256: str


class TeacherResult(RunResult):
    """The run of a pair's teacher at this tier."""

    name: str
    cost: Cost | None = Field(description="None for weights that were not trained here")
    origin: str | None = Field(description="their file's name")


class MissingRun(Frozen):
    """A requested run without a result."""

    seed: int
    status: Literal["not run", "not evaluated", "failed", "unreadable"]
    reason: str | None = None


class TuningResult(Frozen):
    """Cost and gain of the search behind a tuned row; scores in points of the table's metric."""

    num_complete: int
    num_pruned: int
    num_failed: int
    best_score: float | None = Field(description="of the trial whose values are selected, on the validation split")
    recipe_score: float | None = Field(description="of the trial with the recipe's values there; None where it is not complete")
    is_recipe: bool = Field(description="whether the selected values are the recipe's own")
    minutes: float = Field(description="of training in all trials, once for all seeds")
    saved_fraction: float | None = Field(description="of the trials' iterations, by pruning, 0-1")
    gain: float | None = Field(default=None, description="on the test split, over the same method with the recipe's values")
    gain_low: float | None = Field(default=None, description="of Welch's 95 % interval")
    gain_high: float | None = None
    gain_p: float | None = Field(default=None, description="two-sided, of tuning changing nothing")
    untested: str | None = Field(default=None, description="why there is no test, where there is none")
    gain_p_holm: float | None = Field(default=None, description="adjusted for all gains of this leaderboard")


class Row(Frozen):
    """One method on one pair; scores in points of the table's metric, 0-100."""

    method: str
    tuned: bool = Field(default=False, description="whether its hyper-parameters were selected by a search")
    title: str
    parts: list[str] = Field(description="recipes that it combines")
    status: Literal["done", "not run", "failed", "unsupported"]
    reason: str | None = None
    hparams: dict[str, Any] = Field(default_factory=dict)
    hparams_origin: str | None = None
    config_changes: dict[str, Any] = Field(default_factory=dict, description="to the student's published config")
    seeds: list[SeedResult] = Field(default_factory=list)
    missing: list[MissingRun] = Field(default_factory=list)
    num_seeds: int = 0
    mean: float | None = None
    sd: float | None = None
    next_low: float | None = Field(default=None, description="of the 95 % prediction interval of one further run")
    next_high: float | None = None
    gain: float | None = Field(default=None, description="over the baseline here")
    gain_low: float | None = Field(default=None, description="of Welch's 95 % interval")
    gain_high: float | None = None
    gain_p: float | None = Field(default=None, description="two-sided, of there being no gain")
    gain_p_holm: float | None = Field(default=None, description="adjusted for all gains of this leaderboard")
    untested: str | None = Field(default=None, description="why the gain has no test, where it has none")
    found: float | None = Field(
        default=None, description="of a detector: percent of the objects that are found, mean of the seeds"
    )
    right: float | None = Field(default=None, description="percent of the found objects whose class is right, mean of the seeds")
    foreground: float | None = Field(
        default=None, description="of a segmenter: IoU of all that is no background, mean of the seeds"
    )
    gap_closed: float | None = Field(default=None, description="fraction of the way from baseline to teacher, 0-1")
    gap_low: float | None = Field(default=None, description="of its 95 % bootstrap interval; None below five seeds per side")
    gap_high: float | None = None
    minutes: float | None = Field(default=None, description="of training, mean of the seeds")
    auxiliary_minutes: float | None = Field(
        default=None, description="of training the method's auxiliary module, once for all seeds"
    )
    division: str | None = Field(
        default=None, description="of its batches: processes x images, number format where it is not fp32, settings of speed"
    )
    peak_memory_mib: float | None = None
    images_per_s: float | None = None
    energy_kj: float | None = None
    command: str | None = Field(default=None, description="makes this row again")
    reported: list[ReportedResult] = Field(
        default_factory=list, description="none of a tuned row: they are its method's own row's"
    )
    reported_logs: list[list[tuple[float, float]]] = Field(
        default_factory=list,
        description="validations in logs that the authors released: fraction of the training, 0-1, and points; at paper scale",
    )
    tuning: TuningResult | None = Field(default=None, description="of a tuned row whose search has ended")

    @property
    def id(self) -> str:
        """Method and variant in one word, as folders have it: ``mgd``, ``mgd/tuned``."""
        return f"{self.method}/tuned" if self.tuned else self.method

    @property
    def slug(self) -> str:
        """The id without a slash: ``mgd-tuned``."""
        return self.id.replace("/", "-")

    @property
    def is_baseline(self) -> bool:
        """True for the student alone, with the recipe's values."""
        return self.id == "none"

    @property
    def one_time_minutes(self) -> float | None:
        """Minutes of training once for all seeds: the auxiliary module, and the trials of the search."""
        parts = [self.auxiliary_minutes, self.tuning.minutes if self.tuning else None]
        known = [minutes for minutes in parts if minutes is not None]
        return sum(known) if known else None


class Backbone(Frozen):
    """A backbone that was trained before all else, in place of ImageNet."""

    name: str
    accuracy: float = Field(description="percent of the validation split's images whose digit it names")
    cost: Cost
    weights_sha256: str
    run_sha256: str
    mlflow_run_id: str | None


class Conflict(Frozen):
    """One of several different values that sources report for the same result."""

    what: str = Field(description="a method's title, or 'teacher'")
    value: float
    baseline: float | None = Field(description="in the same source")
    source: str
    note: str | None = Field(default=None, description="on this value")


class Table(Frozen):
    """One pair."""

    pair: str
    title: str
    task: str
    metric: str = Field(description="what the pair is judged by, such as 'box AP' or 'mIoU'")
    dataset: str = Field(description="on which the reported results were measured")
    schedule: str = Field(description="the published one, in words")
    teacher: TeacherResult | None
    reported_teacher: list[ReportedResult]
    rows: list[Row]
    reported_elsewhere: dict[str, list[ReportedResult]] = Field(description="methods that are not in this grid")
    notes: list[str] = Field(description="where the published models were changed")
    conflicts: list[Conflict] = Field(default_factory=list, description="results that sources report differently")
    repeats: str | None = Field(default=None, description="the pair that this one is but for its teacher's seed")
    power: SeedPower | None = None

    @property
    def baseline(self) -> Row | None:
        """The row without distillation, if it has run."""
        return next((row for row in self.rows if row.is_baseline and row.seeds), None)


class RecipeSummary(Frozen):
    """Words of a method's file."""

    title: str
    is_control: bool = Field(default=False, description="whether no trained teacher is in it: the student alone, or a placebo")
    paper: str | None
    arxiv: str | None = None
    source: str | None
    source_url: str | None = Field(default=None, pattern="^https://", description="of the authors' repository at the commit")
    file: str | None = Field(default=None, pattern=r"^methods/\w+\.yaml$", description="of the recipe, relative to the project")
    notes: list[str]
    deviations: list[str]


class FigureRecord(Frozen):
    """A figure of the report."""

    name: str
    title: str
    caption: str = Field(description="complete without the text around it")
    file: str = Field(description="relative to leaderboard.json")


class Leaderboard(Frozen):
    """All contents of the report."""

    schema_version: Literal[8] = 8
    tier: str
    tier_title: str
    paper_scale: bool = Field(description="whether data and models are the published ones, so that results may be compared")
    tables: list[Table]
    recipes: dict[str, RecipeSummary]
    margins: list[Margin] = Field(description="those that were used")
    studies: list[Study] = Field(default_factory=list, description="the searches behind the tuned rows")
    backbones: list[Backbone] = Field(default_factory=list, description="that teachers and students start from")
    teacher_effects: list[TeacherEffect] = Field(default_factory=list)
    rank_correlations: list[RankCorrelation] = Field(
        default_factory=list, description="the last one over all pairs; none at paper scale"
    )
    num_tests: int = Field(description="of gains; at paper scale two for each comparison with a reported result")
    environment: Environment | None = Field(description="of most of the runs")
    devices: dict[str, int] = Field(
        default_factory=dict,
        exclude_if=lambda devices: not devices,
        description="where there are several: name -> runs, most first",
    )
    data: dict[str, str | None] = Field(description="data set -> digest; None where the runs disagree")
    commits: list[str]
    dirty: bool
    unpushed: list[str] = Field(
        default_factory=list, exclude_if=lambda commits: not commits, description="of the commits, those that no remote had"
    )
    why_no_commit: list[str] = Field(
        default_factory=list, exclude_if=lambda reasons: not reasons, description="of runs whose record names none"
    )
    first_finished: str | None = Field(description="UTC, of the runs; None where none says when")
    last_finished: str | None
    train_s: float = Field(description="seconds in training iterations of all runs: teachers, auxiliary modules and trials, too")
    energy_kj: float | None = Field(description="None where it was not measured for every run")
    released: list[ReleasedStudent] = Field(default_factory=list, description="evaluated here; no runs of ours")
    evidence: list[LedgerEntry] = Field(default_factory=list, description="for every reported result of the registry")
    problems: list[str] = Field(description="files that could not be used, a line each")
    figures: list[FigureRecord] = Field(default_factory=list, description="with a file of their own; page and PDF have more")

    @property
    def is_on_gpu(self) -> bool:
        """False where memory, speed and time are a CPU's: runs beside each other share it, so they compare no methods' costs."""
        return self.environment is None or not self.environment.device.startswith("CPU")
