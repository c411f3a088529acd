"""Reported results as the leaderboard shows them, and the margins that they are judged with; values in points, 0-100."""

from typing import Literal

from pydantic import Field

from reports.schemas.run import Frozen
from reports.stats.inference import Verdict


class ReportedComparison(Frozen):
    """Our result against a reported one; see :class:`reports.stats.inference.Comparison`."""

    difference: float = Field(description="ours minus the reported")
    low: float | None = Field(description="of its 90 % interval")
    high: float | None
    margin: float
    verdict: Verdict
    further_seeds: int | None = Field(description="that would decide it; None where it is decided or no reasonable number would")
    p_equivalent: float | None = Field(description="of the test of equivalence")
    p_different: float | None = Field(description="of the test of a difference beyond the margin")
    p_holm: float | None = Field(
        description="the smaller of both, adjusted for both tests of all comparisons of this leaderboard"
    )


class ReportedResult(Frozen):
    """A score and gain from the registry: paper scale, published data set."""

    id: str
    value: float = Field(description="the score")
    gain: float | None
    teacher: float | None
    source: str
    read: Literal["verbatim", "second-hand"] = Field(description="in the source itself, or in a secondary one")
    variant: dict[str, str] = Field(default_factory=dict, description="differences from others of its method and pair")
    disagrees_with: list[str] = Field(default_factory=list, description="ids")
    differs: list[str] = Field(
        default_factory=list,
        description="differences of the suite's run at paper scale from the one behind it; judged only if empty",
    )
    gain_differs: str | None = Field(default=None, description="why the gain is not judged although the score is")
    score_verdict: ReportedComparison | None = Field(
        default=None, description="None at tiers where nothing was reported, and where the run differs"
    )
    gain_verdict: ReportedComparison | None = None


class Margin(Frozen):
    """Declared margin of a data set and metric."""

    dataset: str
    metric: str
    margin: float = Field(gt=0, description="points")
    planning_sd: float = Field(gt=0, description="points")
    why: str
