"""Answers of a whole leaderboard beside its rows; written by :mod:`reports.stats.answers`."""

from pydantic import Field

from reports.schemas.run import Frozen


class SeedPower(Frozen):
    """Power to find a true gain on one row of a table; see :func:`reports.stats.answers.seed_power`."""

    gain: float = Field(description="true, points")
    sd: float = Field(description="of one seed about its row's mean, pooled over the rows, points")
    seeds: int = Field(description="of the row with the fewest")
    baseline_seeds: int
    num_tests: int
    power: float = Field(description="after Holm, 0-1")


class TeacherEffect(Frozen):
    """Students of one method under two teachers of one pair, points."""

    pair: str
    method: str
    title: str
    metric: str
    difference: float = Field(description="second teacher's students minus the first's")
    low: float = Field(description="of Welch's 95 % interval")
    high: float
    p: float = Field(description="two-sided, of there being no difference; not adjusted")
    teacher_sd: float = Field(description="between teachers, of two")
    student_sd: float = Field(description="between students of one teacher, pooled")


class RankCorrelation(Frozen):
    """Rank correlation (Spearman) of the gains here with the reported ones."""

    what: str = Field(description="a pair's title, or all pairs")
    num_rows: int
    rho: float | None = Field(description="None for fewer than three rows")
    low: float | None = Field(description="of its 95 % bootstrap interval over rows")
    high: float | None
