"""Tests judge the code and what git has, not what a user has run or edited."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPORTS, ROOT, edit_yaml, git

pytestmark = pytest.mark.slow

# Those that read documents, results or the default grid, as far as they take seconds.
READERS = (
    "tests/test_documents.py",
    "tests/test_gather.py::test_a_tuned_row_stands_behind_its_own",
    "tests/test_gather.py::test_what_is_there_is_used",
    "tests/test_params.py::test_committed_files_are_in_order",
    "tests/test_params.py::test_dvc_repro_stops_at_the_same_line",
    "tests/test_plan.py::test_bad_input",
    "tests/test_plan.py::test_committed_tables",
    "tests/test_tune_ends.py::test_best_is_the_highest_complete_score_and_the_first_of_equals",
)


@pytest.fixture
def used(tmp_path, monkeypatch):
    """A checkout of what git has, with the code of this work tree, whose user has edited the grid and run another."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a hook's are those of this checkout
    checkout = tmp_path / "checkout"
    git("checkout-index", "--all", f"--prefix={checkout}/")
    for name in ("benchmarks", "methods", "pipelines", "reports", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", *(REPORTS if name == "reports" else ()))
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored, dirs_exist_ok=True)
    git("init", "-q", at=checkout)
    git("add", "--all", "--force", at=checkout)
    for name in REPORTS:
        shutil.rmtree(checkout / "reports" / name)
    for name in ("README.md", "CONTRIBUTING.md", "dvc.lock", "grid.yaml", "benchmarks/throughput.json"):
        (checkout / name).write_text("mine\n")
    shutil.copy(checkout / "benchmarks/tiers/own.yaml", checkout / "benchmarks/tiers/mine.yaml")
    grid = {"tier": "mine", "grid": {"retinanet_r50_r18": ["none", "fgd"]}, "seeds": [7], "baseline_seeds": []}
    edit_yaml(checkout / "params.yaml", **grid, tunning=None)  # misspelt: whoever reads it fails
    return checkout


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="without git the files themselves are all there is")
def test_what_a_user_ran_and_edited_is_not_judged(used):
    """Other tier, pairs, methods, seeds and tuning, results that are not those, documents of the user's own."""
    command = [sys.executable, "-m", "pytest", *READERS]
    done = subprocess.run(command, cwd=used, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
