"""Leaderboard, records, weights, lock file and MLflow: each disagreement is a line, agreement none."""

import hashlib
import re

import pytest

from pipelines.commands.verify import disagreements, reported_runs, study_disagreements
from pipelines.engine.tracking_store import TrackedRun
from reports.schemas.run import Git
from reports.stats.rows import Result, RowRecords
from tests.boards import board, edit_json, made_up, result, study, write_result


def tracked(found):
    """An MLflow run that says what the records say."""
    metrics = {f"test/{name.replace(' ', '_')}": value for name, value in found.metrics.flat().items() if value is not None}
    tags = {"config_sha256": "c", "weights_sha256": found.run.weights_sha256, "git_commit": "g"}
    return TrackedRun("FINISHED", metrics, {f"hparams.{key}": str(value) for key, value in found.run.hparams.items()}, tags)


@pytest.fixture
def story(tmp_path):
    """One finished cell with its files, told the same everywhere: the claim, the lock and MLflow's run."""
    weights = b"weights"
    digest = hashlib.sha256(weights).hexdigest()
    extra = {"config_sha256": "c", "git": Git(commit="g", dirty=False), "mlflow_run_id": "m", "hparams": {"alpha": 0.1}}
    found = result("box AP", 13.0, "mgd", weights_sha256=digest, **extra)
    found = Result(found.run, found.metrics.model_copy(update={"weights_sha256": digest}), "", "", "distill@pair/mgd/seed0")
    folder = tmp_path / "pair/mgd/seed0"
    write_result(folder, found)
    (folder / "student.pth").write_bytes(weights)
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("run.json", "metrics.json")]
    found = Result(found.run, found.metrics, *digests, found.target)
    table = made_up(cells={"mgd": RowRecords([found])}, scores={"none": ()}).model_copy(update={"teacher": None})

    def out(name):
        return {"path": (folder / name).as_posix(), "md5": hashlib.md5((folder / name).read_bytes()).hexdigest()}  # noqa: S324 (DVC's)

    lock = {
        "distill@pair/mgd/seed0": {"outs": [out("student.pth"), out("run.json")]},
        "evaluate@pair/mgd/seed0": {"outs": [out("metrics.json")]},
    }
    (claim,) = reported_runs(board(table), tmp_path)
    return folder, claim, lock, tracked(found)


def told(story, **changes):
    """The lines, with MLflow's run changed."""
    _, claim, lock, run = story
    run = TrackedRun(**{**run.__dict__, **changes})
    return list(disagreements(claim, lock, lambda run_id: run if run_id == "m" else None))


def test_agreement_has_nothing_to_say(story):
    """Not a line."""
    assert told(story) == []


@pytest.mark.parametrize(
    ("file", "change", "lines"),
    [
        (
            "run.json",
            {"hparams": {"alpha": 0.2}},
            ["run.json's digest", "hyper-parameters", "run.json is not the file", "hyper-parameter alpha"],
        ),
        ("metrics.json", {"score": 14.0}, ["metrics.json's digest", "score", "metrics.json is not the file"]),
        (
            "run.json",
            {"mlflow_run_id": "other"},
            ["run.json's digest", "MLflow run", "is not the file", "MLflow has no run other"],
        ),
        (
            "run.json",
            {"weights_sha256": "1"},
            ["digest", "digest of weights", "run.json says 1", "is not the file", "tag weights_sha256"],
        ),
        ("run.json", {"tier": None}, ["tier: Field required"]),
    ],
)
def test_a_changed_record_is_found(story, file, change, lines):
    """By everything that contradicts it, in order."""
    edit_json(story[0] / file, **change)
    found = told(story)

    assert len(found) == len(lines)
    for expected, line in zip(lines, found, strict=True):
        assert line.startswith("pair/mgd/seed0: ")
        assert expected in line


def test_changed_weights_are_found(story):
    """ReportedComparison both records and the lock."""
    (story[0] / "student.pth").write_bytes(b"other")
    found = told(story)

    assert [line.split(": ")[1][:12] for line in found[:2]] == ["student.pth "] * 2
    assert re.search(r"student\.pth .*dvc\.lock", found[2])
    assert len(found) == 3


def test_a_missing_file_is_one_line(story):
    """With the command that brings it back."""
    (story[0] / "student.pth").unlink()
    (line,) = told(story)

    assert re.search(r"student\.pth .*dvc repro evaluate@pair/mgd/seed0, or dvc checkout", line)


def test_what_mlflow_says_otherwise(story):
    """A figure, a tag, a parameter, an unfinished run."""
    run = story[3]

    assert told(story, metrics={**run.metrics, "test/AP": 99.0}) == ["pair/mgd/seed0: AP: MLflow has 99.0, metrics.json 13.0"]
    assert told(story, tags={**run.tags, "git_commit": "h"}) == ["pair/mgd/seed0: tag git_commit: MLflow has h, run.json g"]
    assert told(story, tags={**run.tags, "mlflow.source.git.commit": "h"}) == [
        "pair/mgd/seed0: tag mlflow.source.git.commit: MLflow has h, run.json g"
    ]
    assert told(story, tags={**run.tags, "mlflow.source.git.commit": "g", "git_commit": "of an earlier attempt"}) == []
    assert told(story, params={}) == ["pair/mgd/seed0: hyper-parameter alpha: MLflow has None, run.json 0.1"]
    assert told(story, status="RUNNING") == ["pair/mgd/seed0: MLflow's run is RUNNING"]


@pytest.fixture
def searched(tmp_path):
    """A study on disk, the board that has it with one tuned training, and the lock that holds it."""
    path = tmp_path / "pair/mgd/tuned/study.json"
    path.parent.mkdir(parents=True)
    path.write_text(study().model_dump_json())
    found = result("box AP", 17.0, "mgd", variant="tuned", hparams={"alpha": 0.5, "kind": "l1"})
    found = Result(found.run, found.metrics, "", "", "distill@pair/mgd/tuned/seed0")
    cells = {"mgd/tuned": RowRecords([found], study=study())}
    made = board(made_up(cells=cells, scores={"none": ()}).model_copy(update={"teacher": None}), studies=[study()])
    md5 = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324 (DVC's)
    return path, made, {"tune@pair/mgd": {"outs": [{"path": path.as_posix(), "md5": md5}]}}


def test_stages_of_a_tuned_row(searched, tmp_path):
    """Are its own, and its study is at hand."""
    (claim,) = reported_runs(searched[1], tmp_path)

    assert claim.stages == ("distill@pair/mgd/tuned/seed0", "evaluate@pair/mgd/tuned/seed0")
    assert (claim.name, claim.folder) == ("pair/mgd/tuned/seed0", tmp_path / "pair/mgd/tuned/seed0")
    assert claim.study == study()


def test_a_tuned_training_with_other_values_than_its_study_hands_out(searched, tmp_path):
    """Is a line; with those very values none."""
    found = result("box AP", 17.0, "mgd", variant="tuned", hparams={"alpha": 0.5, "kind": "l2"})
    (claim,) = reported_runs(searched[1], tmp_path)
    write_result(claim.folder, found)
    (claim.folder / "student.pth").write_bytes(b"weights")
    of_values = [line for line in disagreements(claim, {}, lambda _: None) if "selected" in line]

    (line,) = of_values
    assert re.match(r"pair/mgd/tuned/seed0: kind .*\bl2\b.*\bl1\b.*dvc repro evaluate@pair/mgd/tuned/seed0", line), line


def test_a_study_is_the_one_that_the_lock_holds(searched, tmp_path):
    """Agreement has nothing to say; a changed, an unknown and a missing one are lines."""
    path, made, lock = searched
    (found,) = made.studies

    assert list(study_disagreements(found, tmp_path, lock)) == []
    assert [line.partition("; ")[0] for line in study_disagreements(found, tmp_path, {})] == [
        f"pair/mgd/tuned: dvc.lock does not know {path}"
    ]
    path.write_text(study(seed=7).model_dump_json())
    first, second = study_disagreements(found, tmp_path, lock)
    assert re.match(rf"pair/mgd/tuned: .*leaderboard .*{path}", first), first
    assert re.search(r"dvc\.lock .*dvc checkout, or dvc repro tune@pair/mgd$", second), second
    path.unlink()
    (line,) = study_disagreements(found, tmp_path, lock)
    assert "study.json is not there; dvc repro tune@pair/mgd" in line


def test_a_lock_that_does_not_know_the_stage(story):
    """A line a file."""
    story[2].pop("evaluate@pair/mgd/seed0")
    (line,) = told(story)

    assert "dvc.lock does not know" in line
    assert "metrics.json; dvc repro evaluate@pair/mgd/seed0" in line
