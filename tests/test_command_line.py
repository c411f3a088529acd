"""The command line: help without heavy imports, one summary per verb, one line for what cannot be read."""

import importlib
import subprocess
import sys

import pytest

from pipelines.commands import app
from tests.conftest import ROOT, run_stage


def test_help_imports_no_framework():
    """Neither torch, MLflow, DVC nor pandas; every verb is listed."""
    script = (
        "import sys; from pipelines.commands.app import main; main(['--help']); "
        "print(sorted({'torch', 'mlflow', 'dvc', 'pandas', 'mmengine', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f" {name} " in done.stdout for name in app.names())


@pytest.mark.parametrize("verb", app.names())
def test_a_summary_is_the_docstring_s_first_line(verb):
    """The list of verbs and a verb's own help agree."""
    (summary,) = (verbs[verb] for verbs in app.VERBS.values() if verb in verbs)
    module, name = ("names", "list_names") if verb == "list" else (verb, verb)
    function = getattr(importlib.import_module(f"pipelines.commands.{module}"), name)

    assert function.__doc__.splitlines()[0] == summary


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("rnu", "unknown verb 'rnu' (did you mean run?); see ./kd --help"),
        ("run --job 1", "unknown option '--job' (did you mean --jobs?); see ./kd run --help"),
        ("run --jobs", "--jobs has no value; see ./kd run --help"),
        ("run --jobs x", "--jobs is 'x'; give a whole number; see ./kd run --help"),
        ("run --jobs 1 --jobs 2", "--jobs is given twice; see ./kd run --help"),
        ("estimate --pairs", "--pairs has no value; see ./kd estimate --help"),
        ("compare a", "SECOND is missing; see ./kd compare --help"),
        ("results a b", "unexpected argument 'b'; see ./kd results --help"),
        ("list kinds", "KIND kinds is unknown; there are: pairs, methods, tiers, datasets, metrics; see ./kd list --help"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, line):
    """In the project's words, with the help to read."""
    with pytest.raises(ValueError, match=r"see \./kd") as caught:
        app.main(words.split())

    assert str(caught.value) == line


def test_kd_is_for_the_root_of_the_repository(tmp_path):
    """Elsewhere it says so; exit code 2."""
    done = subprocess.run([ROOT / "kd", "list", "tiers"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (2, "error: no dvc.yaml here; run ./kd in the root of the repository\n")


def test_names():
    """Every pair with its title, data set and metric."""
    done = run_stage(ROOT, "pipelines", "list", "pairs")

    assert "gfl_r101_r50" in done.stdout
    assert "box AP" in done.stdout
