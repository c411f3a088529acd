"""The install's refusals: one line each, before anything is made."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def bare(tmp_path):
    """The Makefile and the lock file, and a PATH with little more than a shell."""
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in ("make", "sh", "env", "test"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def make(folder, *arguments):
    """Run make with that PATH alone."""
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, check=False, env={"PATH": str(folder / "bin")}
    )


def test_no_python(bare):
    """Says which versions are wanted and how to name one."""
    done = make(bare, "repro")

    assert done.returncode == 2
    assert re.search("^error: .*Python 3.10, 3.11 or 3.12 .*make PYTHON=", done.stderr, re.MULTILINE)
    assert not (bare / ".venv").exists()


def test_no_compiler(bare):
    """Says what is missing, why, and the package that has it."""
    (bare / "bin/python3").symlink_to(Path(os.path.realpath(sys.executable)))
    done = make(bare, "test")

    assert done.returncode == 2
    assert "error: no C++ compiler found (c++)" in done.stderr
    assert not (bare / ".venv").exists()
