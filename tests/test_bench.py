"""Published models on made-up images: batches, processes of their own, and the command."""

import json
import math
import operator
import os
import re
import time
from types import SimpleNamespace
from unittest.mock import ANY

import numpy as np
import pytest
from mmengine.config import Config

from benchmarks.throughput import Throughput
from pipelines.commands.app import main
from pipelines.engine.dummy_batches import dummy_batch
from pipelines.measurement.records import Measured, as_table, published_size
from pipelines.runner.processes import ProcessEnd, call
from tests.conftest import ROOT, copy_project, run_stage

FAST = ("--size", "64x64", "--batch", "1", "--iterations", "1", "--warmup", "0", "--device", "cpu")
SIZE = (64, 96)


def apart(tmp_path, function, *arguments, memory_gib=8, on_gpu=False):
    """Run a function in a process of its own."""
    name, method = f"{function.__module__}:{function.__qualname__}", "spawn" if on_gpu else "forkserver"
    return call(name, *arguments, memory_gib=memory_gib, trace=tmp_path / "traces/trace.txt", method=method)


@pytest.mark.slow
@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_result_comes_back(tmp_path, on_gpu):
    """The process's result is the call's, however the process is begun."""
    assert apart(tmp_path, math.sqrt, 9.0, on_gpu=on_gpu) == ProcessEnd(3.0, exit_code=0, met_oom_killer=ANY)


@pytest.mark.slow
def test_an_error_is_a_result(tmp_path):
    """It says type and message, and keeps the traceback."""
    ended = apart(tmp_path, operator.truediv, 1, 0)

    trace = tmp_path / "traces/trace.txt"
    error = f"ZeroDivisionError: division by zero; the traceback is in {trace}"
    assert ended == ProcessEnd(error=error, exit_code=0, met_oom_killer=ANY)
    assert "Traceback" in trace.read_text()


def test_a_want_of_memory_is_told_from_other_errors(tmp_path):
    """Python's, as torch's, is no failure of the cell."""
    ended = apart(tmp_path, bytearray, 2**62)

    assert ended.is_out_of_memory
    assert ended.problem.startswith("MemoryError")


def test_a_sudden_end_is_a_result(tmp_path):
    """A process that is gone without a word leaves its exit code."""
    ended = apart(tmp_path, os._exit, 3)

    assert "exit code 3" in ended.problem
    assert (ended.result, ended.is_out_of_memory) == (None, False)


def test_memory_is_watched(tmp_path):
    """A process above the limit is killed at once."""
    begun = time.monotonic()
    ended = apart(tmp_path, time.sleep, 60, memory_gib=0.01)

    assert ended.is_out_of_memory
    assert "0.01 GiB" in ended.problem
    assert time.monotonic() - begun < 30


def detector(head):
    """As much of a composed cell as the batch depends on."""
    return Config({"default_scope": "mmdet", "model": {"student": {"bbox_head": {"type": head, "num_classes": 4}}}})


def test_objects():
    """Boxes of many sizes inside of the image, labels of the model's classes, no masks where none are learned."""
    batch = dummy_batch(detector("GFLHead"), SIZE, 2)
    assert [tuple(image.shape) for image in batch["inputs"]] == [(3, *SIZE)] * 2
    for sample in batch["data_samples"]:
        boxes = sample.gt_instances.bboxes.tensor
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2] <= SIZE[1]).all()
        assert (boxes[:, 3] <= SIZE[0]).all()
        sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)
        assert sides.max() > 4 * sides.min()
        assert set(sample.gt_instances.labels.tolist()) <= set(range(4))
        assert "masks" not in sample.gt_instances


def test_masks_fill_their_boxes():
    """Each mask reaches all four sides of its box and no further, and leaves the corners out."""
    (sample,) = dummy_batch(detector("SOLOHead"), (400, 600), 1)["data_samples"]
    boxes = sample.gt_instances.bboxes.tensor
    tight = sample.gt_instances.masks.get_bboxes("hbox").tensor

    assert (tight - boxes).abs().max() < 2  # pixels: the ends of an ellipse are narrower than one
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).numpy()
    assert sample.gt_instances.masks.areas == pytest.approx(areas * math.pi / 4, rel=0.05)


def test_label_maps():
    """Every class of the model and pixels without a label, in a map of the image's size."""
    config = Config({"default_scope": "mmseg", "model": {"student": {"decode_head": {"num_classes": 3}}}})
    (sample,) = dummy_batch(config, (70, 200), 1)["data_samples"]
    labels = sample.gt_sem_seg.data

    assert tuple(labels.shape) == (1, 70, 200)
    assert np.unique(labels).tolist() == [0, 1, 2, 255]


def rows(table):
    """(pair, method) -> the cells of its row in a table."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    return {(line[0], line[1]): dict(zip(lines[0], line, strict=True)) for line in lines[1:]}


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """A small pair, and one that cannot run, with one method broken."""
    project = copy_project(tmp_path_factory.mktemp("bench"))
    broken = project / "methods/fitnet.py"
    broken.write_text(re.sub(r"(def forward\(.*\n)", r'\1        raise RuntimeError("torn")\n', broken.read_text()))
    done = run_stage(
        project, "pipelines", "measure", "--pairs", "resnet34_resnet18", "retinanet_r50_r18", *FAST,
        "--methods", "none", "fitnet", "maskd", "pkd", "defeat_mismatch",
        "--table", "table.md", "--json", "speeds.json",
    )  # fmt: skip
    return project, done


@pytest.mark.slow
def test_cells(tried):
    """Supported cells have finite losses, the student's own those of the baseline; an auxiliary module is a row of its own."""
    project, done = tried
    found = rows((project / "table.md").read_text())
    methods = {method for pair, method in found if pair == "retinanet_r50_r18"}
    own = found["retinanet_r50_r18", "none"]["losses"]

    assert done.stderr.count("Traceback") == 0
    assert methods == {"none", "fitnet", "maskd prior", "maskd", "pkd"}
    assert re.fullmatch(r"loss_cls [\d.]+, loss_bbox [\d.]+", own)
    assert found["retinanet_r50_r18", "pkd"]["losses"].startswith(f"{own}, loss_pkd ")
    assert "loss_dice" in found["retinanet_r50_r18", "maskd prior"]["losses"]
    assert {found["retinanet_r50_r18", name]["finite"] for name in methods - {"fitnet"}} == {"yes"}
    # ResNet-50 and ResNet-18 RetinaNets of MMDetection have 37.97 and 21.41 million weights with 80 classes.
    assert (found["retinanet_r50_r18", "pkd"]["teacher, M"], found["retinanet_r50_r18", "pkd"]["student, M"]) == ("38.0", "21.4")


@pytest.mark.slow
def test_a_cell_that_fails_is_a_row(tried):
    """The others run all the same, and the exit code tells."""
    project, done = tried
    failed = rows((project / "table.md").read_text())["retinanet_r50_r18", "fitnet"]

    assert done.returncode == 1
    assert failed["losses"].startswith("failed: RuntimeError: torn; the traceback is in ")
    assert "torn" in (project / "work/measure/retinanet_r50_r18.fitnet.txt").read_text()


@pytest.mark.slow
def test_what_cannot_be_has_its_reason(tried):
    """Below the table, with the cells that it is said of."""
    project, _ = tried
    reasons = (project / "table.md").read_text().partition("Unsupported:")[2]

    assert "- needs 'roi_head': has no RoI head - retinanet_r50_r18 (defeat_mismatch)" in reasons
    assert "import without torchvision" in reasons
    assert "- resnet34_resnet18 (none, fitnet, maskd, pkd, defeat_mismatch)" in reasons


@pytest.mark.slow
def test_speeds(tried):
    """A record for each cell that ran; with images of another size than the published one they are not the plan's."""
    project, _ = tried
    speeds = Throughput.model_validate(json.loads((project / "speeds.json").read_text()))

    assert [record.method for record in speeds.records] == ["none", "maskd prior", "maskd", "pkd"]
    assert {record.tier for record in speeds.records} == {"paper at 64x64"}
    assert speeds.newest("paper", "") == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "gfl"], r"--pairs: .*'gfl'.*gfl_r101_r50.*"),
        (["--methods", "mdg"], r"--methods: .*'mdg'.*mgd.*"),
        (["--size", "800"], r"--size .*'800'.*800x1344"),
        (["--size", "0x64"], r"--size .*'0x64'.*"),
        (["--batch", "0"], r"--batch .*\b0\b.*"),
        (["--iterations", "0"], r"--iterations .*\b0\b.*"),
        (["--warmup", "-1"], r"--warmup .*-1\b.*"),
        (["--memory-gib", "nan"], r"--memory-gib .*nan\b.*"),
        (["--device", "cpu", "--precision", "fp16"], r"--precision fp16 .*"),
        (["--table", "nowhere/table.md"], r"--table nowhere/table\.md: .*"),
        (["--json", "README.md"], r"README.md: .*"),
    ],
)
def test_bad_input(monkeypatch, arguments, message):
    """One line, before anything is built."""
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match=f"^{message}$"):
        main(["measure", *arguments])


def test_a_pair_of_unknown_size(monkeypatch):
    """The published size is the one that was measured for the plan, or there is none."""
    monkeypatch.chdir(ROOT)
    assert published_size("faster_rcnn_r101_r50_voc") == (608, 1024)  # 600x1000 padded to multiples of 32
    with pytest.raises(ValueError, match=r"'new'.*python -m tools\.model_sizes new .*--size"):
        published_size("new")


def test_losses_that_are_no_numbers_are_a_failure():
    """The cell ran, and still it failed."""
    seen = SimpleNamespace(
        finite=False, losses={"loss_cls": math.nan}, teacher_m=1.0, student_m=None, s_per_iteration=1.0, images_per_s=1.0, peak_mib=1.0
    )  # fmt: skip
    measured = Measured("a", "b", "ran", seen=seen)
    environment = {"packages": {}, "mmlab": {}, "device": "CPU", "python": "3"}

    assert measured.failed
    assert rows(as_table([measured], "command", environment))["a", "b"]["finite"] == "**no**"
