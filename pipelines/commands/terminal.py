"""Console of verbs, and the type of their switches."""

import sys
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

Switch = Annotated[bool, Parameter(show_default=False)]  # off unless given

_PIPE_COLUMNS = 250  # of a table that goes to a file or a pipe, whose width is unknown


def console(pipe_columns: int = _PIPE_COLUMNS) -> Console:
    """Return a console as wide as the terminal, or ``pipe_columns`` where there is none."""
    return Console(width=None if sys.stdout.isatty() else pipe_columns, highlight=False)
