"""The main job in small: what it lays out is in order, and nothing of the default grid is touched."""

import shutil
from pathlib import Path

import yaml

from benchmarks.tier import Tier
from pipelines.commands import quick
from pipelines.params import load_grid
from tests.conftest import ROOT, copy_project, renew, run_here


def test_it_is_shorter_and_else_the_same():
    """Lengths and the number of test images differ from tier mini, the models and rates do not."""
    mini = yaml.safe_load((ROOT / "benchmarks/tiers/mini.yaml").read_text())
    small, whole = Tier(**quick.quick_tier(mini)), Tier(**mini)

    assert (small.model, small.schedule.student_lr, small.data) == (whole.model, whole.schedule.student_lr, whole.data)
    assert small.pretraining.epochs < whole.pretraining.epochs
    assert small.schedule.teacher_epochs < whole.schedule.teacher_epochs
    assert small.scenes.test < whole.scenes.test


def test_what_is_laid_out(tmp_path, monkeypatch):
    """A grid that stage check accepts, three seeds each; results are left where they are, and a second time changes nothing but the files' times."""
    project = copy_project(tmp_path)
    shutil.copytree(ROOT / "reports", project / "reports", dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    monkeypatch.chdir(project)
    quick.lay_out(quick.FOLDER)
    first = {path: path.read_bytes() for path in quick.FOLDER.rglob("*") if path.is_file()}
    quick.lay_out(quick.FOLDER)
    again = {path: path.read_bytes() for path in quick.FOLDER.rglob("*") if path.is_file()}
    stages = yaml.safe_load((quick.FOLDER / "dvc.yaml").read_text())["stages"]
    renew(project / quick.FOLDER)
    laid = run_here(project / quick.FOLDER, "pipelines.stages.check")

    assert first == again
    assert {path: path.read_bytes() for path in before} == before
    assert (quick.FOLDER / "reports/templates/leaderboard.md.j2").is_file()
    assert not (quick.FOLDER / "reports/mini/leaderboard.json").exists()
    assert {"pretrain", "teachers", "distill", "evaluate", "report"} <= stages.keys()
    assert (laid.returncode, laid.stdout.splitlines()[0]) == (0, "[check] tier quick: 9 cells, all files in order")
    assert load_grid(Path(quick.FOLDER / "params.yaml")).rows == {"gfl_r101_r50": ["none", "pkd", "crosskd"]}
