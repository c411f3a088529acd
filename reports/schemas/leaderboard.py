"""``leaderboard.json``: one schema, from which every form of the report is made."""

from typing import Any, Literal

from pydantic import Field

from reports.schemas.run import Cost, Environment, Frozen, Git
from reports.schemas.study import Study
from reports.stats.inference import Word


class Against(Frozen):
    """Our result against a published one, in points; see :class:`reports.stats.inference.Comparison`."""

    difference: float = Field(description="ours less the published")
    low: float | None = Field(description="of its 90 % interval")
    high: float | None
    margin: float
    verdict: Word
    further_seeds: int | None = Field(description="that would decide it; None where it is decided or no reasonable number would")
    p_same: float | None = Field(description="of the test of equivalence")
    p_apart: float | None = Field(description="of the test of a difference beyond the margin")
    p_holm: float | None = Field(
        description="the smaller of both, adjusted for both tests of all comparisons of this leaderboard"
    )


class PublishedFigure(Frozen):
    """A figure from the registry: full size, published data set."""

    id: str
    value: float
    gain: float | None
    teacher: float | None
    source: str
    read: Literal["verbatim", "second-hand"]
    variant: dict[str, str] = Field(default_factory=dict, description="what tells it from others of its method and pair")
    disagrees_with: list[str] = Field(default_factory=list, description="ids")
    differs: list[str] = Field(
        default_factory=list,
        description="in what the suite's run at full size is another than the one behind it; judged only if empty",
    )
    gain_differs: str | None = Field(default=None, description="why the gain is not judged although the score is")
    score_verdict: Against | None = Field(
        default=None, description="None at tiers where no figure was published, and where the run differs"
    )
    gain_verdict: Against | None = None


class Curve(Frozen):
    """How one training went; two series, each of an iteration and a value."""

    own_loss: list[tuple[int, float]] = Field(
        description="the student's (teacher's) own losses, without the method's; means since the point before"
    )
    tune_score: list[tuple[int, float]] = Field(description="points of the pair's metric on the tune split")


class SeedResult(Frozen):
    """One training and its result."""

    seed: int
    score: float = Field(description="points of the table's metric")
    metrics: dict[str, float | None] = Field(description="all that was measured, by name, points")
    per_class: dict[str, float | None] = Field(description="the table's metric by class, points")
    curve: Curve
    cost: Cost
    git: Git
    finished_at: str | None
    config_sha256: str
    weights_sha256: str
    run_sha256: str = Field(description="of run.json")
    metrics_sha256: str = Field(description="of metrics.json")
    mlflow_run_id: str | None
    target: str = Field(description="DVC's name of the stage that made it")


class Missing(Frozen):
    """A training that was asked for and is not there."""

    seed: int
    status: Literal["not run", "not evaluated", "failed", "unreadable"]
    reason: str | None = None


class Tuning(Frozen):
    """What the search behind a tuned row took and brought; scores in points of the table's metric."""

    num_complete: int
    num_pruned: int
    num_failed: int
    best_score: float | None = Field(description="of the trial whose values are handed out, on the tune split")
    recipe_score: float | None = Field(description="of the trial with the recipe's values there; None where it is not complete")
    is_recipe: bool = Field(description="whether the values handed out are the recipe's own")
    minutes: float = Field(description="of training in all trials, once for all seeds")
    saved_share: float | None = Field(description="of the trials' iterations, by pruning, 0-1")
    gain: float | None = Field(default=None, description="on the test split, over the same method with the recipe's values")
    gain_low: float | None = Field(default=None, description="of Welch's 95 % interval")
    gain_high: float | None = None
    gain_p: float | None = Field(default=None, description="two-sided, of tuning changing nothing")
    untested: str | None = Field(default=None, description="why there is no test, where there is none")
    gain_p_holm: float | None = Field(default=None, description="adjusted for all gains of this leaderboard")


class Row(Frozen):
    """One method on one pair; everything about scores in points of the table's metric, 0-100."""

    method: str = Field(description="and where it was tuned, ``/tuned`` behind it")
    title: str
    parts: list[str] = Field(description="recipes that it joins")
    status: Literal["done", "not run", "failed", "impossible"]
    reason: str | None = None
    hparams: dict[str, Any] = Field(default_factory=dict)
    hparams_origin: str | None = None
    config_changes: dict[str, Any] = Field(default_factory=dict, description="to the student's published config")
    seeds: list[SeedResult] = Field(default_factory=list)
    missing: list[Missing] = Field(default_factory=list)
    num_seeds: int = 0
    mean: float | None = None
    sd: float | None = None
    next_low: float | None = Field(default=None, description="of the 95 % interval in which one further training will lie")
    next_high: float | None = None
    gain: float | None = Field(default=None, description="over the control here")
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
    gap_closed: float | None = Field(default=None, description="share of the way from control to teacher, 0-1")
    gap_low: float | None = Field(default=None, description="of its 95 % bootstrap interval; None below five seeds a side")
    gap_high: float | None = None
    minutes: float | None = Field(default=None, description="of training, mean of the seeds")
    prior_minutes: float | None = Field(
        default=None, description="of learning what the method needs beforehand, once for all seeds"
    )
    peak_memory_mib: float | None = None
    images_per_s: float | None = None
    energy_kj: float | None = None
    command: str | None = Field(default=None, description="makes this row again")
    published: list[PublishedFigure] = Field(
        default_factory=list, description="none of a tuned row: they are its method's own row's"
    )
    tuning: Tuning | None = Field(default=None, description="of a tuned row whose search has ended")

    @property
    def base(self) -> str:
        """The method without its variant: ``mgd`` of ``mgd/tuned``."""
        return self.method.partition("/")[0]

    @property
    def is_tuned(self) -> bool:
        """Whether its hyper-parameters come from a search."""
        return "/" in self.method

    @property
    def slug(self) -> str:
        """The id where a slash would part folders: ``mgd-tuned``."""
        return self.method.replace("/", "-")

    @property
    def beforehand_minutes(self) -> float | None:
        """Of all that was trained once for all seeds: its prior, and the trials of its search."""
        found = [self.prior_minutes, self.tuning.minutes if self.tuning else None]
        known = [minutes for minutes in found if minutes is not None]
        return sum(known) if known else None


class TeacherRow(Frozen):
    """The pair's teacher at this tier."""

    name: str
    score: float
    metrics: dict[str, float | None]
    per_class: dict[str, float | None]
    curve: Curve
    cost: Cost | None = Field(description="None for weights that were not trained here")
    origin: str | None = Field(description="their file's name")
    weights_sha256: str
    run_sha256: str
    metrics_sha256: str
    mlflow_run_id: str | None
    target: str


class SeedPower(Frozen):
    """Power to find a true gain on one row of a table; see :func:`reports.stats.answers.seed_power`."""

    gain: float = Field(description="true, points")
    sd: float = Field(description="of one seed about its row's mean, pooled over the rows, points")
    seeds: int = Field(description="of the row with the fewest")
    control_seeds: int
    num_tests: int
    power: float = Field(description="after Holm, 0-1")


class Start(Frozen):
    """A backbone that was trained before all else, in place of ImageNet."""

    name: str
    accuracy: float = Field(description="percent of the tune scenes whose digit it names")
    cost: Cost
    weights_sha256: str
    run_sha256: str
    mlflow_run_id: str | None


class TeacherSplit(Frozen):
    """A method's students under two teachers of one pair, points."""

    pair: str
    method: str
    title: str
    metric: str
    difference: float = Field(description="second teacher's students less the first's")
    low: float = Field(description="of Welch's 95 % interval")
    high: float
    p: float = Field(description="two-sided, of there being no difference; not adjusted")
    teacher_sd: float = Field(description="between teachers, of two")
    student_sd: float = Field(description="between students of one teacher, pooled")


class Predicted(Frozen):
    """Rank correlation (Spearman) of the gains here with the reported ones."""

    what: str = Field(description="a pair's title, or all pairs")
    num_rows: int
    rho: float | None = Field(description="None for fewer than three rows")
    low: float | None = Field(description="of its 95 % bootstrap interval over rows")
    high: float | None


class Table(Frozen):
    """One pair."""

    pair: str
    title: str
    task: str
    metric: str = Field(description="what the pair is judged by, such as 'box AP' or 'mIoU'")
    dataset: str = Field(description="on which the published figures were measured")
    schedule: str = Field(description="the published one, in words")
    teacher: TeacherRow | None
    published_teacher: list[PublishedFigure]
    rows: list[Row]
    published_elsewhere: dict[str, list[PublishedFigure]] = Field(description="methods that are not in this grid")
    notes: list[str] = Field(description="where the published models were changed, and where sources disagree")
    repeats: str | None = Field(default=None, description="the pair that this one is but for its teacher's seed")
    power: SeedPower | None = None


class Recipe(Frozen):
    """What a method's file says of it."""

    title: str
    paper: str | None
    source: str | None
    notes: list[str]
    deviations: list[str]


class Picture(Frozen):
    """A figure of the report."""

    name: str
    title: str
    caption: str = Field(description="stands alone")
    file: str = Field(description="beside leaderboard.json")


class Margin(Frozen):
    """Declared margin of a data set and metric."""

    dataset: str
    metric: str
    margin: float = Field(gt=0, description="points")
    planning_sd: float = Field(gt=0, description="points")
    why: str


class Leaderboard(Frozen):
    """Everything that the report says."""

    schema_version: Literal[6] = 6
    tier: str
    tier_title: str
    full_size: bool = Field(description="whether data and models are the published ones, so that figures may be compared")
    tables: list[Table]
    recipes: dict[str, Recipe]
    margins: list[Margin] = Field(description="those that were used")
    studies: list[Study] = Field(default_factory=list, description="the searches behind the tuned rows")
    starts: list[Start] = Field(default_factory=list, description="the backbones that teachers and students start from")
    teacher_splits: list[TeacherSplit] = Field(default_factory=list)
    predictions: list[Predicted] = Field(default_factory=list, description="the last one over all pairs; none at full size")
    num_tests: int = Field(description="of gains; at full size two for each comparison with a published figure")
    environment: Environment | None = Field(description="of most of the runs")
    data: dict[str, str | None] = Field(description="data set -> digest; None where the runs disagree")
    commits: list[str]
    dirty: bool
    first_finished: str | None = Field(description="UTC, of the trainings; None where none says when")
    last_finished: str | None
    train_s: float = Field(description="seconds in training iterations, all trainings together: teachers, priors and trials, too")
    energy_kj: float | None = Field(description="None where it was not measured for every training")
    problems: list[str] = Field(description="files that could not be used, a line each")
    pictures: list[Picture] = Field(default_factory=list)
