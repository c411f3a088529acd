"""Exported models: without this project they predict what they predict here; their ONNX graphs give the same outputs and score."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.digest import file_sha256
from benchmarks.synthetic import write_scenes
from pipelines import layout
from pipelines.commands import export as verb
from pipelines.commands.names import all_pairs
from pipelines.engine import onnx_check, onnx_graphs
from pipelines.engine.compose import compose_training
from pipelines.engine.data_configs import data_source, dicts
from pipelines.engine.evaluation import measure
from pipelines.engine.mmlab import quiet
from pipelines.engine.onnx_check import export_onnx
from pipelines.engine.plain import plain_config, write_model
from pipelines.engine.setting import Setting
from pipelines.engine.weights import read_weights, save_weights
from pipelines.params import load_pair, load_tier
from reports.formats.export_card import Export
from tests.conftest import ROOT, build
from tests.conftest import setting as setting_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("at_root")]
GFL, FCOS, FASTER, PSPNET = "gfl_r101_r50", "fcos_r101_r50", "faster_rcnn_r101_r50", "pspnet_r101_pspnet_r18"
KEYS = {pair: f"{pair}/none/seed0" for pair in (GFL, FCOS, FASTER, PSPNET)}
# Both MMLab packages, and what is on the path, in a process without this project.
STRANGER = """
import json, sys
from pathlib import Path
assert not any((Path(part or ".") / "pipelines").exists() for part in sys.path), sys.path
import numpy, torch
torch.set_num_threads(1)
found = {}
for folder, image, segments in json.loads(sys.argv[1]):
    if segments:
        from mmseg.apis import inference_model, init_model
        model = init_model(f"{folder}/config.py", f"{folder}/student.pth", device="cpu")
        found[folder] = inference_model(model, image).pred_sem_seg.data[0].tolist()
    else:
        from mmdet.apis import inference_detector, init_detector
        model = init_detector(f"{folder}/config.py", f"{folder}/student.pth", device="cpu")
        one = inference_detector(model, image).pred_instances
        found[folder] = [one.bboxes.tolist(), one.scores.tolist(), one.labels.tolist()]
    assert len(model.dataset_meta["classes"]) == (11 if segments else 10)
Path(sys.argv[2]).write_text(json.dumps(found))
"""


def trained(pair_name, folder, steps=50):
    """A student at tier smoke after a few steps on four images, which are its test images, too; its setting and weights."""
    from mmengine.dataset import pseudo_collate  # noqa: PLC0415 (seconds)
    from mmengine.registry import DATASETS, DefaultScope  # noqa: PLC0415

    tier, pair = load_tier("smoke"), load_pair(pair_name)
    tier = tier.model_copy(update={"scenes": tier.scenes.model_copy(update={"train": 4})})
    write_scenes(tier.scenes, folder / "data")
    origin = data_source(pair, tier, folder / "data")
    setting = Setting(pair, tier, replace(origin, splits={**origin.splits, "test": origin.splits["train"]}))
    config = compose_training(setting, "student", seed=0)
    torch.manual_seed(0)
    model = build(config).train()
    with quiet(), DefaultScope.overwrite_default_scope(config.default_scope):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    images = [dataset[index] for index in range(4)]
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    for _ in range(steps):
        losses = model(**model.data_preprocessor(pseudo_collate(images), training=True), mode="loss")
        loss = sum(sum(value) if isinstance(value, list) else value for key, value in losses.items() if "loss" in key)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
    save_weights(model, folder / "weights.pth")
    return setting, folder / "weights.pth"


@pytest.fixture(scope="module")
def students(tmp_path_factory, at_root):
    """By pair: setting, weights, metrics and exported model of a trained student, in the folder of the files."""
    made = {}
    for pair in KEYS:
        folder = tmp_path_factory.mktemp("export") / pair
        setting, weights = trained(pair, folder)
        recorded = measure(setting, "student", weights, folder / "measured")
        state = read_weights(weights, file_sha256(weights))
        model = write_model(plain_config(setting, "student"), state, {"pair": pair}, folder / "student.pth")
        made[pair] = setting, recorded, model, folder
    return made


@pytest.mark.parametrize("pair", [FCOS, FASTER, PSPNET])  # GFL: test_the_card_s_code_runs
def test_graphs_give_torchs_outputs_and_score(pair, students):
    """Outputs within 1e-4 and AP or mIoU within 0.05 of a model that has learned something; sizes where they are free."""
    setting, recorded, model, folder = students[pair]

    found = export_onnx(model, setting, "student", folder, recorded.score)

    assert recorded.score > 10
    assert found.score == pytest.approx(recorded.score, abs=0.05)
    assert all(graph.difference < 1e-4 for graph in found.graphs)
    files = ["student.onnx", "student_roi.onnx"] if pair == FASTER else ["student.onnx"]
    assert [graph.file for graph in found.graphs] == files == sorted(path.name for path in folder.glob("*.onnx"))
    free = ("batch",) if pair == PSPNET else ("batch", "height", "width")
    assert found.graphs[0].free == free
    assert (found.num_images, found.reason) == (4, None)
    written = b"".join((folder / name).read_bytes() for name in files)
    assert not [word for word in (str(ROOT), str(folder), "pipelines", "site-packages") if word.encode() in written]


def test_without_this_project_predictions_are_the_same(students, tmp_path):
    """Boxes, scores and classes, or label maps, of plain MMDetection and MMSegmentation against the files of our evaluation."""
    requests = [(str(folder), str(folder / "data/train/000001.png"), pair == PSPNET) for pair, (*_, folder) in students.items()]
    assert all(Path(image).is_file() for _, image, _ in requests), sorted(Path(requests[0][1]).parent.iterdir())
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, json.dumps(requests), str(tmp_path / "found.json")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())

    for pair, (*_, folder) in students.items():
        if pair == PSPNET:
            expected = torch.tensor(list(Image.open(folder / "measured/predictions/000001.png").getdata()))
            assert torch.equal(torch.tensor(found[str(folder)]).flatten(), expected)
            assert len(expected.unique()) > 1
            continue
        ours = json.loads((folder / "measured/predictions.bbox.json").read_text())
        first = [one for one in ours if one["image_id"] == min(one["image_id"] for one in ours)]
        boxes, scores, labels = found[str(folder)]
        theirs = [[x, y, right - x, bottom - y] for x, y, right, bottom in boxes]
        assert len(first) > 3
        assert scores == pytest.approx([one["score"] for one in first], abs=1e-4)
        assert torch.allclose(torch.tensor(theirs), torch.tensor([one["bbox"] for one in first]), atol=1e-2)
        assert [label + 1 for label in labels] == [one["category_id"] for one in first]


def test_checkpoint_is_of_plain_values(students):
    """Tensors and facts alone; the config has no path of this machine."""
    *_, folder = students[GFL]

    content = torch.load(folder / "student.pth", weights_only=True)

    assert content["meta"]["kd"] == {"pair": GFL}
    assert content["meta"]["dataset_meta"]["classes"][:2] == ["zero", "one"]
    assert content["state_dict"].keys() == torch.load(folder / "weights.pth", weights_only=True).keys()
    assert str(folder) not in (folder / "config.py").read_text()


@pytest.mark.parametrize("pair", [name for name in all_pairs() if load_pair(name).not_run is None])
def test_no_config_names_this_project(pair):
    """Every type of every pair's exported config is one of MMLab's; of published data the folders are the published ones."""
    from mmengine.registry import DATASETS, MODELS, TRANSFORMS  # noqa: PLC0415 (seconds)

    setting = setting_of(pair, "paper")
    config = plain_config(setting, "student")
    scope = config.default_scope
    names = {part["type"] for part in dicts(config.to_dict()) if "type" in part}
    known = {name: kind for name in names for place in (MODELS, DATASETS, TRANSFORMS) if (kind := place.get(f"{scope}.{name}"))}

    assert {config.model.type, config.model.backbone.type, config.test_dataloader.dataset.type} <= known.keys()
    assert not [name for name, kind in known.items() if kind.__module__.startswith(("pipelines", "methods"))]
    assert "/data/" not in config.pretty_text
    assert "LoadAnnotations" not in config.pretty_text


def test_a_graph_that_differs_is_removed(students, tmp_path, monkeypatch):
    """Outputs off by a thousandth, and a score that is not the recorded one."""
    setting, _, model, folder = students[FASTER]
    for name in ("student.pth", "config.py"):
        shutil.copy(folder / name, tmp_path)
    images = [torch.rand(1, 3, 64, 64)]
    roi = onnx_graphs.graphs(model, images)[1]

    class Off(onnx_graphs.Session):
        def __call__(self, value):
            return tuple(output * 1.001 for output in super().__call__(value))

    monkeypatch.setattr(onnx_graphs, "Session", Off)
    with pytest.raises(ValueError, match=r"^student_roi\.onnx: outputs differ from torch's by 1\.0e-03 "):
        onnx_graphs.write(roi, tmp_path / "student")
    assert list(tmp_path.glob("*.onnx")) == []
    monkeypatch.undo()

    monkeypatch.setattr(onnx_check, "graphs", lambda *_: [roi])
    monkeypatch.setattr(onnx_check, "attach", lambda *_: None)
    monkeypatch.setattr(onnx_check, "_score", lambda *_: 20.0)
    with pytest.raises(ValueError, match=r"the ONNX graphs score 20\.00, metrics\.json says 20\.06"):
        export_onnx(model, setting, "student", tmp_path, 20.06)
    assert list(tmp_path.glob("*.onnx")) == []
    assert export_onnx(model, setting, "student", tmp_path, 20.04).score == 20.0
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["student_roi.onnx"]


def test_what_cannot_be_exported_is_a_reason(tmp_path):
    """RepPoints: one line, and no file."""
    model = build(compose_training(setting_of("reppoints_x101dcn_r50"), "student", seed=0)).eval()

    with pytest.raises(onnx_check.NotExported, match="deformable convolutions"):
        onnx_graphs.graphs(model, [torch.zeros(1, 3, 64, 64)])


@pytest.fixture
def ran(students, tmp_path, monkeypatch):
    """A project in which GFL's student has run at tier smoke; its folder of results."""
    setting, recorded, _, folder = students[GFL]
    for name in ("benchmarks", "methods"):
        (tmp_path / name).symlink_to(ROOT / name)
    text = re.sub(r"^tier: .*", "tier: smoke", (ROOT / "params.yaml").read_text(), flags=re.MULTILINE)
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    cell = layout.runs("smoke") / KEYS[GFL]
    cell.mkdir(parents=True)
    shutil.copy(folder / "weights.pth", cell / "student.pth")
    run = {"stage": "distill", "status": "done", "tier": "smoke", "pair": GFL, "method": "none", "seed": 0}
    (cell / "run.json").write_text(json.dumps({**run, "weights_sha256": recorded.weights_sha256}))
    (cell / "metrics.json").write_text(recorded.model_dump_json())
    monkeypatch.setattr("pipelines.engine.setting.open_setting", lambda *_: setting)
    monkeypatch.setattr("pipelines.engine.setting.verified_data", lambda *_: None)
    return cell


def test_the_card_s_code_runs(ran, students, capsys):
    """The verb writes config, checkpoint, graph and card; both snippets of the card run on an image beside them."""
    _, recorded, _, folder = students[GFL]
    out = Path("work/export/smoke-gfl_r101_r50-none-seed0")

    verb.export(KEYS[GFL])

    assert {path.name for path in out.iterdir()} == {"README.md", "config.py", "student.pth", "student.onnx"}
    card = (out / "README.md").read_text()
    assert f"**{recorded.score:.2f}** by PyTorch, as recorded" in card
    assert "`classes_0` 1 x 10 x 8 x 8" in card
    (score,) = re.findall(r"^\[export\] box AP by onnxruntime ([\d.]+), recorded", capsys.readouterr().out, re.MULTILINE)
    assert float(score) == pytest.approx(recorded.score, abs=0.06)
    assert recorded.score > 10
    shutil.copy(folder / "data/train/000001.png", out / "image.png")
    detect, run_graph = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    script = f"{detect}\n{run_graph}\nprint(outputs['boxes_2'].shape)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", script], cwd=out, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(1, 68, 2, 2)"


def test_without_onnx(ran, monkeypatch):
    """A missing package is named before anything is written; the switch does without."""
    found = verb.importlib.util.find_spec
    monkeypatch.setattr(verb.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))

    with pytest.raises(ValueError, match=r"^onnxruntime is not installed; pip install onnxruntime, or add --no-onnx$"):
        verb.export(KEYS[GFL], out=Path("out"))
    assert not Path("out").exists()
    verb.export(KEYS[GFL], out=Path("out"), no_onnx=True)
    assert {path.name for path in Path("out").iterdir()} == {"README.md", "config.py", "student.pth"}
    assert "No graph: not requested (--no-onnx)." in Path("out/README.md").read_text()


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("nonsense", r"'nonsense' is no cell; a cell is named pair/method/seed0"),
        ("gfl/none/seed0", r"\./kd export: unknown pair 'gfl'"),
        (f"{GFL}/nun/seed0", r"\./kd export: unknown method 'nun'"),
        (f"{FASTER}/crosskd/seed0", r"crosskd cannot run on faster_rcnn_r101_r50: "),
        (f"{GFL}/none/seed1", r"has not run at tier smoke: runs/\S+/run\.json is not there; dvc repro evaluate@gfl_r101_r50/none/seed1$"),
        (f"{GFL}/none/seed99", r"seed99 has not run at tier smoke: .*; name it in params\.yaml, with tier: smoke, then \./kd run$"),
    ],
)  # fmt: skip
def test_an_unknown_cell_is_one_line(key, line, ran):
    """What is wrong, and the command that runs it."""
    with pytest.raises(ValueError, match=line):
        verb.export(key)


def test_altered_weights_and_bad_folders_are_one_line(ran):
    """Nothing is written over results, nor exported from other weights than the record's."""
    Path("file").write_text("")
    with pytest.raises(ValueError, match=r"^cannot write to file/out: "):
        verb.export(KEYS[GFL], out=Path("file/out"))
    with pytest.raises(ValueError, match=r"--out runs/\S+: results of stages are there"):
        verb.export(KEYS[GFL], out=ran)
    with (ran / "student.pth").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match=r"student\.pth .* have sha256 .*, recorded is "):
        verb.export(KEYS[GFL], out=Path("out"))
    assert not Path("out").exists()


def test_a_reason_is_in_the_card():
    """Graphs without a score, and no graphs."""
    from reports.formats.export_card import export_card  # noqa: PLC0415

    origin = {"side": "student", "tier": "mini", "method": "none", "seed": 0, "metric": "box AP", "score": 1.0}
    more = {"key": "a", "title": "b", "task": "detection", "data": "c", "sha256": "d", "mean": [0], "std": [1], "is_rgb": True}
    text = export_card(Export(reason="too deep"), origin, **more, divisor=1, size="as the image")

    assert "No graph: too deep." in text
