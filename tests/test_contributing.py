"""The worked examples of the documentation, as a contributor would type them."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import PAIR, ROOT, committed, edit_yaml, renew, run_stage

pytestmark = pytest.mark.slow


def examples(page: str) -> dict[str, str]:
    """Files of a page's worked example: the blocks whose title is a path of the project."""
    return dict(
        re.findall(r'^```\w+ title="((?:benchmarks|methods|tests)/\S+)"\n(.*?)^```', committed(page), re.MULTILINE | re.DOTALL)
    )


def test_method(project):
    """Its files pass their own test, the conformance suite and the linter; the new cell is part of the grid."""
    files = examples("docs/adding-a-method.md")
    assert list(files) == ["methods/cosine.py", "methods/cosine.yaml", "tests/test_cosine.py"]
    (project / "tests").mkdir()
    helpers = [path for path in (ROOT / "tests").glob("*.py") if not path.stem.startswith("test_")]
    for path in (*helpers, ROOT / "tests/test_conformance.py"):
        shutil.copy(path, project / "tests")
    shutil.copy(ROOT / "pyproject.toml", project / "pyproject.toml")
    for name, content in files.items():
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


def test_pair(project):
    """Its file is read, its configs are installed, and its cells are resolved."""
    ((name, content),) = examples("docs/adding-a-pair.md").items()
    (project / name).write_text(content)
    pair = name.removeprefix("benchmarks/pairs/").removesuffix(".yaml")
    edit_yaml(project / "params.yaml", grid={pair: ["none", "crosskd"]})

    renew(project)
    check = run_stage(project, "pipelines.stages.check")

    assert check.returncode == 0, check.stderr
    assert (project / f"runs/resolved/distill/{pair}/crosskd.json").is_file()
