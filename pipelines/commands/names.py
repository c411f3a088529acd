"""Verb ``list``, and the names that a command line may contain: pairs, methods, tiers, data sets, metrics."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rich import box
from rich.table import Table

from benchmarks.dataset import datasets
from benchmarks.metrics import METRICS
from pipelines.commands.terminal import console
from pipelines.params import load_pair, load_tier
from pipelines.recipes import method_title

# Combined methods cannot be listed from the folder; these are the published ones.
COMBINED = ("crosskd+pkd", "kd+ld_vlr", "cwd+kd")


def all_pairs() -> list[str]:
    """Every pair's name."""
    return _stems("benchmarks/pairs")


def all_methods() -> list[str]:
    """Every method's name, the baseline first, and the published combinations."""
    return ["none", *(name for name in _stems("methods") if name != "none"), *COMBINED]


def _stems(folder: str) -> list[str]:
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


def known(option: str, names: Sequence[str], load: Callable[[str], object]) -> list[str]:
    """Return the names, each once.

    Args:
        option: of the command line that gave them.
        names: as given.
        load: reads the file of a name, and names params.yaml where it cannot.

    Raises:
        ValueError: a name is unknown or its file wrong; the message names the option.
    """
    for name in names:
        try:
            load(name)
        except ValueError as error:
            raise ValueError(str(error).replace("params.yaml", option, 1)) from error
    return list(dict.fromkeys(names))


def _pairs() -> list[tuple[str, ...]]:
    pairs = {name: load_pair(name) for name in all_pairs()}
    return [(name, pair.title, pair.dataset, pair.metric) for name, pair in pairs.items()]


def _methods() -> list[tuple[str, ...]]:
    return [(name, method_title(name)) for name in all_methods()]


def _tiers() -> list[tuple[str, ...]]:
    return [(name, load_tier(name).title) for name in _stems("benchmarks/tiers")]


def _datasets() -> list[tuple[str, ...]]:
    return [
        (name, f"{record.num_classes}", record.layout, record.variable) for name, record in datasets().items() if record.splits
    ]


def _metrics() -> list[tuple[str, ...]]:
    pairs = [load_pair(name) for name in all_pairs()]
    return [(name, f"{sum(pair.metric == name for pair in pairs)}") for name in METRICS]


_LISTS: dict[str, tuple[Callable[[], list[tuple[str, ...]]], tuple[str, ...]]] = {
    "pairs": (_pairs, ("pair", "teacher to student", "data set", "metric")),
    "methods": (_methods, ("method", "title")),
    "tiers": (_tiers, ("tier", "title")),
    "datasets": (_datasets, ("data set", "classes", "folders", "variable that names its root")),
    "metrics": (_metrics, ("metric", "pairs")),
}


def list_names(kind: Literal["pairs", "methods", "tiers", "datasets", "metrics"], /) -> None:
    """Print the names that a grid may contain: pairs, methods, tiers, data sets or metrics.

    Each name is a file that the grid in params.yaml, and the options of other verbs, may name.

    Args:
        kind: what to list.
    """
    rows, titles = _LISTS[kind]
    table = Table(*titles, box=box.SIMPLE_HEAD, show_edge=False, header_style="bold")
    for row in rows():
        table.add_row(*row)
    console().print(table)
