"""Paths that users write: one reading for params.yaml and the environment, in every locale."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from benchmarks.own import OwnData
from benchmarks.paths import user_path
from benchmarks.published_data import data_root
from pipelines import layout
from pipelines.engine import tracking
from pipelines.released import tokens
from tests.conftest import ROOT
from tests.trees import refused


def own(**changes):
    """Own data, of which only the paths matter."""
    split = {"images": "a", "annotations": "b"}
    return OwnData(
        **({"format": "coco", "root": "r", "classes": ["cat"], "train": split, "tune": split, "test": split} | changes)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/data", "/home/me/data"), ("~", "/home/me"), ("$HOME/data", "/home/me/data"), ("${HOME}/data", "/home/me/data"), ("data/x", "data/x"),
        ("./~x", "~x"), ("/a b/c#d/e%20f/g?h", "/a b/c#d/e%20f/g?h"), ("/\u4e2d\u6587/\u00e9", "/\u4e2d\u6587/\u00e9"), ("/a$/b$5", "/a$/b$5"),
        ("/a/~/b", "/a/~/b"), ("~root/x", "/root/x"),
    ],
)  # fmt: skip
def test_read_as_a_shell_would(monkeypatch, given, expected):
    """Tilde and variables expanded, nothing else changed."""
    monkeypatch.setenv("HOME", "/home/me")

    assert user_path(given, "key") == Path(expected)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "is empty"), ("  ", "is empty"), ("a\0b", "a character that no path should have"), ("a\nb", "a character that"), ("\ud800", "a character that"),
        ("~nobody-of-that-name/x", "there is no user nobody-of-that-name"), ("$KD_NOT_SET/x", "names $KD_NOT_SET, which is not set"),
        ("${KD_NOT_SET}", "which is not set"), ("/" + "a" * 300, "longer than 255 bytes"), ("/" + "\u4e2d" * 100, "longer than 255 bytes"),
    ],
)  # fmt: skip
def test_paths_that_are_none(given, why):
    """One line with the key."""
    line = refused(user_path, given, "params.yaml: own.root")

    assert line.startswith("params.yaml: own.root")
    assert why in line


@pytest.mark.parametrize("home", ["", None])
def test_without_a_home(monkeypatch, home):
    """HOME empty, or not set for a user whom nobody knows: a tilde is not the root of the disk."""
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without an entry

    assert "HOME is not set" in refused(user_path, "~/data", "key")


def test_every_path_of_params_and_environment_is_read_so(monkeypatch, tmp_path):
    """Own data and teacher, published data, tokens, downloads and the tracking store."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.pth").write_bytes(b"tokens")
    for name in ("KD_COCO", "KD_DOWNLOADS"):
        monkeypatch.delenv(name, raising=False)

    assert own(root="~/d").folder == tmp_path / "d"
    assert own(teacher="~/t.pth").teacher_file == tmp_path / "t.pth"
    assert own().teacher_file is None
    assert data_root("coco", {"coco": "$HOME/coco"}) == tmp_path / "coco"
    assert tokens.find("~/t.pth", "pair", "maskd")[0] == tmp_path / "t.pth"
    assert layout.downloads() == Path("data/weights")
    monkeypatch.setenv("KD_COCO", "~/other")
    monkeypatch.setenv("KD_DOWNLOADS", "~/weights")
    assert data_root("coco", {"coco": "$HOME/coco"}) == tmp_path / "other"
    assert layout.downloads() == tmp_path / "weights"
    for given, expected in {
        "~/store": f"{tmp_path}/store", "sqlite:///~/m.db": f"sqlite:///{tmp_path}/m.db", "http://host:5000": "http://host:5000",
        "sqlite:////a/b.db": "sqlite:////a/b.db", "file:///~/runs": f"file://{tmp_path}/runs", "databricks": "databricks",
    }.items():  # fmt: skip
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert tracking.tracking_uri() == expected


def test_the_store_of_a_checkout_with_any_name(monkeypatch, tmp_path):
    """Blanks, and signs that addresses use: a run is entered in the file of this folder, and nothing is left in another."""
    from mlflow import MlflowClient  # noqa: PLC0415

    folder = tmp_path / "a b#c%20\u00e9?&=+;d"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    tracker = tracking.Tracker("kd-test", "a/run")
    Path("note.txt").write_text("kept")
    tracker.artifact(Path("note.txt"))
    tracker.metrics({"a": 1.0}, 1)
    tracker.finish()

    assert MlflowClient(tracking.open_store()).get_run(tracker.run_id).data.metrics == {"a": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow", "note.txt"]
    assert [path.read_text() for path in folder.rglob("artifacts/**/note.txt")] == ["kept"]


def coco(root):
    """Two images per split with a box each."""
    for number, split in enumerate(("train", "tune", "test")):
        names = [f"{split}_{k}_\u00e9.png" for k in range(2)]
        (root / split).mkdir(parents=True)
        for k, name in enumerate(names):
            Image.new("RGB", (64, 64), (10 * number, 50 * k, 90)).save(root / split / name)
        images = [{"id": k + 1, "file_name": name, "width": 64, "height": 64} for k, name in enumerate(names)]
        boxes = [
            {"id": k + 1, "image_id": k + 1, "category_id": 1, "bbox": [8, 8, 40, 30], "area": 1200, "iscrowd": 0,
             "segmentation": [[8, 8, 48, 8, 48, 38]]} for k in range(2)
        ]  # fmt: skip
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "caf\u00e9"}]}
        (root / f"{split}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "POSIX"}]
)
def test_a_stage_in_another_locale(tmp_path, locale):
    """Own data in a folder whose name is not ASCII, as are a class and the images: prepared and recorded as in any locale."""
    root = tmp_path / "a b#c%20\u00e9\u4e2d"
    coco(root)
    for name in ("benchmarks", "methods", "pipelines", "reports"):
        (tmp_path / name).symlink_to(ROOT / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    splits = {split: {"images": split, "annotations": f"{split}.json"} for split in ("train", "tune", "test")}
    about = {"format": "coco", "root": str(root), "classes": ["caf\u00e9"], "image_px": 64, **splits}
    params |= {"tier": "own", "grid": {"gfl_r101_r50": ["none"]}, "seeds": [0], "own": about}
    params["tuning"]["grid"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    command = [
        sys.executable, "-c",
        (
            "import sys; from pipelines import errors; from pipelines.params import load_grid; from benchmarks.own_check import check_own; from benchmarks.own_splits import Needs;"
            "errors.run(lambda: print(ascii(str(check_own(load_grid().own, Needs(('detection',))).root)), sys.flags.utf8_mode))"
        ),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**kept, **locale, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    assert done.stdout.split() == [*ascii(str(root)).split(), "1"]
