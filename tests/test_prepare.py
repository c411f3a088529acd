"""Stage ``prepare``: scenes as ever, published data and a user's own checked before anything depends on them."""

import re
import shutil
import sys

import pytest
import yaml

from benchmarks.dataset import datasets
from benchmarks.synthetic import SceneSpec, write_scenes
from pipelines.commands.run import redraw_damaged_data
from pipelines.stages import prepare
from tests import trees
from tests.conftest import ROOT, edit_yaml, read
from tests.trees import refused, small_catalogue

SIDE = {"name": "ResNet", "config": "mmdet::gfl/gfl_r50_fpn_1x_coco.py"}
PAIR = {
    "title": "a pair", "task": "detection", "dataset": "coco", "metric": "box AP", "head": "gfl", "schedule": "1x", "epochs": 12,
    "gpus": 8,
    "images_per_gpu": 2,
    "teacher": {**SIDE, "checkpoint": None, "no_checkpoint": "it is made up", "stated": None}, "student": SIDE,
}  # fmt: skip


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """A project folder with what the stage reads; the catalogue is small and no root is named."""
    small_catalogue(monkeypatch)
    for published in datasets().values():
        monkeypatch.delenv(published.variable, raising=False)
    project = tmp_path / "project"
    shutil.copytree(ROOT / "benchmarks/tiers", project / "benchmarks/tiers")
    (project / "benchmarks/pairs").mkdir()
    (project / "params.yaml").write_text(yaml.safe_dump({"tier": "paper", "grid": {}, "seeds": 1}))
    pair(project, "on_coco")
    monkeypatch.chdir(project)
    return project


def run(monkeypatch, tier, *more):
    """The stage, in this process."""
    monkeypatch.setattr(sys, "argv", ["prepare", "--tier", tier, *more])
    prepare.main()


def pair(project, name, **changes):
    """Another pair in the grid."""
    (project / f"benchmarks/pairs/{name}.yaml").write_text(yaml.safe_dump({**PAIR, **changes}))
    rows = yaml.safe_load((project / "params.yaml").read_text())["grid"]
    edit_yaml(project / "params.yaml", grid={**rows, name: ["none"]})


def digests(project, tier):
    """By data set, what all stages behind depend on in place of its files."""
    return {path.stem: read(path) for path in (project / f"runs/{tier}/data").iterdir()}


def test_scenes_are_drawn_as_ever(grid, monkeypatch, tmp_path):
    """The manifest's bytes are those of the specification alone, and the digest is its own."""
    run(monkeypatch, "smoke")
    spec = SceneSpec(**yaml.safe_load((ROOT / "benchmarks/tiers/smoke.yaml").read_text())["scenes"])
    digest = write_scenes(spec, tmp_path / "scenes")

    assert (grid / "data/smoke/manifest.json").read_bytes() == (tmp_path / "scenes/manifest.json").read_bytes()
    assert digests(grid, "smoke") == {"scenes": {"digest": digest}}
    assert "leave --download away" in refused(run, monkeypatch, "smoke", "--download")


@pytest.mark.parametrize("damage", ["cut", "removed", "manifest"])
def test_generated_data_that_are_damaged_are_drawn_again(grid, monkeypatch, capsys, damage):
    """A run names the file and makes the stage stale by its manifest; what is drawn are the same bytes.  Whole data stay."""
    edit_yaml(grid / "params.yaml", tier="smoke")
    run(monkeypatch, "smoke")
    file, manifest = grid / "data/smoke/train/000003.png", grid / "data/smoke/manifest.json"
    before = file.read_bytes(), manifest.read_bytes()
    capsys.readouterr()
    redraw_damaged_data()
    assert (capsys.readouterr().out, manifest.is_file()) == ("", True)

    if damage == "cut":
        file.write_bytes(before[0][:100])
    elif damage == "removed":
        file.unlink()
    else:
        manifest.write_bytes(before[1][:100])
    redraw_damaged_data()
    state = {"cut": "altered", "removed": "missing", "manifest": "cut off or damaged"}[damage]
    named = manifest if damage == "manifest" else file

    assert capsys.readouterr().out == f"{named.relative_to(grid)} is {state}; the data set is drawn again\n"
    assert not manifest.exists()
    run(monkeypatch, "smoke")
    assert (file.read_bytes(), manifest.read_bytes()) == before


def test_data_of_users_are_never_drawn(grid):
    """Not even looked at."""
    edit_yaml(grid / "params.yaml", tier="paper")
    manifest = grid / "data/paper/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    redraw_damaged_data()

    assert manifest.read_text() == "{"


def test_published_data_leave_a_manifest(grid, monkeypatch, tmp_path, capsys):
    """The manifest lists the data sets that the grid's pairs need and no other; their digests have a file each."""
    monkeypatch.setenv("KD_COCO", str(trees.coco(tmp_path / "coco")))
    run(monkeypatch, "paper")
    manifest = read(grid / "data/paper/manifest.json")

    assert list(manifest["sets"]) == ["coco"]
    assert manifest["sets"]["coco"]["num_images"] == {"train": 3, "val": 2}
    assert f"[prepare] coco: 3 train + 2 val images, digest {manifest['sets']['coco']['digest'][:12]}" in capsys.readouterr().out
    assert digests(grid, "paper") == {"coco": {"digest": manifest["sets"]["coco"]["digest"]}}
    before = (grid / "runs/paper/data/coco.json").read_bytes()
    pair(grid, "on_voc", dataset="voc")
    monkeypatch.setenv("KD_VOC", str(trees.voc(tmp_path / "voc")))
    run(monkeypatch, "paper")
    assert digests(grid, "paper").keys() == {"coco", "voc"}
    assert (grid / "runs/paper/data/coco.json").read_bytes() == before
    edit_yaml(grid / "params.yaml", grid={"on_voc": ["none"]})
    run(monkeypatch, "paper")
    assert digests(grid, "paper").keys() == {"voc"}


def test_all_that_is_missing_in_one_line(grid, monkeypatch, tmp_path):
    """Two data sets, neither whole: both are told; no manifest is left. A pair that is not run needs nothing."""
    pair(grid, "on_voc", dataset="voc")
    pair(grid, "on_imagenet", dataset="imagenet", not_run="no such code here")
    line = refused(run, monkeypatch, "paper")
    assert "export KD_COCO=" in line
    assert "data set 'voc'" in line

    edit_yaml(grid / "params.yaml", data={"coco": str(tmp_path / "coco"), "voc": str(trees.voc(tmp_path / "voc"))})
    trees.coco(tmp_path / "coco")
    shutil.rmtree(tmp_path / "coco/val2017")
    shutil.rmtree(tmp_path / "voc/VOCdevkit/VOC2012/JPEGImages")
    line = refused(run, monkeypatch, "paper")
    assert "val2017 has 0 of 2 images" in line
    assert "VOC2012/JPEGImages has 0 of the 3 images" in line
    assert not (grid / "data/paper/manifest.json").exists()
    assert not (grid / "runs").exists()


def test_download_is_asked_for_explicitly(grid, monkeypatch, tmp_path):
    """Without --download nothing is fetched; with it every named data set is completed first."""
    asked = []
    monkeypatch.setattr("pipelines.engine.archives.complete", lambda name, root: asked.append(name) or trees.coco(root))
    edit_yaml(grid / "params.yaml", data={"coco": str(tmp_path / "coco")})
    assert "add --download" in refused(run, monkeypatch, "paper")
    assert asked == []

    run(monkeypatch, "paper", "--download")
    assert asked == ["coco"]
    assert (grid / "data/paper/manifest.json").is_file()


def test_published_data_that_change(grid, monkeypatch, tmp_path):
    """A second check keeps to what the first one recorded."""
    root = trees.coco(tmp_path / "coco")
    monkeypatch.setenv("KD_COCO", str(root))
    run(monkeypatch, "paper")
    first = (grid / "data/paper/manifest.json").read_bytes()
    trees.edit(root / "annotations/instances_val2017.json", lambda coco: coco["annotations"].pop())

    assert "has changed since it was first checked" in refused(run, monkeypatch, "paper")
    assert (grid / "data/paper/manifest.json").read_bytes() == first
    assert digests(grid, "paper")["coco"]["digest"] == read(grid / "data/paper/manifest.json")["sets"]["coco"]["digest"]


def test_a_users_own_data(grid, monkeypatch, tmp_path):
    """Named in params.yaml; edited data give another digest and are no fault."""
    edit_yaml(grid / "benchmarks/tiers/paper.yaml", data="own")
    assert re.match("params.yaml: .*'own:'", refused(run, monkeypatch, "paper"))

    own = trees.own_coco(tmp_path / "own")
    edit_yaml(grid / "params.yaml", own=own.model_dump())
    assert re.match("pair on_coco with batches of 16 .* the 3 of own.train", refused(run, monkeypatch, "paper"))

    edit_yaml(grid / "params.yaml", batch_size=2)
    run(monkeypatch, "paper")
    first = read(grid / "data/paper/manifest.json")["sets"]["own"]
    trees.edit(own.folder / "test.json", lambda coco: coco["annotations"].pop())
    run(monkeypatch, "paper")

    assert first["num_images"] == {"train": 3, "tune": 3, "test": 3}
    assert read(grid / "data/paper/manifest.json")["sets"]["own"]["digest"] != first["digest"]
    assert digests(grid, "paper") == {"own": {"digest": read(grid / "data/paper/manifest.json")["sets"]["own"]["digest"]}}


def test_a_users_own_data_and_a_pair_of_another_task(grid, monkeypatch, tmp_path):
    """Boxes cannot train a segmenter."""
    edit_yaml(grid / "benchmarks/tiers/paper.yaml", data="own")
    edit_yaml(grid / "params.yaml", own=trees.own_coco(tmp_path / "own").model_dump())
    pair(grid, "segmenter", task="segmentation", metric="mIoU", dataset="cityscapes")

    assert re.search(r"own\.format coco .*segmentation", refused(run, monkeypatch, "paper"))
