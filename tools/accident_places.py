"""Places of accidents for :mod:`tools.kill_campaign`: processes to signal, disks to fill, files to damage."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

MARK = "KD_CAMPAIGN"  # in the environment of every process of a run: its descendants are known by it
_PATIENCE_S = 240.0  # for a process to appear on a busy machine
_ROOM = 560 * 2**20  # bytes beside its contents on a small disk: more than a run asks for before it starts
# Files that each kind of damage is done to.
FILES = {
    "weights": "runs/*/**/*.pth", "records": "runs/*/**/*.json", "samples": "runs/*/**/*.npz", "study": "runs/*/**/best.yaml",
    "settings": "runs/resolved/**/*.json", "checkpoints": "work/*/**/*.pth", "journal": "work/*/**/journal.log",
    "notes": "work/*/**/mlflow_run_id", "units": "work/units/**/*.json", "copy of dvc.lock": "work/kept.lock", "images": "data/*/*/*.png",
    "annotations": "data/*/*.json", "rwlock": ".dvc/tmp/rwlock", "dvc.lock": "dvc.lock", "grid.yaml": "grid.yaml",
    "MLflow": "mlflow/mlflow.db", "report": "reports/smoke/leaderboard.*",
}  # fmt: skip


class Skipped(Exception):  # noqa: N818 (no error: what cannot be done here is said)
    """An accident that cannot happen here; the argument says why."""


def processes(folder: Path) -> list[psutil.Process]:
    """Every living process of a project's runs."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _units(folder: Path) -> set[int]:
    """Return the processes that units have noted."""
    found = set()
    for path in (folder / "work/units").rglob("started.json"):
        with contextlib.suppress(OSError):
            found |= {int(number) for number in re.findall(r"process (\d+) on", path.read_text())}
    return found


def _role(process: psutil.Process, main: int, units: set[int]) -> str:
    """Name what a process does in a run."""
    line = _line(process)
    if process.pid == main:
        return "coordinator"
    if process.pid in units:
        return "unit"
    if "--join" in line:
        return "worker"
    if "pipelines.stages." in line:
        return "stage"
    if "forkserver" in line:
        with contextlib.suppress(psutil.Error):
            parent = process.parent()
            return "trial" if parent is not None and "forkserver" in _line(parent) else "fork server"
    return "other"


def find(folder: Path, main: int, role: str) -> psutil.Process | None:
    """Return a process of a role; None where there is none."""
    units = _units(folder)
    return next((process for process in processes(folder) if _role(process, main, units) == role), None)


def wait_for(folder: Path, run: subprocess.Popen, role: str, within_s: float) -> psutil.Process | None:
    """Wait for a process of a role while the run lasts."""
    until = time.monotonic() + within_s
    while run.poll() is None and time.monotonic() < until:
        if (found := find(folder, run.pid, role)) is not None:
            return found
        time.sleep(0.05)
    return None


def kill(role: str) -> Callable[[Path, subprocess.Popen, random.Random], None]:
    """Return an accident that kills a process of a role soon after it has begun."""

    def strike(folder: Path, run: subprocess.Popen, rng: random.Random) -> None:
        if wait_for(folder, run, role, _PATIENCE_S) is None:
            raise Skipped(f"no {role} was at work")
        time.sleep(rng.triangular(0.0, 4.0, 0.5))
        if (process := find(folder, run.pid, role)) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    return strike


def _at_random(rng: random.Random, run: subprocess.Popen) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(rng.triangular(0.1, 25.0, 6.0))


def kill_at_random(_folder: Path, run: subprocess.Popen, rng: random.Random) -> None:
    """SIGKILL to the coordinator or plain dvc, at any moment."""
    _at_random(rng, run)
    run.kill()


def interrupt(times: int) -> Callable[[Path, subprocess.Popen, random.Random], None]:
    """Return an accident that types Ctrl-C."""

    def strike(_folder: Path, run: subprocess.Popen, rng: random.Random) -> None:
        _at_random(rng, run)
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGINT)
            time.sleep(rng.uniform(0.05, 1.0))

    return strike


def terminate(_folder: Path, run: subprocess.Popen, rng: random.Random) -> None:
    """SIGTERM, as a machine sends it that shuts down."""
    _at_random(rng, run)
    run.terminate()


def suspend(role: str, *, then: signal.Signals) -> Callable[[Path, subprocess.Popen, random.Random], None]:
    """Return an accident that suspends a process, and lets it go on or kills it."""

    def strike(folder: Path, run: subprocess.Popen, rng: random.Random) -> None:
        if wait_for(folder, run, role, _PATIENCE_S) is None:
            raise Skipped(f"no {role} was at work")
        time.sleep(rng.triangular(0.0, 4.0, 0.5))
        if (process := find(folder, run.pid, role)) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
                time.sleep(2.0)
                process.send_signal(then)

    return strike


@contextlib.contextmanager
def small_disk(place: Path, room: int = _ROOM) -> Iterator[Path]:
    """Mount a small disk with a folder's contents in its place; the contents come back afterwards."""
    place.mkdir(exist_ok=True)
    aside = place.with_name(f"{place.name}.aside")
    size = sum(path.stat().st_size + 4096 for path in place.rglob("*") if path.is_file()) + room
    place.rename(aside)
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        place.rmdir()
        aside.rename(place)
        raise Skipped(f"a small disk cannot be mounted here: {' '.join(done.stderr.split())}")
    try:
        shutil.copytree(aside, place, dirs_exist_ok=True, symlinks=True)
        yield place
    finally:
        (place / "ballast").unlink(missing_ok=True)
        shutil.rmtree(aside)
        shutil.copytree(place, aside, symlinks=True)
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()
        aside.rename(place)


def fill(place: Path) -> None:
    """Take all the room that is left on a small disk."""
    with (place / "ballast").open("wb") as file, contextlib.suppress(OSError):
        free = shutil.disk_usage(place).free
        os.posix_fallocate(file.fileno(), 0, max(1, free - 4096))
        while True:
            os.write(file.fileno(), b"\0" * 4096)


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[Path]:
    """Mount a folder on itself so that nobody, root included, can write there."""
    place.mkdir(exist_ok=True)
    for options in (["--bind"], ["-o", "remount,ro,bind"]):
        done = subprocess.run(["mount", *options, place, place], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skipped(f"a read-only folder cannot be mounted here: {' '.join(done.stderr.split())}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def damage(folder: Path, pattern: str, rng: random.Random) -> tuple[Path, bytes]:
    """Delete, empty, cut or flip a bit of a random file of a pattern; return it with its content before."""
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        raise Skipped("there is no such file now")
    path = rng.choice(found)
    content = path.read_bytes()
    how = rng.choice(("delete", "empty", "cut", "cut"))
    if how == "delete":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else content[: int(len(content) * rng.uniform(0.1, 0.95))])
    return path, content
