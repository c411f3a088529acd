"""The console that verbs print tables to."""

import sys

from rich.console import Console

_PIPE_COLUMNS = 250  # of a table that goes to a file or a pipe, where nothing tells how wide it may be


def console(pipe_columns: int = _PIPE_COLUMNS) -> Console:
    """Return a console as wide as the terminal, or ``pipe_columns`` where there is none."""
    return Console(width=None if sys.stdout.isatty() else pipe_columns, highlight=False)
