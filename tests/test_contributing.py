"""The worked example of CONTRIBUTING.md, as a contributor would type it."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import PAIR, ROOT, committed, edit_yaml, run_stage

pytestmark = pytest.mark.slow


def test_worked_example(project):
    """Its files pass their own test, the conformance suite and the linter; the new cell is part of the grid."""
    text = committed("CONTRIBUTING.md")
    files = re.findall(r"^`((?:methods|tests)/\S+)`: [^\n]*\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["methods/cosine.py", "methods/cosine.yaml", "tests/test_cosine.py"]
    (project / "tests").mkdir()
    helpers = [path for path in (ROOT / "tests").glob("*.py") if not path.stem.startswith("test_")]
    for path in (*helpers, ROOT / "tests/test_conformance.py"):
        shutil.copy(path, project / "tests")
    shutil.copy(ROOT / "pyproject.toml", project / "pyproject.toml")
    for name, content in files:
        (project / name).write_text(content)
    edit_yaml(project / "params.yaml", grid={PAIR: ["none", "cosine", "cosine+crosskd"]})

    tests = run_stage(project, "pytest", "tests/test_cosine.py", "tests/test_conformance.py", "-k", "cosine")
    assert tests.returncode == 0, tests.stdout
    assert re.search(r"\d\d+ passed", tests.stdout)
    lint = [[sys.executable, "-m", "ruff", "check", "."], [sys.executable, "-m", "mypy", "methods/cosine.py"]]
    for command in lint:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    renewed = run_stage(project, "pipelines.stages.check", "--renew")
    assert renewed.returncode == 0, renewed.stderr
    check = run_stage(project, "pipelines.stages.check")
    assert check.returncode == 0, check.stderr
    assert (project / f"runs/resolved/distill/{PAIR}/cosine+crosskd.json").is_file()
