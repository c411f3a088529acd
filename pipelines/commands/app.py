"""The command line: verbs, their help, and one line for a command line that cannot be read.

A verb's module is imported when the verb is run, so that help and completion need neither torch, MLflow nor DVC.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

_ABOUT = """Reproducibility benchmark of knowledge distillation for detection and segmentation.

The grid is in params.yaml; `./kd run` brings every result up to date, and `./kd VERB --help` explains a verb.
"""
# The first line of each verb's docstring, which is read when the verb is run; a test compares the two.
VERBS = {
    "Before a run": {
        "list": "Print the names that a grid may contain: pairs, methods, tiers, data sets or metrics.",
        "check": "Check everything that the grid names, without running it.",
        "estimate": "Estimate the cost of a grid before it runs: runs, files, GPU-hours, money.",
        "results": "Print the results reported for a pair, or how many there are per pair.",
        "evidence": "Print what is known of reported results beyond their quotation, and the next step for each.",
        "released": "Evaluate the students that the authors of a reported result released, and read their logs.",
    },
    "Running": {
        "run": "Run everything that is out of date, several units at a time.",
        "status": "Print the state of each unit: done, running, queued, failed or waiting.",
        "quick": "Run a small grid in minutes: one pair, the baseline and two methods, three seeds.",
        "ui": "Serve MLflow's pages on the runs.",
        "studies": "Serve Optuna's pages on the studies of the tier in params.yaml.",
    },
    "Results": {
        "report": "Write the leaderboard in all its forms, from the records of what has finished.",
        "verify": "Compare leaderboard, records, weights, dvc.lock and MLflow with each other.",
        "compare": "Compare two leaderboards row by row.",
        "export": "Write a student alone, as a checkpoint and config of plain MMDetection or MMSegmentation, and as ONNX.",
    },
    "Development": {
        "matrix": "Run every pair with every method, two iterations each, and print one table.",
        "measure": "Measure training steps of the published models on dummy images: time, memory, losses.",
    },
}
_NUMBERS = {int: "a whole number", float: "a number"}


def build(verb: str | None = None) -> App:
    """Return the application; the help of ``verb`` is its docstring, that of the others their line above."""
    app = App(
        name="kd", help=_ABOUT, help_format="markdown", version_flags=[], result_action="return_value",
        suppress_keyboard_interrupt=False, default_parameter=Parameter(negative=(), consume_multiple=1),
    )  # fmt: skip
    for number, (title, verbs) in enumerate(VERBS.items()):
        group = Group(title, sort_key=number)
        for name, summary in verbs.items():
            module = "names" if name == "list" else name
            path = f"pipelines.commands.{module}:{'list_names' if name == 'list' else name}"
            app.command(path, name=name, group=group, help=None if name == verb else summary)
    app.register_install_completion_command(
        help="Install completion for bash, zsh or fish.", group=Group("Shell", sort_key=len(VERBS))
    )
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; ValueError, one line, where the command line cannot be read.

    Args:
        arguments: the words behind ``./kd``; the process's own if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = words[0] if words and words[0] in names() else None
    try:
        build(verb)(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise ValueError(f"{_problem(error)}; see ./kd {f'{verb} ' if verb else ''}--help") from error


def names() -> list[str]:
    """Every verb."""
    return [name for verbs in VERBS.values() for name in verbs]


def _problem(error: CycloptsError) -> str:
    """Return a parser's complaint in this project's words; the parser's own may import every verb to suggest one."""
    match error:
        case UnknownCommandError():
            problem = _unknown("verb", (error.unused_tokens or [""])[0], names())
        case UnknownOptionError():
            options = [name for argument in error.argument_collection for name in argument.names]
            problem = _unknown("option", error.token.keyword or error.token.value, options)
        case CoercionError():
            problem = _wrong_value(error)
        case MissingArgumentError() if error.argument is not None:
            name = error.keyword or error.argument.name
            problem = f"{name} has no value" if name.startswith("-") else f"{name} is missing"
        case RepeatArgumentError():
            problem = f"{error.token.keyword} is given twice"
        case UnusedCliTokensError():
            problem = f"unexpected argument '{(error.unused_tokens or [''])[0]}'"
        case _:
            problem = "the command line cannot be read"
    return problem


def _unknown(kind: str, given: str, known: list[str]) -> str:
    near = get_close_matches(given, known, n=1)
    return f"unknown {kind} '{given}'" + (f" (did you mean {near[0]}?)" if near else "")


def _wrong_value(error: CoercionError) -> str:
    given = "" if error.token is None else error.token.value
    keyword = error.token.keyword if error.token else None
    name = keyword or ("" if error.argument is None else error.argument.name)
    target: Any = error.target_type
    if get_origin(target) is Literal:
        return f"{name} {given} is unknown; there are: {', '.join(map(str, get_args(target)))}"
    return f"{name} is '{given}'; give {_NUMBERS.get(target, 'another value')}"
