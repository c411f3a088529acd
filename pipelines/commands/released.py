"""Verb ``released``: the students that authors released of a row, evaluated."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from benchmarks.published_data import data_root
from pipelines.commands.names import known
from pipelines.commands.terminal import Switch
from pipelines.params import load_grid, load_pair
from pipelines.recipes import load_parts
from pipelines.released.registry import students_of


def released(
    pair: str, method: str, /, *, tier: str = "paper", only: Annotated[str, Parameter()] = "", download: Switch = False
) -> None:
    """Evaluate the students that the authors of a reported result released, and read their logs.

    The files are fetched, or found in data/weights (KD_DOWNLOADS names another folder) where only a browser can fetch them;
    nothing is trained, and of the data the test split alone is read. It verifies the weights, not the method.

    Args:
        pair: name, as `./kd list pairs` has it.
        method: name, as `./kd list methods` has it; `none` for the baseline.
        tier: one with the published data and models.
        only: one of the row's students, by its name in benchmarks/artefacts.yaml.
        download: fetch the missing files of the test split first, where their publisher gives them away.
    """
    known("PAIR", [pair], load_pair)
    known("METHOD", [method], load_parts)
    names = students_of(pair, method)
    if only and only not in names:
        raise ValueError(f"--only {only}: {method} on {pair} has {', '.join(names)}")
    if download:
        from pipelines.engine.archives import complete  # noqa: PLC0415 (as above)

        dataset = load_pair(pair).dataset
        complete(dataset, Path(data_root(dataset, load_grid().data)), test_only=True)
    from pipelines.released.student import evaluate_student  # noqa: PLC0415 (torch: seconds)

    problems = []
    for name in [only] if only else names:
        try:
            evaluate_student(tier, name)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
