"""Reported results with the verdicts of our runs."""

from collections.abc import Sequence
from dataclasses import asdict

from reports.schemas.reported import Margin, ReportedComparison, ReportedResult
from reports.stats import inference


def half_digit(value: float) -> float:
    """Half a unit of the last digit that a value was printed with, at least one digit after the point."""
    return float(0.5 * 10.0 ** -max(1, len(repr(value).partition(".")[2])))


def judged(reported: ReportedResult, scores: Sequence[float], baseline: Sequence[float], margin: Margin | None) -> ReportedResult:
    """Return the result with our verdicts; unchanged where our run has other settings."""
    if margin is None or reported.differs:
        return reported
    how = {"margin": margin.margin, "planning_sd": margin.planning_sd}
    half = half_digit(reported.value)
    found = {"score_verdict": _record(inference.compare_mean(scores, reported.value, half_digit=half, **how))}
    if baseline and reported.gain is not None and reported.gain_differs is None:
        half += half_digit(round(reported.value - reported.gain, 4))
        found["gain_verdict"] = _record(inference.compare_gain(scores, baseline, reported.gain, half_digit=half, **how))
    return reported.model_copy(update=found)


def _record(found: inference.Comparison) -> ReportedComparison:
    return ReportedComparison(**asdict(found), p_holm=None)
