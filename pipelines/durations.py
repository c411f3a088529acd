"""Text of durations."""

_MANY_S = 90


def duration(seconds: float) -> str:
    """Return ``7 s``, ``3 min`` or ``2 h 05 min``."""
    if seconds < _MANY_S:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
