"""The generated data set: the same bytes everywhere, three splits with nothing in common, valid COCO."""

import itertools
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from benchmarks import synthetic
from benchmarks.synthetic import SceneSpec, draw_scene, verify_scenes, write_scenes
from tests.conftest import ROOT

SPEC = SceneSpec(seed=3, image_px=64, digit_px=(20, 52), digits=(1, 3), noise=10, train=6, tune=3, test=3)


@pytest.fixture
def root(tmp_path):
    """A small data set on disk."""
    write_scenes(SPEC, tmp_path / "scenes")
    return tmp_path / "scenes"


def test_same_bytes_in_another_process(root, tmp_path):
    """A process with other global seeds and another hash seed writes the same digest."""
    code = (
        "import random, numpy, sys, json; random.seed(9); numpy.random.seed(9)\n"
        "from pathlib import Path; from benchmarks.synthetic import *\n"
        f"print(write_scenes(SceneSpec(**json.loads(sys.argv[1])), Path({str(tmp_path / 'other')!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, SPEC.model_dump_json()],
        cwd=ROOT, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"},
    )  # fmt: skip

    assert verify_scenes(root) == done.stdout.strip()


def test_another_seed_is_another_data_set(root, tmp_path):
    """The digest depends on the seed."""
    other = write_scenes(SPEC.model_copy(update={"seed": 4}), tmp_path / "other")

    assert verify_scenes(root) != other


def test_files_hold_the_pixels_unchanged(root):
    """The PNG that is read back is the scene that was drawn, and so is its label map."""
    scene = draw_scene(SPEC, "test", 1)

    assert np.array_equal(np.asarray(Image.open(root / "test/000002.png")), scene.image_HWC)
    assert np.array_equal(np.asarray(Image.open(root / "test_labels/000002.png")), scene.label_map())


def test_coco_boxes_masks_and_labels_agree(root):
    """Ids start at 1; each box is the tight one around its mask; masks and label map are the same pixels."""
    coco = COCO(str(root / "train.json"))
    assert min(coco.imgs) == 1
    assert min(coco.anns) == 1
    assert sorted(coco.cats) == list(range(1, 11))
    for image_id, image in coco.imgs.items():
        labels = np.zeros((64, 64), np.uint8)
        for ann in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(ann).astype(bool)
            rows, columns = np.nonzero(mask)
            tight = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert ann["bbox"] == tight
            assert ann["area"] == tight[2] * tight[3]
            assert not (labels[mask]).any(), "visible masks do not overlap"
            labels[mask] = ann["category_id"]

        assert np.array_equal(np.asarray(Image.open(root / "train_labels" / image["file_name"])), labels)


def test_splits_share_no_scan():
    """Training, tuning and test digits are different scans, and every class has some in each split."""
    seen = {split: {scan.tobytes() for scans in synthetic._scans(split) for scan in scans} for split in synthetic.SPLITS}
    for split in synthetic.SPLITS:
        assert all(len(scans) >= 20 for scans in synthetic._scans(split))
    total = sum(len(scans) for split in synthetic.SPLITS for scans in synthetic._scans(split))

    assert len(load_digits().images) >= total > 1700
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["tune"]
    assert not seen["tune"] & seen["test"]


def test_splits_share_no_photograph_column():
    """The column ranges that the splits own are disjoint."""
    ranges = sorted(synthetic._SHARE.values())

    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(ranges))


@pytest.mark.parametrize(("change", "word"), [("delete", "missing"), ("alter", "altered"), ("add", "not in the manifest")])
def test_damage_is_named(root, change, word):
    """A missing, an altered and an extra file are each named, with the remedy."""
    path = root / "tune/000002.png"
    if change == "delete":
        path.unlink()
    elif change == "alter":
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    else:
        path = root / "tune/000009.png"
        path.write_bytes(b"new")

    with pytest.raises(ValueError, match=rf"{path.name} is {word}.*dvc repro"):
        verify_scenes(root)


@pytest.mark.parametrize("change", ["delete", "alter", "add"])
def test_a_split_that_is_left_out_is_not_looked_at(root, change):
    """Whatever becomes of the test split is no matter then, and is without it; the other splits are still checked."""
    digest = json.loads((root / "manifest.json").read_text())["digest"]
    if change == "delete":
        for name in ("test", "test_labels"):
            shutil.rmtree(root / name)
        (root / "test.json").unlink()
    elif change == "alter":
        (root / "test.json").write_text("{}")
    else:
        (root / "test/000009.png").write_bytes(b"new")

    with pytest.raises(ValueError, match=r"test"):
        verify_scenes(root)
    assert verify_scenes(root, without=["test"]) == digest
    (root / "train_labels/000001.png").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"train_labels/000001\.png is altered"):
        verify_scenes(root, without=["test"])


def test_an_interrupted_writing_leaves_no_manifest(tmp_path, monkeypatch):
    """A partly written folder is not taken for a data set."""

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(synthetic, "_annotation", fail)
    with pytest.raises(OSError, match="disk full"):
        write_scenes(SPEC, tmp_path / "scenes")

    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        verify_scenes(tmp_path / "scenes")


def test_manifest_names_every_file(root):
    """Images, label maps and annotations of all splits are in the manifest, with the specification."""
    manifest = json.loads((root / "manifest.json").read_text())

    assert len(manifest["files"]) == 2 * (6 + 3 + 3) + 3
    assert SceneSpec(**manifest["spec"]) == SPEC
