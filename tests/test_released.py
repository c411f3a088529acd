"""Released students: found, verified, taken out of their containers, and evaluated to exactly what they are worth."""

import contextlib
import hashlib
import io
import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.artefacts import Artefacts, Log, ReleasedStudent, Weights
from benchmarks.dataset import datasets
from benchmarks.reported import RegistryEntry
from pipelines import resolved
from pipelines.commands.released import released
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.published import published_config
from pipelines.params import load_grid
from pipelines.released import registry
from pipelines.stage_list import stages
from reports.formats.html import page
from reports.formats.html_curves import panels
from reports.formats.markdown import markdown
from reports.plots.training import at_iterations
from reports.schemas.evidence import ReleasedStudent as Record
from reports.schemas.leaderboard import Curve
from reports.stats.released import reported_score
from tests.boards import board, made_up
from tests.conftest import ROOT
from tests.containers import CONTAINERS
from tests.server import Fault, serving
from tests.trees import refused, small_catalogue

SIZES = [(90, 60), (64, 64), (80, 50), (60, 90)]  # of the images, width and height
CHANGES = {
    "model.backbone.depth": 18,
    "model.backbone.base_channels": 8,
    "model.backbone.init_cfg": None,
    "model.neck.in_channels": [8, 16, 32, 64],
    "model.neck.out_channels": 32,
    "model.bbox_head.in_channels": 32,
    "model.bbox_head.feat_channels": 32,
    "model.bbox_head.stacked_convs": 1,
    "test_dataloader.num_workers": 0,
    "test_dataloader.persistent_workers": False,
}
PAIR = {
    "title": "a small GFL", "task": "detection", "dataset": "coco", "metric": "box AP", "head": "gfl", "schedule": "1x", "epochs": 12,
    "gpus": 8, "images_per_gpu": 2,
    "teacher": {"name": "T", "config": "mmdet::gfl/gfl_r50_fpn_1x_coco.py", "checkpoint": None, "no_checkpoint": "made up", "stated": None},
    "student": {"name": "S", "config": "mmdet::gfl/gfl_r50_fpn_1x_coco.py", "changes": CHANGES, "why_changed": "small"},
}  # fmt: skip


def small_gfl():
    """The student's published config, at a size that a test can afford."""
    config = published_config("mmdet::gfl/gfl_r50_fpn_1x_coco.py")
    config.merge_from_dict({key: value for key, value in CHANGES.items() if key.startswith("model.")})
    return config


def built(seed, depth=18):
    """A model with random weights by MMDetection's own builder, its scores spread so that detections differ."""
    config = small_gfl()
    config.model.backbone.depth = depth
    if depth > 34:
        config.model.neck.in_channels = [32, 64, 128, 256]
    with quiet(), torch.random.fork_rng(devices=[]), DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(seed)
        model = MODELS.build(config.model)
        model.init_weights()
        torch.nn.init.normal_(model.bbox_head.gfl_cls.weight, std=0.3)
    return model.eval()


def predictions(state, root):
    """What plain MMDetection predicts with the weights: its own config, runner and result file, nothing of this suite."""
    config = small_gfl()
    config.load_from = str(root / "plain.pth")
    torch.save(state, config.load_from)
    config.test_dataloader.update(num_workers=0, persistent_workers=False)
    config.test_dataloader.dataset.data_root = f"{root}/"
    config.test_evaluator.update(
        ann_file=str(root / "annotations/instances_val2017.json"), format_only=True, outfile_prefix=str(root / "plain")
    )
    config.work_dir, config.log_level = str(root / "work"), "ERROR"
    with quiet():
        Runner.from_cfg(Config(config.to_dict())).test()
    return json.loads((root / "plain.bbox.json").read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Images, a student, and a truth that it half knows: some of its own boxes, moved. Its AP by pycocotools alone."""
    prepare_process()
    root = tmp_path_factory.mktemp("coco")
    random = np.random.default_rng(0)
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(CocoDataset.METAINFO["classes"])]
    (root / "val2017").mkdir()
    (root / "annotations").mkdir()
    images = []
    for number, (width, height) in enumerate(SIZES):
        images.append({"id": number + 1, "file_name": f"{number:012d}.jpg", "width": width, "height": height, "license": 1})
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(root / "val2017" / images[-1]["file_name"])
    truth = root / "annotations/instances_val2017.json"
    box = {"bbox": [1.0, 1.0, 20.0, 20.0], "area": 400.0, "iscrowd": 0, "segmentation": [[1, 1, 21, 1, 1, 21]]}
    content = {"images": images, "categories": categories}
    truth.write_text(json.dumps({**content, "annotations": [{**box, "id": 1, "image_id": 1, "category_id": 1}]}))
    student = built(seed=1).state_dict()
    kept = []
    for one in predictions(student, root):
        x, y, width, height = one["bbox"]
        if width > 6 and height > 6 and random.random() < 0.02:
            moved = [max(0.0, x + random.normal() * width / 12), y, width, height]
            kept.append(
                {
                    **box,
                    "id": len(kept) + 1,
                    "image_id": one["image_id"],
                    "category_id": one["category_id"],
                    "bbox": moved,
                    "area": width * height,
                }
            )
    truth.write_text(json.dumps({**content, "annotations": kept}))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        judge = COCOeval(coco, coco.loadRes(predictions(student, root)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    ap = 100 * judge.stats[0]
    assert 5 < ap < 95
    return root, student, built(seed=2, depth=50).state_dict(), ap


@pytest.fixture
def project(world, tmp_path, monkeypatch):
    """A project with the pair and a server of its own; MLflow in a file of its own."""
    small_catalogue(monkeypatch)
    record = datasets()["coco"]
    from dataclasses import replace  # noqa: PLC0415

    splits = {name: replace(split, num_images=len(SIZES)) for name, split in record.splits.items()}
    monkeypatch.setitem(datasets(), "coco", replace(record, splits=splits))
    (tmp_path / "benchmarks/pairs").mkdir(parents=True)
    (tmp_path / "benchmarks/pairs/small_gfl.yaml").write_text(yaml.safe_dump(PAIR))
    (tmp_path / "benchmarks/tiers").symlink_to(ROOT / "benchmarks/tiers")
    (tmp_path / "methods").symlink_to(ROOT / "methods")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"tier": "paper", "grid": {"small_gfl": ["none"]}, "seeds": 1}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_COCO", str(world[0]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def publish(monkeypatch, server, content, ap, *, name="student.pth", sha256=None, address=None, body=None, log=None):
    """Put a file onto the server, and into the registries a result that it is said to have."""
    file = io.BytesIO()
    torch.save(content, file)
    body = file.getvalue() if body is None else body
    if server is not None:
        server.files[f"/{name}"] = body
        address = f"{server.url}/{name}"
    weights = Weights.model_construct(address=address, file=name, sha256=sha256, code=None, container="unknown")
    student = ReleasedStudent.model_construct(
        reported=["small-gfl-control"], weights=weights, log=log, config=None, licence=None, nothing=None, note=None
    )
    entry = RegistryEntry(
        id="small-gfl-control", pair="small_gfl", what="control", method="none", metric="box AP", value=round(ap, 1), source="a table",
        read="verbatim", comparable=True,
    )  # fmt: skip
    everything = Artefacts.model_construct(students={"small-gfl-control": student}, tokens={})
    monkeypatch.setattr(registry, "artefacts", lambda: everything)
    monkeypatch.setattr(registry, "reported", lambda: {entry.id: entry})
    monkeypatch.setattr("pipelines.released.student.reported", lambda: {entry.id: entry})
    return hashlib.sha256(body).hexdigest()


def record(project):
    """The only record, if there is one."""
    path = project / "runs/paper/released/small-gfl-control.json"
    return Record.model_validate_json(path.read_text()) if path.is_file() else None


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_released_student_is_worth_what_it_is_worth(project, world, monkeypatch, capsys, container):
    """In any container, to the last digit of what plain MMDetection and pycocotools say of the bare weights."""
    _, student, teacher, ap = world
    with serving() as server:
        digest = publish(monkeypatch, server, CONTAINERS[container][0](student, teacher), ap)
        released("small_gfl", "none")
    found = record(project)

    assert found.origin == "released"
    assert found.metrics.score == pytest.approx(ap, abs=5e-5)  # records keep four digits
    assert found.sha256 == digest
    assert found.scores[0].agrees
    lock = yaml.safe_load((project / "artefacts.lock").read_text())
    assert [use["sha256"] for use in lock.values()] == [digest]
    said = capsys.readouterr().out
    assert f"'{CONTAINERS[container][1]}'" in said or not CONTAINERS[container][1]
    assert "this verifies the weights, not the method" in said


def test_a_score_that_is_not_the_reported_one_is_said(project, world, monkeypatch, capsys):
    """Recorded all the same: it is a result."""
    with serving() as server:
        publish(monkeypatch, server, world[1], world[3] + 1)
        released("small_gfl", "none")

    assert not record(project).scores[0].agrees
    assert "differs by" in capsys.readouterr().out


def test_another_file_at_the_address_is_refused(project, world, monkeypatch):
    """After a first use, the digest is held on to; the line names both and how to accept the new one."""
    with serving() as server:
        first = publish(monkeypatch, server, world[1], world[3])
        released("small_gfl", "none")
        for path in (project / "data/weights").iterdir():
            path.unlink()
        (project / "runs/paper/released/small-gfl-control.json").unlink()
        second = publish(monkeypatch, server, {key: value + 0 for key, value in world[2].items()}, world[3])
        line = refused(released, "small_gfl", "none")

    assert f"has sha256 {second[:12]}..., at its first use on" in line
    assert f"it had {first[:12]}...: " in line
    assert "removing the address from artefacts.lock" in line
    assert record(project) is None


def damaged(kind, student):
    """Content or bytes of a file that is not the student, and what the line says of it."""
    few = OrderedDict((key, value[:20] if "gfl_cls" in key else value) for key, value in student.items())
    key = "backbone.conv1.weight"
    file = io.BytesIO()
    torch.save(student, file)
    return {
        "another architecture": (built(seed=3, depth=50).state_dict(), None, "of another architecture than GFL"),
        "other classes": (few, None, "gfl_cls.weight has 20 outputs, here 80"),
        "not finite": ({**student, key: student[key] * torch.nan}, None, f"{key} hold values that are not finite"),
        "pickled": ({"state_dict": student, "meta": Config({"model": {}})}, None, "nothing in the file was run"),
        "web page": (None, b"<!DOCTYPE html><title>Sign in</title>", "web page"),
        "cut": (None, file.getvalue()[:-2000], "cut off"),
    }[kind]


@pytest.mark.parametrize("kind", ["another architecture", "other classes", "not finite", "pickled", "web page", "cut"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_what_is_not_the_student_is_one_line(project, world, monkeypatch, kind, by_hand):
    """Fetched or put there by hand: nothing is recorded, and no digest is held on to."""
    content, body, says = damaged(kind, world[1])
    with serving() as server:
        publish(monkeypatch, server, content, 30.0, body=body)
        if by_hand:
            (project / "data/weights").mkdir(parents=True)
            (project / "data/weights/student.pth").write_bytes(server.files["/student.pth"])
        line = refused(released, "small_gfl", "none")

    assert says in line
    assert "student.pth" in line
    assert record(project) is None
    assert not (project / "artefacts.lock").exists()


def test_a_wrong_digest_is_named(project, world, monkeypatch):
    """A publisher who states one is held to it."""
    with serving() as server:
        publish(monkeypatch, server, world[1], 30.0, sha256="0123abcd")
        line = refused(released, "small_gfl", "none")

    assert "0123abcd" in line
    assert record(project) is None


def test_a_cut_connection_goes_on(project, world, monkeypatch):
    """A download that breaks off is taken up again."""
    with serving() as server:
        publish(monkeypatch, server, world[1], world[3])
        server.faults["/student.pth"] = [Fault(cut_after=10_000)]
        released("small_gfl", "none")

    assert record(project).metrics.score == pytest.approx(world[3], abs=5e-5)


@pytest.mark.parametrize(("host", "code"), [("drive.google.com/file/d/1S7/view", None), ("pan.baidu.com/s/1Bq", "gu2x")])
def test_what_only_a_browser_can_download(project, world, monkeypatch, tmp_path, host, code):
    """The line says what to open and where to put it; what is put there is found."""
    folder = tmp_path / "elsewhere"
    monkeypatch.setenv("KD_DOWNLOADS", str(folder))
    publish(monkeypatch, None, world[1], world[3], address=f"https://{host}")
    registry.artefacts().students["small-gfl-control"].weights.__dict__["code"] = code
    line = refused(released, "small_gfl", "none")
    assert f"open https://{host}" in line
    assert f"put the file at {folder / 'student.pth'}" in line
    assert code is None or f"with the code {code}" in line

    folder.mkdir()
    torch.save(world[1], folder / "student.pth")
    released("small_gfl", "none")
    assert record(project).scores[0].agrees


def test_the_test_split_is_enough(project, world, monkeypatch):
    """A data set without its training images: nobody downloads 19 GB to check a claim. One without test images is named."""
    assert not (world[0] / "train2017").exists()
    monkeypatch.setenv("KD_COCO", str(project / "nothing"))
    with serving() as server:
        publish(monkeypatch, server, world[1], 30.0)
        line = refused(released, "small_gfl", "none")

    assert "val2017" in line
    assert "train2017 has" not in line


@pytest.mark.parametrize(
    ("value", "measured", "off", "agrees"),
    [
        (43.7, 43.7499, 0.0, True),
        (43.7, 43.85, 0.1, True),
        (43.7, 43.86, 0.11, False),
        (43.7, 43.54, 0.11, False),
        (76.31, 76.42, 0.105, False),
        (76.31, 76.41, 0.095, True),
        (77.0, 77.14, 0.09, True),
    ],
)
def test_agreement_is_within_a_tenth_of_a_value_that_rounds_to_the_reported(value, measured, off, agrees):
    """The last printed decimal is rounded: 43.7 stands for 43.65 to 43.75."""
    score = reported_score("a-b", "box AP", value, measured)

    assert score.off == pytest.approx(off, abs=1e-6)
    assert score.agrees == agrees


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "none"), "PAIR: unknown pair 'nothing'"),
        (("gfl_r101_r50", "nothing"), "METHOD: unknown method 'nothing'"),
        (("deeplabv3_r101_pspnet_r18", "maskd_seg"), "there is nothing to evaluate: "),
        (("gfl_r50_r18", "fitnet"), "no artefact of it is known; no result is reported"),
        (("gfl_r101_r50", "crosskd", "--only", "x-y"), "--only x-y: crosskd on gfl_r101_r50 has gfl-crosskd"),
        (("gfl_r101_r50", "crosskd", "--tier", "mini"), "tier mini has no published data or models"),
    ],
)
def test_rows_without_artefacts_are_one_line(monkeypatch, arguments, message):
    """Of the real registries."""
    monkeypatch.chdir(ROOT)
    words = [argument for argument in arguments if not argument.startswith("--")]
    options = {}
    if len(arguments) > 2:
        words, options = words[:2], {arguments[2].removeprefix("--"): arguments[3]}

    assert message in refused(lambda: released(*words, **options))


def test_a_stage_depends_on_its_student_and_on_nothing_else(monkeypatch):
    """Of the real registries: address, container of settings, code of the evaluation; at a reduced tier it is refused."""
    monkeypatch.chdir(ROOT)
    grid = load_grid().model_copy(update={"tier": "paper", "released": ["gfl-crosskd"], "rows": {"gfl_r101_r50": ["none"]}})
    assert stages(grid)["released"] == ["gfl-crosskd"]
    found = resolved.released(grid, "gfl-crosskd")
    assert found["student"]["weights"]["address"] == "https://drive.google.com/file/d/1S7fyDkFSAauJry0ZGS-ZW-P3CJb7RlsO/view"
    assert found["config"] == resolved.distill(grid, "gfl_r101_r50", "crosskd")["config"]
    assert "pipelines.engine.containers" in found["code"]
    assert not {"methods.crosskd", "pipelines.engine.training", "pipelines.released.logs"} & {*found["code"]}

    with pytest.raises(ValueError, match="gfl-crosskd is of published size and data, and tier mini has others"):
        resolved.released(grid.model_copy(update={"tier": "mini"}), "gfl-crosskd")
    with pytest.raises(ValueError, match=r"released: no student 'gfl'; benchmarks/artefacts\.yaml has: "):
        resolved.released(grid, "gfl")
    with pytest.raises(ValueError, match="frcnn-1x-fbkd-mmrazor is the student of no row of this suite"):
        resolved.released(grid, "frcnn-1x-fbkd-mmrazor")


def test_an_authors_log_lies_under_our_curves():
    """Over the same fraction of the training, on the page and in the figure; a row without runs shows none."""
    made = made_up(scores={"none": [40.0, 40.2], "mgd": [41.0, 41.2]})
    (row,) = [one for one in made.rows if one.method == "mgd"]
    row = row.model_copy(update={"reported_logs": [[(0.5, 30.0), (1.0, 41.0)]]})
    curve = Curve(own_loss=[(100, 2.0), (1000, 1.0)], val_score=[(500, 20.0), (1000, 40.0)])
    row = row.model_copy(update={"seeds": [seed.model_copy(update={"curve": curve}) for seed in row.seeds]})

    assert at_iterations(row.reported_logs[0], row) == [(500, 30.0), (1000, 41.0)]
    assert at_iterations(row.reported_logs[0], row.model_copy(update={"seeds": []})) == []
    shown = panels([seed.curve for seed in row.seeds], [], made, [at_iterations(row.reported_logs[0], row)])
    assert [who for who, _ in shown[-1].series].count("log") == 1
    assert "log" not in [who for who, _ in shown[0].series]


@pytest.mark.slow
def test_a_log_is_read_beside_the_student(project, world, monkeypatch, capsys):
    """Into the record and into MLflow, tagged as reported; one that cannot be read is a reason, and the student counts all the same."""
    lines = [json.dumps({"env_info": "GPU 0,1: V100", "config": "samples_per_gpu=2", "seed": 0})]
    for epoch, score in ((1, 0.25), (2, 0.5)):
        lines.append(
            json.dumps({"mode": "train", "epoch": epoch, "iter": 50, "lr": 0.01, "loss_cls": 1.5 / epoch, "loss": 2.0 / epoch})
        )
        lines.append(json.dumps({"mode": "val", "epoch": epoch, "iter": 4, "lr": 0.01, "bbox_mAP": score}))
    with serving() as server:
        log = Log.model_construct(address=f"{server.url}/log.json", file="log.json", sha256=None, code=None, format="mmcv json")
        server.files["/log.json"] = "\n".join(lines).encode()
        publish(monkeypatch, server, world[1], world[3], log=log)
        released("small_gfl", "none")
        read = record(project).log
        server.files["/log.json"] = b"PK no log at all"
        for path in (project / "data/weights").glob("*log.json*"):
            path.unlink()
        (project / "artefacts.lock").unlink()
        released("small_gfl", "none")

    assert read.scores == [(1, 25.0), (2, 50.0)]
    assert (read.last, read.batch_size) == (50.0, 4)
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("kd-paper").experiment_id])
    by_origin = {run.data.tags["origin"]: run for run in reversed(runs)}
    assert by_origin.keys() == {"released", "reported"}
    history = client.get_metric_history(by_origin["reported"].info.run_id, "val/bbox_mAP")
    assert [(point.step, point.value) for point in history] == [(50, 0.25), (100, 0.5)]
    assert record(project).log is None
    assert record(project).without_log
    assert record(project).scores[0].agrees
    assert "warning: [released small-gfl-control] log: " in capsys.readouterr().out


def test_a_released_student_has_a_row_of_its_own(project, world, monkeypatch):
    """In every form of the report, beside no run of ours."""
    with serving() as server:
        publish(monkeypatch, server, world[1], world[3])
        released("small_gfl", "none")
    made = board(made_up()).model_copy(update={"released": [record(project)]})

    (score,) = record(project).scores
    said = f"{score.measured:.2f} box AP here, reported {score.value}: agrees. It verifies the weights, not the method."
    assert said in markdown(made)
    assert said in page([made], project)


@pytest.mark.parametrize(
    ("student", "key"),
    [
        ("cmr-frcnn-maskd-2023", "model.roi_head.bbox_head.reg_class_agnostic"),
        ("retina-r101-crosskd-readme", "model.neck.add_extra_convs"),
    ],
)
def test_the_student_is_built_as_its_authors_changed_it(monkeypatch, student, key):
    """By the recipe's changes, which the released weights need to fit."""
    monkeypatch.chdir(ROOT)
    grid = load_grid().model_copy(update={"tier": "paper"})

    assert resolved.released(grid, student)["config"][key] in (True, "on_output")
