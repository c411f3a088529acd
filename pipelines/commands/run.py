"""Verb ``run``: the work of ``dvc repro``, several units at a time, on this machine or on a cluster."""

import json
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from cyclopts import Parameter

from benchmarks.synthetic import verify_scenes
from pipelines import layout
from pipelines.circumstances import interrupt_once
from pipelines.commands.closing import print_closing
from pipelines.commands.status import status as show_status
from pipelines.commands.terminal import Switch
from pipelines.durations import duration
from pipelines.git_state import git_state
from pipelines.params import gpus_per_run as read_gpus_per_run
from pipelines.params import load_grid, load_tier
from pipelines.runner.coordinator import Coordinator, Executor, alone
from pipelines.runner.local import Local
from pipelines.runner.processes import call
from pipelines.runner.record import Record
from pipelines.runner.screen import Screen
from pipelines.stage_list import write_stages

_NEXT = "./kd verify (agreement of leaderboard, records, weights, dvc.lock and MLflow)"


def open_record() -> Record:
    """Open DVC's side, once grid.yaml lists the stages that params.yaml requests; warn here where records will name no commit."""
    git_state()
    if not layout.GRID.is_file() or not _is_readable(layout.GRID):
        _renew()
    record = Record()
    if record.stale("check") and _renew():
        record.close()
        record = Record()
    return record


def redraw_damaged_data() -> None:
    """Let stage ``prepare`` draw a reduced tier's data again where a file of them is missing or altered."""
    tier = load_grid().tier
    data = layout.data(tier)
    manifest = data / "manifest.json"
    if load_tier(tier).scenes is None or not manifest.is_file():
        return
    try:
        verify_scenes(data)
    except ValueError as error:
        print(f"{str(error).partition(';')[0]}; the data set is drawn again", flush=True)
        manifest.unlink()


def _is_readable(grid: Path) -> bool:
    """Return False, and say so, where grid.yaml is cut off or damaged."""
    try:
        is_whole = isinstance(yaml.safe_load(grid.read_text()).get("stages"), dict)
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        is_whole = False
    if not is_whole:
        print(f"{grid} is cut off or damaged; it is derived from params.yaml again", flush=True)
    return is_whole


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


def set_gpus_per_run(number: int, path: Path = Path("params.yaml")) -> None:
    """Write a number of processes per run into params.yaml, which every stage reads; its comments stay."""
    from dvc.utils.serialize import modify_yaml  # noqa: PLC0415 (a second)

    if read_gpus_per_run(path) == number:
        return
    with modify_yaml(path) as content:
        content["gpus_per_run"] = number
    print(f"{path} says gpus_per_run: {number} now; runs of another number are out of date", flush=True)


def _executor(name: str, jobs: int | None, gpus_per_run: int) -> Executor:
    """Executor of a name; ValueError where its options are wrong or there is no such cluster."""
    if gpus_per_run < 1:
        raise ValueError(f"--gpus-per-run is {gpus_per_run}; give 1 or more")
    if name == "slurm":
        from pipelines.runner.slurm import Slurm  # noqa: PLC0415 (submitit is for those who have a cluster)

        return Slurm.of(Path("slurm.yaml"), jobs, gpus_per_run)
    return Local(jobs, gpus_per_run)


def run(
    *,
    executor: Literal["local", "slurm"] = "local",
    jobs: int | None = None,
    gpus_per_run: int | None = None,
    status: Switch = False,
    bare: Annotated[Switch, Parameter(show=False)] = False,
) -> None:
    """Run everything that is out of date, several units at a time.

    A unit is a student (trained, then evaluated), a teacher, an auxiliary module or a study.
    Stopped at any moment, the next start continues from there.
    A plain `dvc repro` gives the same results, serially.

    Args:
        executor: where units run: on this machine, or as jobs of the cluster that slurm.yaml describes.
        jobs: units at a time; as many as there are GPUs for, or cores, if not given.
        gpus_per_run: processes that each run is divided among, a GPU each; written to params.yaml.
        status: print the state of each unit instead, as verb status does.
        bare: end with one line; for a verb that prints the others.
    """
    if status:
        show_status()
        return
    signal.signal(signal.SIGTERM, interrupt_once)  # as Ctrl-C
    # The stages call `python`.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    begun = time.monotonic()
    with alone():
        number = read_gpus_per_run() if gpus_per_run is None else gpus_per_run
        place = _executor(executor, jobs, number)
        set_gpus_per_run(number)
        record = open_record()
        # Images do not travel with results, and no report misses them.
        if any(record.stale(key) for key in record.units if key not in (layout.CHECK, layout.REPORT)):
            redraw_damaged_data()
        screen = Screen(expected(list(record.units)), place.slots)
        coordinator = Coordinator(record, place, screen)
        try:
            coordinator.run()
        finally:
            screen.close()
    took = duration(time.monotonic() - begun)
    ends = {"failed": coordinator.failed, "were stopped": coordinator.stopped}
    if told := ", ".join(f"{len(units)} units {how} ({', '.join(units)})" for how, units in ends.items() if units):
        raise ValueError(
            f"{told}, {coordinator.num_waiting} behind them did not run; see work/logs/; make repro goes on from here"
        )
    outs = [Path(str(out)) for stage in record.stages.values() for out in stage.outs]
    board = next((out for out in outs if out.name == "leaderboard.json"), None)
    if coordinator.num_done:
        if board:
            _enter(board)
        print(f"all done in {took}", flush=True)
    else:
        print(f"nothing to do: all {len(record.stages)} stages are up to date", flush=True)
    if board and not bare:
        print_closing(board.parent, _NEXT)


def _enter(leaderboard: Path) -> None:
    """Enter the report's results in MLflow, whose runs ended before them; it stops nothing."""
    if leaderboard.is_file() and (problem := call("pipelines.engine.tracking_board:enter_board", leaderboard).problem):
        print(f"warning: MLflow: {leaderboard} is not entered: {problem}", file=sys.stderr)
