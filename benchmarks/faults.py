"""Sentences about what is wrong with a user's files."""

from collections.abc import Sequence


def fault(culprits: Sequence[object], what: str, remedy: str) -> list[str]:
    """At most one sentence: the first culprit, how many more, what is wrong, what to do."""
    if not culprits:
        return []
    more = f" (and {len(culprits) - 1} more)" if len(culprits) > 1 else ""
    return [f"{culprits[0]}{more} {what}: {remedy}"]
