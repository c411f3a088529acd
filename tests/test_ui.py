"""``./kd ui`` as a person uses it: MLflow's own server, its addresses opened in Chromium."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from tests.conftest import ROOT
from tests.tracked import make_store

WAIT_MS = 60_000
PARAMS = "tier: mini\ngrid: {gfl_r101_r50: [none, mgd]}\nseeds: 2\n"


def free_port():
    """A port that nothing serves at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*arguments, **options):
    """Arguments of subprocess for ``./kd ui`` in the working directory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    for name in ("MLFLOW_DISABLE_TELEMETRY", "CI", "PYTEST_CURRENT_TEST"):  # each of them silences MLflow by itself
        environment.pop(name, None)
    return {"args": [sys.executable, "-m", "pipelines", "ui", *arguments], "env": environment, "text": True, **options}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server of a store; its process, the lines that it printed, and the runs' ids."""
    place = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("tests.tracked.PAIR", "gfl_r101_r50")
        ids = make_store()
        (place / "params.yaml").write_text(PARAMS)
        for name in ("benchmarks", "methods"):
            (place / name).symlink_to(ROOT / name)
        log = place / "ui.log"
        with log.open("w") as out:
            process = subprocess.Popen(**command("--port", str(free_port())), stdout=out, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 240
            while "viewStateShareKey" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield process, log, ids
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def link(served):
    """The address that was printed for the pair."""
    (found,) = re.findall(r"^gfl_r101_r50: (http://\S+)$", served[1].read_text(), re.MULTILINE)
    return found


@pytest.fixture
def tab(browser, link):
    """A tab of a new profile; a request to another server fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened, asked = context.new_page(), []
    opened.set_default_timeout(WAIT_MS)
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    context.close()
    root = link.partition("#")[0]

    assert [url for url in asked if not url.startswith((root, "data:", "blob:"))] == []


def lines(tab):
    """The list's lines from the top, each a text of all its cells."""
    tab.locator('.ag-row[row-id="tag.row.mgd"]').first.wait_for()
    texts = {}
    for line in tab.locator(".ag-row").all():
        index = int(line.get_attribute("row-index"))
        texts[index] = " ".join(f"{texts.get(index, '')} {line.inner_text()}".split())
    return [texts[index] for index in sorted(texts)]


@pytest.mark.slow
def test_a_pair_s_address_opens_its_list(tab, link):
    """Students alone, grouped by row, the highest first, under *Model training*; means are the leaderboard's."""
    tab.goto(link)
    tab.get_by_text("6 matching runs").wait_for()
    found = lines(tab)
    groups = {
        index: re.search(r"Group: (\S+) 2 .*?(-|[\d.]+) \(average\) ([\d.]+) \(average\)", text)
        for index, text in enumerate(found)
    }
    names = [match[0] for text in found if (match := re.search(r"[a-z ]+ s\d \| \S+", text.replace("Pin run", "")))]

    assert [match.groups() for match in groups.values() if match] == [
        ("mgd/tuned", "6.5", "17.5"), ("mgd", "3", "14"), ("none", "-", "11"),
    ]  # fmt: skip
    assert [name.strip() for name in names] == [
        f"{row} s{seed} | gfl_r101_r50" for row in ("mgd tuned", "mgd", "none") for seed in (1, 0)
    ]
    assert not tab.get_by_text("Evaluation runs").is_visible()


@pytest.mark.slow
def test_a_run_s_note_leads_to_its_teacher(tab, link, served):
    """From the list to a student, from its note to the teacher's run; nowhere to the pages for language models."""
    tab.goto(link)
    tab.get_by_role("link", name="mgd s1 | gfl_r101_r50").click()
    tab.get_by_text("Gain over the baseline").wait_for()
    with tab.context.expect_page() as opened:
        tab.get_by_role("link", name="its teacher").click()
    teacher = opened.value
    teacher.get_by_role("heading", name="teacher | gfl_r101_r50").wait_for(timeout=WAIT_MS)

    assert teacher.url.endswith(f"/runs/{served[2]['teacher']}?workflowType=machine_learning")
    assert not teacher.get_by_text("Evaluation runs").is_visible()


@pytest.mark.slow
def test_model_training_is_chosen_once(tab, link):
    """MLflow's links to runs forget it, until it is chosen in the side bar: what the documentation says."""
    tab.goto(link)
    tab.get_by_role("link", name="mgd s1 | gfl_r101_r50").click()
    tab.get_by_text("Evaluation runs").wait_for()
    tab.get_by_text("Model training", exact=True).click()
    tab.get_by_role("link", name="mgd s1 | gfl_r101_r50").click()
    tab.get_by_role("heading", name="mgd s1 | gfl_r101_r50").wait_for()

    assert not tab.get_by_text("Evaluation runs").is_visible()


@pytest.mark.slow
def test_a_run_s_address_needs_no_experiment(tab, link, served):
    """The page of the leaderboard knows a run's id alone: any experiment's number opens it."""
    run_id = served[2]["gfl_r101_r50/mgd/seed0"]
    tab.goto(f"{link.partition('#')[0]}#/experiments/0/runs/{run_id}?workflowType=machine_learning")
    tab.get_by_role("heading", name="mgd s0 | gfl_r101_r50").wait_for()

    assert not tab.get_by_text("Evaluation runs").is_visible()


@pytest.mark.slow
def test_methods_are_compared_in_two_clicks_from_the_list(tab, link):
    """The chart symbol, then the full screen of a metric: a bar per row."""
    tab.goto(link)
    lines(tab)
    tab.locator('label:has(input[value="CHART"])').click()
    card = tab.locator('[data-testid="experiment-view-compare-runs-card"]', has_text="test/AP")
    card.get_by_role("button").first.click()
    chart = tab.get_by_role("dialog")
    chart.get_by_text("17.5").first.wait_for()
    shown = chart.inner_text()

    assert [text for text in ("17.5", "14", "11", "mgd/tuned", "mgd", "none") if text not in shown] == []


@pytest.mark.slow
def test_no_telemetry(served, link):
    """MLflow's server says so to its pages, though nothing else on this machine silences it."""
    told = requests.get(f"{link.partition('#')[0]}ajax-api/3.0/mlflow/ui-telemetry", timeout=60).json()

    assert told["disable_ui_telemetry"] is True


@pytest.mark.slow
def test_a_port_in_use_is_said_at_once(served, link):
    """In one line, with another."""
    port = int(re.search(r":(\d+)/", link)[1])
    done = subprocess.run(**command("--port", str(port), cwd=served[1].parent), capture_output=True, check=False)

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: 127.0.0.1:{port} cannot be served at (Address already in use); give another port: --port {port + 1}"
    ]


@pytest.mark.slow
def test_a_pair_that_is_not_in_the_grid(served):
    """In one line, with those that are."""
    done = subprocess.run(
        **command("--pair", "gfl", "--port", str(free_port()), cwd=served[1].parent), capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (2, "error: --pair gfl is not in params.yaml's grid; there are: gfl_r101_r50\n")


@pytest.mark.slow
def test_without_runs(tmp_path):
    """A new checkout: the server starts and says that there are none."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    for name in ("benchmarks", "methods"):
        (tmp_path / name).symlink_to(ROOT / name)
    process = subprocess.Popen(
        **command("--port", str(free_port()), cwd=tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    first = next(line for line in process.stdout if "http" in line)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert re.fullmatch(r"no runs yet: http://127.0.0.1:\d+/#/experiments\?workflowType=machine_learning\n", first)
