"""The local MLflow store of a checkout that is moved or copied, and runs that were deleted in MLflow's pages."""

import fcntl
import shutil
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from pipelines.engine import tracking
from pipelines.engine.tracking import Tracker, open_store
from pipelines.engine.tracking_store import Store


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkout with one run and one file of it; the run's id."""
    place = tmp_path_factory.mktemp("made") / "first place"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("curve.json").write_text("first")
        tracker = Tracker("kd-smoke", "one")
        tracker.artifact(Path("curve.json"))
        tracker.finish()
    assert tracker.run_id
    return place, tracker.run_id


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it, which is the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copied = tmp_path / "second place"
    shutil.copytree(made[0], copied)
    utils._artifact_repos_cache.clear()  # MLflow's, of this process
    monkeypatch.chdir(copied)
    return copied


def files(folder):
    """Artifacts in a checkout, by name."""
    return {path.name: path.read_text() for path in (folder / "mlflow/artifacts").rglob("*.json")}


def test_a_copy_reads_and_writes_its_own_files(made, place):
    """Those of old runs open, and what is added to old and new runs goes into the copy alone."""
    original, run_id = made
    Path("more.json").write_text("second")
    Path("new.json").write_text("third")
    old = Tracker("kd-smoke", "one", resume=run_id)
    old.artifact(Path("more.json"))
    new = Tracker("kd-smoke", "two")
    new.artifact(Path("new.json"))
    client = old._client
    listed = {found.path for found in client.list_artifacts(run_id)}

    assert old.run_id == run_id
    assert (old.failures, new.failures) == (0, 0)
    assert files(place) == {"curve.json": "first", "more.json": "second", "new.json": "third"}
    assert files(original) == {"curve.json": "first"}
    assert listed == {"curve.json", "more.json"}


def test_a_moved_checkout_works_on(place, tmp_path, monkeypatch):
    """With nothing left at its first place; a place outside the checkout is the user's, and stays."""
    moved = place.rename(tmp_path / "third place")
    monkeypatch.chdir(moved)
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(open_store())
    client.create_experiment("mine", artifact_location="file:///elsewhere/mlflow/files/mine")
    open_store()

    assert client.get_experiment_by_name("kd-smoke").artifact_location == (moved / "mlflow/artifacts/kd-smoke").as_uri()
    assert client.get_experiment_by_name("mine").artifact_location == "file:///elsewhere/mlflow/files/mine"


@pytest.mark.parametrize("deleted", ["experiment", "run"])
def test_what_was_deleted_is_restored_and_said(made, place, capsys, deleted):
    """One line, and the run goes on being tracked."""
    from mlflow import MlflowClient  # noqa: PLC0415

    client, run_id = MlflowClient(open_store()), made[1]
    if deleted == "experiment":
        client.delete_experiment(client.get_experiment_by_name("kd-smoke").experiment_id)
    else:
        client.delete_run(run_id)
    resumed, new = Tracker("kd-smoke", "one", resume=run_id), Tracker("kd-smoke", "two")
    resumed.metrics({"score": 1.0}, 0)
    resumed.finish()
    said = capsys.readouterr().err.splitlines()

    assert resumed.run_id == run_id
    assert new.run_id
    assert f"MLflow: {deleted} " in said[0]
    assert "had been deleted; it is restored" in said[0]
    assert len(said) <= 2
    assert Store().run(run_id).metrics == {"score": 1.0}


def test_a_held_store_stops_no_run(place, capsys, monkeypatch):
    """Whoever holds its lock, suspended or not, costs a warning."""
    monkeypatch.setattr(tracking, "_PATIENCE_S", 0.3)
    with Path("mlflow/.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tracker = Tracker("kd-smoke", "one")

    assert tracker.run_id is None
    assert "warning: MLflow: cannot be reached: mlflow is held by process" in capsys.readouterr().err


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_damaged_store_is_begun_anew(place, capsys, is_cut):
    """By one line; what was found is kept."""
    database = place / "mlflow/mlflow.db"
    whole = database.read_bytes()
    cut = whole[: len(whole) * 6 // 10] if is_cut else b"no database" * 900
    database.write_bytes(cut)
    open_store()
    said = capsys.readouterr().err

    assert not database.exists()
    assert (place / "mlflow/mlflow.db.damaged").read_bytes() == cut
    assert len(said.splitlines()) == 1
    assert "mlflow.db.damaged" in said
