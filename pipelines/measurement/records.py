"""What ``pipelines.commands.measure`` writes down: records that ``pipelines.commands.estimate`` reads, and a table."""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.throughput import Complexity, Measurement, Throughput
from pipelines.params import load_yaml

if TYPE_CHECKING:
    from pipelines.engine.measured_steps import Seen, Steps

TIER = "paper"
RAN = "ran"
_IMPOSSIBLE = "impossible: "
_ABOUT = "Measured training throughput; schema: Measurement in benchmarks/throughput.py. Records are added, never changed."
_SIDES = Path("benchmarks/complexity.json")  # which knows the size of each pair's images


@dataclass(frozen=True)
class Outcome:
    """A row: what was seen of the cell, or why there is nothing to see."""

    pair: str
    method: str
    said: str
    steps: "Steps | None" = None
    seen: "Seen | None" = None

    @property
    def failed(self) -> bool:
        """Whether it should have run and did not, or its losses are no numbers."""
        return self.said.startswith("failed") or (self.seen is not None and not self.seen.finite)


def published_size(name: str) -> tuple[int, int]:
    """Height and width of the pair's largest training image, padded; ValueError where it was not measured."""
    sizes = load_yaml(_SIDES, Complexity).pairs
    if name not in sizes:
        raise ValueError(
            f"{_SIDES} does not have pair '{name}'; run python -m tools.model_sizes {name} --json {_SIDES}, or give --size"
        )
    return sizes[name].train_px


def as_record(outcome: Outcome, command: str) -> Measurement:
    """A measured cell for ``pipelines.commands.estimate``, which only reads those of images of the published size."""
    seen, steps = outcome.seen, outcome.steps
    if seen is None or steps is None:
        raise ValueError(f"{outcome.pair} {outcome.method} was not measured: {outcome.said}")
    published = steps.size == published_size(outcome.pair)
    return Measurement(
        pair=outcome.pair, method=outcome.method, tier=TIER if published else f"{TIER} at {steps.size[0]}x{steps.size[1]}",
        device=seen.device, gpus=1, batch_per_gpu=steps.batch, images_per_s=round(seen.images_per_s, 4),
        peak_memory_mib=round(seen.peak_mib), precision=seen.matmul, command=command, date=dt.datetime.now(dt.timezone.utc).date(),
    )  # fmt: skip


def add_record(path: Path, record: Measurement) -> None:
    """Append to a file of measurements, or begin one; it is whole at any moment."""
    known = load_yaml(path, Throughput) if path.exists() else Throughput(about=_ABOUT, records=[])
    whole = known.model_copy(update={"records": [*known.records, record]})
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(whole.model_dump(mode="json"), indent=2) + "\n")
    partial.replace(path)


def in_short(outcome: Outcome) -> str:
    """One line of progress."""
    if not outcome.seen:
        return outcome.said
    return f"{outcome.seen.s_per_iteration:.2f} s a step, {outcome.seen.peak_mib:.0f} MiB, {_losses(outcome.seen)}"


def _losses(seen: "Seen") -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in seen.losses.items())


def as_table(outcomes: list[Outcome], command: str, environment: dict[str, Any]) -> str:
    """Markdown: how it was made, a row for each cell that could run, and why the others cannot."""
    packages = ", ".join(
        [f"{name} {version}" for name, version in environment["packages"].items()] + list(environment["mmlab"].values())
    )
    lines = [
        "# The published models, built and trained on made-up images", "",
        f"`{command}`, {dt.datetime.now(dt.timezone.utc).date()}, on {environment['device']}.", "",
        f"Python {environment['python']}, {packages}.", "",
        "Random weights, random images: the losses show that every part of a training runs at its published size, and nothing else.",
        "`teacher` is the teacher's own training, `... prior` what a method learns on it beforehand.", "",
        "| pair | method | image | batch | teacher, M | student, M | losses | finite | s a step | images/s | MiB |",
        "|---" * 11 + "|",
    ]  # fmt: skip
    lines += [_table_row(outcome) for outcome in outcomes if not outcome.said.startswith(_IMPOSSIBLE)]
    reasons: dict[str, dict[str, list[str]]] = {}
    for outcome in outcomes:
        if outcome.said.startswith(_IMPOSSIBLE):
            reasons.setdefault(outcome.said, {}).setdefault(outcome.pair, []).append(outcome.method)
    lines += ["", "What cannot be:", ""] if reasons else []
    lines += [
        f"- {reason.removeprefix(_IMPOSSIBLE)} - " + "; ".join(f"{pair} ({', '.join(names)})" for pair, names in cells.items())
        for reason, cells in reasons.items()
    ]
    return "\n".join([*lines, ""])


def _table_row(outcome: Outcome) -> str:
    steps, seen = outcome.steps, outcome.seen
    tried = [f"{steps.size[0]}x{steps.size[1]}", str(steps.batch)] if steps else ["", ""]
    if seen is None:
        return f"| {' | '.join([outcome.pair, outcome.method, *tried, '', '', outcome.said, '', '', '', ''])} |"
    student = "" if seen.student_m is None else f"{seen.student_m:.1f}"
    cells = [f"{seen.teacher_m:.1f}", student, _losses(seen), "yes" if seen.finite else "**no**"]
    cells += [f"{seen.s_per_iteration:.3g}", f"{seen.images_per_s:.3g}", f"{seen.peak_mib:.0f}"]
    return f"| {' | '.join([outcome.pair, outcome.method, *tried, *cells])} |"
