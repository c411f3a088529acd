"""A user's own data from files to leaderboard, through the stages, at a small tier of the user's own."""

import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.digest import file_sha256
from pipelines import layout
from pipelines.engine import records
from pipelines.params import load_grid
from pipelines.resolved import contents
from pipelines.stages import check, distill, evaluate, prepare, report, teachers
from reports.schemas.run import Metrics, Run
from tests import trees
from tests.conftest import edit_yaml, read
from tests.test_teachers import NoTracker
from tests.trees import refused

pytestmark = pytest.mark.slow

CASES = {
    "coco": ("gfl_r101_r50", "mgd", trees.own_coco),
    "label_maps": ("pspnet_r101_pspnet_r18", "mgd_seg", trees.own_label_maps),
}


@pytest.fixture(params=list(CASES))
def grid(request, project, tmp_path_factory, monkeypatch):
    """A project whose grid is the control and a method on a user's data; pair and method."""
    pair, method, tree = CASES[request.param]
    data = tree(tmp_path_factory.mktemp("mine"))
    tier = yaml.safe_load((project / "benchmarks/tiers/smoke.yaml").read_text())
    tier |= {"title": "my data, small", "data": "own", "scenes": None, "pretraining": None, "area_px2": [30, 80]}
    tier["schedule"] |= {"batch_size": 2}
    (project / "benchmarks/tiers/mine.yaml").write_text(yaml.safe_dump(tier))
    own = {**data.model_dump(), "image_px": 64}
    edit_yaml(project / "params.yaml", tier="mine", grid={pair: ["none", method]}, seeds=1, own=own)
    monkeypatch.chdir(project)
    monkeypatch.setattr(records, "Tracker", NoTracker)
    monkeypatch.setattr(evaluate, "Tracker", NoTracker)
    return pair, method


def run(monkeypatch, module, *arguments):
    """A stage, in this process."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()


def checked(monkeypatch):
    """Stage ``check``, as a user runs it after editing params.yaml."""
    run(monkeypatch, check, "--renew")
    run(monkeypatch, check)


def train(monkeypatch, pair, method):
    """A student under a method and what it has on the test images."""
    cell = f"{pair}/{method}/seed0"
    out = Path("runs/mine") / cell
    run(monkeypatch, distill, "--tier", "mine", "--cell", cell)
    run(monkeypatch, evaluate, "--tier", "mine", "--model", cell)
    return Run(**read(out / "run.json")), Metrics(**read(out / "metrics.json"))


def test_from_files_to_leaderboard(grid, monkeypatch):
    """Teacher trained here, control and method, each judged on the user's test images by the user's classes; a row each."""
    pair, method = grid
    at, teacher = ("--tier", "mine"), Path("runs/mine") / pair / "teacher"
    checked(monkeypatch)
    run(monkeypatch, prepare, *at)
    run(monkeypatch, teachers, *at, "--pair", pair)
    run(monkeypatch, evaluate, *at, "--model", f"{pair}/teacher")
    results = {name: train(monkeypatch, pair, name) for name in ("none", method)}
    digest = read(Path("data/mine/manifest.json"))["sets"]["own"]["digest"]
    run(monkeypatch, report)
    board = read(Path("reports/mine/leaderboard.json"))

    for name, (record, metrics) in results.items():
        assert (record.status, record.data.name, record.data.digest) == ("done", "own", digest)
        assert record.cost.num_images == 2  # three images make one batch of two
        assert ([key for point in record.curve for key in point if "mgd" in key] == []) == (name == "none")
        assert metrics.num_images == 3
        assert set(metrics.per_class) == {"cat", "dog"}
        assert metrics.score is not None
    assert read(Path("runs/mine/data/own.json")) == {"digest": digest}
    assert [row["method"] for row in board["tables"][0]["rows"]] == ["none", method]
    assert [row["mean"] for row in board["tables"][0]["rows"]] == [metrics.score for _, metrics in results.values()]
    assert board["tables"][0]["teacher"]["score"] == Metrics(**read(teacher / "metrics.json")).score
    # The user brings the teacher: the same weights as another code base would have written them.
    weights = torch.load(teacher / "weights.pth", weights_only=True)
    torch.save({"state_dict": OrderedDict((f"module.{key}", value) for key, value in weights.items())}, "brought.pth")
    own = yaml.safe_load(Path("params.yaml").read_text())["own"]
    edit_yaml(Path("params.yaml"), own={**own, "teacher": "brought.pth"})
    asked = (*at, "--pair", pair, "--out", "brought")
    assert "dvc repro check" in refused(run, monkeypatch, teachers, *asked)
    checked(monkeypatch)
    run(monkeypatch, teachers, *asked)
    brought, trained = Run(**read(Path("brought/run.json"))), Run(**read(teacher / "run.json"))

    assert (trained.origin, brought.origin) == (None, "brought.pth")
    assert brought.weights_sha256 == file_sha256(Path("brought/weights.pth"))
    found = torch.load("brought/weights.pth", weights_only=True)
    assert all(torch.equal(found[key], value) for key, value in weights.items())


def test_a_teacher_that_is_not_there(grid, monkeypatch):
    """A path that is no file: one line that names params.yaml, before anything is loaded."""
    own = yaml.safe_load(Path("params.yaml").read_text())["own"]
    edit_yaml(Path("params.yaml"), own={**own, "teacher": "nowhere.pth"})
    checked(monkeypatch)
    arguments = ("--tier", "mine", "--pair", grid[0], "--out", "out")

    assert "params.yaml: own.teacher nowhere.pth " in refused(run, monkeypatch, teachers, *arguments)
    assert not Path("out").exists()


def test_data_that_are_moved_are_no_other_data(grid):
    """Their digest decides, not where they lie: stage prepare looks at them again, and nothing is to be trained again."""

    def resolved():
        return {path.relative_to(layout.RESOLVED).as_posix(): content for path, content in contents(load_grid())}

    own, before = yaml.safe_load(Path("params.yaml").read_text())["own"], resolved()
    edit_yaml(Path("params.yaml"), own={**own, "root": "elsewhere"})
    moved = resolved()
    edit_yaml(Path("params.yaml"), own={**own, "image_px": 96})
    resized = resolved()

    assert [name for name in before if moved[name] != before[name]] == ["prepare.json"]
    assert [name for name in before if resized[name] == before[name]] == []


def test_categories_that_do_not_match(grid, monkeypatch):
    """A class that params.yaml does not name: the stage that comes before all training says so and names the file."""
    own = yaml.safe_load(Path("params.yaml").read_text())["own"]
    edit_yaml(Path("params.yaml"), own={**own, "classes": ["cat"]})
    message = refused(run, monkeypatch, prepare, "--tier", "mine")

    assert own["root"] in message
    assert "dog" in message if own["format"] == "coco" else "1" in message
    assert not Path("data/mine/manifest.json").exists()


def test_data_of_another_kind_than_the_pair(grid, monkeypatch):
    """A segmenter on boxes, a detector on label maps: refused with what to do."""
    other = next(pair for pair, _, _ in CASES.values() if pair != grid[0])
    edit_yaml(Path("params.yaml"), grid={name: ["none"] for name in (grid[0], other)})
    message = refused(run, monkeypatch, prepare, "--tier", "mine")

    assert "pairs of one kind" in message
