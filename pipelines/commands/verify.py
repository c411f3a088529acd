"""Verb ``verify``: agreement of lock file, records, weights, MLflow and leaderboard."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.digest import file_digest
from pipelines import layout
from pipelines.engine.tracking_names import COMMIT
from pipelines.params import load_grid
from pipelines.reporting.records import read_board, read_record
from reports.schemas.leaderboard import Backbone, Leaderboard, SeedResult, TeacherResult
from reports.schemas.run import Metrics, Run
from reports.schemas.study import Study

if TYPE_CHECKING:
    from pipelines.engine.tracking_store import TrackedRun

_COMMIT_TAGS = (COMMIT, "git_commit")  # now, and of runs up to version 0.8.0
_CLOSE = 5e-4  # points; the records keep four digits


@dataclass(frozen=True)
class ReportedRun:
    """A run in the leaderboard, and the folder of its files; ``study`` is that of a tuned row."""

    name: str
    folder: Path
    weights: str
    result: TeacherResult | SeedResult
    hparams: dict[str, Any]
    study: Study | None = None

    @property
    def stages(self) -> tuple[str, str]:
        """DVC's names of the stages that trained and evaluated it."""
        kind, _, key = self.result.target.partition("@")
        return self.result.target, f"evaluate@{key}" + ("/teacher" if kind == "teachers" else "")


def reported_runs(board: Leaderboard, runs: Path) -> Iterator[ReportedRun]:
    """Return all runs of a leaderboard."""
    studies = {(study.pair, layout.tuned_row(study.method)): study for study in board.studies}
    for table in board.tables:
        if table.teacher:
            folder = runs / table.pair / "teacher"
            yield ReportedRun(f"{table.pair}/teacher", folder, "weights.pth", table.teacher, {})
        for row in table.rows:
            for seed in row.seeds:
                name = f"{table.pair}/{row.id}/seed{seed.seed}"
                yield ReportedRun(name, runs / name, "student.pth", seed, row.hparams, studies.get((table.pair, row.id)))


def disagreements(reported: ReportedRun, lock: dict[str, Any], find: "Callable[[str], TrackedRun | None]") -> Iterator[str]:
    """Return the disagreements about one run, a line each."""
    paths = {name: reported.folder / name for name in ("run.json", "metrics.json", reported.weights)}
    absent = [str(path) for path in paths.values() if not path.is_file()]
    if absent:
        yield f"{reported.name}: {', '.join(absent)} is not there; dvc repro {reported.stages[1]}, or dvc checkout"
        return
    try:
        run, metrics = read_record(paths["run.json"], Run), read_record(paths["metrics.json"], Metrics)
    except ValueError as error:
        yield f"{reported.name}: {error}"
        return
    yield from _in_records(reported, run, metrics, paths)
    yield from _in_lock_file(reported.name, paths.values(), reported.stages, lock)
    if run.mlflow_run_id is None:
        yield f"{reported.name}: names no MLflow run; the store could not be reached during the run"
        return
    tracked = find(run.mlflow_run_id)
    if tracked is None:
        yield f"{reported.name}: MLflow has no run {run.mlflow_run_id}; set MLFLOW_TRACKING_URI to the store that it was trained with"
        return
    yield from _in_mlflow(reported, run, metrics, tracked)


def _in_records(reported: ReportedRun, run: Run, metrics: Metrics, paths: dict[str, Path]) -> Iterator[str]:
    result, sha256 = reported.result, {name: file_digest(path) for name, path in paths.items()}
    known = (
        ("run.json's digest", result.run_sha256, sha256["run.json"]),
        ("metrics.json's digest", result.metrics_sha256, sha256["metrics.json"]),
        ("score", result.score, metrics.score),
        ("figures", result.metrics, metrics.shown()),
        ("MLflow run", result.mlflow_run_id, run.mlflow_run_id),
        ("digest of weights", result.weights_sha256, run.weights_sha256),
        ("cost", result.cost, run.cost),
        ("hyper-parameters", reported.hparams, run.hparams if run.stage == "distill" else {}),
    )
    for what, told, found in known:
        if told != found:
            yield f"{reported.name}: {what}: the leaderboard says {told}, the records {found}; make the report again"
    selected = {} if reported.study is None or reported.study.best is None else reported.study.trial(reported.study.best).hparams
    for key, given in selected.items():
        if run.hparams.get(key) != given:
            yield f"{reported.name}: {key} was trained with {run.hparams.get(key)}, the study selected {given}; dvc repro {reported.stages[1]}"
    for what, found in (("run.json", run.weights_sha256), ("metrics.json", metrics.weights_sha256)):
        if found != sha256[reported.weights]:
            yield f"{reported.name}: {reported.weights} has digest {sha256[reported.weights][:12]}, {what} says {str(found)[:12]}"


def study_disagreements(study: Study, runs: Path, lock: dict[str, Any]) -> Iterator[str]:
    """Return the disagreements about one study, a line each."""
    name, stage = f"{study.pair}/{layout.tuned_row(study.method)}", f"tune@{study.pair}/{study.method}"
    path = runs / name / "study.json"
    try:
        if not path.is_file():
            raise ValueError(f"{path} is not there; dvc repro {stage}, or dvc checkout")
        if read_record(path, Study) != study:
            yield f"{name}: the leaderboard has another study than {path}; make the report again"
    except ValueError as error:
        yield f"{name}: {error}"
        return
    yield from _in_lock_file(name, [path], [stage], lock)


def start_disagreements(
    start: Backbone, runs: Path, lock: dict[str, Any], find: "Callable[[str], TrackedRun | None]"
) -> Iterator[str]:
    """Disagreements about one pre-trained backbone, a line each."""
    name, folder = f"backbones/{start.name}", runs / "backbones" / start.name
    paths = [folder / "run.json", folder / "weights.pth"]
    if absent := [str(path) for path in paths if not path.is_file()]:
        yield f"{name}: {', '.join(absent)} is not there; dvc repro pretrain@{start.name}, or dvc checkout"
        return
    digests = [file_digest(path) for path in paths]
    for path, told, found in zip(paths, (start.run_sha256, start.weights_sha256), digests, strict=True):
        if told != found:
            yield f"{name}: {path.name} has digest {found[:12]}, the leaderboard says {told[:12]}; make the report again"
    yield from _in_lock_file(name, paths, [f"pretrain@{start.name}"], lock)
    tracked = find(start.mlflow_run_id) if start.mlflow_run_id else None
    if tracked is None or tracked.tags.get("weights_sha256") != digests[1]:
        yield f"{name}: MLflow has no run of these weights; set MLFLOW_TRACKING_URI to the store that it was trained with"


def _in_lock_file(name: str, paths: Iterable[Path], stages: Sequence[str], lock: dict[str, Any]) -> Iterator[str]:
    """Compare files with dvc.lock's outs of these stages, the last of which makes them all."""
    outs = {out["path"]: out["md5"] for stage in stages for out in lock.get(stage, {}).get("outs", [])}
    for path in paths:
        md5 = file_digest(path, "md5")  # DVC's choice
        if path.as_posix() not in outs:
            yield f"{name}: dvc.lock does not know {path}; dvc repro {stages[-1]}"
        elif outs[path.as_posix()] != md5:
            yield f"{name}: {path} is not the file that dvc.lock records; dvc checkout, or dvc repro {stages[-1]}"


def _in_mlflow(reported: ReportedRun, run: Run, metrics: Metrics, tracked: "TrackedRun") -> Iterator[str]:
    if tracked.status != "FINISHED":
        yield f"{reported.name}: MLflow's run is {tracked.status}"
    for name, value in metrics.flat().items():
        told = tracked.metrics.get(f"test/{name.replace(' ', '_')}")
        if value is not None and (told is None or abs(told - value) > _CLOSE):
            yield f"{reported.name}: {name}: MLflow has {told}, metrics.json {value}"
    wanted = {"config_sha256": run.config_sha256, "weights_sha256": run.weights_sha256}
    commit = next((tag for tag in _COMMIT_TAGS if tag in tracked.tags), _COMMIT_TAGS[0])
    wanted |= {commit: run.git.commit} if run.git and run.config_sha256 else {}
    for tag, expected in wanted.items():
        if expected is not None and tracked.tags.get(tag) != expected:
            yield f"{reported.name}: tag {tag}: MLflow has {tracked.tags.get(tag)}, run.json {expected}"
    for key, given in run.hparams.items():
        if (logged := tracked.params.get(f"hparams.{key}")) != str(given):
            yield f"{reported.name}: hyper-parameter {key}: MLflow has {logged}, run.json {given}"


def verify(*, leaderboard: Path | None = None, runs: Path | None = None) -> None:
    """Compare leaderboard, records, weights, dvc.lock and MLflow with each other.

    For every seed of every row: the leaderboard's results are those of run.json and metrics.json, the weights on disk
    have the digest in both, dvc.lock has these very files, and the MLflow run named in run.json has the same metrics.
    The hyper-parameters of a tuned row are those selected by its study. Disagreements are printed, with exit code 1.

    Args:
        leaderboard: file to verify; that of the tier in params.yaml if not given.
        runs: records of the leaderboard's tier; runs/TIER if not given.
    """
    from pipelines.engine.tracking_store import Store  # noqa: PLC0415 (seconds, in MLflow)

    board = read_board(leaderboard or layout.report(load_grid().tier) / "leaderboard.json")
    try:
        lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    except OSError as error:
        raise ValueError(f"dvc.lock: cannot be read ({error.strerror}); run make repro") from error
    runs = runs or Path("runs") / board.tier
    found = list(reported_runs(board, runs))
    store = Store()
    problems = [problem for reported in found for problem in disagreements(reported, lock, store.run)]
    of_starts = [list(start_disagreements(start, runs, lock, store.run)) for start in board.backbones]
    of_studies = [list(study_disagreements(study, runs, lock)) for study in board.studies]
    for problem in [*problems, *(problem for of_one in (*of_starts, *of_studies) for problem in of_one)]:
        print(problem)
    if of_starts:
        print(f"{of_starts.count([])} of {len(of_starts)} backbones agree in leaderboard, record, weights, dvc.lock and MLflow")
    if of_studies:
        print(f"{of_studies.count([])} of {len(of_studies)} studies agree in leaderboard, record and dvc.lock")
    agree = len(found) - len({problem.partition(":")[0] for problem in problems})
    print(f"{agree} of {len(found)} runs agree in leaderboard, records, weights, dvc.lock and MLflow")
    if problems or any(of_studies) or any(of_starts):
        sys.exit(1)
