"""Entries of the report in MLflow: names, rows, gains, notes, models and views; each entered once."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.engine import tracking_names as names
from pipelines.engine.tracking_board import enter_board, enter_views
from reports.schemas.leaderboard import Leaderboard
from tests.tracked import SCORES, make_store

BOARD = Path("reports/mini/leaderboard.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store whose leaderboard is entered, and the ids of its runs."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ids = make_store()
        before = sum(path.stat().st_size for path in Path("mlflow/artifacts").rglob("*") if path.is_file())
        number = enter_board(BOARD)
        after = sum(path.stat().st_size for path in Path("mlflow/artifacts").rglob("*") if path.is_file())
    assert number == 6
    return place, ids, after - before


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of it, which is the working directory; the ids."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(made[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return made[1]


def client():
    """MLflow's, on the store of the working directory."""
    from mlflow import MlflowClient  # noqa: PLC0415

    return MlflowClient(f"sqlite:///{Path.cwd()}/mlflow/mlflow.db")


def seeds(ids, row, key):
    """A metric of a row's runs."""
    return [client().get_run(ids[f"pair/{row}/seed{seed}"]).data.metrics.get(key) for seed in (0, 1)]


def test_gains_are_over_the_baseline_s_mean(place):
    """Baseline 10 and 12: mean 11; a row's mean is the leaderboard's gain. The baseline has none."""
    assert seeds(place, "mgd", "gain") == [2.0, 4.0]
    assert seeds(place, "mgd/tuned", "gain") == [6.0, 7.0]
    assert seeds(place, "none", "gain") == [None, None]
    rows = {row.id: row for row in Leaderboard.model_validate_json(BOARD.read_text()).tables[0].rows}
    for row in ("mgd", "mgd/tuned"):
        assert sum(seeds(place, row, "gain")) / 2 == pytest.approx(rows[row].gain)


def test_grouping_by_row_gives_the_leaderboard_s_means(place):
    """Published and tuned values of a method are two groups."""
    groups = {}
    for run in client().search_runs(["1"], "params.stage = 'distill'"):
        groups.setdefault(run.data.tags[names.ROW], []).append(run.data.metrics["test/AP"])
    means = {row.id: row.mean for row in Leaderboard.model_validate_json(BOARD.read_text()).tables[0].rows if row.seeds}

    assert {row: sum(found) / len(found) for row, found in groups.items()} == pytest.approx(means)
    assert means == {"none": 11.0, "mgd": 14.0, "mgd/tuned": 17.5}


def test_a_note_says_what_came_out_and_leads_on(place):
    """Score, gain, weights, the list of the pair and the teacher's run."""
    run = client().get_run(place["pair/mgd/seed1"])
    text = run.data.tags["mlflow.note.content"]

    assert text.startswith("MGD on A pair, seed 1, tier mini.")
    assert "AP on the test split: **15.0**; mean of the row 14.0 ± 1.4." in text
    assert "Gain over the baseline: **+4.0**; mean of the row +3.0 [" in text
    assert "`runs/mini/pair/mgd/seed1/student.pth`" in text
    assert "(#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=pair)" in text
    assert f"(#/experiments/1/runs/{place['teacher']}?workflowType=machine_learning)" in text
    assert run.data.tags["teacher_run_id"] == place["teacher"]


def test_entering_twice_changes_nothing(place):
    """Neither a metric's history nor a model or tag."""

    def told():
        found = client()
        runs = {run.info.run_id: {**run.to_dictionary(), "info": None} for run in found.search_runs(["1"])}
        histories = [found.get_metric_history(run_id, key) for run_id in runs for key in ("gain", "test/AP")]
        return runs, [len(history) for history in histories], len(found.search_logged_models(["1"]))

    before = told()
    enter_board(BOARD)

    assert told() == before
    assert before[1].count(1) == 4 + 7


def test_a_later_report_replaces_gain_and_note(place):
    """A baseline's seed more moves both; a note that a person has taken over stays."""
    mine = place["pair/mgd/seed0"]
    client().set_tag(mine, "mlflow.note.content", "Mine.")
    content = json.loads(BOARD.read_text())
    baseline = next(row for row in content["tables"][0]["rows"] if row["method"] == "none")
    baseline["mean"] = 11.5
    BOARD.write_text(json.dumps(content))
    enter_board(BOARD)

    assert seeds(place, "mgd", "gain") == [1.5, 3.5]
    assert client().get_run(mine).data.tags["mlflow.note.content"] == "Mine."
    assert "**+3.5**" in client().get_run(place["pair/mgd/seed1"]).data.tags["mlflow.note.content"]


def test_students_are_models_without_a_copy_of_their_weights(made, place):
    """Each named by its cell, with weights, digest, score and gain; nothing is written beside the database."""
    models = {model.name: model for model in client().search_logged_models(["1"])}
    model = models["pair-mgd-tuned-seed1"]

    assert set(models) == {f"pair-{row.replace('/', '-')}-seed{seed}" for row in SCORES for seed in (0, 1)}
    assert model.source_run_id == place["pair/mgd/tuned/seed1"]
    assert (model.tags["weights"], model.tags["weights_sha256"]) == ("runs/mini/pair/mgd/tuned/seed1/student.pth", "0")
    assert {metric.key: metric.value for metric in model.metrics} == {"test/AP": 18.0, "gain": 7.0}
    assert made[2] == 0


def test_data_sets_name_their_split(place):
    """Training and test split, each with its context."""
    inputs = client().get_run(place["pair/mgd/seed0"]).inputs.dataset_inputs
    told = {(one.dataset.name, tag.value) for one in inputs for tag in one.tags if tag.key == "mlflow.data.context"}

    assert told == {("scenes train", "train"), ("scenes test", "test")}


def test_runs_of_earlier_versions_are_renamed_and_named_ones_stay(place):
    """Their names were paths, and they had no row."""
    old, named = place["pair/mgd/seed0"], place["pair/mgd/seed1"]
    client().set_tag(old, "mlflow.runName", "distill/pair/mgd/seed0")
    client().delete_tag(old, "row")
    client().set_tag(named, "mlflow.runName", "my favourite")
    client().set_tag(place["teacher"], "mlflow.runName", "teacher/pair/teacher")
    enter_board(BOARD)
    found = {name: client().get_run(run_id).info.run_name for name, run_id in place.items()}

    assert (found["pair/mgd/seed0"], found["pair/mgd/seed1"], found["teacher"]) == (
        "mgd s0 | pair",
        "my favourite",
        "teacher | pair",
    )
    assert client().get_run(old).data.tags["row"] == "mgd"


def test_runs_of_another_store_are_left_out(place):
    """A leaderboard of another machine is no error."""
    BOARD.write_text(BOARD.read_text().replace(place["pair/mgd/seed0"], "0" * 32))

    assert enter_board(BOARD) == 5


def test_views_are_the_experiment_s(place):
    """One per pair, of its own metric; an unknown tier has none."""
    assert enter_views("paper", {"pair": "box AP"}) == {}
    links = enter_views("mini", {"pair": "box AP", "other": "mIoU"})
    view = json.loads(client().get_experiment("1").tags["mlflow.sharedViewState.other"])

    assert links["other"] == "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=other"
    assert (view["searchFilter"], view["orderByKey"]) == (
        "params.stage = 'distill' AND params.pair = 'other'",
        "metrics.`test/mIoU`",
    )
