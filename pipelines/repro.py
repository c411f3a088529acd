"""``make repro``: what ``dvc repro`` does, two trainings at a time.

DVC runs one stage after the other and small trainings use one core each, so this starts every stale
stage as soon as the stages before it are done, each in a DVC of its own (``dvc repro --single-item``).
A plain ``dvc repro`` gives the same results, serially.
"""

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipelines import cli, lockfile, warm
from pipelines.check import check_all
from pipelines.params import Grid, impossible_reason, load_grid, load_pair, load_parts

# Stages that one DVC runs, one after the other: more than one where they only write down that there is nothing to do.
Job = tuple[str, ...]
_MOST_TOGETHER = 40


@dataclass
class Plan:
    """Stages to look at.

    Args:
        before: stage -> the stages of the plan that it waits for, in the order of dvc.yaml.
        doubtful: stages that are stale only if one before them changes its output.
        num_fresh: stages that are up to date whatever happens.
    """

    before: dict[str, set[str]]
    doubtful: set[str]
    num_fresh: int
    running: dict[Job, subprocess.Popen[str]] = field(default_factory=dict)

    def ready(self) -> list[str]:
        """Stages whose predecessors are all done."""
        busy = {name for job in self.running for name in job}
        return [name for name, waits_for in self.before.items() if not waits_for and name not in busy]

    def done(self, name: str) -> None:
        """Take a finished stage out."""
        del self.before[name]
        for waits_for in self.before.values():
            waits_for.discard(name)


def make_plan() -> Plan:
    """Ask DVC what is stale and what stands behind it; ValueError where another DVC is at work here."""
    from dvc.lock import LockError  # noqa: PLC0415

    try:
        return _ask_dvc()
    except LockError as error:
        raise ValueError(
            f"another dvc or make repro is at work here; wait for it, or stop it and try again ({str(error).split(':')[0]})"
        ) from error


def _ask_dvc() -> Plan:
    import networkx as nx  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415 (a second)

    with contextlib.redirect_stderr(io.StringIO()), Repo() as repo, repo.lock:  # no bars of DVC's
        lockfile.repair()
        graph = repo.index.graph  # an edge leads from a stage to one that it depends on
        before: dict[str, set[str]] = {}
        doubtful: set[str] = set()
        for stage in reversed(list(nx.topological_sort(graph))):
            behind = {other.addressing for other in graph.successors(stage)} & before.keys()
            stale = stage.changed()
            if behind or stale:
                before[stage.addressing] = behind
                doubtful |= set() if stale else {stage.addressing}
        in_file = [stage.addressing for stage in repo.index.stages]
    ordered = {name: before[name] for name in in_file if name in before}
    return Plan(ordered, doubtful, len(in_file) - len(ordered))


def idle_stages(grid: Grid) -> set[str]:
    """Stages of the grid's full product that train nothing: left out, impossible, or without a prior to learn."""
    idle = set()
    for pair_name in grid.pairs:
        pair = load_pair(pair_name)
        for method in grid.methods:
            cell = f"{pair_name}-{method}"
            unwanted = method in grid.leave_out.get(pair_name, [])
            if unwanted or impossible_reason(pair_name, pair, method, grid.tier):
                stages = [f"{stage}{variant}" for stage in ("distill", "evaluate") for variant in ("", "_tuned")]
                idle |= {f"{stage}@{cell}-{seed}" for stage in stages for seed in grid.seeds}
                idle |= {f"masks@{cell}", f"tune@{cell}"}
            elif method == "none":
                idle.add(f"masks@{cell}")
                if pair.repeats is not None:
                    idle |= {
                        f"{stage}_baseline@{pair_name}-{seed}"
                        for stage in ("distill", "evaluate")
                        for seed in grid.baseline_seeds
                    }
            elif all(part.recipe.prior is None for part in load_parts(method)):
                idle.add(f"masks@{cell}")
    return idle


def next_jobs(ready: list[str], idle: set[str], room: int) -> list[Job]:
    """What to start now: the idle stages together, the others one by one, at most ``room`` jobs."""
    together = tuple(name for name in ready if name in idle)[:_MOST_TOGETHER]
    jobs = [(name,) for name in ready if name not in idle]
    return [*([together] if together else []), *jobs][: max(0, room)]


def stale_among(names: list[str]) -> set[str]:
    """Ask DVC about stages, now that all before them are done; once for all of them, for it reads every stage each time."""
    from dvc.lock import LockError  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    while True:
        try:
            with contextlib.redirect_stderr(io.StringIO()), Repo() as repo, repo.lock:
                return {stage.addressing for stage in repo.index.stages if stage.addressing in names and stage.changed()}
        except LockError:  # a stage that runs beside this one holds it, for a moment
            time.sleep(0.2)


class Screen:
    """Lines of all running stages: as they come, or on a terminal one line a stage and one for the whole."""

    def __init__(self, total: int) -> None:
        self._total, self._finished, self._begun = total, 0, time.monotonic()
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()
        self._live = None
        if sys.stdout.isatty() and "CI" not in os.environ:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(refresh_per_second=4, get_renderable=self._render)
            self._live.start()

    def _render(self) -> str:
        from rich.markup import escape  # noqa: PLC0415

        elapsed = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self._begun))
        head = f"{self._finished} of {self._total} stages done, {elapsed}"
        return "\n".join([f"[bold]{head}[/bold]", *(escape(line) for line in self._last.values())])

    def line(self, stage: str, text: str) -> None:
        """A line that a stage printed."""
        with self._lock:
            self._last[stage] = text
            if self._live is None:
                print(text, flush=True)

    def ended(self, stage: str, *, num: int, failed: bool, seconds: float) -> None:
        """A job of ``num`` stages has ended."""
        with self._lock:
            self._last.pop(stage, None)
            self._finished += 0 if failed else num
            text = f"[{self._finished}/{self._total}] {stage} {'FAILED' if failed else 'done'} after {seconds:.0f} s"
            if self._live is None:
                print(text, flush=True)
            else:
                self._live.console.print(text, markup=False, highlight=False)

    def spared(self) -> None:
        """A stage turned out to be up to date."""
        with self._lock:
            self._total -= 1

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()


# DVC's own talk about a stage; what the stage itself prints is shown.
_DVC_CHATTER = (
    "Running stage",
    "> ",
    "Updating lock file",
    "Use `dvc push`",
    "To track the changes",
    "git add",
    "To enable auto",
    "dvc config",
    "Generating lock",
)


def _follow(stage: str, stream: IO[str], screen: Screen, log: IO[str]) -> None:
    with log:
        for raw in stream:
            log.write(raw)
            text = raw.strip()
            if text and not text.startswith(_DVC_CHATTER):
                screen.line(stage, text)


def _title(job: Job) -> str:
    return job[0] if len(job) == 1 else f"{job[0]} and {len(job) - 1} more with nothing to do"


def _start(job: Job, server: warm.Server, *, is_idle: bool) -> subprocess.Popen[str]:
    with server.connected() as (environment, fds):
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "pipelines.job", *(["--idle"] if is_idle else []), *job],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, **environment}, pass_fds=fds,
        )  # fmt: skip


def run_plan(plan: Plan, jobs: int, idle: set[str], server: warm.Server) -> list[str]:
    """Run all stages of a plan, ``jobs`` at a time (``idle`` ones together), and return those that failed.

    A failed stage stops what comes behind it and nothing else.
    """
    screen = Screen(len(plan.before))
    failed: list[str] = []
    begun: dict[Job, float] = {}
    followers: dict[Job, threading.Thread] = {}
    logs = Path("work/logs")
    logs.mkdir(parents=True, exist_ok=True)
    try:
        while plan.running or plan.ready():
            if waiting := [name for name in plan.ready() if name in plan.doubtful]:
                stale = stale_among(waiting)
                plan.doubtful -= stale
                for name in waiting:
                    if name not in stale:
                        plan.done(name)
                        screen.spared()
            certain = [name for name in plan.ready() if name not in plan.doubtful]
            for job in next_jobs(certain, idle, jobs - len(plan.running)):
                process = _start(job, server, is_idle=job[0] in idle)
                log = (logs / f"{job[0]}.log").open("w")
                follower = threading.Thread(target=_follow, args=(_title(job), process.stdout, screen, log), daemon=True)
                follower.start()
                plan.running[job], begun[job], followers[job] = process, time.monotonic(), follower
            time.sleep(0.1)
            for job, process in list(plan.running.items()):
                if process.poll() is None:
                    continue
                followers[job].join(timeout=5)
                del plan.running[job]
                is_bad = process.returncode != 0
                screen.ended(_title(job), num=len(job), failed=is_bad, seconds=time.monotonic() - begun[job])
                for name in job:
                    if is_bad:
                        failed.append(name)
                        plan.before[name].add("itself, which failed")
                    else:
                        plan.done(name)
    finally:
        _end(list(plan.running.values()))
        screen.close()
    return failed


def _end(processes: list[subprocess.Popen[str]]) -> None:
    """End jobs and what they run, and wait for them: DVC's locks are free then, and nothing is printed any more."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        process.wait()


def main() -> None:
    """Bring everything up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=max(1, min(2, os.cpu_count() or 1)), help="stages at a time")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the jobs end first
    grid = load_grid()
    # The stages call `python`; one thread a training, see pipelines/engine/training.py.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    begun = time.monotonic()
    plan = make_plan()
    if not plan.before:
        print(f"nothing to do: all {plan.num_fresh} stages are up to date; see reports/leaderboard.md")
        return
    check_all(grid)
    num_stale = len(plan.before) - len(plan.doubtful)
    behind = f", up to {len(plan.doubtful)} behind them" if plan.doubtful else ""
    print(f"{num_stale} stages to run{behind}, {plan.num_fresh} up to date, {args.jobs} at a time; logs in work/logs", flush=True)
    with warm.Server() as server:
        failed = run_plan(plan, args.jobs, idle_stages(grid), server)
    if failed:
        waiting = len(plan.before) - len(failed)
        raise ValueError(
            f"{len(failed)} stages failed ({', '.join(failed)}), {waiting} behind them did not run; see work/logs/; make repro goes on from here"
        )
    print(f"all done in {(time.monotonic() - begun) / 60:.1f} min; see reports/leaderboard.md", flush=True)


if __name__ == "__main__":
    cli.run(main)
