"""Published figures with what our trainings say to them."""

from collections.abc import Sequence
from dataclasses import asdict

from reports.schemas.leaderboard import Against, Margin, PublishedFigure
from reports.stats import inference


def half_digit(value: float) -> float:
    """Half a unit of the last digit that a figure was printed with, at least one digit after the point."""
    return float(0.5 * 10.0 ** -max(1, len(repr(value).partition(".")[2])))


def judged(figure: PublishedFigure, scores: Sequence[float], control: Sequence[float], margin: Margin | None) -> PublishedFigure:
    """The figure with the verdicts of our runs; unchanged where our run has other settings."""
    if margin is None or figure.differs:
        return figure
    how = {"margin": margin.margin, "planning_sd": margin.planning_sd}
    found = {"score_verdict": _against(inference.compare_mean(scores, figure.value, half_digit=half_digit(figure.value), **how))}
    if control and figure.gain is not None and figure.gain_differs is None:
        half = half_digit(figure.value) + half_digit(round(figure.value - figure.gain, 4))
        found["gain_verdict"] = _against(inference.compare_gain(scores, control, figure.gain, half_digit=half, **how))
    return figure.model_copy(update=found)


def _against(found: inference.Comparison) -> Against:
    return Against(**asdict(found), p_holm=None)
