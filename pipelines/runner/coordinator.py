"""One process that keeps DVC's index, starts units as they become ready, and alone writes dvc.lock."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Protocol

from benchmarks.whole_file import write_whole
from pipelines.runner import locks
from pipelines.runner.record import Record
from pipelines.runner.screen import Screen
from pipelines.runner.unit import BEAT, LOCK, Unit

_POLL_S = 0.1
_A_MOMENT_S = 0.5
_FRACTION_RECORDING = 0.05  # of the time that may go into writing dvc.lock


class Executor(Protocol):
    """Place for units to run; see :class:`pipelines.runner.local.Local`."""

    slots: int

    def room(self) -> int: ...  # noqa: D102 (the class above documents them)
    def submit(self, unit: Unit) -> None: ...  # noqa: D102 (as above)
    def attach(self, unit: Unit, *, is_same: bool) -> bool: ...  # noqa: D102 (as above)
    def finish(self, unit: Unit) -> None: ...  # noqa: D102 (as above)
    def ended(self) -> dict[str, str | None]: ...  # noqa: D102 (as above)
    def stop(self) -> None: ...  # noqa: D102 (as above)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the checkout against other coordinators; ValueError, with host and process, where there is one."""
    try:
        # A unit that makes sure of the lock has it for a moment.
        with locks.held(LOCK, patience_s=_A_MOMENT_S):
            yield
    except locks.BusyError as error:
        raise ValueError(f"another make repro is at work here ({error}); wait for it, or stop it") from error


class Coordinator:
    """Runs the stale units of a record.

    Args:
        record: DVC's side.
        executor: where units run.
        screen: progress as a person sees it.
    """

    def __init__(self, record: Record, executor: Executor, screen: Screen) -> None:
        self._record, self._executor, self._screen = record, executor, screen
        self._before = {key: set(behind) for key, behind in record.before.items()}
        self._ready: list[tuple[str, list[str]]] = []
        self._running: dict[str, Unit] = {}
        self._to_record: list[tuple[Unit, list[str]]] = []
        self._recorded_at, self._recording_s, self._beaten_at = time.monotonic(), 0.0, 0.0
        self.failed: dict[str, str] = {}
        self.stopped: dict[str, str] = {}  # by a circumstance
        self.num_fresh = self.num_done = 0

    @property
    def num_waiting(self) -> int:
        """Number of units that were not started, as a unit before them failed."""
        return len(self._before) + len(self._ready)

    def run(self) -> None:
        """Run everything; what has succeeded is recorded, whatever ends this."""
        try:
            while True:
                has_asked = self._ask()
                self._start()
                if not (has_asked or self._running or self._to_record or self._ready):
                    return
                if not self._collect() and not has_asked:
                    time.sleep(_POLL_S)
                self._screen.tick()
                self._beat()
                due = self._recording_s / _FRACTION_RECORDING
                if self._to_record and (not self._running or time.monotonic() - self._recorded_at > due):
                    self._save()
        except BaseException:
            self._executor.stop()
            self._collect()
            raise
        finally:
            self._save()

    def _ask(self) -> bool:
        """Query DVC about units whose predecessors are settled: as many as there is room for, else one each time round."""
        settled = [key for key, behind in self._before.items() if not behind]
        for key in settled:
            names = self._record.stale(key)
            del self._before[key]
            if names:
                self._ready.append((key, names))
                if self._executor.room() <= len(self._ready):
                    break
            else:
                self._settle(key)
                self._screen.settled(key)
                self.num_fresh += 1
        return bool(settled)

    def _start(self) -> None:
        """Submit units to the executor; those that an earlier coordinator left running or finished are taken over."""
        while self._ready and self._executor.room() > 0:
            unit = self._record.unit(*self._ready.pop(0))
            # An end in the middle of recording may have left an output in DVC's cache alone.
            is_same = unit.is_written() and self._record.has_outputs(unit.done())
            if is_same and set(unit.done()) == set(unit.commands):
                self._end(unit, None)
                continue
            if not self._executor.attach(unit, is_same=is_same):
                unit.write(keep=is_same)
                self._executor.submit(unit)
            self._running[unit.key] = unit
            self._screen.started(unit.key, unit.log)

    def _collect(self) -> bool:
        """Take in what has ended; return whether anything has."""
        ended = self._executor.ended()
        for key, failure in ended.items():
            if key in self._running:
                self._end(self._running.pop(key), failure)
        return bool(ended)

    def _end(self, unit: Unit, failure: str | None) -> None:
        done = [name for name in unit.commands if name in unit.done()]
        if done:
            self._executor.finish(unit)
            self._to_record.append((unit, done))
        if len(done) < len(unit.commands):
            failure = unit.failure() or unit.interruption() or failure or "it ended without a message"
        has_failed = unit.failure() is not None
        self._screen.ended(unit.key, failure, unit.log, has_failed=has_failed)
        if failure is None:
            self.num_done += 1
            self._settle(unit.key)
        else:
            (self.failed if has_failed else self.stopped)[unit.key] = failure

    def _settle(self, key: str) -> None:
        self._before.pop(key, None)
        for behind in self._before.values():
            behind.discard(key)

    def _beat(self) -> None:
        """Write a sign of life for units on other hosts."""
        if time.monotonic() - self._beaten_at > locks.BEAT_S:
            self._beaten_at = time.monotonic()
            write_whole(BEAT, f"{self._beaten_at}")

    def _save(self) -> None:
        """Record what has ended; a unit's folder is removed once dvc.lock has it."""
        if not self._to_record:
            return
        begun, ended, self._to_record = time.monotonic(), self._to_record, []
        for line in self._record.add(ended):
            self.failed.setdefault(line.partition(":")[0], line)
            self._screen.note(line)
        for unit, names in ended:
            if set(names) == set(unit.commands):
                shutil.rmtree(unit.folder, ignore_errors=True)
        self._recorded_at, self._recording_s = time.monotonic(), time.monotonic() - begun
