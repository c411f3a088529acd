"""The notebook of the documentation, on the committed CSV files."""

import json

import matplotlib.pyplot as plt
import pytest

from tests.conftest import ROOT, committed

NOTEBOOK = "docs/results.ipynb"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the committed results alone, as the working directory; figures are not shown."""
    for name in ("leaderboard.csv", "runs.csv"):
        path = tmp_path / "reports/mini" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(committed(f"reports/mini/{name}"))
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    yield tmp_path
    plt.close("all")


def test_every_cell_runs(project):
    """In one namespace, in their order; the plot has an axis per pair with a gain."""
    names = {}
    for number, cell in enumerate(json.loads((ROOT / NOTEBOOK).read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK}, cell {number}", "exec"), names)  # noqa: S102

    assert len(names["gains"]) > 1
    assert len(names["figure"].axes) == names["gains"]["pair"].nunique()


def test_no_outputs_are_committed():
    """Outputs and execution counts are empty, so that the file changes with its source alone."""
    cells = [cell for cell in json.loads(committed(NOTEBOOK))["cells"] if cell["cell_type"] == "code"]

    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
