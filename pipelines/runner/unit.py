"""Units of work: stages that run one after the other in one process, wherever an executor puts it.

A unit's folder under ``work/units`` is all that coordinator and process share: ``unit.json`` (what to run, and digests of what it
depends on when it was started), ``started.json``, ``done.json`` (after each stage), ``failed.txt``.  No DVC, no database.
"""

import json
import os
import runpy
import shlex
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipelines import layout

UNITS = layout.WORK / "units"


@dataclass(frozen=True)
class Unit:
    """What one process runs.

    Args:
        key: such as ``gfl_r101_r50/mgd/seed0``, ``gfl_r101_r50/teacher``, ``check``.
        commands: by stage, ``python -m pipelines.distill ...`` as in dvc.yaml, in their order.
        digests: md5 by path of what the unit depends on and does not make itself.
    """

    key: str
    commands: dict[str, str]
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where it is told of, and tells."""
        return UNITS / self.key

    @property
    def log(self) -> Path:
        """What its stages print."""
        return layout.WORK / "logs" / f"{self.key}.log"

    def write(self, *, keep: bool = False) -> None:
        """Tell what to run; of an earlier attempt only what is done is kept, if asked for."""
        for name in ("started.json", "failed.txt", "job.txt", *([] if keep else ["done.json"])):
            (self.folder / name).unlink(missing_ok=True)
        _write(self.folder / "unit.json", json.dumps(asdict(self), indent=1))

    def is_written(self) -> bool:
        """Whether an earlier attempt was of the very same work."""
        path = self.folder / "unit.json"
        return path.is_file() and json.loads(path.read_text()) == asdict(self)

    def done(self) -> list[str]:
        """Stages that have ended well."""
        path = self.folder / "done.json"
        return list(json.loads(path.read_text())) if path.is_file() else []

    def failure(self) -> str | None:
        """The one line of what went wrong."""
        path = self.folder / "failed.txt"
        return path.read_text().strip() or None if path.is_file() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def run(folder: str) -> None:
    """Run a unit's stages; ValueError, the failed stage's own line, where one fails.

    SIGTERM ends a stage as Ctrl-C does: its MLflow run is closed, and its last checkpoint is what it goes on from.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    unit = Unit(**json.loads((Path(folder) / "unit.json").read_text()))
    host = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID"), "at": time.time()}
    _write(unit.folder / "started.json", json.dumps(host))
    done = unit.done()
    for stage, command in unit.commands.items():
        if stage in done:
            continue
        code = _run(command)
        if code:
            said = _last_error(unit.log)
            _write(unit.folder / "failed.txt", f"{stage}: {said or f'exit code {code}'}\n")
            sys.exit(code)
        done.append(stage)
        _write(unit.folder / "done.json", json.dumps(done))


def _run(command: str) -> int:
    """Be ``python -m module arguments``; its exit code."""
    words = shlex.split(command)
    module, sys.argv = words[words.index("-m") + 1], ["", *words[words.index("-m") + 2 :]]
    sys.modules.pop(module, None)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _last_error(log: Path) -> str | None:
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
