"""Verb ``report``: stage ``report`` without DVC."""

from pathlib import Path

from pipelines.stages import report as stage


def report(*, runs: Path | None = None, out: Path | None = None, join: list[Path] | None = None) -> None:
    """Write the leaderboard in all its forms, from the records of what has finished.

    Files that cannot be used are listed at the end, with exit code 1.

    Args:
        runs: folder of the tier's records; runs/TIER if not given.
        out: folder to write to; reports/TIER if not given.
        join: further leaderboard.json files, shown on the HTML page beside this one.
    """
    stage.report(runs, out, join or [])
