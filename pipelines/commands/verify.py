"""Do lock file, records, weights, MLflow and leaderboard tell the same story: ``python -m pipelines.commands.verify``.

For every row's every seed: the leaderboard's figures are those of run.json and metrics.json, the weights on disk have
the digest that both name, dvc.lock holds these very files, and the MLflow run that they name holds the same figures.
A tuned row's hyper-parameters are those that its study hands out, and the study is the one that dvc.lock holds.
Prints what does not agree; exit code 1 where anything does not.
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines import errors, layout
from pipelines.engine.tracking_store import Store, TrackedRun
from pipelines.reporting.collect import read_board, read_record
from reports.schemas.leaderboard import Backbone, Leaderboard, SeedResult, TeacherResult
from reports.schemas.run import Metrics, Run
from reports.schemas.study import Study

_CLOSE = 5e-4  # points; the records keep four digits


@dataclass(frozen=True)
class Claim:
    """One training as the leaderboard has it, and where its files lie; ``study`` is that of a tuned row."""

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


def claims(board: Leaderboard, runs: Path) -> Iterator[Claim]:
    """All trainings of a leaderboard."""
    studies = {(study.pair, f"{study.method}/tuned"): study for study in board.studies}
    for table in board.tables:
        if table.teacher:
            folder = runs / table.pair / "teacher"
            yield Claim(f"{table.pair}/teacher", folder, "weights.pth", table.teacher, {})
        for row in table.rows:
            for seed in row.seeds:
                name = f"{table.pair}/{row.id}/seed{seed.seed}"
                yield Claim(name, runs / name, "student.pth", seed, row.hparams, studies.get((table.pair, row.id)))


def disagreements(claim: Claim, lock: dict[str, Any], find: Callable[[str], TrackedRun | None]) -> Iterator[str]:
    """What does not agree about one training, a line each."""
    paths = {name: claim.folder / name for name in ("run.json", "metrics.json", claim.weights)}
    absent = [str(path) for path in paths.values() if not path.is_file()]
    if absent:
        yield f"{claim.name}: {', '.join(absent)} is not there; dvc repro {claim.stages[1]}, or dvc checkout"
        return
    try:
        run, metrics = read_record(paths["run.json"], Run), read_record(paths["metrics.json"], Metrics)
    except ValueError as error:
        yield f"{claim.name}: {error}"
        return
    yield from _in_records(claim, run, metrics, paths)
    yield from _in_lock(claim, lock, paths)
    if run.mlflow_run_id is None:
        yield f"{claim.name}: names no MLflow run; the store could not be reached while it was trained"
        return
    tracked = find(run.mlflow_run_id)
    if tracked is None:
        yield f"{claim.name}: MLflow has no run {run.mlflow_run_id}; set MLFLOW_TRACKING_URI to the store that it was trained with"
        return
    yield from _in_mlflow(claim, run, metrics, tracked)


def _in_records(claim: Claim, run: Run, metrics: Metrics, paths: dict[str, Path]) -> Iterator[str]:
    result, sha256 = claim.result, {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    known = (
        ("run.json's digest", result.run_sha256, sha256["run.json"]),
        ("metrics.json's digest", result.metrics_sha256, sha256["metrics.json"]),
        ("score", result.score, metrics.score),
        ("figures", result.metrics, metrics.shown()),
        ("MLflow run", result.mlflow_run_id, run.mlflow_run_id),
        ("digest of weights", result.weights_sha256, run.weights_sha256),
        ("cost", result.cost, run.cost),
        ("hyper-parameters", claim.hparams, run.hparams if run.stage == "distill" else {}),
    )
    for what, told, found in known:
        if told != found:
            yield f"{claim.name}: {what}: the leaderboard says {told}, the records {found}; make the report again"
    handed_out = {} if claim.study is None or claim.study.best is None else claim.study.trial(claim.study.best).hparams
    for key, given in handed_out.items():
        if run.hparams.get(key) != given:
            yield f"{claim.name}: {key} was trained with {run.hparams.get(key)}, the study hands out {given}; dvc repro {claim.stages[1]}"
    for what, found in (("run.json", run.weights_sha256), ("metrics.json", metrics.weights_sha256)):
        if found != sha256[claim.weights]:
            yield f"{claim.name}: {claim.weights} has digest {sha256[claim.weights][:12]}, {what} says {str(found)[:12]}"


def study_disagreements(study: Study, runs: Path, lock: dict[str, Any]) -> Iterator[str]:
    """What does not agree about one search, a line each."""
    name, stage = f"{study.pair}/{study.method}/tuned", f"tune@{study.pair}/{study.method}"
    path = runs / name / "study.json"
    try:
        if not path.is_file():
            raise ValueError(f"{path} is not there; dvc repro {stage}, or dvc checkout")
        if read_record(path, Study) != study:
            yield f"{name}: the leaderboard has another study than {path}; make the report again"
    except ValueError as error:
        yield f"{name}: {error}"
        return
    yield from _held(name, [path], [stage], lock)


def start_disagreements(
    start: Backbone, runs: Path, lock: dict[str, Any], find: Callable[[str], TrackedRun | None]
) -> Iterator[str]:
    """Disagreements about one pre-trained backbone, a line each."""
    name, folder = f"backbones/{start.name}", runs / "backbones" / start.name
    paths = [folder / "run.json", folder / "weights.pth"]
    if absent := [str(path) for path in paths if not path.is_file()]:
        yield f"{name}: {', '.join(absent)} is not there; dvc repro pretrain@{start.name}, or dvc checkout"
        return
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    for path, told, found in zip(paths, (start.run_sha256, start.weights_sha256), digests, strict=True):
        if told != found:
            yield f"{name}: {path.name} has digest {found[:12]}, the leaderboard says {told[:12]}; make the report again"
    yield from _held(name, paths, [f"pretrain@{start.name}"], lock)
    tracked = find(start.mlflow_run_id) if start.mlflow_run_id else None
    if tracked is None or tracked.tags.get("weights_sha256") != digests[1]:
        yield f"{name}: MLflow has no run of these weights; set MLFLOW_TRACKING_URI to the store that it was trained with"


def _in_lock(claim: Claim, lock: dict[str, Any], paths: dict[str, Path]) -> Iterator[str]:
    yield from _held(claim.name, paths.values(), claim.stages, lock)


def _held(name: str, paths: Iterable[Path], stages: Sequence[str], lock: dict[str, Any]) -> Iterator[str]:
    """Whether dvc.lock holds these very files among the stages' outs; the last of the stages makes them all."""
    outs = {out["path"]: out["md5"] for stage in stages for out in lock.get(stage, {}).get("outs", [])}
    for path in paths:
        md5 = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 (DVC's choice; nothing is kept safe by it)
        if path.as_posix() not in outs:
            yield f"{name}: dvc.lock does not know {path}; dvc repro {stages[-1]}"
        elif outs[path.as_posix()] != md5:
            yield f"{name}: {path} is not the file that dvc.lock records; dvc checkout, or dvc repro {stages[-1]}"


def _in_mlflow(claim: Claim, run: Run, metrics: Metrics, tracked: TrackedRun) -> Iterator[str]:
    if tracked.status != "FINISHED":
        yield f"{claim.name}: MLflow's run is {tracked.status}"
    for name, value in metrics.flat().items():
        told = tracked.metrics.get(f"test/{name.replace(' ', '_')}")
        if value is not None and (told is None or abs(told - value) > _CLOSE):
            yield f"{claim.name}: {name}: MLflow says {told}, metrics.json {value}"
    wanted = {"config_sha256": run.config_sha256, "weights_sha256": run.weights_sha256}
    wanted |= {"git_commit": run.git.commit} if run.git and run.config_sha256 else {}
    for name, value in wanted.items():
        if value is not None and tracked.tags.get(name) != value:
            yield f"{claim.name}: tag {name}: MLflow says {tracked.tags.get(name)}, run.json {value}"
    for name, value in run.hparams.items():
        told = tracked.params.get(f"hparams.{name}")
        if told != str(value):
            yield f"{claim.name}: hyper-parameter {name}: MLflow says {told}, run.json {value}"


def main() -> None:
    """Compare all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leaderboard", type=Path, default=layout.COMMITTED / "leaderboard.json")
    parser.add_argument("--runs", type=Path, help="records of the leaderboard's tier; runs/<tier> if not given")
    args = parser.parse_args()
    board = read_board(args.leaderboard)
    try:
        lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    except OSError as error:
        raise ValueError(f"dvc.lock: cannot be read ({error.strerror}); run make repro") from error
    runs = args.runs or Path("runs") / board.tier
    found = list(claims(board, runs))
    store = Store()
    problems = [problem for claim in found for problem in disagreements(claim, lock, store.run)]
    of_starts = [list(start_disagreements(start, runs, lock, store.run)) for start in board.backbones]
    of_studies = [list(study_disagreements(study, runs, lock)) for study in board.studies]
    for problem in [*problems, *(problem for of_one in (*of_starts, *of_studies) for problem in of_one)]:
        print(problem)
    if of_starts:
        print(f"{of_starts.count([])} of {len(of_starts)} backbones agree in leaderboard, record, weights, dvc.lock and MLflow")
    if of_studies:
        print(f"{of_studies.count([])} of {len(of_studies)} studies agree in leaderboard, record and dvc.lock")
    agree = len(found) - len({problem.partition(":")[0] for problem in problems})
    print(f"{agree} of {len(found)} trainings agree in leaderboard, records, weights, dvc.lock and MLflow")
    if problems or any(of_studies) or any(of_starts):
        sys.exit(1)


if __name__ == "__main__":
    errors.run(main)
