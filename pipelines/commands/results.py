"""Verb ``results``: the registry of reported results, per pair."""

from collections import Counter
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from benchmarks.reported import Registry, RegistryEntry
from pipelines.commands.names import all_pairs
from pipelines.commands.terminal import Switch, console
from pipelines.params import load_yaml

_KINDS: tuple[Literal["teacher"], Literal["control"], Literal["method"]] = ("teacher", "control", "method")
_TITLES = ("teacher", "baseline", "method")


def overview(figures: list[RegistryEntry], pairs: list[str]) -> Table:
    """Table of the number of results per pair, and of the suite's methods among them."""
    table = Table("pair", "results", *_TITLES, "of the suite's methods", title="reported results")
    for pair in pairs:
        found = [figure for figure in figures if _pair_of(figure) == pair]
        counts: Counter[str] = Counter(figure.what for figure in found)
        methods = sorted({figure.place[1] for figure in found if figure.what == "method" and figure.place[1]})
        table.add_row(pair, str(len(found)), *(str(counts[what]) for what in _KINDS), ", ".join(methods))
    elsewhere = sum(_pair_of(figure) is None for figure in figures)
    table.caption = f"{len(figures)} in all; {elsewhere} belong to none of the suite's pairs: ./kd results --other"
    return table


def results_table(figures: list[RegistryEntry], title: str, *, settings: bool) -> Table:
    """Table with one row per result: teachers, baselines, then methods by name; conflicting results in the last column."""
    where = ("setting",) if settings else ()
    table = Table(
        *where,
        "method",
        "variant",
        "metric",
        "value",
        "baseline",
        "gain",
        "teacher",
        "source",
        "read",
        "comparable",
        "conflicts with",
        title=title,
    )
    by_id = {figure.id: figure for figure in figures}
    for figure in sorted(
        figures, key=lambda f: ((settings and f.setting) or "", _KINDS.index(f.what), f.shown_method.lower(), -f.value)
    ):
        gain = None if figure.baseline is None else f"{round(figure.value - figure.baseline, 4):+}"
        conflicting = "; ".join(f"{by_id[name].value} ({name})" for name in figure.disagrees_with)
        cells = [
            *([figure.setting] if settings else []),
            figure.shown_method,
            ", ".join(f"{key}: {value}" for key, value in figure.variant.model_dump(exclude_none=True).items()),
            figure.metric,
            str(figure.value),
            str(figure.baseline or ""),
            gain,
            str(figure.teacher or ""),
            figure.source if figure.kind == "published" else f"{figure.source} [{figure.kind.replace('_', ' ')}]",
            figure.read,
            _comparable(figure),
            conflicting,
        ]
        table.add_row(*(Text(cell or "") for cell in cells), style="yellow" if conflicting else None)
    return table


def _pair_of(figure: RegistryEntry) -> str | None:
    return figure.pair or figure.place[0]


def _comparable(figure: RegistryEntry) -> str:
    """``yes``, or the differences of the suite's run at paper scale; empty where it has no such row."""
    if figure.comparable is None:
        return ""
    return "yes" if figure.comparable else "; ".join(f"{difference.kind}: {difference.why}" for difference in figure.differs)


def results(pair: str | None = None, /, *, other: Switch = False) -> None:
    """Print the results reported for a pair, or how many there are per pair.

    Each has its source, its baseline and gain, what it conflicts with, and how its run differs from the suite's.

    Args:
        pair: name of a file in benchmarks/pairs, without .yaml; every pair is counted if not given.
        other: print the results that belong to none of the suite's pairs.
    """
    figures = load_yaml(Path("benchmarks/reported.yaml"), Registry).root
    pairs = sorted({*all_pairs()} | {name for f in figures if (name := _pair_of(f))})
    if pair and other:
        raise ValueError("give either a pair or --other")
    if pair and pair not in pairs:
        raise ValueError(f"unknown pair '{pair}'; there are: {', '.join(pairs)}")
    if pair or other:
        title = pair or "on none of the suite's pairs"
        table = results_table([f for f in figures if _pair_of(f) == pair], title, settings=other)
    else:
        table = overview(figures, pairs)
    console().print(table)
