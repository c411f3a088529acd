"""Names, tags and notes of runs in MLflow."""

import getpass

import pytest

from pipelines.engine import tracking_names as names
from reports.schemas.run import Git


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("distill/gfl_r101_r50/mgd/seed0", "mgd s0 | gfl_r101_r50"),
        ("distill/gfl_r101_r50/crosskd+pkd/tuned/seed12", "crosskd+pkd tuned s12 | gfl_r101_r50"),
        ("teacher/gfl_r101_r50/teacher", "teacher | gfl_r101_r50"),
        ("masks/gfl_r101_r50/maskd", "maskd auxiliary | gfl_r101_r50"),
        ("pretrain/backbones/resnet50", "backbone | resnet50"),
        ("tune/gfl_r101_r50/mgd", "mgd study | gfl_r101_r50"),
        ("tune/gfl_r101_r50/mgd/trial3", "mgd trial 3 | gfl_r101_r50"),
        ("released/mgd-retinanet", "released/mgd-retinanet"),
        ("one", "one"),
    ],
)
def test_what_differs_comes_first(path, name):
    """Every kind of run; other names stay."""
    assert names.run_name(path) == name


def test_source_commit_and_user():
    """MLflow's own tags; those without a value are missing."""
    tags = names.source_tags("teacher", Git(commit="abc", dirty=False))

    assert tags["mlflow.source.name"] == "pipelines/stages/teachers.py"
    assert (tags["mlflow.source.git.commit"], tags["mlflow.source.git.dirty"]) == ("abc", "false")
    assert tags["mlflow.user"] == getpass.getuser()
    assert not {"mlflow.source.git.commit", "mlflow.source.git.dirty"} & names.source_tags("distill", None).keys()


def test_a_user_without_a_name(monkeypatch):
    """As in a container: the tag is missing."""

    def unknown():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", unknown)

    assert "mlflow.user" not in names.source_tags("distill", None)


def test_addresses():
    """Those that MLflow 3.17.2 opens under *Model training*."""
    assert names.run_link("1", "abc") == "#/experiments/1/runs/abc?workflowType=machine_learning"
    assert names.pair_link("12", "gfl") == "#/experiments/12/runs?workflowType=machine_learning&viewStateShareKey=gfl"


def test_a_note_is_own_until_a_person_takes_its_last_line_out():
    """An empty one is, too."""
    text = names.note("What.", ["Result."], {"list": "#/x"})

    assert text.split("\n\n")[:3] == ["What.", "Result.", "[list](#/x)"]
    assert names.is_own(text)
    assert names.is_own(None)
    assert not names.is_own("\n\n".join(text.split("\n\n")[:-1]))


def test_runs_that_a_run_is_built_on(tmp_path, monkeypatch):
    """As records name them; a missing or damaged record is none."""
    monkeypatch.chdir(tmp_path)
    for folder, text in (("teacher", '{"mlflow_run_id": "t"}'), ("maskd/prior", '{"mlflow_run_id": "a"}'), ("mgd/prior", "{")):
        (tmp_path / "runs/mini/pair" / folder).mkdir(parents=True)
        (tmp_path / "runs/mini/pair" / folder / "run.json").write_text(text)

    assert names.built_on("mini", "pair", "maskd") == {"teacher": "t", "auxiliary": "a"}
    assert names.built_on("mini", "pair", "maskd", "masks") == {"teacher": "t"}
    assert names.built_on("mini", "pair", "mgd", "tune") == {"teacher": "t"}
    assert names.built_on("mini", "pair", None, "teacher") == {}
    assert names.built_on("mini", "other", "mgd") == {}
