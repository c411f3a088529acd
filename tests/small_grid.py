"""A DVC project of small shell commands, with cells as the grid has them, for tests of the coordinator."""

import collections
import contextlib
import copy
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

PYTHON = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CI": "1"}
PYTHON.pop("SHELL", None)
# `make repro` without this project's grid, and with a fork server that imports nothing.
RUNNER = """
import signal
import sys
from pipelines import errors
from pipelines.commands import app, run
from pipelines.runner import processes
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
processes._PRELOADED.clear()
run._renew = lambda: False
run.redraw_damaged_data = lambda: None
errors.run(lambda: app.main(["run", *sys.argv[1:]]))
"""
# A cell as the grid has them: two stages of one key; each counts how often it ran.
CELL = {
    "distill": {
        "foreach": "${cells}",
        "do": {
            "cmd": "mkdir -p runs/${item} && echo distill >> ran/${item} && cp word runs/${item}/student.pth && cp word runs/${item}/record.txt",
            "deps": ["word", "settings/${item}"],
            "outs": ["runs/${item}/student.pth", "runs/${item}/record.txt"],
        },
    },
    "evaluate": {
        "foreach": "${cells}",
        "do": {
            "cmd": "echo evaluate >> ran/${item} && cat runs/${item}/record.txt settings/${item} > runs/${item}/metrics.json",
            "deps": ["runs/${item}/record.txt"],
            "outs": ["runs/${item}/metrics.json"],
        },
    },
}
KEYS = [f"{pair}/{method}/seed{seed}" for pair in ("a", "b") for method in ("none", "mgd") for seed in (0, 1)]


def stages(**more):
    """A dvc.yaml: a check, cells, a report over all of them, and more."""
    check = {
        "cmd": "mkdir -p checked && cp word checked/one && cp word checked/two",
        "deps": ["params.yaml"],
        "outs": ["checked"],
    }
    report = {
        "cmd": "cat runs/*/*/*/metrics.json > report",
        "deps": ["runs"],
        "params": ["cells"],
        "outs": [{"report": {"cache": False}}],
    }
    return copy.deepcopy({"check": check, **CELL, "report": report, **more})


def init_dvc(folder):
    """Make a folder a DVC project, as ``dvc init --no-scm`` does in a second."""
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = True\n")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A DVC project of eight cells; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    for key in KEYS:
        for folder in ("settings", "ran"):
            Path(folder, key).parent.mkdir(parents=True, exist_ok=True)
        Path("settings", key).write_text(key)
    Path("word").write_text("first\n")
    Path("params.yaml").write_text(yaml.safe_dump({"cells": KEYS}))
    Path("grid.yaml").write_text("stages: {}\n")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages()}))
    init_dvc(tmp_path)
    return tmp_path


def without_git_warning(text: str) -> str:
    """Return standard error without what is said of a copy that has no .git, as most tests' copies have none."""
    return re.sub(r"(?m)^warning: the records will name no commit: .*\n", "", text)


def repro(*arguments, **environment):
    """Run it to its end."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *arguments], env={**PYTHON, **environment}, capture_output=True, text=True, check=False
    )
    done.stderr = without_git_warning(done.stderr)
    return done


@contextlib.contextmanager
def started(*arguments):
    """Run it meanwhile; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, *arguments], env=PYTHON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(condition, what, within_s=120):
    """Wait until something holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def ran():
    """Number of runs of each stage, by cell."""
    return {key: collections.Counter(Path("ran", key).read_text().split()) if Path("ran", key).is_file() else {} for key in KEYS}


def dvc(*arguments):
    """Run DVC; its output."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], env=PYTHON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


ONCE = {key: {"distill": 1, "evaluate": 1} for key in KEYS}
