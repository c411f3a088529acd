"""Stages forked from a process that has MMLab imported, and what DVC writes meanwhile."""

import json
import os
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from pipelines import warm
from tests.conftest import ROOT, committed

# What a DVC does with its connection: asks for one stage, and says what came of it.
ASKS = """
import json, os, sys
from pipelines import warm
server = warm.connection()
assert "STAGES_WARM_FD" not in os.environ
if len(sys.argv) > 2:
    os.utime(sys.argv[2])
print(json.dumps(server.run("stage", ["--word", sys.argv[1]], {"TOLD": "so", "PATH": ""})), flush=True)
"""

STAGE = """
import argparse, json, os, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("--word")
word = parser.parse_args().word
about = {"pid": os.getpid(), "told": os.environ["TOLD"], "argv": sys.argv[1:], "had": "torch" in sys.modules, "name": __name__}
Path("about.json").write_text(json.dumps(about))
print("said", word, flush=True)
if word == "sleep":
    Path("asleep").touch()
    time.sleep(600)
if word == "raise":
    raise ValueError("a stage's own")
sys.exit({"three": 3, "said": "a text"}.get(word))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project's code, and a stage of the tests."""
    target = tmp_path_factory.mktemp("project")
    for name in ("benchmarks", "methods", "pipelines", "reports"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "figures"))
    (target / "stage.py").write_text(STAGE)
    return target


@pytest.fixture(scope="module")
def ask(project):
    """Start a process that asks the server for the stage, with a word."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("PYTHONPATH", str(project))
        with warm.Server() as server:

            def begin(*words):
                with server.connected() as (environment, fds):
                    return subprocess.Popen(
                        [sys.executable, "-c", ASKS, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                        env={**os.environ, **environment}, pass_fds=fds,
                    )  # fmt: skip

            yield begin


@pytest.mark.parametrize(("word", "code"), [("none", 0), ("three", 3), ("said", 1), ("raise", 1)])
def test_a_stage_is_what_it_would_be_in_a_process_of_its_own(ask, project, word, code):
    """Arguments, environment, output and exit code; but torch is there before it imports anything."""
    out, err = ask(word).communicate(timeout=120)

    assert out == f"said {word}\n{code}\n"
    assert ("ValueError: a stage's own" in err) == (word == "raise")
    about = json.loads((project / "about.json").read_text())
    assert about == {"pid": about["pid"], "told": "so", "argv": ["--word", word], "had": True, "name": "__main__"}
    assert not psutil.pid_exists(about["pid"])


@pytest.mark.parametrize("ended", ["DVC", "stage", "between"])
def test_a_stage_ends_with_its_dvc_and_dvc_hears_of_its_end(ask, project, ended):
    """A kill -9 of the one that asked, or of the process between, ends the stage; DVC gets an exit code for it."""
    (project / "asleep").unlink(missing_ok=True)
    asking = ask("sleep")
    deadline = time.monotonic() + 120
    while not (project / "asleep").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    stage = psutil.Process(json.loads((project / "about.json").read_text())["pid"])
    {"DVC": asking, "stage": stage, "between": stage.parent()}[ended].kill()
    out, _ = asking.communicate(timeout=20)

    stage.wait(timeout=20)
    assert out == ("said sleep\n" if ended == "DVC" else "said sleep\n-9\n")


def test_edited_code_is_not_run_as_it_was(project, ask):
    """Once a module's file has been written to, the stage is to be started otherwise; the last test that asks."""
    assert ask("none").communicate(timeout=120)[0] == "said none\n0\n"
    assert ask("none", "pipelines/engine/stage.py").communicate(timeout=120)[0] == "null\n"


def test_a_server_that_is_gone_is_done_without(project, monkeypatch):
    """Neither an error nor a wait."""
    monkeypatch.chdir(project)
    server = warm.Server()
    with server:
        pass
    with server.connected() as (environment, fds):
        assert (environment, fds) == ({}, ())


def test_dvc_writes_the_same_lock_from_what_libyaml_reads(tmp_path):
    """The committed dvc.lock, one stage changed: the same bytes, in a new file; and a dvc.yaml keeps its comments."""
    change = """
import os, sys
from pipelines.job import read_lock_fast, write_lock_whole
from dvc.utils.serialize import dump_yaml, load_yaml, modify_yaml
if sys.argv[1] == "fast":
    read_lock_fast()
    write_lock_whole()
files = {name: os.stat(name).st_ino for name in ("dvc.lock", "dvc.yaml")}
with modify_yaml("dvc.lock") as lock:
    first = next(iter(lock["stages"].values()))
    first["cmd"] = first["cmd"] + " --more words that make the line longer still and fold it anew"
    lock["stages"]["added"] = {"cmd": "true", "outs": [{"path": "a", "md5": "01234567890123456789012345678901", "size": 1}]}
with modify_yaml("dvc.yaml") as stages:
    stages["more"] = 1
print(*(name for name, file in files.items() if os.stat(name).st_ino != file))
dump_yaml("dvc.lock", load_yaml("dvc.lock"))
"""
    written, replaced = [], []
    for way in ("slow", "fast"):
        for name in ("dvc.lock", "dvc.yaml"):
            (tmp_path / name).write_text(committed(name))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", change, way]
        replaced += [subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE).stdout.split()]
        written.append([(tmp_path / name).read_text() for name in ("dvc.lock", "dvc.yaml")])

    assert written[0] == written[1]
    assert replaced == [[], [b"dvc.lock"]]
    assert written[0][0] != committed("dvc.lock")
    assert "# One stage per file of pipelines/" in written[1][1]
