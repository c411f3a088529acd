"""Estimates of a grid's cost, against cases reckoned by hand."""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from benchmarks.pair import Model, Pair
from benchmarks.throughput import Complexity, Throughput
from pipelines.commands.app import main
from pipelines.estimation import completed, lengths
from pipelines.estimation.estimate import make_estimate
from pipelines.estimation.lengths import Images, Length, length_at, num_images, published_images, published_length
from pipelines.estimation.throughput import Speed, Speeds, known_speeds
from pipelines.grid import Grid
from pipelines.params import load_grid, load_tier
from pipelines.runner.record import Record
from pipelines.stage_list import write_stages
from tests.conftest import METHODS, PAIR, ROOT, committed, copy_project, edit_yaml, renew
from tests.conftest import tuning as small_tuning

COCO = published_images("coco")
SIZE = {"forward_gmac": 50, "parameters_m": 30, "backbone_parameters_m": 20}
SIZES = {
    "train_px": [800, 1344],
    "test_px": [800, 1344],
    "teacher": {"forward_gmac": 100, "parameters_m": 50, "backbone_parameters_m": 40},
    "student": SIZE,
}
RECORD = {
    "pair": "alpha", "method": "mgd", "tier": "paper", "device": "NVIDIA H200", "gpus": 8, "batch_per_gpu": 2,
    "images_per_s": 160.0, "peak_memory_mib": 9000, "precision": "tf32", "command": "by hand", "date": "2026-11-20",
}  # fmt: skip


def a_pair(**changes):
    """GFL, one-stage; its teacher is fetched."""
    weights = {"url": "https://example.org/backbone-0676ba61.pth", "sha256": "0676ba61"}
    content = {
        "title": "A pair", "task": "detection", "dataset": "coco", "metric": "box AP", "head": "gfl", "schedule": "1x", "epochs": 12,
        "gpus": 8,
        "images_per_gpu": 2,
        "teacher": {
            "name": "T", "config": "mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py", "stated": 44.7,
            "checkpoint": {"url": "https://example.org/teacher-dd12f847.pth", "sha256": "dd12f847", "size_bytes": 205_000_000},
        },
        "student": {"name": "S", "config": "mmdet::gfl/gfl_r50_fpn_1x_coco.py", "initialisation": weights},
    }  # fmt: skip
    return content | changes


def untaught():
    """The same with a teacher that has to be trained, by its 2x config."""
    pair = a_pair()
    pair["teacher"] |= {"checkpoint": None, "no_checkpoint": "never published"}
    return pair


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two pairs, one with its own teacher to train, at tier paper."""
    shutil.copytree(ROOT / "benchmarks/tiers", tmp_path / "benchmarks/tiers")
    shutil.copytree(ROOT / "methods", tmp_path / "methods")
    (tmp_path / "benchmarks/pairs").mkdir()
    for name, content in (("alpha", a_pair()), ("beta", untaught())):
        (tmp_path / f"benchmarks/pairs/{name}.yaml").write_text(yaml.safe_dump(content))
    write(tmp_path / "benchmarks/throughput.json", {"about": "", "records": []})
    write(tmp_path / "benchmarks/complexity.json", {"about": "", "command": "", "pairs": {"alpha": SIZES, "beta": SIZES}})
    grid = {"tier": "paper", "grid": {"alpha": ["none", "mgd", "maskd_seg"]}, "seeds": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(grid))
    monkeypatch.chdir(tmp_path)
    for name in ("KD_COCO", "KD_DOWNLOADS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path, content):
    """A JSON file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def run(monkeypatch, *arguments):
    """The command in this process."""
    main(["estimate", *arguments])


def as_json(monkeypatch, project, *arguments):
    """The command's JSON."""
    run(monkeypatch, "--json", "plan.json", *arguments)
    return json.loads((project / "plan.json").read_text())


def finish(folder, *, stage="distill", status="done", pair="alpha", method="none", device="NVIDIA H200", resumed=0):
    """The record of a training that took 100 s for 1000 images."""
    cost = {"wall_s": 100.0, "num_images": 1000, "resumed_after_iteration": resumed}
    environment = {"device": device}
    record = {"stage": stage, "status": status, "pair": pair, "method": method, "environment": environment, "cost": cost}
    write(folder / "run.json", record)


def test_retinanet_2x_on_coco():
    """24 epochs of 7330 steps: 117266 images at 16 a step, the last step not full."""
    model = Model(name="S", config="mmdet::retinanet/retinanet_r50_fpn_2x_coco.py")
    length = published_length(model, 16, {}, COCO)

    assert length == Length(iterations=24 * 7330, batch=16, batch_per_gpu=2, validations=24)
    assert length.iterations == 175920
    assert length.images == 2814720


def test_voc_is_repeated_three_times():
    """4 epochs over 3 x 16551 images, 3104 steps each."""
    model = Model(name="S", config="mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py")

    assert published_length(model, 16, {}, published_images("voc")).iterations == 4 * 3104


def test_user_data_are_not_repeated_and_drop_the_last_batch():
    """100 images at 16 a step are 6 steps, in 4 epochs."""
    model = Model(name="S", config="mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py")

    assert published_length(model, 16, {}, Images(100, 10, 10), own_data=True).iterations == 24


def test_cityscapes_goes_by_iterations():
    """40000 steps whatever the number of images; validated every 4000."""
    model = Model(name="S", config="mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py")

    assert published_length(model, 16, {}, published_images("cityscapes")) == Length(40000, 16, 2, 10)


def test_changes_of_pair_and_method_count():
    """The pair makes it 3 epochs, the method validates each third and has 4 images a GPU; what else they change is no matter."""
    model = Model(
        name="S", config="mmdet::gfl/gfl_r50_fpn_1x_coco.py", why_changed="a test",
        changes={"train_cfg.max_epochs": 3, "model.backbone.depth": 18},
    )  # fmt: skip
    method = {"train_cfg.val_interval": 3, "train_dataloader.batch_size": 4, "optim_wrapper.clip_grad.max_norm": 35}

    assert published_length(model, 16, method, COCO) == Length(3 * 7330, 16, 4, 1)


def test_unknown_config_is_one_line():
    """Named, with its package."""
    model = Model(name="S", config="mmdet::gfl/gfl_r7_fpn_1x_coco.py")

    with pytest.raises(ValueError, match=r"gfl/gfl_r7_fpn_1x_coco\.py .*mmdet"):
        published_length(model, 16, {}, COCO)


def test_a_tier_with_a_schedule(project):
    """3200 scenes at 16 a step, two epochs of a student and nine of a teacher."""
    tier, pair = load_tier("mini"), Pair.model_validate(a_pair())
    images = num_images(tier, pair, project / "none.json")

    assert images.train == 3200
    assert length_at(tier, pair, "student", {}, images).iterations == tier.schedule.student_epochs * 200
    assert length_at(tier, pair, "teacher", {}, images).iterations == tier.schedule.teacher_epochs * 200


def test_user_data_are_counted_by_their_manifest(project):
    """Before ``prepare`` has seen them nothing is known."""
    tier = load_tier("paper").model_copy(update={"data": "own"})
    pair, manifest = Pair.model_validate(a_pair()), project / "data/own/manifest.json"

    assert num_images(tier, pair, manifest) is None
    write(manifest, {"sets": {"own": {"num_images": {"train": 50, "tune": 7, "test": 9}}}})
    assert num_images(tier, pair, manifest) == Images(50, 7, 9)


def test_estimate_by_hand():
    """Student 50 GMAC, teacher 100, 10 TFLOP/s: a step is 2 x 3 x 50 GFLOP, and 2 x 100 more with a teacher."""
    speeds = Speeds(Complexity(about="", command="", pairs={"alpha": SIZES}), tflops=10)

    assert speeds.student("alpha", "none").images_per_s == pytest.approx(10e12 / 300e9)
    assert speeds.student("alpha", "mgd").images_per_s == pytest.approx(20)
    assert speeds.teacher("alpha").images_per_s == pytest.approx(10e12 / 600e9)
    assert speeds.auxiliary("alpha", "maskd").images_per_s == pytest.approx(10e12 / 600e9)
    assert speeds.forward("alpha", "student").images_per_s == pytest.approx(100)
    assert not speeds.student("alpha", "mgd").measured
    assert speeds.student("gamma", "mgd") is None


def test_larger_test_images_take_longer():
    """Four times the pixels, a quarter of the images."""
    sizes = SIZES | {"train_px": [512, 1024], "test_px": [1024, 2048]}
    speeds = Speeds(Complexity(about="", command="", pairs={"alpha": sizes}), tflops=10)

    assert speeds.forward("alpha", "teacher").images_per_s == pytest.approx(50 / 4)


def test_shrunk_models_are_like_the_measured_ones():
    """10 and 30 images/s are 15 on average, as times add up; another pair's are used where the pair has none."""
    measured = {("alpha", method): Speed(rate, measured=True, source="") for method, rate in (("none", 10.0), ("mgd", 30.0))}
    measured["alpha", "teacher"] = Speed(1000.0, measured=True, source="")
    speeds = Speeds(None, tflops=10, measured=measured)

    assert speeds.student("alpha", "pkd") == Speed(15.0, measured=False, source=" (pair's mean)")
    assert speeds.student("beta", "pkd") == Speed(15.0, measured=False, source=" (tier's mean)")
    assert speeds.forward("alpha", "student").images_per_s == 30


def throughput(*changes):
    """Records that differ from :data:`RECORD`."""
    return Throughput.model_validate({"about": "", "records": [RECORD | change for change in changes]})


def known(records, *, device="", tier="paper"):
    """Speeds with an estimate of 20 images/s for every method."""
    sizes = Complexity(about="", command="", pairs={"alpha": SIZES})
    return known_speeds(tier, load_tier(tier), device=device, tflops=10, throughput=records, complexity=sizes)


def test_measured_beats_estimate(project):
    """160 images/s on 8 GPUs are 20 on one; the newest record counts, wherever it stands."""
    speeds = known(throughput({"images_per_s": 240}, {"date": "2026-11-19"}, {"method": "pkd", "tier": "mini"}))

    assert speeds.student("alpha", "mgd") == Speed(30, measured=True, source="NVIDIA H200")
    assert not speeds.student("alpha", "pkd").measured


def test_only_the_device_that_is_asked_for(project):
    """A newer record of another device is not used."""
    records = throughput({}, {"device": "NVIDIA A100", "date": "2026-11-21", "images_per_s": 80})

    assert known(records).student("alpha", "mgd").images_per_s == 10
    assert known(records, device="h200").student("alpha", "mgd").images_per_s == 20
    assert not known(records, device="V100").student("alpha", "mgd").measured


def test_finished_cells_are_measurements(project):
    """1000 images in 100 s; a resumed training's wall time is of a part only."""
    finish(project / "runs/paper/alpha/none/seed0")
    finish(project / "runs/paper/alpha/mgd/seed0", method="mgd", resumed=7)
    finish(project / "runs/paper/alpha/teacher", stage="teacher", method=None)
    finish(project / "runs/paper/alpha/maskd/prior", stage="masks", method="maskd")
    speeds = known(throughput({"method": "none"}))

    assert speeds.student("alpha", "none") == Speed(10, measured=True, source="runs/", whole=True)
    assert not speeds.student("alpha", "mgd").measured
    assert speeds.teacher("alpha").measured
    assert speeds.auxiliary("alpha", "maskd").images_per_s == 10


def test_students_with_tuned_values_are_as_fast(project):
    """Finished ones tell their method's speed, in ``runs/`` and in the leaderboard: 2000 images in 400 s."""
    finish(project / "runs/paper/alpha/mgd/tuned/seed0", method="mgd")
    costs = [{"wall_s": wall_s, "num_images": 1000, "resumed_after_iteration": 0} for wall_s in (100, 300)]
    rows = [
        {"method": "mgd", "tuned": is_tuned, "seeds": [{"cost": cost}]}
        for is_tuned, cost in zip((False, True), costs, strict=True)
    ]
    tables = [{"pair": "alpha", "teacher": None, "rows": rows}]
    write(project / "reports/mini/leaderboard.json", {"tier": "mini", "environment": {"device": "CPU"}, "tables": tables})

    assert known(throughput()).student("alpha", "mgd") == Speed(10, measured=True, source="runs/", whole=True)
    assert known(throughput(), tier="mini").measured.keys() == {("alpha", "mgd")}
    assert known(throughput(), tier="mini").student("alpha", "mgd").images_per_s == 5


def test_the_committed_leaderboard_is_of_its_tier(project):
    """Two seeds of 1000 images each, 100 s and 300 s, are 5 images/s; at another tier they say nothing."""
    costs = [{"wall_s": wall_s, "num_images": 1000, "resumed_after_iteration": 0} for wall_s in (100, 300)]
    rows = [{"method": "mgd", "seeds": [{"cost": cost} for cost in costs]}, {"method": "crosskd", "seeds": []}]
    tables = [{"pair": "alpha", "teacher": {"cost": costs[0]}, "rows": rows}]
    write(project / "reports/mini/leaderboard.json", {"tier": "mini", "environment": {"device": "CPU"}, "tables": tables})
    nothing = throughput()

    assert known(nothing, tier="mini").student("alpha", "mgd") == Speed(5, measured=True, source="leaderboard", whole=True)
    assert known(nothing, tier="mini").teacher("alpha").images_per_s == 10
    assert known(nothing, tier="mini").teacher("beta") is None
    assert not known(nothing).student("alpha", "mgd").measured


def test_totals_by_hand(project, monkeypatch):
    """GFL 1x, two seeds of control and MGD; validation every epoch, and the test; the fetched teacher is tested once."""
    images = 12 * 7330 * 16
    control, mgd = images / (10e12 / 300e9), images / 20
    seen = 12 * 5000 + 5000
    evaluation = 4 * seen / 100 + 5000 / 50
    content = as_json(monkeypatch, project, "--price", "2.5", "--tflops", "10")

    assert [(item["kind"], item["what"], item["times"]) for item in content["work"]] == [
        ("evaluation", "teacher", 1),
        ("students", "none", 2),
        ("evaluation", "none", 2),
        ("students", "mgd", 2),
        ("evaluation", "mgd", 2),
    ]
    assert content["hours"]["estimated"] == pytest.approx((2 * control + 2 * mgd + evaluation) / 3600)
    assert content["hours"]["estimated"] == pytest.approx(sum(item["hours"] for item in content["work"]))
    assert content["hours"]["measured"] == 0
    assert content["money"]["amount"] == pytest.approx(2.5 * content["hours"]["estimated"])
    assert content["cells"]["unsupported"][0]["reason"] == "needs 'logits': a detector has no logits of pixels"
    assert (content["cells"]["total"], len(content["cells"]["to_run"])) == (6, 4)


def test_measured_and_estimated_are_apart(project, monkeypatch):
    """MGD was timed at 40 images/s; all else stays as it was."""
    before = as_json(monkeypatch, project)["hours"]
    write(project / "benchmarks/throughput.json", {"about": "", "records": [RECORD | {"gpus": 1, "images_per_s": 40}]})
    after = as_json(monkeypatch, project)["hours"]
    measured = 2 * 12 * 7330 * 16 / 40 / 3600

    assert after["measured"] == pytest.approx(measured)
    assert after["estimated"] == pytest.approx(before["estimated"] - 2 * measured)  # it was estimated at 20


def test_a_teacher_without_weights_is_trained(project, monkeypatch):
    """Its 2x schedule repeats nothing: 24 epochs; masks are learned for 2000 steps as MasKD's recipe says."""
    content = as_json(monkeypatch, project, "--pairs", "beta", "--methods", "none", "maskd", "--seeds", "5")
    trainings = {(item["kind"], item["what"]): item for item in content["work"] if item["kind"] != "evaluation"}

    assert trainings["teachers", "teacher"]["length"]["iterations"] == 24 * 7330
    assert trainings["masks", "maskd"]["length"]["iterations"] == 2000
    assert trainings["masks", "maskd"]["hours"] == pytest.approx(2000 * 16 / (10e12 / 600e9) / 3600)
    assert trainings["students", "maskd"]["times"] == 1
    assert [file["checkpoint"]["sha256"] for file in content["weights"]] == ["0676ba61"]


def test_weights_once_and_with_their_size(project, monkeypatch):
    """Both students start from one file; a recorded size is shown, else 4 bytes a weight of the 20 million."""
    (project / "data/weights").mkdir(parents=True)
    (project / "data/weights/dd12f847-teacher-dd12f847.pth").write_text("")
    backbone, teacher = as_json(monkeypatch, project, "--all", "--methods", "none")["weights"]

    assert backbone["used_by"] == {"start of the student": ["alpha", "beta"]}
    assert backbone["estimated_bytes"] == 80e6
    assert not backbone["present"]
    assert teacher["checkpoint"]["size_bytes"] == 205_000_000
    assert teacher["present"]


def test_all_is_every_pair_and_method(project, monkeypatch):
    """Those of the folders, and the published combinations, on every pair, whatever the grid has."""
    edit_yaml(project / "params.yaml", baseline_seeds=5)
    grid = as_json(monkeypatch, project, "--all", "--seeds", "3")["grid"]
    published = {path.stem for path in (ROOT / "methods").glob("*.yaml")} | {"crosskd+pkd", "kd+ld_vlr", "cwd+kd"}

    assert list(grid["rows"]) == ["alpha", "beta"]
    assert [set(methods) for methods in grid["rows"].values()] == [published, published]
    assert (grid["seeds"], grid["baseline_seeds"]) == ([3], [])


def test_pairs_that_are_asked_for_keep_their_own_methods(project, monkeypatch):
    """One that the grid does not have gets all that it names; methods that are asked for are run on every pair."""
    (project / "benchmarks/pairs/gamma.yaml").write_text(yaml.safe_dump(a_pair()))
    edit_yaml(project / "params.yaml", grid={"alpha": ["none", "mgd"], "beta": ["none", "pkd"]})

    def rows(*arguments):
        return as_json(monkeypatch, project, *arguments)["grid"]["rows"]

    assert rows() == {"alpha": ["none", "mgd"], "beta": ["none", "pkd"]}
    assert rows("--pairs", "beta", "gamma") == {"beta": ["none", "pkd"], "gamma": ["none", "mgd", "pkd"]}
    assert rows("--methods", "none", "fgd") == {"alpha": ["none", "fgd"], "beta": ["none", "fgd"]}


def test_a_baseline_with_seeds_of_its_own(project, monkeypatch):
    """Five of the control, two of each other method; seeds that are asked for are everyone's."""
    edit_yaml(project / "params.yaml", baseline_seeds=5)

    def times(*arguments):
        workload = as_json(monkeypatch, project, *arguments)["work"]
        return {item["what"]: item["times"] for item in workload if item["kind"] == "students"}

    assert times() == {"none": 5, "mgd": 2}
    assert times("--seeds", "1", "7", "8") == {"none": 3, "mgd": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "gamma"], r"--pairs: .*'gamma'.*alpha, beta"),
        (["--methods", "none", "mgd+mdg"], r"--methods: .*'mdg'.*mgd.*"),
        (["--methods", "none+mgd"], r"--methods: .*'none\+mgd'.*"),
        (["--tier", "huge"], r"--tier: .*'huge'.*mini, .*own, .*paper, .*smoke.*"),
        (["--price", "-1"], r"--price .*-1\.0\b.*"),
        (["--price", "nan"], r"--price .*nan\b.*"),
        (["--gpus", "0"], r"--gpus .*\b0\b.*"),
        (["--tflops", "0"], r"--tflops .*\b0\.0\b.*"),
    ],
)
def test_bad_input(project, monkeypatch, arguments, message):
    """One line, and nothing is printed before it."""
    with pytest.raises(ValueError, match=f"^{message}$") as caught:
        run(monkeypatch, *arguments)

    assert "\n" not in str(caught.value)


def test_a_wrong_record_is_named(project, monkeypatch):
    """The file and the key."""
    write(project / "benchmarks/throughput.json", {"about": "", "records": [RECORD | {"images_per_s": 0}]})

    with pytest.raises(ValueError, match=r"throughput\.json: records\.0\.images_per_s: .*\b0$"):
        run(monkeypatch)


def test_output_fits_and_nothing_is_changed(project, monkeypatch, capsys):
    """130 columns where it is no terminal; every file is as before."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    run(monkeypatch, "--all", "--price", "2.5", "--currency", "EUR", "--gpus", "4")
    shown = capsys.readouterr().out

    assert max(len(line) for line in shown.splitlines()) <= 130
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
    for part in (
        "needs 'logits'",
        "117266 training images",
        "KD_COCO",
        "backbone-0676ba61.pth",
        "87960",
        "8 x 2",
        "at 10 TFLOP/s",
    ):
        assert part.replace("at 10", "10") in shown
    assert "EUR at 2.5 per hour" in shown
    assert "Wall time with 4 GPUs" in shown


def test_a_cpu_tier_has_no_price(project, monkeypatch, capsys):
    """Nothing measured: said, and no sum or price made up."""
    run(monkeypatch, "--tier", "mini", "--price", "2.5")
    shown = capsys.readouterr().out

    assert re.search(r"In no sum.*: 12 pieces", shown)
    assert "USD" not in shown
    assert "GPU-hours" not in shown


def test_cached_by_record(project, monkeypatch, capsys):
    """A finished cell is not run again; an impossible one is not finished, whatever its record says."""
    finish(project / "runs/paper/alpha/none/seed1")
    finish(project / "runs/paper/alpha/mgd/seed0", method="mgd", status="failed")
    finish(project / "runs/paper/alpha/maskd_seg/seed0", method="maskd_seg")
    content = as_json(monkeypatch, project)

    assert content["cells"]["cached"] == [{"pair": "alpha", "method": "none", "seed": 1, "tuned": False}]
    assert [(cell["method"], cell["seed"]) for cell in content["cells"]["to_run"]] == [("none", 0), ("mgd", 0), ("mgd", 1)]
    assert "whether by the present code and recipes is not checked" in content["cells"]["cached_means"]


def saying_stale(monkeypatch, *units):
    """Let DVC say that units are stale, or stand behind what is."""
    monkeypatch.setattr("pipelines.runner.record.Record", lambda: SimpleNamespace(waiting=lambda: set(units)))


def test_cached_by_dvc(project, monkeypatch):
    """DVC decides what is stale in params.yaml's own grid; for another one there are the records alone."""
    grid = Grid(tier="paper", rows={"alpha": ["none", "crosskd+pkd"]}, seeds=[0])
    for method in grid.methods:
        finish(project / f"runs/paper/alpha/{method}/seed0", method=method)
        finish(project / f"runs/paper/alpha/{method}/prior", stage="masks", method=method)
    finish(project / "runs/paper/alpha/teacher", stage="teacher")
    (project / "dvc.lock").write_text("")
    write_stages(grid)
    saying_stale(monkeypatch, "alpha/crosskd+pkd/seed0", "masks/alpha/crosskd+pkd", "report")
    by_dvc = completed.find_completed(grid, grid)
    by_record = completed.find_completed(grid, grid.model_copy(update={"seeds": [0, 1]}))

    assert "up to date by DVC" in by_dvc.means
    assert ({cell.method for cell in by_dvc.cells}, by_dvc.teachers, by_dvc.auxiliaries) == (
        {"none"},
        {"alpha"},
        {("alpha", "none")},
    )
    assert {cell.method for cell in by_record.cells} == {"none", "crosskd+pkd"}


@pytest.mark.parametrize("is_there", [True, False])
def test_dvc_is_not_asked_about_another_grid_s_stages(project, is_there):
    """With an old grid.yaml, or none, there are the records alone, and the remedy is printed."""
    grid = load_grid()
    finish(project / "runs/paper/alpha/none/seed0")
    (project / "dvc.lock").write_text("")
    if is_there:
        write_stages(grid.model_copy(update={"seeds": [0]}))
    found = completed.find_completed(grid, grid)

    assert [cell.key for cell in found.cells] == ["alpha/none/seed0"]
    assert re.search(r"not checked \(grid\.yaml: .*python -m pipelines\.stages\.check --renew", found.means)


def test_units_are_called_so_by_dvc(tmp_path, monkeypatch):
    """All that lies in ``runs/`` and was never run by DVC is stale: each kind is known by the name that DVC's stages have."""
    at = copy_project(tmp_path / "whole")
    edit_yaml(at / "params.yaml", tuning=small_tuning())
    renew(at)
    monkeypatch.chdir(at)
    runs, grid = at / "runs/smoke", load_grid()
    for folder in ("backbones/resnet50", f"{PAIR}/teacher", f"{PAIR}/maskd/prior", f"{PAIR}/mgd/tuned/seed0"):
        finish(runs / folder, pair=PAIR)
    for method in METHODS:
        finish(runs / f"{PAIR}/{method}/seed0", pair=PAIR, method=method)
    write(runs / f"{PAIR}/mgd/tuned/study.json", {"status": "done"})
    recorded = completed.find_completed(grid, grid)
    assert all((recorded.cells, recorded.teachers, recorded.auxiliaries, recorded.backbones, recorded.tuned, recorded.studies))
    (at / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    by_dvc, units = completed.find_completed(grid, grid), Record().units

    assert by_dvc == completed.Completed(by_dvc.means)
    assert "up to date by DVC" in by_dvc.means
    assert {
        "pretrain/resnet50", f"{PAIR}/teacher", f"masks/{PAIR}/maskd", f"tune/{PAIR}/mgd", f"{PAIR}/mgd/tuned/seed0",
        *(f"{PAIR}/{method}/seed0" for method in METHODS),
    } <= units.keys()  # fmt: skip
    assert units[f"{PAIR}/mgd/tuned/seed0"] == [f"distill@{PAIR}/mgd/tuned/seed0", f"evaluate@{PAIR}/mgd/tuned/seed0"]


# --- what stage tune adds ----------------------------------------------------------------------------------------------------


def tune(project, **changes):
    """Ask for studies of MGD on the first pair."""
    tuning = {"grid": {"alpha": ["mgd"]}, "trials": 8, "share": 0.5, "reports": 4, "seed": 100}
    edit_yaml(project / "params.yaml", tuning=tuning | changes)


def test_studies_by_hand(project, monkeypatch):
    """Half of 12 epochs over what is left of COCO, 7017 steps each; 4 x 5000 images measured; then both seeds in full."""
    tune(project)
    content = as_json(monkeypatch, project, "--tflops", "10")
    workload = {(item["kind"], item["what"]): item for item in content["work"]}
    trials, measured = workload["trials", "mgd"], workload["evaluation", "mgd/trials"]
    both = [{"pair": "alpha", "method": "mgd", "seed": seed, "tuned": True} for seed in (0, 1)]

    assert (trials["times"], trials["length"]["iterations"]) == (8, 6 * 7017)
    assert trials["hours"] == pytest.approx(8 * 6 * 7017 * 16 / 20 / 3600)
    assert (measured["times"], measured["hours"]) == (8, pytest.approx(8 * 4 * 5000 / 100 / 3600))
    for kind in ("students", "evaluation"):
        assert workload[kind, "mgd/tuned"] == workload[kind, "mgd"] | {"what": "mgd/tuned"}
    assert content["tuning"] == {
        "trials_at_most": 8,
        "studies": {"to_run": [{"pair": "alpha", "method": "mgd"}], "cached": []},
        "cells": {"to_run": both, "cached": []},
    }
    assert content["hours"]["estimated"] == pytest.approx(sum(item["hours"] for item in content["work"]))


def test_without_studies_there_is_no_trial(project, monkeypatch, capsys):
    """Nothing of them is said."""
    content = as_json(monkeypatch, project)

    assert content["tuning"] is None
    assert not [item for item in content["work"] if "/" in item["what"] or item["kind"] == "trials"]
    assert "Tuning" not in capsys.readouterr().out


def test_studies_that_cannot_be_or_are_not_wanted(project, monkeypatch):
    """An impossible method, one that is not asked for on a pair and a pair that is not asked for have none."""
    tune(project, grid={"alpha": ["mgd", "maskd_seg"]})
    edit_yaml(project / "params.yaml", grid={"alpha": ["none", "mgd", "maskd_seg"], "beta": ["none", "mgd"]})

    assert as_json(monkeypatch, project)["tuning"]["studies"]["to_run"] == [{"pair": "alpha", "method": "mgd"}]
    for arguments in (("--pairs", "beta"), ("--methods", "none", "maskd_seg")):
        assert as_json(monkeypatch, project, *arguments)["tuning"]["cells"] == {"to_run": [], "cached": []}


def test_cached_studies(project, monkeypatch, capsys):
    """A study that has ended and a student trained with what it found; their published cells do not count for them."""
    tune(project)
    tuned = project / "runs/paper/alpha/mgd/tuned"
    finish(project / "runs/paper/alpha/mgd/seed0", method="mgd")
    finish(project / "runs/paper/alpha/mgd/seed1", method="mgd")
    content = as_json(monkeypatch, project)
    assert (len(content["tuning"]["studies"]["to_run"]), len(content["tuning"]["cells"]["to_run"])) == (1, 2)

    write(tuned / "study.json", {"status": "done"})
    finish(tuned / "seed1", method="mgd")
    content = as_json(monkeypatch, project)
    assert content["tuning"]["studies"] == {"to_run": [], "cached": [{"pair": "alpha", "method": "mgd"}]}
    assert [cell["seed"] for cell in content["tuning"]["cells"]["cached"]] == [1]
    assert [(item["kind"], item["times"]) for item in content["work"] if item["what"].startswith("mgd")] == [
        ("students", 1), ("evaluation", 1),
    ]  # fmt: skip
    assert "at most 8 trials, each of 0.5 of the student's schedule" in capsys.readouterr().out


def test_cached_studies_by_dvc(project, monkeypatch):
    """A tuned student is a unit of its own, and so is its study: the published one of the same method is not judged by them."""
    tune(project, grid={"alpha": ["mgd", "crosskd"]})
    edit_yaml(project / "params.yaml", grid={"alpha": ["none", "mgd", "crosskd"]}, seeds=[0])
    for method in ("mgd", "crosskd"):
        finish(project / f"runs/paper/alpha/{method}/seed0", method=method)
        finish(project / f"runs/paper/alpha/{method}/tuned/seed0", method=method)
        write(project / f"runs/paper/alpha/{method}/tuned/study.json", {"status": "done"})
    (project / "dvc.lock").write_text("")
    write_stages(load_grid())
    saying_stale(monkeypatch, "tune/alpha/mgd", "alpha/mgd/tuned/seed0")
    found = completed.find_completed(load_grid(), load_grid())

    assert found.studies == {("alpha", "crosskd")}
    assert {cell.method for cell in found.tuned} == {"crosskd"}
    assert {cell.method for cell in found.cells} == {"mgd", "crosskd"}


@pytest.mark.parametrize(("share", "epochs"), [(0.01, 1), (0.3, 4), (0.5, 6), (1.0, 12)])
def test_trials_are_as_long_as_stage_tune_makes_them(share, epochs):
    """Whole epochs, one at least; or iterations."""
    from mmengine.config import Config  # noqa: PLC0415

    from pipelines.engine.trial_schedule import shorten  # noqa: PLC0415 (seconds)

    config = Config({"train_cfg": {"max_epochs": 12}, "param_scheduler": [], "default_hooks": {"checkpoint": {}}})
    shorten(config, share)
    model = Model(name="S", config="mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py")

    assert config.train_cfg.max_epochs == lengths._part(12, share) == epochs
    assert published_length(model, 16, {}, published_images("cityscapes"), fraction=share).iterations == share * 40000


def test_trials_find_as_many_images_as_are_held_out():
    """The plan's numbers are the engine's; scenes have a tune split."""
    tier, pair = load_tier("paper"), Pair.model_validate(a_pair())

    assert lengths.trial_images(tier, pair, Images(100_000, 9, 9)) == Images(95_000, 5000, 9)
    assert lengths.trial_images(load_tier("mini"), pair, Images(4400, 400, 1000)) == Images(4400, 400, 1000)


def test_validation_is_counted_once(project):
    """A whole training's time has its validations in it: the test is left."""
    finish(project / "runs/paper/alpha/none/seed7")
    grid = Grid(tier="paper", rows={"alpha": ["none", "mgd"]}, seeds=[0])
    items = make_estimate(grid, completed.Completed(""), device="", tflops=10, downloads=project).work
    images = {item.what: item.images for item in items if item.kind == "evaluation"}

    assert images == {"teacher": 5000, "none": 5000, "mgd": 13 * 5000}


def test_committed_tables():
    """The records are in order, and the sizes are of every pair that can run."""
    Throughput.model_validate_json(committed("benchmarks/throughput.json"))
    sizes = Complexity.model_validate_json((ROOT / "benchmarks/complexity.json").read_text())
    pairs = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "benchmarks/pairs").glob("*.yaml")}

    assert sizes.pairs.keys() == {name for name, pair in pairs.items() if not (pair.get("not_run") or pair.get("repeats"))}
    assert all(size.teacher.parameters_m > size.teacher.backbone_parameters_m for size in sizes.pairs.values())


def test_multiply_adds_are_counted_as_mmengine_counts_them():
    """By hand, and by the framework's own analysis of the same layers."""
    import torch  # noqa: PLC0415 (seconds)
    from mmengine.analysis import FlopAnalyzer  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    from tools.model_sizes import count_gmac  # noqa: PLC0415

    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4))
    model = nn.Sequential(convolutions, nn.ConvTranspose2d(8, 5, 2, stride=2), nn.Flatten(), nn.Linear(5 * 6 * 4, 7))
    image = torch.rand(1, 3, 6, 4)
    by_hand = 24 * 8 * 3 * 9 + 6 * 8 * 2 * 9 + 6 * 8 * 5 * 4 + 5 * 24 * 7

    assert count_gmac(model, lambda: model(image)) == pytest.approx(by_hand / 1e9)
    assert FlopAnalyzer(model, image).unsupported_ops_warnings(enabled=False).total() == by_hand


def test_lengths_are_read_without_the_framework():
    """A plan needs no model code: a config's file is found without importing its package."""
    script = (
        "import sys; from pipelines.estimation import lengths; "
        "from pipelines.engine.published_schedule import published_schedule; published_schedule('mmdet::gfl/gfl_r50_fpn_1x_coco.py', {}); "
    )
    done = subprocess.run(
        [sys.executable, "-c", script + "print(sorted({'torch', 'mmdet', 'mmcv'} & sys.modules.keys()))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert lengths.published_images("coco").train == 117266
    assert done.stdout.strip() == "[]"
