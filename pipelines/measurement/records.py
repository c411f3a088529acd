"""Results of verb ``measure``: throughput records, which verb ``estimate`` reads, and a table."""

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.throughput import Complexity, Measurement, Throughput
from benchmarks.whole_file import write_whole
from pipelines.params import load_yaml

if TYPE_CHECKING:
    from pipelines.engine.measured_steps import Seen, Steps

TIER = "paper"
RAN = "ran"
UNSUPPORTED = "unsupported: "
_ABOUT = "Measured training throughput; schema: Measurement in benchmarks/throughput.py. Records are added, never changed."
_SIDES = Path("benchmarks/complexity.json")  # which knows the size of each pair's images


@dataclass(frozen=True)
class Measured:
    """A row: measurements of a cell, or the reason why there are none."""

    pair: str
    method: str
    status: str
    steps: "Steps | None" = None
    seen: "Seen | None" = None

    @property
    def failed(self) -> bool:
        """True where it should have run and did not, or its losses are not finite."""
        return self.status.startswith("failed") or (self.seen is not None and not self.seen.finite)


def published_size(name: str) -> tuple[int, int]:
    """Height and width of the pair's largest training image, padded, in pixels; ValueError where it was not measured."""
    sizes = load_yaml(_SIDES, Complexity).pairs
    if name not in sizes:
        raise ValueError(
            f"{_SIDES} does not have pair '{name}'; run python -m tools.model_sizes {name} --json {_SIDES}, or give --size"
        )
    return sizes[name].train_px


def as_record(measured: Measured, command: str) -> Measurement:
    """Record of a measured cell; verb ``estimate`` reads only those of images of the published size."""
    seen, steps = measured.seen, measured.steps
    if seen is None or steps is None:
        raise ValueError(f"{measured.pair} {measured.method} was not measured: {measured.status}")
    is_published = steps.size == published_size(measured.pair)
    return Measurement(
        pair=measured.pair, method=measured.method, tier=TIER if is_published else f"{TIER} at {steps.size[0]}x{steps.size[1]}",
        device=seen.device, gpus=1, batch_per_gpu=steps.batch, images_per_s=round(seen.images_per_s, 4),
        peak_memory_mib=round(seen.peak_mib), precision=steps.precision, speed=[name for name, is_on in steps.speed.model_dump().items() if is_on],
        command=command, date=dt.datetime.now(dt.timezone.utc).date(),
    )  # fmt: skip


def add_record(path: Path, record: Measurement) -> None:
    """Append to a file of measurements, or create it; it is whole at any moment."""
    known = load_yaml(path, Throughput) if path.exists() else Throughput(about=_ABOUT, records=[])
    whole = known.model_copy(update={"records": [*known.records, record]})
    write_whole(path, json.dumps(whole.model_dump(mode="json"), indent=2) + "\n")


def summary(measured: Measured) -> str:
    """Return one line of progress."""
    if not measured.seen:
        return measured.status
    return f"{measured.seen.s_per_iteration:.2f} s per step, {measured.seen.peak_mib:.0f} MiB, {_losses(measured.seen)}"


def _losses(seen: "Seen") -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in seen.losses.items())


def as_table(rows: list[Measured], command: str, environment: dict[str, Any]) -> str:
    """Table in Markdown: its command and environment, one row per supported cell, the reasons of the others."""
    packages = ", ".join(
        [f"{name} {version}" for name, version in environment["packages"].items()] + list(environment["mmlab"].values())
    )
    lines = [
        "# The published models, built and trained on dummy images", "",
        f"`{command}`, {dt.datetime.now(dt.timezone.utc).date()}, on {environment['device']}.", "",
        f"Python {environment['python']}, {packages}.", "",
        "Random weights, random images: the losses show that every part of a run works at its published size, and nothing else.",
        "`teacher` is the teacher's own run, `... prior` a method's auxiliary module, trained on it beforehand.", "",
        "| pair | method | image | batch size | teacher, M | student, M | losses | finite | s per step | images/s | MiB |",
        "|---" * 11 + "|",
    ]  # fmt: skip
    lines += [_table_row(row) for row in rows if not row.status.startswith(UNSUPPORTED)]
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row.status.startswith(UNSUPPORTED):
            reasons.setdefault(row.status, {}).setdefault(row.pair, []).append(row.method)
    lines += ["", "Unsupported:", ""] if reasons else []
    lines += [
        f"- {reason.removeprefix(UNSUPPORTED)} - " + "; ".join(f"{pair} ({', '.join(names)})" for pair, names in cells.items())
        for reason, cells in reasons.items()
    ]
    return "\n".join([*lines, ""])


def _table_row(measured: Measured) -> str:
    steps, seen = measured.steps, measured.seen
    tried = [f"{steps.size[0]}x{steps.size[1]}", str(steps.batch)] if steps else ["", ""]
    if seen is None:
        return f"| {' | '.join([measured.pair, measured.method, *tried, '', '', measured.status, '', '', '', ''])} |"
    student = "" if seen.student_m is None else f"{seen.student_m:.1f}"
    cells = [f"{seen.teacher_m:.1f}", student, _losses(seen), "yes" if seen.finite else "**no**"]
    cells += [f"{seen.s_per_iteration:.3g}", f"{seen.images_per_s:.3g}", f"{seen.peak_mib:.0f}"]
    return f"| {' | '.join([measured.pair, measured.method, *tried, *cells])} |"
