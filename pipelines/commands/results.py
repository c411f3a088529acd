"""What is claimed for a pair, and by whom: ``python -m pipelines.commands.results gfl_r101_r50``; without a pair, how much for which."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.reported import Registry, ReportedResult
from pipelines import errors
from pipelines.commands.names import all_pairs
from pipelines.params import load_yaml

_ORDER = ("teacher", "control", "method")
_PIPE_COLUMNS = 250  # of a table that goes to a file or a pipe, where nothing tells how wide it may be


def overview(figures: list[ReportedResult], pairs: list[str]) -> Table:
    """How many figures there are for each pair, and for which of the suite's methods."""
    table = Table("pair", "figures", "teacher", "control", "method", "of the suite's methods", title="published figures")
    for pair in pairs:
        found = [figure for figure in figures if _pair_of(figure) == pair]
        counts = Counter(figure.what for figure in found)
        methods = sorted({figure.place[1] for figure in found if figure.what == "method" and figure.place[1]})
        table.add_row(pair, str(len(found)), *(str(counts[what]) for what in _ORDER), ", ".join(methods))
    elsewhere = sum(_pair_of(figure) is None for figure in figures)
    table.caption = (
        f"{len(figures)} in all; {elsewhere} belong to none of the suite's pairs: python -m pipelines.commands.results --other"
    )
    return table


def claims(figures: list[ReportedResult], title: str, *, settings: bool) -> Table:
    """One row a figure: teachers, controls, then methods by name; what contradicts or qualifies it in the last column."""
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
        "disagrees with",
        title=title,
    )
    by_id = {figure.id: figure for figure in figures}
    for figure in sorted(
        figures, key=lambda f: ((settings and f.setting) or "", _ORDER.index(f.what), f.shown_method.lower(), -f.value)
    ):
        gain = None if figure.baseline is None else f"{round(figure.value - figure.baseline, 4):+}"
        rivals = "; ".join(f"{by_id[name].value} ({name})" for name in figure.disagrees_with)
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
            rivals,
        ]
        table.add_row(*(Text(cell or "") for cell in cells), style="yellow" if rivals else None)
    return table


def _pair_of(figure: ReportedResult) -> str | None:
    return figure.pair or figure.place[0]


def _comparable(figure: ReportedResult) -> str:
    """``yes``, or in what the suite's run at full size differs; empty where it has no such row."""
    if figure.comparable is None:
        return ""
    return "yes" if figure.comparable else "; ".join(f"{difference.kind}: {difference.why}" for difference in figure.differs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pair", nargs="?", help="a file of benchmarks/pairs, without .yaml")
    parser.add_argument("--other", action="store_true", help="the figures that belong to none of the suite's pairs")
    args = parser.parse_args()
    figures = load_yaml(Path("benchmarks/reported.yaml"), Registry).root
    pairs = sorted({*all_pairs()} | {pair for f in figures if (pair := _pair_of(f))})
    if args.pair and args.other:
        raise ValueError("give either a pair or --other")
    if args.pair and args.pair not in pairs:
        raise ValueError(f"unknown pair '{args.pair}'; there are: {', '.join(pairs)}")
    if args.pair or args.other:
        title = args.pair or "on none of the suite's pairs"
        table = claims([f for f in figures if _pair_of(f) == args.pair], title, settings=args.other)
    else:
        table = overview(figures, pairs)
    Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)


if __name__ == "__main__":
    errors.run(main)
