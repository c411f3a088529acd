"""``make repro``: what ``dvc repro`` does, several units at a time, on this machine or on a cluster.

A unit is a student (trained, then evaluated), a teacher, an auxiliary module, a study.  Stopped at any moment, the next start
goes on where this one was.  A plain ``dvc repro`` gives the same results, serially.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from pipelines import errors, layout
from pipelines.params import load_grid
from pipelines.runner.coordinator import Coordinator, Executor, alone
from pipelines.runner.record import Record
from pipelines.runner.screen import Screen, duration
from pipelines.stage_list import write_stages

_EXECUTORS = ("local", "slurm")


def open_record() -> Record:
    """DVC's side, once grid.yaml lists what params.yaml asks for."""
    if not layout.GRID.is_file():
        _renew()
    record = Record()
    if record.stale("check") and _renew():
        record.close()
        record = Record()
    return record


def _renew() -> bool:
    from pipelines.stages.check import check_all  # noqa: PLC0415 (seconds, and only where something has changed)

    grid = load_grid()
    check_all(grid)
    is_new = write_stages(grid)
    if is_new:
        print(f"{layout.GRID} is written anew from params.yaml", flush=True)
    return is_new


def expected(keys: list[str], measured: Path = layout.COMMITTED / "leaderboard.json") -> dict[str, float]:
    """Seconds that each unit is expected to take: as in the last report, else that report's median of a student."""
    board: dict[str, Any] = json.loads(measured.read_text()) if measured.is_file() else {}
    known = {f"pretrain/{start['name']}": start["cost"]["wall_s"] for start in board.get("starts", [])}
    known |= {f"tune/{one['pair']}/{one['method']}": sum(t["wall_s"] for t in one["trials"]) for one in board.get("studies", [])}
    students: dict[str, float] = {}
    for table in board.get("tables", []):
        if (table["teacher"] or {}).get("cost"):
            known[f"{table['pair']}/teacher"] = table["teacher"]["cost"]["wall_s"]
        for row in table["rows"]:
            students |= {f"{table['pair']}/{row['method']}/seed{one['seed']}": one["cost"]["wall_s"] for one in row["seeds"]}
    typical = statistics.median(students.values()) if students else 1.0
    return {key: (known | students).get(key, typical if "/seed" in key else 1.0) for key in keys}


def executor_of(args: argparse.Namespace) -> Executor:
    """Executor that the command line names; ValueError where it is unknown or not to be had."""
    if args.executor == "local":
        from pipelines.runner.local import Local  # noqa: PLC0415

        return Local(args.jobs, args.gpus_per_unit)
    if args.executor == "slurm":
        from pipelines.runner.slurm import Slurm  # noqa: PLC0415

        return Slurm.of(Path("slurm.yaml"), args.jobs)
    raise ValueError(f"--executor {args.executor} is unknown; there are: {', '.join(_EXECUTORS)}")


def main() -> None:
    """Bring everything up to date, or say how far it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executor", default="local", help="local (this machine), or slurm (see slurm.yaml)")
    parser.add_argument("--jobs", type=int, help="units at a time; one per GPU, or per core, if not given")
    parser.add_argument("--gpus-per-unit", type=int, default=1, help="where this machine has GPUs (default: %(default)s)")
    parser.add_argument("--status", action="store_true", help="only tell what is queued, running, done and failed")
    args = parser.parse_args()
    if args.status:
        from pipelines.commands.status import show  # noqa: PLC0415

        show()
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    # The stages call `python`.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    begun = time.monotonic()
    with alone():
        executor = executor_of(args)
        record = open_record()
        screen = Screen(expected(list(record.units)), executor.slots)
        coordinator = Coordinator(record, executor, screen)
        try:
            coordinator.run()
        finally:
            screen.close()
    failed, took = coordinator.failed, duration(time.monotonic() - begun)
    if failed:
        raise ValueError(
            f"{len(failed)} units failed ({', '.join(failed)}), {coordinator.num_waiting} behind them did not run; see work/logs/; make repro goes on from here"
        )
    board = layout.report(load_grid().tier) / "leaderboard.md"
    if not coordinator.num_done:
        print(f"nothing to do: all {len(record.stages)} stages are up to date; see {board}")
        return
    print(f"all done in {took}; see {board}", flush=True)


if __name__ == "__main__":
    errors.run(main)
