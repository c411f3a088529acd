"""Stage ``tune``: the hyper-parameters with which a method does best on the validation split, within a budget.

Each trial is a shortened training in a process of its own; the test split is never read.  Stopped at any moment, it goes
on where it was.  ``--join``, the same command in another terminal or on another machine with the same files, lends a
hand: it runs trials until none are left, and writes nothing but the study.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.whole_file import write_whole
from pipelines import errors, layout
from pipelines.circumstances import CircumstanceError, is_by_signal
from pipelines.params import load_grid, load_pair
from pipelines.recipes import impossible_reason
from pipelines.resolved import confirm
from pipelines.runner.processes import ProcessEnd, call
from pipelines.tuning.best import best_of, write_best
from pipelines.tuning.space import as_record, search_space
from pipelines.tuning.study import SharedStudy
from pipelines.tuning.task import Task
from pipelines.tuning.trial_result import TrialResult
from reports.schemas.study import Study, Trial

_WAIT_S = 1.0
_ALIVE_S = 10.0
_MOST_KILLS = 10  # of trials in one attempt: whoever ends them does not want them


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--out", type=Path, help="folder; runs/TIER/PAIR/METHOD/tuned if not given")
    parser.add_argument("--workers", type=int, help="trials at a time; as in params.yaml if not given")
    parser.add_argument("--join", action="store_true", help="only take trials of a study that runs elsewhere")
    return parser.parse_args()


def main() -> None:
    """Search, and write best.yaml and study.json."""
    args = arguments()
    grid = load_grid()
    if grid.tuning is None:
        raise ValueError("params.yaml: says nothing under 'tuning:'; see README, Tuning")
    if reason := impossible_reason(args.pair, load_pair(args.pair), args.method, args.tier):
        raise ValueError(f"{args.method} cannot run on {args.pair}: {reason}")
    code = confirm(layout.TUNE, args.pair, args.method)["code"]
    tuning = grid.tuning if args.workers is None else grid.tuning.model_copy(update={"workers": args.workers})
    task = Task(args.tier, args.pair, args.method, tuning, code)
    (task.work / "failed.txt").unlink(missing_ok=True)
    try:
        search(task, args.out or layout.study(args.tier, args.pair, args.method), is_joining=args.join)
    except Exception:
        from pipelines.engine.workdir import noting_failure  # noqa: PLC0415 (torch takes seconds)

        with noting_failure(task.work):
            raise


def search(task: Task, out: Path, *, is_joining: bool) -> None:
    """Work on a study until it is done; unless it runs elsewhere, write its results.

    Raises:
        ValueError: the study cannot be opened, every trial fails, or a trial's process says that the study cannot go on.
    """
    begun = time.monotonic()
    space, start = search_space(task.tuning, task.method, task.pair, load_pair(task.pair), task.tier)
    about = _called("pipelines.tuning.trial:describe", task)
    folder = task.work / f"{task.tuning.study}-{about.pop('identity')[:12]}"
    study = SharedStudy(folder, task.study_name, task.tuning, space, start)
    print(f"[tune {task.pair}/{task.method}] {study.said()}; journal in {folder}", flush=True)
    if is_joining:
        work(task, study, None)
        return
    parent = _called("pipelines.tuning.parent_run:open_parent", task, folder)
    join = [sys.executable, "-m", "pipelines.stages.tune", *sys.argv[1:], "--join"]
    # As a stage that DVC runs ends with DVC, they end with this one.
    bound = {**os.environ, "DVC_STAGE": os.environ.get("DVC_STAGE", "tune")}
    helpers = [subprocess.Popen(join, env=bound) for _ in range(task.tuning.workers - 1)]
    try:
        work(task, study, parent)
        for helper in helpers:
            helper.wait()
        # What a worker that was killed left behind.
        work(task, study, parent)
    finally:
        for helper in helpers:
            helper.terminate()
    record = record_of(task, study, start, about, parent)
    write(out, record)
    _called("pipelines.tuning.parent_run:close_parent", task, record, folder, round(time.monotonic() - begun, 1))
    best = best_of(record)
    recipe = "" if best.recipe_score is None else f", the recipe's own {best.recipe_score:.1f}"
    counts = ", ".join(f"{number} {state}" for state, number in best.num_trials.items())
    print(
        f"[tune {task.pair}/{task.method}] best {best.hparams}: {best.score:.1f} on the validation split{recipe}; {counts}",
        flush=True,
    )


def work(task: Task, study: SharedStudy, parent: str | None) -> None:
    """Run trials, one after the other, until none are left and none are under way; None where the stage opens the parent."""
    kills = 0
    while (assigned := study.next_trial()) is not None:
        if assigned == "wait":
            time.sleep(_WAIT_S)
            continue
        ended = call(
            "pipelines.tuning.trial:run_trial", task, assigned, study.folder, parent or _parent(study.folder),
            started=partial(study.working_on, assigned), every_s=_ALIVE_S, meanwhile=partial(study.still_at, assigned),
        )  # fmt: skip
        if ended.error is not None:
            raise _kind(ended)(f"trial {assigned.number} of {study.folder}: {ended.error}")
        study.finish(assigned, None if ended.was_killed else ended.result, ended.exit_code, met_oom_killer=ended.met_oom_killer)
        kills += ended.was_killed
        if kills >= _MOST_KILLS and is_by_signal(ended.exit_code):
            raise CircumstanceError(
                f"trials of {study.folder} were killed {kills} times ({ended.problem}); nothing is recorded as failed: run again, and if "
                "memory is short, narrow the search in params.yaml (tuning.space)"
            )


def _called(function: str, *arguments: Any) -> Any:
    ended = call(function, *arguments)
    if ended.error is not None:
        raise _kind(ended)(ended.error)
    if ended.was_killed:
        raise CircumstanceError(f"{function}: its process was killed (exit code {ended.exit_code}); run the stage again")
    return ended.result


def _kind(ended: ProcessEnd) -> type[ValueError]:
    return CircumstanceError if ended.is_circumstance else ValueError


def _parent(folder: Path) -> str | None:
    """MLflow run of a study, once the stage has opened it."""
    noted = folder / "mlflow_run_id"
    return noted.read_text() or None if noted.is_file() else None


def record_of(task: Task, study: SharedStudy, start: dict[str, Any], about: dict[str, Any], parent: str | None) -> Study:
    """Return the record of a finished study; ValueError where no trial was completed."""
    finished = study.finished()
    trials = [
        Trial(
            number=trial.number, hparams=dict(trial.params), is_recipe=bool(trial.user_attrs.get("is_recipe")), **_spent(result)
        )
        for trial, result in finished
    ]
    front = study.front()
    if not front:
        first = next((result.reason for _, result in finished if result.reason), "all were pruned")
        raise ValueError(f"no trial of the study in {study.folder} was completed; the first cause: {first}")
    scores = {trial.number: trial.values[0] for trial in trials if trial.values}
    tried = {trial.number: study.first_number(trial) for trial, _ in finished}
    best = max(front, key=lambda number: (scores[number], -tried[number]))
    return Study(
        status="done", tier=task.tier, pair=task.pair, method=task.method, name=task.tuning.study,
        objectives=task.tuning.objectives, space=as_record(study.space), recipe_hparams=start, sampler=task.tuning.sampler,
        pruner=task.tuning.pruner, seed=task.tuning.seed, schedule_share=task.tuning.share,
        full_iterations=max(result.full_iterations for _, result in finished), trials=trials,
        best=best, front=front, importance=study.importance(),
        finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"), mlflow_run_id=parent, **about,
    )  # fmt: skip


def _spent(result: TrialResult) -> dict[str, Any]:
    return {key: value for key, value in asdict(result).items() if key != "full_iterations"}


def write(out: Path, study: Study) -> None:
    """Write study.json and best.yaml, each whole or not at all."""
    write_whole(out / layout.STUDY, study.model_dump_json(indent=2) + "\n", is_synced=True)
    write_best(out / layout.BEST, best_of(study))


if __name__ == "__main__":
    errors.run(main)
