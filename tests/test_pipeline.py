"""The stages as a user runs them: real DVC, real MLflow, real mmrazor, tier smoke."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
import yaml
from dvc.repo import Repo

from pipelines import layout
from reports.schemas.run import Metrics, Run
from tests.conftest import METHODS, PAIR, edit_yaml, read, run_here, run_stage, tuning

pytestmark = pytest.mark.slow


def distill(project, method="mgd", seed=0, out="out", **environment):
    """One cell, outside DVC, on what the finished project has."""
    return run_stage(project, *distill_arguments(method, seed, out), **environment)


def distill_arguments(method="mgd", seed=0, out="out"):
    """Its command line."""
    return "pipelines.stages.distill", "--tier", "smoke", "--cell", f"{PAIR}/{method}/seed{seed}", "--out", out


def check(project):
    """Let stage check see what was edited."""
    done = run_here(project, "pipelines.stages.check")
    assert done.returncode == 0, done.stderr


def stale(project):
    """Stages that DVC would run."""
    with Repo(str(project)) as repo:
        return {name.rpartition("dvc.yaml:")[2] for name in repo.status()}  # which it calls by their way from here


def longer(project, epochs=3, train=40):
    """Make the student's training long enough to be interrupted; the data set is made anew."""
    path = project / "benchmarks/tiers/smoke.yaml"
    tier = yaml.safe_load(path.read_text())
    tier["scenes"]["train"] = train
    tier["schedule"]["student_epochs"] = epochs
    path.write_text(yaml.safe_dump(tier))
    check(project)
    done = run_here(project, "pipelines.stages.prepare", "--tier", "smoke")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", [f"{PAIR}/teacher", f"{PAIR}/mgd/seed0"])
def test_evaluation_in_a_process_of_its_own(finished_copy, model):
    """Nothing is registered there but by the stage itself, as under plain dvc repro; the figures are the runner's."""
    result = finished_copy / f"runs/smoke/{model}/metrics.json"
    expected = read(result)
    result.unlink()
    done = run_stage(finished_copy, "pipelines.stages.evaluate", "--tier", "smoke", "--model", model)

    assert done.returncode == 0, done.stderr
    assert read(result) == expected


def test_every_cell_leaves_its_records(finished):
    """Valid run.json and metrics.json per cell, naming teacher, data, environment, cost and MLflow run."""
    manifest = read(finished / "data/smoke/manifest.json")
    teacher = Run(**read(finished / f"runs/smoke/{PAIR}/teacher/run.json"))
    for method in METHODS:
        folder = finished / f"runs/smoke/{PAIR}/{method}/seed0"
        run, metrics = Run(**read(folder / "run.json")), Metrics(**read(folder / "metrics.json"))

        assert run.weights_sha256 == hashlib.sha256((folder / "student.pth").read_bytes()).hexdigest() == metrics.weights_sha256
        assert run.teacher_sha256 == teacher.weights_sha256
        assert run.data.digest == manifest["digest"]
        assert run.cost.num_images == 8
        assert run.cost.images_per_s > 0
        assert run.environment.mmlab["mmdet"].startswith("onedl-mmdetection")
        assert run.environment.threads == 1
        assert run.mlflow_run_id
        assert [point["iteration"] for point in run.curve if "loss" in point] == [2]
        assert metrics.num_images == 8
        assert len(metrics.per_class) == 10


def test_student_weights_are_the_students_alone(finished):
    """No teacher and no distillation module in what is handed out."""
    import torch  # noqa: PLC0415

    keys = set(torch.load(finished / f"runs/smoke/{PAIR}/maskd/seed0/student.pth", weights_only=True))
    plain = set(torch.load(finished / f"runs/smoke/{PAIR}/none/seed0/student.pth", weights_only=True))

    assert keys == plain
    assert {key.split(".")[0] for key in keys} == {"backbone", "neck", "bbox_head"}


def test_what_is_kept_to_be_looked_at(finished):
    """The test images, those with the most objects first, their truth, every sure enough detection, and MasKD's masks on two."""
    import numpy as np  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    runs = finished / f"runs/smoke/{PAIR}"
    truth = read(finished / "data/smoke/test.json")
    objects = Counter(annotation["image_id"] for annotation in truth["annotations"])
    images = sorted(truth["images"], key=lambda image: -objects[image["id"]])
    number = {image["id"]: n for n, image in enumerate(images)}
    with np.load(runs / "teacher/samples.npz") as teacher, np.load(runs / "maskd/seed0/samples.npz") as maskd:
        for n, image in enumerate(images):
            (file,) = (finished / "data/smoke/test").rglob(image["file_name"].rpartition("/")[2])
            assert (teacher[f"image_{n}"] == np.asarray(Image.open(file))).all()
        objects = [[number[a["image_id"]], *a["bbox"]] for a in truth["annotations"] if a["image_id"] in number]
        corners = [[n, x, y, x + width, y + height] for n, x, y, width, height in objects]
        assert sorted(teacher["true_boxes"].tolist()) == sorted(corners)
        predictions = read(finished / f"work/smoke/{PAIR}/maskd/seed0/test/predictions.bbox.json")
        sure = [one for one in predictions if one["image_id"] in number and one["score"] >= 0.05]
        assert len(maskd["boxes"]) == len(sure)
        assert json.loads(str(maskd["about/masks"]))["columns"] == [f"token {number}" for number in range(1, 7)]
        assert maskd["map/masks/5/0"].shape[0] == 2
        assert 0 < maskd["map/masks/0/0"].min() < maskd["map/masks/0/0"].max() < 1
        assert "image_0" not in maskd


def test_the_same_records_give_the_same_report(finished_copy):
    """Byte for byte in every form; a record that cannot be used is a line and exit code 1, and the rest is written."""
    made = finished_copy / "reports/smoke"
    forms = sorted(path.relative_to(made) for path in (*made.glob("leaderboard.*"), *(made / "figures").iterdir()))
    again = run_stage(finished_copy, "pipelines.stages.report", "--out", "reports/again")  # links of the page begin there
    record = finished_copy / f"runs/smoke/{PAIR}/mgd/seed0/run.json"
    record.write_text(record.read_text().replace('"stage"', '"stages"'))
    partial = run_here(finished_copy, "pipelines.stages.report", "--out", "partial")
    rows = read(finished_copy / "partial/leaderboard.json")["tables"][0]["rows"]

    assert again.returncode == 0, again.stderr
    assert {path.suffix for path in forms} >= {".csv", ".html", ".json", ".md", ".pdf", ".svg"}
    for path in forms:
        assert (finished_copy / "reports/again" / path).read_bytes() == (made / path).read_bytes(), path
    assert partial.returncode == 1
    assert re.search(rf"^error: runs/smoke/{PAIR}/mgd/seed0/run\.json: stage: Field required; .*$", partial.stderr, re.MULTILINE)
    assert {(row["method"], row["tuned"]): row["status"] for row in rows} == {
        **{(method, False): "done" for method in METHODS},
        ("mgd", False): "failed",
        ("mgd", True): "done",
    }
    assert (finished_copy / "partial/leaderboard.pdf").stat().st_size > 0


def test_leaderboard_records_weights_lock_and_mlflow_agree(finished_copy):
    """All six trainings; a score changed by hand is found in the records, the lock and MLflow."""
    agree = run_stage(finished_copy, "pipelines", "verify")
    metrics = finished_copy / f"runs/smoke/{PAIR}/mgd/seed0/metrics.json"
    metrics.write_text(re.sub(r'"AP75": [0-9.]+', '"AP75": 88.0', metrics.read_text()))
    found = run_stage(finished_copy, "pipelines", "verify")

    assert (agree.returncode, agree.stdout.splitlines()[-1].partition(" runs")[0]) == (0, "6 of 6"), agree.stdout
    assert found.returncode == 1
    changed = f"{metrics.relative_to(finished_copy)} is not the file that dvc.lock records"
    assert [line.split(": ")[1].split(";")[0] for line in found.stdout.splitlines()[:-3]] == [
        "metrics.json's digest", "figures", changed, "AP75",
    ]  # fmt: skip
    assert found.stdout.splitlines()[-3].startswith("2 of 2 backbones agree")
    assert found.stdout.splitlines()[-2].startswith("1 of 1 studies agree")
    assert found.stdout.splitlines()[-1].startswith("5 of 6 runs agree")


def test_mlflow_has_one_run_a_training(finished, monkeypatch):
    """Teacher, masks, every cell, the study and its trials, each with parameters, data set, losses, result, artifacts, all FINISHED."""
    monkeypatch.chdir(finished)
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(f"sqlite:///{finished}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("kd-smoke")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    run = runs[f"mgd s0 | {PAIR}"]
    artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}

    cells = {f"{row} s0 | {PAIR}" for row in (*METHODS, "mgd tuned")}
    search = {f"mgd study | {PAIR}", *(f"mgd trial {number} | {PAIR}" for number in range(3))}
    backbones = {f"backbone | {name}" for name in ("resnet50", "resnet101")}
    assert set(runs) == {*backbones, f"teacher | {PAIR}", f"maskd auxiliary | {PAIR}", *cells, *search}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert run.info.run_id == read(finished / f"runs/smoke/{PAIR}/mgd/seed0/run.json")["mlflow_run_id"]
    assert {key: value for key, value in run.data.params.items() if not key.startswith("hparams.")} == {
        "stage": "distill", "tier": "smoke", "pair": PAIR, "method": "mgd", "variant": "published", "seed": "0",
        "processes": "1", "batch_size": "4", "images_per_gpu": "4", "precision": "fp32", "speed": "cache_images",
    }  # fmt: skip
    assert not set(run.data.params) & set(run.data.tags)
    assert (run.data.tags["row"], runs[f"mgd tuned s0 | {PAIR}"].data.tags["row"]) == ("mgd", "mgd/tuned")
    assert run.data.tags["mlflow.source.name"] == "pipelines/stages/distill.py"
    assert run.data.tags["teacher_run_id"] == runs[f"teacher | {PAIR}"].info.run_id
    assert runs[f"maskd s0 | {PAIR}"].data.tags["auxiliary_run_id"] == runs[f"maskd auxiliary | {PAIR}"].info.run_id
    assert run.data.metrics["gain"] == pytest.approx(
        run.data.metrics["test/AP"] - runs[f"none s0 | {PAIR}"].data.metrics["test/AP"], abs=1e-4
    )
    joined = runs[f"crosskd+pkd s0 | {PAIR}"].data.params
    assert {"hparams.alpha", "hparams.share_masked"} <= run.data.params.keys()
    assert (joined["hparams.crosskd.box_loss"], joined["hparams.pkd.loss_weight"]) == ("kl", "6.0")
    assert {"train/loss", "train/loss_mgd", "test/AP", "images_per_s", "lr"} <= set(run.data.metrics)
    splits = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert splits == dict.fromkeys(("scenes train", "scenes test"), read(finished / "data/smoke/manifest.json")["digest"][:36])
    assert {"config.py", "run.json", "curve.json", "metrics.json"} <= artifacts
    assert experiment.artifact_location == (finished / "mlflow/artifacts/kd-smoke").as_uri()


def test_progress_says_which_cell_of_how_many(finished):
    """Plain lines: cell, epoch, losses, time left; no control characters in a log."""
    text = (finished / "output.txt").read_text()

    assert re.search(
        r"\[distill 2/4 gfl_r101_r50/mgd/seed0\] epoch 1/1 iteration 2/2 loss \d+\.\d+ \(.*mgd \d+\.\d+\), .* s/it, 0 s left",
        text,
    )
    assert "\x1b" not in text


def test_leaderboard_holds_what_the_records_say(finished):
    """Means and gains of the JSON from the metrics; the Markdown has the rows, the pictures are there."""
    board = read(finished / "reports/smoke/leaderboard.json")
    rows = {row["method"]: row for row in board["tables"][0]["rows"] if not row["tuned"]}
    for method in METHODS:
        metrics = read(finished / f"runs/smoke/{PAIR}/{method}/seed0/metrics.json")

        assert metrics["score"] == metrics["box"]["AP"]
        assert rows[method]["mean"] == pytest.approx(metrics["score"])
        assert rows[method]["num_seeds"] == 1
        assert rows[method]["gain_low"] is None
    text = (finished / "reports/smoke/leaderboard.md").read_text()
    assert "tier `smoke`" in text
    assert "These are not COCO results" in text
    assert {figure["name"] for figure in board["figures"]} == {"scores", "forest"}
    assert all((finished / "reports/smoke" / figure["file"]).is_file() for figure in board["figures"])
    page = (finished / "reports/smoke/leaderboard.html").read_text()
    assert "Masks of MasKD" in page
    assert page.count("data:image/webp") == 3  # MasKD's masks, MGD's features, and the models' predictions
    assert "model-index" in (finished / f"runs/smoke/{PAIR}/mgd/seed0/README.md").read_text()


def test_nothing_to_do_is_quick(finished):
    """A second run finds everything up to date, in at most three times as long as DVC's own status takes."""
    begun = time.monotonic()
    assert run_stage(finished, "dvc", "status").returncode == 0
    between = time.monotonic()
    done = run_stage(finished, "pipelines", "run")

    assert "nothing to do: all 19 stages are up to date" in done.stdout
    assert time.monotonic() - between < 3 * (between - begun)


def test_what_is_pulled_from_a_remote_is_not_run(finished_copy, tmp_path):
    """Pushed to a folder, pulled into a copy that has neither runs nor data: nothing to do, with the same students."""
    other = tmp_path / "other"
    left = shutil.ignore_patterns("runs", "data", "work", "mlflow", "cache", "tmp", "__pycache__")
    with (finished_copy / ".dvc/config").open("a") as config:
        config.write(f"    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n")
    pushed = run_stage(finished_copy, "dvc", "push")
    shutil.copytree(finished_copy, other, ignore=left)
    pulled = run_stage(other, "dvc", "pull")
    done = run_stage(other, "pipelines", "run")
    student = f"runs/smoke/{PAIR}/mgd/seed0/student.pth"

    assert (pushed.returncode, pulled.returncode, done.returncode) == (0, 0, 0), pushed.stderr + pulled.stderr + done.stderr
    assert "nothing to do: all 19 stages are up to date" in done.stdout
    assert (other / student).read_bytes() == (finished_copy / student).read_bytes()


def test_an_edit_reaches_what_depends_on_it_and_nothing_else(finished_copy):
    """One method's value, or its code: its cells and the report. A recipe's prose: the report alone; undone: nothing."""
    written = {}

    def look():
        done = run_stage(finished_copy, "dvc", "repro", "--single-item", "check")
        assert done.returncode == 0, done.stderr

    def after(edit, path):
        """Stages that one more edit makes stale."""
        path, before = finished_copy / path, stale(finished_copy)
        written[path] = path.read_text()
        path.write_text(edit(written[path]))
        assert stale(finished_copy) - before - {"report"} == {"check"}
        look()
        return stale(finished_copy) - before

    assert after(lambda text: text + "\n# a remark\n", "pipelines/engine/training.py") == set()
    assert after(lambda text: text + "# a remark\n", "methods/maskd.yaml") == {"report"}
    assert after(lambda text: text + "\nunused = 1\n", "methods/pkd.py") == {f"distill@{PAIR}/crosskd+pkd/seed0"}
    assert after(lambda text: text.replace("2.0e-5", "3.0e-5"), "methods/mgd.yaml") == {
        f"tune@{PAIR}/mgd", f"distill@{PAIR}/mgd/seed0", f"distill@{PAIR}/mgd/tuned/seed0",
    }  # fmt: skip
    for path, before in written.items():
        path.write_text(before)
    look()
    assert not stale(finished_copy)


def test_an_unsupported_combination_is_a_row_and_no_stage(finished_copy):
    """CrossKD on a two-stage detector: no stage is there, its command is one line, the report has the reason."""
    pair = "faster_rcnn_r101_r50"
    edit_yaml(finished_copy / "params.yaml", grid={PAIR: ["none"], pair: ["crosskd+pkd"]}, tuning=tuning(grid={}))
    renewed = run_here(finished_copy, "pipelines.stages.check", "--renew")
    listed = run_stage(finished_copy, "dvc", "stage", "list", "--name-only").stdout.split()
    done = run_here(finished_copy, "pipelines.stages.distill", "--tier", "smoke", "--cell", f"{pair}/crosskd+pkd/seed0")
    run_here(finished_copy, "pipelines.stages.report", "--out", "again")
    (row,) = read(finished_copy / "again/leaderboard.json")["tables"][1]["rows"]

    assert renewed.returncode == 0, renewed.stderr
    assert [name for name in listed if pair in name] == []
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(f"error: crosskd\\+pkd .*{pair}: .*'dense_head'", done.stderr), done.stderr
    assert row["status"] == "unsupported"
    assert "'dense_head'" in row["reason"]


def test_a_row_taken_out_of_the_grid_is_not_shown_and_costs_nothing_to_put_back(finished_copy):
    """Nothing is trained either time."""
    for methods in (["none", "maskd", "crosskd+pkd"], list(METHODS)):
        edit_yaml(
            finished_copy / "params.yaml", grid={PAIR: methods}, tuning=tuning(grid={PAIR: ["mgd"]} if "mgd" in methods else {})
        )
        done = run_stage(finished_copy, "pipelines", "run")
        rows = read(finished_copy / "reports/smoke/leaderboard.json")["tables"][0]["rows"]

        assert done.returncode == 0, done.stdout + done.stderr
        assert "iteration" not in done.stdout.replace("warmup_iterations", "").replace("iterations as", "")
        assert [row["method"] for row in rows if not row["tuned"]] == methods


def test_a_grid_file_that_lags_behind_is_refused_by_plain_dvc(finished_copy):
    """With the command that renews it; after that command dvc runs what is new, and no more."""
    edit_yaml(finished_copy / "params.yaml", seeds=2)
    refused = run_stage(finished_copy, "dvc", "repro", f"distill@{PAIR}/none/seed0")
    renewed = run_here(finished_copy, "pipelines.stages.check", "--renew")
    look = run_stage(finished_copy, "dvc", "repro", "--single-item", "check")
    new = {f"{stage}@{PAIR}/{row}/seed1" for stage in ("distill", "evaluate") for row in (*METHODS, "mgd/tuned")}

    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert re.search(r"^error: grid\.yaml: .*python -m pipelines\.stages\.check --renew", said, re.MULTILINE), said
    assert renewed.returncode == 0, renewed.stderr
    assert "grid.yaml" in renewed.stdout
    assert look.returncode == 0, look.stderr
    assert stale(finished_copy) == {*new, "report"}


def test_dvc_yaml_and_layout_name_the_same_paths(finished):
    """Every stage's outputs are where the stages write them and others look for them."""
    outs = {}
    for stage, parts in yaml.safe_load((finished / "dvc.lock").read_text())["stages"].items():
        outs[stage] = {out["path"] for out in parts["outs"]}
    cell = layout.Cell(PAIR, "maskd", 0)

    assert {
        str(layout.teacher("smoke", PAIR) / name) for name in ("weights.pth", "initialisation.pth", "digests.json", "run.json")
    } == outs[f"teachers@{PAIR}"]
    assert {str(layout.auxiliary("smoke", PAIR, "maskd") / name) for name in ("prior.pth", "run.json")} == outs[
        f"masks@{PAIR}/maskd"
    ]
    assert {str(layout.study("smoke", PAIR, "mgd") / name) for name in ("best.yaml", "study.json")} == outs[f"tune@{PAIR}/mgd"]
    assert {str(layout.cell("smoke", cell) / name) for name in ("student.pth", "method.pth", "run.json")} == outs[
        f"distill@{cell.key}"
    ]
    assert {str(layout.cell("smoke", cell) / name) for name in ("metrics.json", "samples.npz")} == outs[f"evaluate@{cell.key}"]
    assert {str(layout.backbones("smoke") / "resnet50" / name) for name in ("weights.pth", "run.json")} == outs[
        "pretrain@resnet50"
    ]
    assert {str(layout.data("smoke") / "manifest.json"), str(layout.digests("smoke"))} == outs["prepare"]
    assert outs["check"] == {str(layout.RESOLVED)}


def test_same_seed_same_result_to_the_last_bit(finished_copy):
    """A cell trained again somewhere else has the same weights; another seed has others."""
    again = distill(finished_copy, "maskd", out="again")
    other = distill(finished_copy, "maskd", seed=1, out="other")
    assert again.returncode == other.returncode == 0, again.stderr + other.stderr
    first = read(finished_copy / f"runs/smoke/{PAIR}/maskd/seed0/run.json")
    second = read(finished_copy / "again/run.json")

    assert first["weights_sha256"] == second["weights_sha256"]
    assert first["curve"] == second["curve"]
    assert first["weights_sha256"] != read(finished_copy / "other/run.json")["weights_sha256"]


def test_killed_training_goes_on_and_ends_where_it_would_have(finished_copy):
    """Kill -9 after the first epoch; the next start resumes, and weights and losses equal the uninterrupted run's."""
    longer(finished_copy, epochs=6)
    killed = subprocess.Popen(
        [sys.executable, "-m", *distill_arguments(out="resumed")],
        cwd=finished_copy,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    work = finished_copy / f"work/smoke/{PAIR}/mgd/seed0"
    deadline = time.monotonic() + 120
    while not list(work.glob("*/epoch_2.pth")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not list(work.glob("*/epoch_6.pth")), "it was killed too late to show anything"
    # A checkpoint that was being written when the process died must be passed over.
    directory = next(iter(work.glob("*/epoch_2.pth"))).parent
    (directory / "epoch_9.pth").write_bytes(b"half a checkpoint")
    other = work / "0123456789abcdef"
    other.mkdir()
    (other / "epoch_5.pth").write_bytes((directory / "epoch_2.pth").read_bytes())

    resumed = distill(finished_copy, out="resumed")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumes after iteration" in resumed.stdout
    for path in sorted(work.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    whole = distill(finished_copy, out="whole")
    assert whole.returncode == 0, whole.stderr
    first, second = (read(finished_copy / out / "run.json") for out in ("resumed", "whole"))

    assert first["cost"]["resumed_after_iteration"] > 0 == second["cost"]["resumed_after_iteration"]
    assert first["weights_sha256"] == second["weights_sha256"]
    assert first["curve"] == second["curve"]


def test_a_held_directory_is_not_written(finished_copy):
    """While one process holds a run's directory, another says who and leaves it alone."""
    (lock_file,) = (finished_copy / f"work/smoke/{PAIR}/mgd/seed0").glob("*/lock")
    with lock_file.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate()
        lock.write("process 4711 on n1, job 12")
        lock.flush()
        second = run_here(finished_copy, *distill_arguments(out="second"))

    assert second.returncode == 2
    assert re.search(r"^error: work/\S+ .*process 4711 on n1, job 12", second.stderr), second.stderr
    assert not (finished_copy / "second/student.pth").exists()


def test_loss_that_is_no_number_stops_the_run(finished_copy):
    """The line says which loss, at which iteration, and the checkpoint of the epoch before is kept and good."""
    import torch  # noqa: PLC0415

    longer(finished_copy)
    method = finished_copy / "methods/mgd.py"
    code = method.read_text()
    method.write_text(code.replace("torch.stack(errors).sum()", "torch.stack(errors).sum() / (batch.iteration < 12)"))
    assert method.read_text() != code
    check(finished_copy)
    done = distill(finished_copy)
    kept = next(iter((finished_copy / f"work/smoke/{PAIR}/mgd/seed0").glob("*/epoch_1.pth")))
    state = torch.load(kept, weights_only=False)["state_dict"]

    assert done.returncode == 2
    assert re.search(r"^error: .*loss_mgd.*iteration 13\b.*work/\S+", done.stderr, re.MULTILINE), done.stderr
    assert all(value.isfinite().all() for value in state.values())
    assert not (finished_copy / "out/student.pth").exists()

    note = finished_copy / f"work/smoke/{PAIR}/mgd/seed0/failed.txt"
    assert re.search(r"loss_mgd.*iteration 13\b", note.read_text())
    method.write_text(code)
    check(finished_copy)
    assert distill(finished_copy).returncode == 0
    assert not note.exists()


def test_unreachable_mlflow_is_a_warning(finished_copy):
    """The training ends well, its result stands in run.json, without an MLflow run."""
    done = distill(finished_copy, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    run = read(finished_copy / "out/run.json")

    assert done.returncode == 0
    assert "warning: MLflow: cannot be reached" in done.stderr
    assert run["mlflow_run_id"] is None
    assert run["weights_sha256"] == read(finished_copy / f"runs/smoke/{PAIR}/mgd/seed0/run.json")["weights_sha256"]


@pytest.mark.parametrize("damage", ["data", "teacher", "out"])
def test_damage_is_one_line_before_training(finished_copy, damage):
    """A changed image, a truncated teacher, an output folder that is none."""
    if damage == "data":
        (finished_copy / "data/smoke/train/000003.png").write_bytes(b"no image")
        line = r"data/smoke/train/000003\.png .*dvc repro -f prepare"
    elif damage == "teacher":
        path = finished_copy / f"runs/smoke/{PAIR}/teacher/weights.pth"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])
        line = rf"weights runs/smoke/{PAIR}/teacher/weights\.pth \(\d+ bytes\) have sha256 .*dvc repro"
    else:
        (finished_copy / "file").write_text("")
        line = r"cannot write to file/out: Not a directory"
    done = run_here(finished_copy, *distill_arguments(out="file/out" if damage == "out" else "out"))

    assert done.returncode == 2
    assert re.fullmatch(rf"error: {line}.*\n", done.stderr), done.stderr
    assert "iteration" not in done.stdout


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    """Too little room is said before the training, with the figure."""
    from pipelines.engine import workdir  # noqa: PLC0415

    usage = type("Usage", (), {"free": 100 * 2**20})
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda _: usage)

    with pytest.raises(ValueError, match=r"100 MiB .*512"):
        workdir.check_writable(tmp_path / "out")


@pytest.fixture
def start():
    """Start a command of the project in the background; whatever is left of it is killed at the end."""
    started = []

    def begin(project, *arguments):
        environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
        # Without it DVC runs stages in /bin/sh, which need not replace itself by the stage as bash does.
        environment.pop("SHELL", None)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen([sys.executable, "-m", *arguments], cwd=project, env=environment, **quiet))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def training_process(work):
    """Wait for a training's first checkpoint and return its process."""
    deadline = time.monotonic() + 240
    while not list(work.glob("*/epoch_2.pth")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return int((next(iter(work.glob("*/epoch_2.pth"))).parent / "lock").read_text().split()[1])


def ends(process, within_s=20):
    """Tell if a process ends in time; one that nobody has waited for yet has ended too."""

    def runs():
        try:
            return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + within_s
    while runs() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not runs()


def test_killed_dvc_takes_its_training_along_and_the_next_goes_on(finished_copy, start):
    """A second dvc repro beside the first writes nothing; kill -9 of the first ends its training; the next one resumes it."""
    longer(finished_copy, epochs=30)
    shutil.rmtree(finished_copy / "work")
    command = ("dvc", "repro", "--single-item", f"distill@{PAIR}/mgd/seed0")
    first = start(finished_copy, *command)
    work = finished_copy / f"work/smoke/{PAIR}/mgd/seed0"
    training = training_process(work)
    second = run_stage(finished_copy, *command)
    assert os.path.exists(f"/proc/{training}")
    assert second.returncode != 0
    assert "is busy" in second.stderr or "Unable to acquire lock" in second.stderr
    assert [path.parent.name for path in work.glob("*/lock")] == [next(iter(work.glob("*/epoch_*.pth"))).parent.name]

    first.kill()
    first.wait()
    assert ends(training)
    third = run_stage(finished_copy, *command)

    assert third.returncode == 0, third.stderr
    assert re.search(r"resumes after iteration [1-9]", third.stdout)
    assert read(finished_copy / f"runs/smoke/{PAIR}/mgd/seed0/run.json")["cost"]["resumed_after_iteration"] > 0


def test_killed_runner_takes_everything_along(finished_copy, start):
    """While the coordinator works another is refused; kill -9 ends the run behind it."""
    longer(finished_copy, epochs=200)
    shutil.rmtree(finished_copy / "work")
    runner = start(finished_copy, "pipelines", "run")
    training = training_process(finished_copy / f"work/smoke/{PAIR}/none/seed0")
    second = run_stage(finished_copy, "pipelines", "run")
    runner.kill()
    runner.wait()

    assert ends(training)
    assert second.returncode == 2
    assert re.match(rf"error: .*process {runner.pid} ", second.stderr), second.stderr
