"""Verb ``evidence``: what is known of reported results beyond their quotation."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich import box
from rich.table import Table

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
    table = Table(
        "result", "method", "pair", "reported", "evidence", "confounds", "next step", box=box.SIMPLE_HEAD, show_edge=False
    )
    for entry in shown:
        evidences = (
            "; ".join(f"{rung}: {verdict}" for rung, verdict in entry.verdicts.items() if rung != "quoted") or "quoted only"
        )
        table.add_row(
            entry.id,
            entry.method,
            entry.pair or "none here",
            f"{entry.value:g}",
            evidences,
            "; ".join(entry.confounds),
            entry.next_step,
        )
    console().print(table)
    console().print(", ".join(f"{num} {rung}" for rung, num in counts(shown).items() if num) or "no such result")
    if out is not None:
        out.write_text(ledger_markdown(entries))
        print(f"{out}: {len(entries)} results")
