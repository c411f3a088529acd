"""Verb ``check``: stage ``check`` without DVC."""

from pipelines.commands.terminal import Switch
from pipelines.stages import check as stage


def check(*, renew: Switch = False) -> None:
    """Check everything that the grid names, without running it.

    Pairs, methods, tier, reported results and tuning are read, compared with the code and with each other.

    Args:
        renew: after the check, write grid.yaml (DVC's list of stages) from params.yaml, and nothing else.
    """
    stage.check(renew=renew)
