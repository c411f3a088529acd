"""Teachers that are fetched: verified, brought into today's layout, and evaluated before anything learns from them."""

import hashlib
import io
import re
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS

from benchmarks.digest import file_sha256
from benchmarks.pair import Checkpoint
from benchmarks.synthetic import write_scenes
from pipelines.engine import records
from pipelines.engine.compose import compose_training
from pipelines.engine.evaluation import measure
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.records import RunSpec
from pipelines.engine.setting import Setting, Weights
from pipelines.engine.weights import NO_WEIGHTS, save_weights
from pipelines.stages import teachers
from reports.schemas.run import Run
from tests.conftest import PAIR, build, read, setting
from tests.containers import mmrazor_1
from tests.server import Fault, serving
from tests.trees import refused

DATA = Path("data/smoke")
JOB = RunSpec("teacher", "smoke", PAIR, None, 0)
HTML = b"<!DOCTYPE html><html><body>Sign in to download</body></html>"


@pytest.fixture(autouse=True)
def place(project, monkeypatch):
    """A project of its own, in which MLflow is not told."""
    monkeypatch.chdir(project)
    monkeypatch.delenv("KD_DOWNLOADS", raising=False)
    monkeypatch.setattr(records, "Tracker", NoTracker)
    prepare_process()


class NoTracker:
    """MLflow out of reach."""

    run_id = None

    def __init__(self, *arguments, **named):
        """Nothing."""

    def __getattr__(self, name):
        """Every call does nothing."""
        return lambda *_: None


@pytest.fixture
def server():
    """A publisher."""
    with serving() as running:
        yield running


def publish(server, content, name="gfl_r101"):
    """Put a checkpoint onto the server; how a pair file writes it down, but for http."""
    file = io.BytesIO()
    torch.save(content, file)
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    path = f"/{name}-{digest[:8]}.pth"
    server.files[path] = file.getvalue()
    return Checkpoint.model_construct(url=server.url + path, sha256=digest[:8], size_bytes=None)


def in_an_old_layout(model):
    """As MMDetection 2 wrote it: behind ``module.``, with averages and an optimizer beside it, without computed buffers."""
    state = OrderedDict(
        (f"module.{key}", value) for key, value in model.state_dict().items() if not key.endswith("integral.project")
    )
    state["module.ema_backbone_conv1_weight"] = torch.zeros(1)
    assert len(state) == len(model.state_dict())
    return {"meta": {"mmdet_version": "2.3.0", "CLASSES": ("a", "b")}, "state_dict": state, "optimizer": {"state": {}}}


def published(pair_name=PAIR, tier="smoke", side="teacher", **changes):
    """A pair with something else published, at a scaled tier that takes its data for the published ones."""
    at = setting(pair_name, tier, DATA)
    model = getattr(at.pair, side).model_copy(update=changes)
    return Setting(at.pair.model_copy(update={side: model}), at.tier.model_copy(update={"data": "published"}), at.origin)


@pytest.fixture
def scenes():
    """The test images; a random teacher on them, and what it has there."""
    at = setting(data=DATA)
    write_scenes(at.tier.scenes, DATA)
    torch.manual_seed(0)
    model = build(compose_training(at, "teacher", seed=0))
    save_weights(model, Path("plain.pth"))
    return SimpleNamespace(model=model, found=measure(at, "teacher", Path("plain.pth"), Path("work/plain")).score)


def fetched(server, scenes, stated, content=None):
    """Fetch and write the random teacher, of which its publisher states something."""
    checkpoint = publish(server, content or in_an_old_layout(scenes.model))
    at = published(checkpoint=checkpoint, stated=stated)
    teachers.write_fetched(at, teachers.get(checkpoint), checkpoint.sha256, JOB, DATA, Path("out"))
    return checkpoint


def test_students_depend_on_digests_alone():
    """Trained again to the same weights at another time: the same bytes; other weights, another start or other data are others."""
    known = {"weights_sha256": "1", "student_initialisation_sha256": "2", "data": {"name": "scenes", "digest": "3"}}

    def left(**changes):
        record = {
            "stage": "teacher",
            "status": "done",
            "tier": "smoke",
            "pair": PAIR,
            "method": None,
            "seed": 0,
            **known,
            **changes,
        }
        Path("run.json").write_text(Run(**record).model_dump_json())
        teachers.write_digests(Path())
        return Path("digests.json").read_bytes()

    first = left(finished_at="2026-01-02T03:04:05+00:00")
    others = [
        left(weights_sha256="9"), left(student_initialisation_sha256=None), left(data={"name": "scenes", "digest": "9"}),
    ]  # fmt: skip

    assert left(finished_at="2027-01-02T03:04:05+00:00", mlflow_run_id="another") == first
    assert read(Path("digests.json")) == {"weights": "1", "initialisation": "2", "data": "3"}
    assert len({first, *others}) == 4


@pytest.mark.slow
def test_a_fetched_teacher_is_the_published_one(server, scenes):
    """Weights in today's layout, bit for bit; the record names the file, the data and the weights; fetched once for two pairs."""
    checkpoint = fetched(server, scenes, stated=scenes.found + 0.19)
    fetched(server, scenes, stated=scenes.found - 0.19)
    weights, run = torch.load("out/weights.pth", weights_only=True), Run(**read(Path("out/run.json")))

    assert weights.keys() == scenes.model.state_dict().keys()
    assert all(torch.equal(weights[key], value) for key, value in scenes.model.state_dict().items())
    assert re.fullmatch(r"[0-9a-f]{8}-gfl_r101-[0-9a-f]{8}\.pth", run.origin)
    assert run.origin.endswith(checkpoint.url.rsplit("/", 1)[-1])
    assert (run.stage, run.status, run.pair, run.method, run.cost) == ("teacher", "done", PAIR, None, None)
    assert run.weights_sha256 == file_sha256(Path("out/weights.pth"))
    assert run.data.digest == read(DATA / "manifest.json")["digest"]
    assert len(server.asked) == 1


@pytest.mark.slow
def test_a_teacher_out_of_a_distillers_checkpoint(server, scenes, capsys):
    """The student of somebody's mmrazor run, taken as teacher: found by its keys, and that is said."""
    other = {key: value + 1 for key, value in scenes.model.state_dict().items()}
    fetched(server, scenes, stated=scenes.found, content=mmrazor_1(scenes.model.state_dict(), other))
    weights = torch.load("out/weights.pth", weights_only=True)

    assert all(torch.equal(weights[key], value) for key, value in scenes.model.state_dict().items())
    assert "its model is under 'architecture.'; left out: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("apart", [-0.21, 0.21, 44.7])
def test_a_teacher_that_is_not_as_good_or_better_than_stated(server, scenes, apart):
    """More than 0.2 points either way stops the pair with that sentence; no weights are left for a later stage to take."""
    message = refused(fetched, server, scenes, scenes.found + apart)

    assert re.fullmatch(
        rf".*data/weights/\S+\.pth .*{PAIR} .*{scenes.found:.2f} box AP .*{re.escape(str(scenes.found + apart))}: .*0\.2 .*"
        rf"pairs/{PAIR}\.yaml",
        message,
    )
    assert not Path("out/weights.pth").exists()
    assert not Path("out/run.json").exists()


def test_two_tenths_are_two_tenths(server, scenes, monkeypatch):
    """44.5 where 44.7 is stated is not more than 0.2 apart, whatever binary fractions say."""
    assert abs(44.5 - 44.7) > 0.2
    monkeypatch.setattr("pipelines.stages.teachers.measure", lambda *_: SimpleNamespace(score=44.5))
    fetched(server, scenes, stated=44.7)

    assert Path("out/weights.pth").exists()


def test_altered_data_stop_a_fetched_teacher_before_it_is_evaluated(server, scenes):
    """A test image that is another one now: one line, and nothing that a later stage could take."""
    (DATA / "test/000001.png").write_bytes(b"no image")

    assert "000001.png is altered" in refused(fetched, server, scenes, scenes.found)
    assert not Path("out").exists()


def test_a_checkpoint_of_another_architecture(server, scenes):
    """The student's weights under the teacher's address: one line with the first key, before anything is evaluated."""
    student = build(compose_training(setting(), "student", seed=0))
    checkpoint = publish(server, {"state_dict": student.state_dict()})
    at = published(checkpoint=checkpoint, stated=0.0)
    path = teachers.get(checkpoint)

    message = refused(teachers.write_fetched, at, path, checkpoint.sha256, JOB, DATA, Path("out"))
    assert str(path) in message
    assert "backbone." in message
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize("how", ["html", "other bytes", "404"])
def test_an_address_that_gives_something_else(server, how):
    """A page to sign in on, another file, nothing: one line with the address and where to put the file by hand."""
    checkpoint = publish(server, {"weight": torch.ones(3)})
    path = checkpoint.url.removeprefix(server.url)
    server.always[path] = {
        "html": Fault(body=HTML, headers={"Content-Type": "text/html; charset=utf-8"}),
        "other bytes": Fault(body=b"x" * 2000),
        "404": Fault(status=404),
    }[how]
    message = refused(teachers.get, checkpoint)

    assert checkpoint.url in message
    assert f"by hand to this path: data/weights/{checkpoint.sha256}-" in message
    assert not list(Path("data/weights").glob("*.pth"))


def test_the_folder_of_downloads_is_the_users(server, monkeypatch, tmp_path):
    """``KD_DOWNLOADS`` names it; several projects may share it."""
    monkeypatch.setenv("KD_DOWNLOADS", str(tmp_path / "shared"))

    assert teachers.get(publish(server, {"weight": torch.ones(3)})).parent == tmp_path / "shared"


def test_the_whole_digest_of_the_first_use_is_held(server):
    """The pair has eight digits; another file that begins with them, put there later, is refused and named."""
    checkpoint = publish(server, {"weight": torch.ones(3)})
    path = teachers.get(checkpoint)
    digest = file_sha256(path)
    assert digest in Path("artefacts.lock").read_text()

    edited = Path("artefacts.lock").read_text().replace(digest[8:], "0" * 56)
    Path("artefacts.lock").write_text(edited)
    message = refused(teachers.get, checkpoint)
    assert f"{path} has sha256 {digest[:12]}..., at its first use" in message
    assert checkpoint.url in message
    assert Path("artefacts.lock").read_text() == edited


def test_initialisation_is_verified_and_loaded(server):
    """An ImageNet file with its classifier: written as tensors alone, and what the student's backbone starts from."""
    at = setting("gfl_r50_r18", "paper")
    torch.manual_seed(1)
    state = build(compose_training(at, "student", seed=0)).backbone.state_dict()
    state = OrderedDict((key, torch.rand_like(value) if value.is_floating_point() else value) for key, value in state.items())
    checkpoint = publish(server, OrderedDict(state, **{"fc.weight": torch.ones(2, 2), "fc.bias": torch.ones(2)}), "resnet18")
    student = at.pair.student.model_copy(update={"initialisation": checkpoint})
    at = Setting(at.pair.model_copy(update={"student": student}), at.tier, at.origin)
    out = Path("teacher/initialisation.pth")

    start = teachers.write_initialisation(at, "student", out, Path("backbones"))
    assert start == Weights(out, file_sha256(out))
    assert torch.load(out, weights_only=True).keys() == state.keys()
    hook, *_ = compose_training(at, "student", seed=0, initialisation=start).custom_hooks
    model = build(compose_training(at, "student", seed=0))
    HOOKS.build(hook).before_train(SimpleNamespace(iter=0, model=model))
    found = model.backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("pair_name", "tier"),
    [("deeplabv3_r101_deeplabv3_r18_scratch", "mini"), ("deeplabv3_r101_deeplabv3_r18_scratch", "paper")],
)
def test_a_student_that_starts_from_random_weights(server, pair_name, tier):
    """A pair whose authors do so: nothing is fetched or pre-trained for it, and the file says that there is nothing."""
    out = Path("teacher/initialisation.pth")

    assert teachers.write_initialisation(setting(pair_name, tier), "student", out, Path("backbones")) is None
    assert out.read_bytes() == NO_WEIGHTS
    assert not Path("data/weights").exists()


def test_a_tap_that_is_no_module():
    """A misspelt path is a line that names the pair's file, the side and the role, before the teacher is trained."""
    at = setting()
    misspelt = at.pair.model_copy(update={"taps": {"neck": "nek", "box_maps": "bbox_head.gfl_regg"}})

    message = refused(teachers.check_hook_points, Setting(misspelt, at.tier, at.origin), PAIR)
    assert re.match(rf"benchmarks/pairs/{PAIR}\.yaml: .*teacher .*nek, bbox_head\.gfl_regg .*neck, box_maps", message), message
