"""Verb ``evidence``: what is known of reported results beyond their quotation."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from benchmarks.whole_file import write_whole
from pipelines.commands.names import known
from pipelines.commands.terminal import Switch, console
from pipelines.params import load_pair
from pipelines.reporting.ledger import ledger
from reports.formats.evidence import counts, ledger_markdown


def evidence(
    *pairs: str,
    methods: list[str] | None = None,
    everything: Annotated[Switch, Parameter(name="--all")] = False,
    out: Path | None = None,
) -> None:
    """Print what is known of reported results beyond their quotation, and the next step for each.

    Quoted, artefact known, weights re-evaluated, log read, losses at the log's level, retrained: the highest rung of each result,
    from the registries, the records and the downloaded files; in seconds.

    Args:
        pairs: names of pairs; all if none.
        methods: names of methods; all of the suite's if none.
        everything: teachers, baselines, and what has no row here, too.
        out: write the whole ledger as Markdown to this file, besides.
    """
    chosen = known("PAIRS", pairs, load_pair)
    entries = ledger(looks_for_files=True)
    shown = [
        entry
        for entry in entries
        if (not chosen or entry.pair in chosen)
        and (everything or (entry.what == "method" and entry.is_row) or (methods and entry.method in methods))
        and (not methods or entry.method in methods)
    ]
    screen = console()
    for entry in shown:
        gain = "" if entry.gain is None else f", gain {entry.gain:+g}"
        screen.print(
            f"[bold]{entry.id}[/]: {entry.method} on {entry.pair or entry.setting}, {entry.value:g} {entry.metric}{gain}",
            soft_wrap=True,
        )
        known_here = [f"{rung}: {verdict}" for rung, verdict in entry.verdicts.items() if rung != "quoted"] or ["quoted only"]
        for title, texts in (("evidence", known_here), ("confounds", entry.confounds), ("next step", [entry.next_step])):
            for text in texts:
                screen.print(Text(f"  {title:<10} {text}"), soft_wrap=True)
    screen.print(", ".join(f"{num} {rung}" for rung, num in counts(shown).items() if num) or "no such result")
    if out is not None:
        write_whole(out, ledger_markdown(entries))
        print(f"{out}: {len(entries)} results")
