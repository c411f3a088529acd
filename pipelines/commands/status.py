"""Verb ``status``: the state of every unit of a grid, whether or not a coordinator is at work."""

import json
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.durations import duration
from pipelines.runner import locks
from pipelines.runner.record import Record
from pipelines.runner.screen import last_line
from pipelines.runner.unit import LOCK, UNITS, Unit


def states(record: Record) -> dict[str, tuple[str, str]]:
    """State of each unit, and a remark: done, running, queued, failed, finished (not recorded yet), stopped or waiting."""
    waiting = record.waiting()
    return {key: _state(UNITS / key) if key in waiting else ("done", "") for key in record.units}


def _state(folder: Path) -> tuple[str, str]:
    try:
        unit = Unit(**json.loads((folder / "unit.json").read_text()))
    except (OSError, ValueError, TypeError):  # not there, or damaged: it is written anew
        return "waiting", ""
    if unit.failure():
        return "failed", f"{unit.failure()}; see {unit.log}"
    if set(unit.done()) == set(unit.commands):
        return "finished", "to be recorded by the next make repro"
    by, started = locks.owner(folder / "lock"), folder / "started.json"
    if by is not None:
        since = json.loads(started.read_text())["at"] if started.is_file() else time.time()
        return "running", f"{duration(time.time() - since)}, {by}: {last_line(unit.log)}"
    if (folder / "job.txt").is_file() and not started.is_file():
        return "queued", f"job {(folder / 'job.txt').read_text().strip()}"
    return "stopped", f"{unit.interruption() or 'ended by a signal'}; goes on from its last checkpoint"


def status() -> None:
    """Print the state of each unit: done, running, queued, failed or waiting.

    Units that are done or waiting are counted, the others listed. Jobs on a cluster are included.
    """
    record = Record()
    found = states(record)
    console = Console(soft_wrap=True)
    counts = {state: sum(one == state for one, _ in found.values()) for state in dict.fromkeys(one for one, _ in found.values())}
    at_work = locks.owner(LOCK)
    console.print(f"{len(found)} units: {', '.join(f'{number} {state}' for state, number in counts.items())}")
    console.print(f"coordinator: {at_work or 'none at work; make repro goes on'}")
    table = Table("state", "unit", "", box=box.SIMPLE_HEAD, show_edge=False, header_style="")
    listed = [(state, key, about) for key, (state, about) in found.items() if state not in ("done", "waiting")]
    for state, key, about in listed:
        table.add_row(state, key, about, style="red" if state == "failed" else "")
    if listed:
        console.print(table)
