"""Pictures of docs/looking-at-results.md: a pair of the committed leaderboard in MLflow, in three clicks.

The runs' store is made anew from leaderboard.json, whose figures it has, in a temporary folder; ``./kd ui`` serves it.

    python -m tools.mlflow_pictures
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.metrics import METRICS
from pipelines.engine.tracking import Tracker
from reports.schemas.leaderboard import Leaderboard

ROOT = Path(__file__).parents[1]
PAIR = "gfl_r101_r50"
COLOURS = 64  # of a picture's palette
_THINNED = 40  # of losses, one is kept


def make_store(board: Leaderboard) -> Leaderboard:
    """Track each run of the pair by its figures; return the leaderboard with their ids."""
    (table,) = (one for one in board.tables if one.pair == PAIR)
    rows = []
    for row in table.rows:
        seeds = []
        for seed in row.seeds:
            tracker = Tracker(f"kd-{board.tier}", f"distill/{PAIR}/{row.id}/seed{seed.seed}")
            tracker.params({"stage": "distill", "pair": PAIR, "method": row.method, "seed": seed.seed})
            for iteration, loss in seed.curve.own_loss[::_THINNED]:
                tracker.metrics({"train/loss": loss}, iteration)
            key = METRICS[table.metric].key
            tracker.metrics({f"test/{key}": seed.score, "wall_s": seed.cost.wall_s}, 0)
            tracker.finish()
            seeds.append(seed.model_copy(update={"mlflow_run_id": tracker.run_id}))
        rows.append(row.model_copy(update={"seeds": seeds}))
    return board.model_copy(update={"tables": [table.model_copy(update={"rows": rows})], "backbones": []})


def take(address: str, out: Path) -> None:
    """Open the address, go through the three clicks and keep a picture of each."""
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.set_default_timeout(120_000)
        tab.goto(address)
        tab.locator(".ag-row").first.wait_for()
        for button in ("Close", "Hide banner"):  # of MLflow's assistant, and of the remark that the view is shared
            tab.get_by_role("button", name=button, exact=True).click()
        _keep(tab, out / "mlflow_list.png")
        tab.locator('label:has(input[value="CHART"])').click()
        card = tab.locator('[data-testid="experiment-view-compare-runs-card"]', has_text="test/AP").first
        card.locator(".js-plotly-plot").wait_for()
        _keep(tab, out / "mlflow_charts.png")
        card.get_by_role("button").first.click()
        tab.get_by_role("dialog").locator(".js-plotly-plot").wait_for()
        _keep(tab, out / "mlflow_chart.png")
        browser.close()


def _keep(tab, path: Path) -> None:
    tab.wait_for_timeout(2000)  # for transitions
    tab.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Make the pictures."""
    board = Leaderboard.model_validate_json((ROOT / "reports/mini/leaderboard.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        for folder in ("benchmarks", "methods", "params.yaml"):
            Path(folder).symlink_to(ROOT / folder)
        Path("reports/mini").mkdir(parents=True)
        Path("reports/mini/leaderboard.json").write_text(make_store(board).model_dump_json())
        command = [sys.executable, "-m", "pipelines", "ui", "--port", "5963"]
        server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
        try:
            address = next(found[1] for line in server.stdout if (found := re.match(rf"{PAIR}: (http\S+)", line)))
            (ROOT / "docs/images").mkdir(exist_ok=True)
            take(address, ROOT / "docs/images")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
            os.chdir(ROOT)


if __name__ == "__main__":
    main()
