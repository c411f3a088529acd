"""The smoke table: every pair and method in a share of its cells, run as ``make smoke`` runs them."""

import re
from pathlib import Path

import pytest

from pipelines.commands.matrix import is_supported
from pipelines.commands.names import all_methods, all_pairs
from pipelines.measurement.smoke import TIER, CellResult, as_table, subset
from pipelines.params import load_pair
from pipelines.recipes import impossible_reason
from tests.conftest import copy_project, edit_yaml, run_stage

ONE_IN = 3


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The share of the table, run in a copy of the project, and its rows: pair, and what each method's cell says."""
    project = copy_project(tmp_path_factory.mktemp("smoke"))
    done = run_stage(project, "pipelines", "matrix", "--one-in", str(ONE_IN), "--out", "out")
    lines = (project / "out/table.md").read_text().splitlines()
    header, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| "))
    reasons = dict(re.findall(r"^\((\d+)\) (.*)$", "\n".join(lines), re.MULTILINE))
    cells = {(row[0], method): said for row in rows for method, said in zip(header[1:], row[1:], strict=True)}
    return done, cells, reasons


@pytest.mark.slow
def test_nothing_fails(smoke):
    """Exit code 0, and no cell that says otherwise."""
    done, cells, _ = smoke

    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed" in done.stdout
    assert not [said for said in cells.values() if "FAILED" in said]


@pytest.mark.slow
def test_every_pair_and_method_is_met(smoke):
    """Each runs somewhere, but for the pair that has no detector to run."""
    _, cells, _ = smoke
    ran = {key for key, said in cells.items() if re.fullmatch(r"\d+\.\d", said)}

    assert {pair for pair, _ in ran} == {path.stem for path in Path("benchmarks/pairs").glob("*.yaml")} - {"resnet34_resnet18"}
    assert {method for _, method in ran} >= {path.stem for path in Path("methods").glob("*.yaml")}


@pytest.mark.slow
def test_every_cell_is_asked_for_or_not_as_the_share_says(smoke):
    """One in three and every control; the others say that nobody asked."""
    _, cells, _ = smoke
    shared = subset(all_pairs(), all_methods(), one_in=ONE_IN, runs=is_supported)
    asked = {(pair, name) for pair, names in shared.items() for name in names}

    assert {key for key, said in cells.items() if said != "not requested"} == asked


@pytest.mark.slow
def test_reasons_are_those_of_the_grid(smoke):
    """Cells that are not run have the reason that the stages give."""
    _, cells, reasons = smoke
    impossible = {key: said for key, said in cells.items() if said.startswith("(")}

    assert impossible
    for (pair, method), said in impossible.items():
        assert reasons[said.strip("()")] == impossible_reason(pair, load_pair(pair), method, TIER)


def test_a_share():
    """Every third cell, shifted by one from pair to pair, and every control."""
    assert subset(["a", "b", "c"], ["none", "x", "y", "z"], one_in=3) == {
        "a": ["none", "z"],
        "b": ["none", "y"],
        "c": ["none", "x"],
    }
    # Of y only pair c can run: there it is met, too.
    assert subset(["a", "b", "c"], ["none", "x", "y", "z"], one_in=3, runs=lambda pair, name: name != "y" or pair == "c") == {
        "a": ["none", "z"],
        "b": ["none", "y"],
        "c": ["none", "x", "y"],
    }


def test_the_table():
    """A score, a reason once for two cells, a failure, and a cell nobody asked for."""
    results = [
        CellResult("a", "none", "ran", loss=1.0, score=0.25, seconds=2.0),
        CellResult("a", "x", "no neck"),
        CellResult("b", "none", "failed: ValueError: broken"),
        CellResult("b", "x", "no neck"),
    ]
    lines = as_table(results, ["none", "x", "y"]).splitlines()

    assert lines[0] == "| pair | none | x | y |"
    assert lines[2:4] == ["| a | 0.2 | (1) | not requested |", "| b | (2) FAILED | (1) | not requested |"]
    assert lines[-2:] == ["(1) no neck", "(2) failed: ValueError: broken"]


@pytest.mark.slow
def test_a_broken_pair_does_not_stop_the_others(tmp_path):
    """A row that says FAILED with the pair's own message, exit code 1; the other pair's control has run."""
    project = copy_project(tmp_path)
    broken = project / "benchmarks/pairs/gfl_r101_r50.yaml"
    edit_yaml(broken, head="nothing")
    done = run_stage(project, "pipelines", "matrix", "--pairs", "gfl_r101_r50", "retinanet_r101_r50", "--methods", "none")

    assert done.returncode == 1
    assert re.search(r"\| gfl_r101_r50 \| \(1\) FAILED \|\n\| retinanet_r101_r50 \| \d+\.\d \|", done.stdout)
    assert re.search(r"^\(1\) failed: .*gfl_r101_r50\.yaml.*head", done.stdout, re.MULTILINE)
