"""Tokens that others learned, in place of learning them: taken over to the last bit, or refused with what does not fit."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.artefacts import Artefacts, ReleasedTokens
from benchmarks.digest import file_sha256
from pipelines.released import registry
from tests.conftest import PAIR, edit_yaml, run_here
from tests.server import serving

ROW = f"{PAIR}/maskd"


@pytest.fixture
def project(finished_copy, monkeypatch):
    """A finished small grid, in which this process stands."""
    monkeypatch.chdir(finished_copy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished_copy}/mlflow/other.db")
    return finished_copy


def content(project, *, with_teacher=True, change=None, width=None):
    """A file as the authors' hook leaves it: other tokens than those learned here, behind a prefix, beside the detector."""
    learned = torch.load(project / f"runs/smoke/{ROW}/prior/prior.pth", weights_only=True)
    teacher = torch.load(project / f"runs/smoke/{PAIR}/teacher/weights.pth", weights_only=True)
    tokens = {key: torch.randn(value.shape, generator=torch.Generator().manual_seed(7)) for key, value in learned.items()}
    if width:
        tokens = {
            key: value.new_zeros([width if size == value.shape[-1] else size for size in value.shape])
            for key, value in tokens.items()
        }
        tokens = {key: torch.zeros(6, width) if key.endswith("mask_token") else value for key, value in tokens.items()}
    if change:
        teacher[change] = teacher[change] + 1
    return tokens, {**(teacher if with_teacher else {}), **{f"mask_loss.{key}": value for key, value in tokens.items()}}


def give(project, state, name="tokens.pth"):
    """Write the file outside the project and name it in params.yaml."""
    path = project.parent / name
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, path)
    edit_yaml(project / "params.yaml", tokens={PAIR: str(path)})
    return path


def check(project):
    """Stage check, which resolves what masks depends on."""
    return run_here(project, "pipelines.stages.check")


def masks(project):
    """Stages check and masks."""
    done = check(project)
    assert done.returncode == 0, done.stderr
    return run_here(project, "pipelines.stages.masks", "--tier", "smoke", "--pair", PAIR, "--method", "maskd")


@pytest.mark.slow
@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_file_is_taken_over_to_the_last_bit(project, with_teacher):
    """Record and output say whose it is; the student that learns under it names its digest."""
    before = {path: path.read_bytes() for path in Path("runs/resolved").rglob("*.json")}
    tokens, state = content(project, with_teacher=with_teacher)
    path = give(project, state)
    done = masks(project)
    assert done.returncode == 0, done.stderr
    found = torch.load(f"runs/smoke/{ROW}/prior/prior.pth", weights_only=True)
    run = json.loads(Path(f"runs/smoke/{ROW}/prior/run.json").read_text())

    assert found.keys() == tokens.keys()
    assert all(torch.equal(found[key], tokens[key]) for key in tokens)
    known = "this pair's, to the last bit" if with_teacher else "does not hold the teacher"
    assert known in done.stdout
    assert "tokens.pth" in run["origin"]
    assert known in run["origin"]
    assert run["cost"] is None
    changed = [path.relative_to("runs/resolved").as_posix() for path, text in before.items() if path.read_bytes() != text]
    assert changed == [f"masks/{ROW}.json"]
    assert json.loads(Path(f"runs/resolved/masks/{ROW}.json").read_text())["tokens"] == {"sha256": file_sha256(path)}

    done = run_here(project, "pipelines.stages.distill", "--tier", "smoke", "--cell", f"{ROW}/seed0")
    assert done.returncode == 0, done.stderr
    cell = json.loads(Path(f"runs/smoke/{ROW}/seed0/run.json").read_text())
    assert cell["prior_sha256"] == run["weights_sha256"] == file_sha256(Path(f"runs/smoke/{ROW}/prior/prior.pth"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"change": "backbone.conv1.weight"}, "was learned on another teacher: 1 of "),
        ({"width": 256, "with_teacher": False}, "mask_modules.0.mask_token (6, 256) for (6, "),
        ({"width": 256}, "mask_modules.0.mask_token (6, 256) for (6, "),
    ],
)
def test_what_does_not_fit_is_refused(project, changes, says):
    """One line; what was learned here stays."""
    before = file_sha256(Path(f"runs/smoke/{ROW}/prior/prior.pth"))
    give(project, content(project, **changes)[1])
    done = masks(project)

    assert done.returncode == 2
    assert f"params.yaml: tokens.{PAIR}: " in done.stderr
    assert says in done.stderr
    assert done.stderr.count("error: ") == 1
    assert file_sha256(Path(f"runs/smoke/{ROW}/prior/prior.pth")) == before


@pytest.mark.slow
def test_a_file_without_tokens_and_one_that_is_not_there(project):
    """The first is told by what it lacks, before anything is written; the second already by stage check."""
    give(project, {"other.weight": torch.zeros(2, 2)})
    done = masks(project)
    assert done.returncode == 2
    assert "the file lacks mask_modules.0.mask_token" in done.stderr

    edit_yaml(project / "params.yaml", tokens={PAIR: "nowhere.pth"})
    done = check(project)
    assert done.returncode == 2
    assert f"params.yaml: tokens.{PAIR}: there is no file nowhere.pth" in done.stderr


@pytest.mark.slow
def test_released_tokens_are_fetched_and_held_to_their_first_digest(project, monkeypatch):
    """By the word `released`; a row for which nobody released any is named with those that have some."""
    tokens, state = content(project)
    path = give(project, state)
    with serving() as server:
        server.files["/tokens.pth"] = path.read_bytes()
        one = ReleasedTokens.model_construct(
            address=f"{server.url}/tokens.pth", file="tokens-of-ours.pth", sha256=None, code=None, method="maskd", pairs=[PAIR],
            licence=None, note=None,
        )  # fmt: skip
        everything = Artefacts.model_construct(students={}, tokens={"ours": one})
        monkeypatch.setattr(registry, "artefacts", lambda: everything)
        monkeypatch.setattr("pipelines.released.tokens.artefacts", lambda: everything)
        edit_yaml(project / "params.yaml", tokens={PAIR: "released"})
        done = masks(project)
        assert done.returncode == 0, done.stderr
        found = torch.load(f"runs/smoke/{ROW}/prior/prior.pth", weights_only=True)
        assert all(torch.equal(found[key], tokens[key]) for key in tokens)
        assert file_sha256(path) in Path("artefacts.lock").read_text()

        everything.tokens["ours"].__dict__["pairs"] = ["another_pair"]
        done = check(project)
    assert done.returncode == 2
    assert "nobody released what maskd learns on its teacher; there are: another_pair of maskd" in done.stderr
