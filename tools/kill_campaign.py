"""Accidents at random moments of a small grid, and what the next ``make repro`` makes of them.

    python -m tools.kill_campaign [--kills 200] [--seed 0] [--place NAME ...] [--json FILE] [--toy]

The project's tracked files are copied to a temporary folder, where a grid at tier smoke with a study runs once undisturbed. Then
processes are killed, interrupted and suspended, disks filled, folders made read-only, files deleted and cut. Some accidents may follow
each other; then the grid runs undisturbed, and its weights, losses and figures are compared with the first ones to the digit. No process
may be left, no half file under its final name, and every end takes a bounded time and no traceback. The table is by place; the exit code
is 1 where any accident failed. ``--toy`` takes stages of shell commands in place of trainings.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.digest import file_sha256
from tests.small_grid import KEYS, RUNNER, init_dvc, stages
from tools import accident_places as places
from tools.accident_places import Skipped

ROOT = Path(__file__).parents[1]
_END_S, _RUN_S = 60.0, 600.0  # for a run to end by itself once it was ended, and undisturbed
_IN_A_ROW = 8  # on average
_MOST_TURNS = 3  # for each accident; one that cannot happen then is skipped, and counts as none
_DISKS = ("runs", "work", "data", "mlflow")
_PAIR = "gfl_r101_r50"

Strike = Callable[[Path, subprocess.Popen, random.Random], None]


@dataclass
class Accident:
    """One accident: its place, and how it ended."""

    place: str
    outcome: str = "recovered"
    said: str = ""
    backup: tuple[Path, bytes] | None = None
    output: str = ""


@dataclass
class Project:
    """A grid in a temporary folder.

    Args:
        folder: of the checkout.
        command: that `make repro` calls.
        parts: folders of results, by the accidents' need of them; a random one is removed so that there is something to run.
    """

    folder: Path
    command: list[str]
    parts: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    is_real: bool = True
    damaged: set[str] = field(default_factory=set)  # files that accidents have damaged since the last undisturbed run

    def start(self, command: list[str] | None = None) -> subprocess.Popen:
        """Start a run in a session of its own; its output goes to a file."""
        environment = {**os.environ, "CI": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **self.environment}
        environment |= {places.MARK: str(self.folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment.pop("SHELL", None)  # DVC then runs stages in /bin/sh
        with (self.folder / "output.txt").open("w") as output:
            return subprocess.Popen(
                command or self.command,
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Output of the last run."""
        return (self.folder / "output.txt").read_text(errors="replace")

    def make_stale(self, rng: random.Random, *, needs: str | None = None) -> None:
        """Remove results and what is left of their runs."""
        wanted = [part for part in self.parts if needs and needs in part] or [rng.choice(self.parts)]
        for part in wanted:
            for top in ("runs", "work", "data"):
                shutil.rmtree(self.folder / top / part, ignore_errors=True)

    def figures(self) -> dict[str, Any]:
        """Weights, samples, scores, losses and hyper-parameters, by file."""
        found: dict[str, Any] = {}
        for path in sorted((self.folder / "runs").rglob("*")):
            name = str(path.relative_to(self.folder))
            if path.suffix in (".pth", ".npz", ".txt") or path.name == "metrics.json":
                found[name] = file_sha256(path)
            elif path.name == "run.json":
                run = json.loads(path.read_text())
                found[name] = {key: run[key] for key in ("curve", "hparams", "weights_sha256", "status")}
            elif path.name == "best.yaml":
                best = yaml.safe_load(path.read_text())
                found[name] = {key: best.get(key) for key in ("hparams", "score", "num_trials", "iterations")}
        for path in sorted((self.folder / "reports").glob("smoke/leaderboard.json")):
            board = json.loads(path.read_text())
            found["figures"] = [
                [
                    table["pair"],
                    row["method"],
                    row["tuned"],
                    [(seed["seed"], seed["score"], seed["metrics"], seed["curve"]) for seed in row["seeds"]],
                ]
                for table in board["tables"]
                for row in table["rows"]
            ]
        if (self.folder / "report").is_file():
            found["figures"] = (self.folder / "report").read_text()
        return found


def real_project(folder: Path) -> Project:
    """Copy the tracked files; a pair, the baseline and a method, one seed and a study of two workers, at tier smoke."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if not name.startswith(("reports/mini/", "reports/measurements/", "tests/", "docs/", "dvc.lock", "grid.yaml")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    init_dvc_afresh(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    study = {"trials": 3, "reports": 2, "sampler": "random", "pruner": "none", "workers": 2}
    params |= {"tier": "smoke", "grid": {_PAIR: ["none", "mgd"]}, "seeds": 1, "baseline_seeds": []}
    params["tuning"] |= {"grid": {_PAIR: ["mgd"]}, **study}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    tier = yaml.safe_load((folder / "benchmarks/tiers/smoke.yaml").read_text())
    tier["schedule"] |= {"teacher_epochs": 4, "student_epochs": 6}
    (folder / "benchmarks/tiers/smoke.yaml").write_text(yaml.safe_dump(tier))
    rows = [f"smoke/{_PAIR}/{row}" for row in ("none/seed0", "mgd/seed0", "mgd/tuned/seed0", "mgd/tuned", "teacher")]
    parts = [*rows, f"smoke/{_PAIR}/mgd/tuning", "smoke/backbones/resnet50", "smoke/data", "smoke"]
    return Project(folder, [sys.executable, "-m", "pipelines", "run", "--jobs", "2"], parts)


def toy_project(folder: Path) -> Project:
    """Write stages of shell commands with cells as the grid has them."""
    for key in KEYS:
        for name in ("settings", "ran"):
            (folder / name / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / "settings" / key).write_text(key)
    content = stages()
    content["distill"]["do"]["cmd"] = "sleep 0.2; " + content["distill"]["do"]["cmd"]
    for name, text in (("word", "first\n"), ("params.yaml", yaml.safe_dump({"cells": KEYS})), ("grid.yaml", "stages: {}\n")):
        (folder / name).write_text(text)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": content}))
    init_dvc_afresh(folder)
    return Project(
        folder, [sys.executable, "-c", RUNNER, "--jobs", "2"], [*KEYS, "a", "b"], {"PYTHONPATH": str(ROOT)}, is_real=False
    )


def init_dvc_afresh(folder: Path) -> None:
    """Make a folder a DVC project of its own."""
    shutil.rmtree(folder / ".dvc", ignore_errors=True)
    init_dvc(folder)


def strikes() -> dict[str, tuple[Strike, str | None]]:
    """Accidents to processes, by place: what happens, and the results that must be stale for it."""
    return {
        "kill -9 of the coordinator": (places.kill_at_random, None),
        "kill -9 of a unit": (places.kill("unit"), None),
        "kill -9 of the fork server": (places.kill("fork server"), None),
        "kill -9 of a study's worker": (places.kill("worker"), "mgd/tun"),
        "kill -9 of a trial": (places.kill("trial"), "mgd/tun"),
        "kill -9 of plain dvc": (places.kill_at_random, None),
        "kill -9 of plain dvc's stage": (places.kill("stage"), None),
        "Ctrl-C": (places.interrupt(1), None),
        "Ctrl-C twice": (places.interrupt(2), None),
        "SIGTERM": (places.terminate, None),
        "coordinator suspended, continued": (places.suspend("coordinator", then=signal.SIGCONT), None),
        "coordinator suspended, killed": (places.suspend("coordinator", then=signal.SIGKILL), None),
        "unit suspended, continued": (places.suspend("unit", then=signal.SIGCONT), None),
        "unit suspended, killed": (places.suspend("unit", then=signal.SIGKILL), None),
    }


def all_places() -> list[str]:
    """Every place of an accident."""
    disks = [f"{kind}: {name}/" for kind in ("full disk", "read-only") for name in _DISKS]
    return [*strikes(), *disks, *(f"damaged: {kind}" for kind in places.FILES)]


def strike(project: Project, accident: Accident, rng: random.Random) -> None:
    """Let an accident happen; its outcome is set where it ends in another way than it may."""
    kind, _, rest = accident.place.partition(": ")
    if kind == "damaged":
        accident.backup = places.damage(project.folder, places.FILES[rest], rng)
        project.damaged.add(str(accident.backup[0].relative_to(project.folder)))
        return
    with contextlib.ExitStack() as stack:
        disk = project.folder / rest.rstrip("/")
        if kind == "full disk":
            stack.enter_context(places.small_disk(disk))
        elif kind == "read-only":
            stack.enter_context(places.read_only(disk))
        run = project.start([sys.executable, "-m", "dvc", "repro", "-q"] if "plain dvc" in kind else None)
        try:
            if kind == "full disk":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    run.wait(rng.triangular(0.5, 20.0, 8.0))
                places.fill(disk)
            elif kind != "read-only":
                strikes()[kind][0](project.folder, run, rng)
        finally:
            _end(project, accident, run, rng)


def _end(project: Project, accident: Accident, run: subprocess.Popen, rng: random.Random) -> None:
    """Wait for the run's end, which is hastened where it may go on for long; all its processes must end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(rng.uniform(0.5, 8.0))
    if run.poll() is None:
        run.terminate()
    try:
        run.wait(_END_S)
    except subprocess.TimeoutExpired:
        accident.outcome, accident.said = "failed", f"the run does not end within {_END_S:g} s"
    until = time.monotonic() + 15.0
    while (left := places.processes(project.folder)) and time.monotonic() < until:
        time.sleep(0.1)
    if left and accident.outcome != "failed":
        accident.outcome, accident.said = "failed", f"left behind: {[places._line(process)[-80:] for process in left]}"  # noqa: SLF001 (a module of this tool)
    for process in left:
        process.kill()
    if "Traceback (most recent call last)" in project.said():
        accident.outcome, accident.said = "failed", "a traceback: " + project.said().strip().splitlines()[-1]
        accident.output = project.said()[-4000:]
    if project.is_real and (half := [path for path in half_files(project.folder) if path not in project.damaged]):
        accident.outcome, accident.said = "failed", f"half files: {half}"


def half_files(folder: Path) -> list[str]:
    """Files of results that are cut, by their names."""
    found = []
    for path in (path for path in (folder / "runs").rglob("*") if path.is_file()):
        try:
            if path.suffix in (".pth", ".npz") and path.read_bytes() != b"none\n":
                with zipfile.ZipFile(path) as archive:
                    archive.testzip()
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".yaml" and yaml.safe_load(path.read_text()) is None:
                found.append(str(path.relative_to(folder)))
        except (ValueError, zipfile.BadZipFile, yaml.YAMLError):
            found.append(str(path.relative_to(folder)))
    return found


def undisturbed(project: Project) -> str | None:
    """Run to the end; return what is wrong, None where nothing is."""
    run = project.start()
    try:
        code = run.wait(_RUN_S)
    except subprocess.TimeoutExpired:
        return f"no end within {_RUN_S:g} s"
    finally:
        for process in places.processes(project.folder):
            process.kill()
    said = project.said()
    if "Traceback (most recent call last)" in said:
        return f"a traceback: {said.strip().splitlines()[-1]}"
    if code:
        return next((line for line in said.splitlines() if line.startswith("error: ")), f"exit code {code} without a line")
    return None


def recover(project: Project, pending: list[Accident], wanted: dict[str, Any]) -> None:
    """Run undisturbed, and compare; files that a line asks for are put back first."""
    problem = undisturbed(project)
    if problem is not None and problem.startswith("error: "):
        logs = [*(project.folder / "work/logs").rglob("*.log")]
        said = [line for path in logs for line in path.read_text(errors="replace").splitlines() if line.startswith("error: ")]
        lines = [problem, *said]  # before any unit, dvc.lock and its copy are named
        damaged = [accident for accident in pending if accident.backup is not None and accident.outcome == "recovered"]
        meant = [accident for accident in damaged if accident.backup and any(accident.backup[0].name in line for line in lines)]
        for accident in damaged:
            if accident.backup and accident in (meant or damaged):
                accident.outcome, accident.said = "said", lines[-1]
                path, content = accident.backup
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        problem = undisturbed(project)
    if problem is None and (found := project.figures()) != wanted:
        names = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
        problem = f"other figures: {', '.join(names[:5])}"
    if problem is not None:
        for accident in pending:
            accident.outcome, accident.said = "failed", accident.said or problem
            accident.output = accident.output or project.said()[-2000:]
        for name in ("runs", "work", "data", "mlflow", "dvc.lock", "report", "checked"):
            path = project.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        undisturbed(project)


def campaign(project: Project, kills: int, seed: int, named: list[str]) -> Iterator[Accident]:
    """Let accidents happen, each place in turn, and yield them once the grid has run undisturbed after them."""
    rng = random.Random(seed)  # noqa: S311 (repeatable, no secret)
    if (problem := undisturbed(project)) is not None:
        raise SystemExit(f"error: the undisturbed run: {problem}")
    wanted, pending, order, done, turns = project.figures(), [], [], 0, 0
    while done < kills and turns < _MOST_TURNS * kills:
        if not order:
            order = rng.sample(named, len(named))
        accident, own = Accident(order.pop()), random.Random(f"{seed} {turns}")  # noqa: S311 (repeatable, no secret)
        needs = strikes().get(accident.place, (None, None))[1] or ("smoke/data" if "data/" in accident.place else None)
        if not accident.place.startswith("damaged") and (needs or not pending):
            project.make_stale(own, needs=needs)
        try:
            strike(project, accident, own)
        except Skipped as skipped:
            accident.outcome, accident.said = "skipped", str(skipped)
        turns += 1
        done += accident.outcome != "skipped"
        pending.append(accident)
        if accident.outcome == "failed" or done == kills or own.random() < 1 / _IN_A_ROW:
            recover(project, [one for one in pending if one.outcome != "skipped"], wanted)
            yield from pending
            pending, project.damaged = [], set()
    recover(project, [one for one in pending if one.outcome != "skipped"], wanted)
    yield from pending


def table(accidents: list[Accident]) -> str:
    """Return a Markdown table by place."""
    outcomes = ("recovered", "said", "skipped", "failed")
    counts = Counter((accident.place, accident.outcome) for accident in accidents)
    lines = ["| place | accidents | recovered to the digit | said in a line | skipped | failed |", "|---|---|---|---|---|---|"]
    for place in [*dict.fromkeys(name for name in all_places() if any(one == name for one, _ in counts)), "all"]:
        of_place = [
            sum(n for (one, how), n in counts.items() if place in (one, "all") and how == outcome) for outcome in outcomes
        ]
        lines.append(f"| {place} | {sum(of_place) - of_place[2]} | " + " | ".join(map(str, of_place)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", nargs="*", default=[], help="part of a place's name; every place if not given")
    parser.add_argument("--json", type=Path, help="file for every accident's outcome")
    parser.add_argument("--toy", action="store_true", help="stages of shell commands")
    args = parser.parse_args()
    named = [name for name in all_places() if not args.place or any(part in name for part in args.place)]
    if not named:
        parser.error(f"no place is named so; there are: {', '.join(all_places())}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs, and what they start, ignore
    accidents: list[Accident] = []
    with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as scratch:
        project = (toy_project if args.toy else real_project)(Path(scratch).resolve())
        for accident in campaign(project, args.kills, args.seed, named):
            accidents.append(accident)
            print(f"[{len(accidents)}/{args.kills}] {accident.place}: {accident.outcome} {accident.said}".rstrip(), flush=True)
            if args.json:
                args.json.write_text(
                    json.dumps([[one.place, one.outcome, one.said, one.output] for one in accidents], indent=1) + "\n"
                )
    print(table(accidents))
    sys.exit(any(accident.outcome == "failed" for accident in accidents))


if __name__ == "__main__":
    main()
