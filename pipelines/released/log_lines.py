"""Lines of the logs of mmcv 1.x and MMEngine, whatever the format; each read off the code that writes it.

- JSON of mmcv 1.x: ``mmcv/runner/hooks/logger/text.py`` (open-mmlab/mmcv at v1.0.0, v1.2.4, v1.4.0, v1.7.2).
- JSON of MMEngine: ``mmengine/hooks/logger_hook.py``, ``mmengine/runner/log_processor.py`` and
  ``mmengine/visualization/vis_backend.py`` (open-mmlab/mmengine at v0.1.0, v0.3.2, v0.7.0, and 0.10.12 as installed).
- Text of both: the same files; facts before the first line: ``mmcv/utils/env.py``, ``mmengine/runner/runner.py``.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Mode = Literal["train", "val"]
_HEADER_LINES = 20_000  # kept at most, before the first line of training
_LINE = re.compile(
    r" - (?P<unit>Epoch|Iter)(?:\((?P<mode>train|val)\))?\s*"
    r"(?:\[\s*(?P<epoch>\d+)\])?\[\s*(?P<count>\d+)(?:/(?P<of>\d+))?\](?P<rest>\s.*)",
    re.DOTALL,
)
# Ends before a separator: the last value of a file that is cut there does not count.
_VALUE = re.compile(r"([^\s:,]+(?: [^\s:,]+)*): (-?(?:\d[\d.]*(?:e[+-]?\d+)?|nan|inf))(?=[,\s])", re.IGNORECASE)
_NO_VALUE = {"eta", "bbox_mAP_copypaste", "segm_mAP_copypaste"}  # texts that begin with a number
_NO_SCORE = {"lr", "time", "data_time", "memory"}
_GPUS = re.compile(r"GPU number: (\d+)|gpu_ids = range\((?:0, )?(\d+)\)")
_LISTED_GPUS = (re.compile(r"gpu_ids = \[([\d, ]+)\]"), re.compile(r"GPU ([\d,]+):"))  # the latter once per model of GPU
_IMAGES = re.compile(r"train_dataloader = dict\(.*?batch_size=(\d+)|\b(?:samples|imgs)_per_gpu=(\d+)", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A line of training or validation.

    Args:
        epoch: None where the line has none; step of a validation in MMEngine's JSON.
        iteration: of the epoch, or global; 0 of a validation that has none, or any other count.
        length: iterations of an epoch; None where the line does not have it.
        logged: numbers by name; of a validation the scores alone.
    """

    mode: Mode
    epoch: int | None
    iteration: int
    length: int | None
    logged: Mapping[str, float]


@dataclass
class LogLines:
    """Lines of a file and the text before them.

    Args:
        is_json: JSON lines, not text.
        by_mmengine: written by MMEngine, not by mmcv.
    """

    is_json: bool
    by_mmengine: bool = False
    header: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    @property
    def images_per_gpu(self) -> int | None:
        """Images per step and GPU, by the config before the first line."""
        found = _IMAGES.search("\n".join(self.header))
        return int(found[1] or found[2]) if found else None

    @property
    def gpus(self) -> int | None:
        """Number of GPUs; without the launcher's number, those of the machine that wrote the file."""
        header = "\n".join(self.header)
        if found := _GPUS.search(header):
            return int(found[1] or found[2])
        listed = next((ids for pattern in _LISTED_GPUS if (ids := pattern.findall(header))), [])
        return sum(len(ids.split(",")) for ids in listed) or None

    def add(self, mode: Mode, epoch: int | None, iteration: int, length: int | None, values: Mapping[str, float]) -> None:
        """Add a line, unless it has no scores and is of MMEngine's progress within a validation."""
        omitted = _NO_VALUE | _NO_SCORE if mode == "val" else _NO_VALUE
        if logged := {name: value for name, value in values.items() if name not in omitted}:
            self.lines.append(Line(mode, epoch, iteration, length, logged))


def read_lines(path: Path) -> LogLines:
    """Read the lines of a log of any format, one by one; a last JSON line that is cut is ignored.

    Raises:
        ValueError: no log, or a damaged one.
    """
    with path.open("rb") as file:
        head = file.read(1024).lstrip()
    if not head:
        raise ValueError(f"{path}: empty; download it again")
    if head.startswith(b"<"):
        raise ValueError(
            f"{path}, line 1: an HTML page, not a log; open its address in a browser and download the file from there"
        )
    read = LogLines(is_json=head.startswith(b"{"))
    if b"\0" not in head:
        with path.open(encoding="utf-8", errors="replace") as file:
            (_read_json if read.is_json else _read_text)(path, file, read)
    if not read.lines:
        raise ValueError(
            f"{path}: not a log of mmcv 1.x or MMEngine: no line of it counts epochs or iterations; check its address"
        )
    return read


def _objects(path: Path, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of lines; ValueError for a line without one that is not the last."""
    broken = 0
    for number, line in enumerate(lines, 1):
        if broken and line.strip():
            raise ValueError(
                f"{path}, line {broken}: not a JSON object, and lines follow; the file is damaged: download it again"
            )
        try:
            value = json.loads(line) if line.strip() else None
        except json.JSONDecodeError:
            value, broken = None, number
        if isinstance(value, dict):
            yield value
        elif value is not None:
            broken = number


def _read_json(path: Path, lines: Iterable[str], read: LogLines) -> None:
    """Read lines of mmcv, which have a mode, or of MMEngine, which have a step; a header has neither."""
    for record in _objects(path, lines):
        values = {name: float(value) for name, value in record.items() if isinstance(value, (int, float))}
        epoch, iteration = values.pop("epoch", None), int(values.pop("iter", 0))
        if isinstance(record.get("lr"), dict):  # of several optimizers
            values |= {f"lr_{name}": float(value) for name, value in record["lr"].items()}
        if "mode" in record:
            read.add(record["mode"], int(epoch or 0), iteration, None, values)
        elif "step" in record:
            read.by_mmengine, step = True, int(values.pop("step"))
            if any(name.endswith("lr") for name in values):
                read.add("train", None if epoch is None else int(epoch), step, None, values)
            else:
                read.add("val", step, step, None, values)
        else:
            read.header = [str(value) for value in record.values()]


def _read_text(path: Path, lines: Iterable[str], read: LogLines) -> None:  # noqa: ARG001 (as _read_json)
    """Read lines of both, told apart by the batches of a validation: MMEngine writes 64/64, mmcv 64 or the iteration."""
    for line in lines:
        if (found := _LINE.search(line)) is None:
            if not read.lines and len(read.header) < _HEADER_LINES:
                read.header.append(line)
            continue
        mode: Mode = "val" if found["mode"] == "val" else "train"
        batches = mode == "val" and found["of"] is not None
        read.by_mmengine = read.by_mmengine or batches
        values = {name: float(value) for name, value in _VALUE.findall(found["rest"])}
        epoch = int(found["epoch"] or 0) if found["unit"] == "Epoch" else None
        read.add(mode, epoch, 0 if batches else int(found["count"]), int(found["of"] or 0) or None, values)
