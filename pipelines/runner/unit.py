"""Units of work: stages that run one after the other in one process, wherever an executor puts it.

A unit's folder under ``work/units`` is all that coordinator and process share: ``unit.json`` (what to run, and digests of what it
depends on when it was started), ``started.json``, ``done.json`` (after each stage), ``failed.txt`` or, where a circumstance
ended it, ``stopped.txt``.  No DVC, no database.
"""

import contextlib
import hashlib
import json
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.circumstances import interrupt_once, is_by_signal, is_circumstance
from pipelines.runner import locks
from pipelines.runner.parent_death import die_with_parent

UNITS = layout.WORK / "units"
LOCK, BEAT = layout.WORK / "coordinator.lock", layout.WORK / "coordinator.beat"
REQUEUED, TERMINATED = threading.Event(), threading.Event()
_PATIENCE_S = 3600.0  # for an earlier job of the unit, which Slurm may take for dead while it works


@dataclass(frozen=True)
class Unit:
    """Stages that one process runs.

    Args:
        key: such as ``gfl_r101_r50/mgd/seed0``, ``gfl_r101_r50/teacher``, ``check``.
        commands: by stage, ``python -m pipelines.stages.distill ...`` as in dvc.yaml, in their order.
        digests: md5 by path of what the unit depends on and does not make itself.
        records: files that its stages write of what they have done.
    """

    key: str
    commands: dict[str, str]
    digests: dict[str, str] = field(default_factory=dict)
    records: list[str] = field(default_factory=list)

    @property
    def is_divided(self) -> bool:
        """Return True where a stage of it may run in several processes."""
        kinds = {name.partition("@")[0] for name in self.commands}
        return bool(kinds & {layout.TEACHERS, layout.MASKS, layout.DISTILL})

    @property
    def folder(self) -> Path:
        """Folder of the files above."""
        return UNITS / self.key

    @property
    def log(self) -> Path:
        """File of the stages' output."""
        return layout.WORK / "logs" / f"{self.key}.log"

    def write(self, *, keep: bool = False) -> None:
        """Write the unit's work; of an earlier attempt only completed stages are kept, if requested."""
        for name in ("started.json", "failed.txt", "stopped.txt", "job.txt", *([] if keep else ["done.json"])):
            (self.folder / name).unlink(missing_ok=True)
        write_whole(self.folder / "unit.json", json.dumps(asdict(self), indent=1))

    def is_written(self) -> bool:
        """Return True where an earlier attempt was of the very same work."""
        return _read(self.folder / "unit.json") == asdict(self)

    def note_done(self, stages: list[str]) -> None:
        """Note the stages that have succeeded, with the digest of the work that they belong to."""
        write_whole(self.folder / "done.json", json.dumps({"unit": self._digest, "stages": stages}))

    def done(self) -> list[str]:
        """Return the stages that have succeeded; a late note of an earlier attempt at other work does not count."""
        noted = _read(self.folder / "done.json")
        return list(noted["stages"]) if noted.get("unit") == self._digest else []

    @property
    def _digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def failure(self) -> str | None:
        """Return the reason of the failure; None where there is none."""
        return _text(self.folder / "failed.txt")

    def interruption(self) -> str | None:
        """Return what ended it and says nothing of it, such as a full disk; None where nothing has."""
        return _text(self.folder / "stopped.txt")


def _text(path: Path) -> str | None:
    return path.read_text().strip() or None if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    """Read a file of a unit's folder; empty where it is not there or was damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def run(folder: str) -> None:
    """Run a unit's stages, once no other process does; exit with the code of one that fails.

    Outside of Slurm, which signals in its own ways, SIGTERM ends a stage as Ctrl-C does: its MLflow run is closed, and its last
    checkpoint is what it goes on from.
    """
    unit = Unit(**json.loads((Path(folder) / "unit.json").read_text()))
    is_job = "SLURM_JOB_ID" in os.environ
    try:
        if is_job:
            # Before it cancels or requeues, and kills processes in any order; SIGTERM alone ends nothing.
            signal.signal(signal.SIGTERM, lambda *_: TERMINATED.set())
            locks.check_shared(LOCK, BEAT)
        else:
            signal.signal(signal.SIGTERM, interrupt_once)
        with locks.held(unit.folder / "lock", patience_s=_PATIENCE_S if is_job else 0.0):
            _run_all(unit)
    except ValueError as error:
        write_whole(unit.folder / ("stopped.txt" if is_circumstance(error) else "failed.txt"), f"{error}\n")
        raise


def _run_all(unit: Unit) -> None:
    if not (unit.folder / "unit.json").is_file():  # an earlier job of it has ended meanwhile, and is recorded
        return
    write_whole(unit.folder / "started.json", json.dumps({"by": locks.me(), "at": time.time()}))
    done = unit.done()
    for stage, command in unit.commands.items():
        if stage in done:
            continue
        code, is_excused = _run(command)
        if code and TERMINATED.is_set():  # a process of it was killed first: Slurm knows what becomes of the job
            sys.exit(code)
        if code:
            with contextlib.suppress(OSError):  # a full disk
                write_whole(
                    unit.folder / ("stopped.txt" if is_excused else "failed.txt"),
                    f"{_last_error(unit.log) or f'{stage} ended with exit code {code}'}\n",
                )
            sys.exit(code)
        done.append(stage)
        unit.note_done(done)


def _run(command: str) -> tuple[int, bool]:
    """Exec ``python -m module arguments`` in this process, or another command in a shell.

    Returns:
        Its exit code, and True where a circumstance has ended it.
    """
    words = shlex.split(command)
    if words[:3] != ["exec", "python", "-m"]:
        code = subprocess.run(command, shell=True, check=False, preexec_fn=_begin).returncode  # noqa: S602 (as DVC does)
        return code, is_by_signal(code)
    module, sys.argv = words[3], ["", *words[4:]]
    sys.modules.pop(module, None)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if REQUEUED.is_set():  # by submitit, in the middle of whatever runs
            raise
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return code, ended.__context__ is not None and is_circumstance(ended.__context__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0, False


def _begin() -> None:
    """Prepare a shell's process: it ends with this one, and leaves the signal before a requeue to this one."""
    die_with_parent()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _last_error(log: Path) -> str | None:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
