"""Comparison of a reported score with the one that the same weights have here."""

from reports.schemas.evidence import ReportedScore
from reports.stats.verdicts import half_digit

AGREES_WITHIN = 0.1  # points, beyond rounding: between versions of the packages scores of the same weights move by less


def reported_score(reported: str, metric: str, value: float, measured: float) -> ReportedScore:
    """Compare a measured score with every value that rounds to the reported one.

    Args:
        reported: id of the result.
        metric: its metric.
        value: points, as reported; its last decimal (one at least) is where it was rounded.
        measured: points.
    """
    off = max(0.0, abs(measured - value) - half_digit(value))
    return ReportedScore(
        reported=reported, metric=metric, value=value, measured=measured, off=round(off, 4), agrees=round(off, 4) <= AGREES_WITHIN
    )
