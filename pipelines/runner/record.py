"""DVC's side of a run: stale stages, and dvc.lock, whose only writer is the coordinator.

The index is opened once.  Stages that have ended are recorded together, and dvc.lock is replaced whole: whatever ends the
coordinator, it is the one before or the one after.
"""

import contextlib
import io
import json
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dvc.dependency.param import ParamsDependency
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.repo.reproduce import plan_repro
from dvc.scm import SCMError
from dvc.stage import PipelineStage
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, load_yaml

from pipelines import layout
from pipelines.circumstances import CircumstanceError
from pipelines.runner import lockfile, locks
from pipelines.runner.unit import Unit

_SECOND_S = 1.0
_LOCK = Path(".dvc/tmp/lock")


def _repo() -> Repo:
    """Open DVC's repository, also without git, as in a release's archive."""
    try:
        return Repo()
    except SCMError:
        return Repo(config={"core": {"no_scm": True}})


class Record:
    """Stages and units of the grid, in the order in which ``dvc repro`` runs them.

    Raises:
        ValueError: another DVC is at work here.
    """

    def __init__(self) -> None:
        with _quiet():
            self._repo = _repo()
            with self._locked(patience_s=0):
                lockfile.repair()
                graph = self._repo.index.graph  # an edge leads from a stage to one that it depends on
                ordered = plan_repro(graph, list(self._repo.index.stages))
        self.stages: dict[str, PipelineStage] = {stage.addressing: stage for stage in ordered}
        self.units = _units(list(self.stages))
        unit_of = {stage: key for key, stages in self.units.items() for stage in stages}
        self.before: dict[str, set[str]] = {key: set() for key in self.units}
        for stage in ordered:
            behind = {unit_of[other.addressing] for other in graph.successors(stage)}
            self.before[unit_of[stage.addressing]] |= behind - {unit_of[stage.addressing]}

    def close(self) -> None:
        """Close DVC's files."""
        self._repo.close()

    @contextlib.contextmanager
    def _locked(self, patience_s: float = 600.0) -> Iterator[None]:
        """Hold DVC's lock."""
        until = time.monotonic() + patience_s
        while True:
            try:
                self._repo.lock.lock()
                break
            except LockError as error:
                if time.monotonic() > until:
                    raise CircumstanceError(
                        f"another dvc is at work here ({_holder()}); wait for it, or stop it and try again"
                    ) from error
                time.sleep(_SECOND_S / 5)
        try:
            lockfile.free()
            yield
        finally:
            self._repo.lock.unlock()

    def stale(self, key: str) -> list[str]:
        """Stages of a unit that are to run: the first that DVC finds changed, and those behind it."""
        names = self.units[key]
        with _quiet(), self._locked():
            first = next((index for index, name in enumerate(names) if self.stages[name].changed()), len(names))
        return names[first:]

    def waiting(self) -> set[str]:
        """Units that are stale, and those behind them."""
        found: set[str] = set()
        for key in self.units:  # a unit comes behind those that it waits for
            if self.before[key] & found or self.stale(key):
                found.add(key)
        return found

    def unit(self, key: str, names: list[str]) -> Unit:
        """Return a unit of these stages, with the present digests of what they depend on."""
        stages = [self.stages[name] for name in names]
        made = {out.fs_path for stage in stages for out in stage.outs}
        deps = {dep.fs_path: dep for stage in stages for dep in _files(stage) if dep.fs_path not in made}
        with _quiet():
            digests = {str(dep): str(dep.get_hash().value) for dep in deps.values() if dep.exists}
        records = [str(out) for stage in stages for out in stage.outs if str(out).endswith((layout.RUN, layout.STUDY))]
        return Unit(key, {name: str(self.stages[name].cmd) for name in names}, digests, records)

    def has_outputs(self, names: list[str]) -> bool:
        """Return True where every output of these stages is in its place."""
        return all(out.exists for name in names for out in self.stages[name].outs)

    def add(self, ended: Iterable[tuple[Unit, list[str]]]) -> list[str]:
        """Record stages that have succeeded; return those that are not recorded, a line each with the reason.

        Args:
            ended: units with those of their stages.
        """
        refused, done = [], []
        with _quiet(), self._locked():
            for unit, names in ended:
                for name in names:
                    stage = self.stages[name]
                    try:
                        stage.save()
                        changed = [
                            str(dep)
                            for dep in _files(stage)
                            if unit.digests.get(str(dep), dep.hash_info.value) != dep.hash_info.value
                        ]
                        if changed:
                            refused.append(f"{name}: {', '.join(changed)} changed while it ran; it runs again the next time")
                            break
                        stage.commit()
                    except Exception as error:  # noqa: BLE001 (DVC's many, and the disk's)
                        refused.append(f"{name}: cannot be recorded ({' '.join(str(error).split())}); run make repro again")
                        break
                    done.append(stage)
            if done:
                self._write(done)
        return refused

    def _write(self, done: list[PipelineStage]) -> None:
        """Replace dvc.lock by one with these stages; in the order of ``dvc repro``, those that the grid no longer has first."""
        content: dict[str, Any] = load_yaml(lockfile.LOCK) if lockfile.LOCK.exists() else {}
        recorded = content.get("stages", {})
        for stage in done:
            recorded.update(json.loads(json.dumps(to_lockfile(stage))))
        order = [*(name for name in recorded if name not in self.stages), *(name for name in self.stages if name in recorded)]
        text = dumps_yaml({"schema": "2.0", "stages": {name: recorded[name] for name in order}})
        lockfile.replace(lockfile.LOCK, lambda stream: stream.write(text))


def _holder() -> str:
    """Name the process that holds DVC's lock, by the number that it wrote there."""
    text = _LOCK.read_text().strip() if _LOCK.is_file() else ""
    if not text.isdecimal():
        return "an unknown process"
    return f"process {text} on {socket.gethostname()}{locks.suspended(int(text))}"


def _units(names: list[str]) -> dict[str, list[str]]:
    """Units and their stages: a model's training and evaluation are one, every other stage is alone."""
    units: dict[str, list[str]] = {}
    for name in names:
        kind, _, key = name.partition("@")
        if kind == "teachers":
            key += "/teacher"
        elif kind not in ("distill", "evaluate"):
            key = name.replace("@", "/")
        units.setdefault(key, []).append(name)
    return units


def _files(stage: PipelineStage) -> list[Any]:
    return [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Suppress DVC's progress bars."""
    return contextlib.redirect_stderr(io.StringIO())
