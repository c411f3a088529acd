"""Malformed files of settings: none that is nonsense is accepted, none that is right refused, and each is one line."""

from pathlib import Path

import pytest

from tests import yaml_fuzz
from tests.conftest import PAIR, run_stage
from tests.yaml_fuzz import Case, File, fault, judge


@pytest.mark.slow
def test_files_by_rules(tmp_path):
    """Every fourth of each rule; all of them: python -m tools.settings_fuzz."""
    counts, faults = judge(tmp_path, every=4)

    assert faults == []
    assert sum(count.refused for count in counts.values()) >= 500
    assert sum(count.accepted for count in counts.values()) >= 80


def test_there_are_many_and_they_differ():
    """By text; every rule of both verdicts is met."""
    found = [case for _, case in yaml_fuzz.cases()]
    texts = {(case.path, case.content) for case in found}

    assert len(texts) >= 2000
    assert {case.refused for case in found} == {True, False}


def accepts(_):
    """Check nothing."""


def breaks(_):
    """End as code does that expects something else."""
    raise TypeError("list indices must be integers")


def mumbles(_):
    """Name neither file nor key."""
    raise ValueError("wrong")


def rambles(path):
    """Say it in two lines."""
    raise ValueError(f"{path}: key:\nwrong")


def dawdles(_):
    """Never end."""
    while True:
        pass


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (accepts, "accepted"),
        (breaks, "TypeError: list"),
        (mumbles, "one line"),
        (rambles, "one line"),
        (dawdles, "not judged within"),
    ],
)
def test_a_wrong_verdict_is_a_fault(tmp_path, monkeypatch, check, told):
    """The fuzz itself can fail."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yaml_fuzz, "LIMIT_S", 0.1)
    Path("some.yaml").write_text("key: 1\n")
    case = Case("a rule", "some.yaml", b"key: x\n", refused=True, key="key")

    assert str(fault(File("some.yaml", {}, check, {}), case)).startswith(told)
    assert Path("some.yaml").read_text() == "key: 1\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        ("params.yaml", "tier: smoke", "tier: " + "[" * 300_000, "params.yaml: line 1"),
        (f"benchmarks/pairs/{PAIR}.yaml", "head: gfl", "head: gfl\ntaps: {neck: nek}", f"{PAIR}.yaml: the teacher has no module nek for neck"),
    ],
)  # fmt: skip
def test_as_a_user_sees_it(project, path, old, new, said):
    """One line, exit code 2, and nothing has been written."""
    file = project / path
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    done = run_stage(project, "pipelines", "check")

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (project / "runs").exists()
