"""Verb ``quick``: the stages on a small grid, in a copy of the project's files under ``work/quick``."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.yaml_files import read_yaml
from pipelines import layout
from pipelines.commands.closing import print_closing
from pipelines.git_state import COPIED_FROM

FOLDER = Path("work/quick")
_COPIED = ("benchmarks", "methods", "pipelines", "reports", "dvc.yaml", "params.yaml", ".dvcignore")
_RESULTS = ("mini", "quick", "measurements")  # of reports/
_LEFT = shutil.ignore_patterns("__pycache__", *_RESULTS)
_TIER = "quick"
_NEXT = "./kd estimate (cost of the grid in params.yaml), then ./kd run"
_GRID = {
    "tier": _TIER,
    "grid": {"gfl_r101_r50": ["none", "pkd", "crosskd"]},
    "seeds": 3,
    "baseline_seeds": [],
    "tuning": None,
}
# Of the mini tier: about half as long in all.
_PRETRAINING_EPOCHS, _TEACHER_EPOCHS, _STUDENT_EPOCHS, _TEST_IMAGES = 2, 3, 1, 400


def quick_tier(mini: dict[str, Any]) -> dict[str, Any]:
    """Return the mini tier with everything shorter."""
    tier = {**mini, "title": f"{mini['title']}, half as long", "scenes": {**mini["scenes"], "test": _TEST_IMAGES}}
    tier["pretraining"] = {**mini["pretraining"], "epochs": _PRETRAINING_EPOCHS, "least_accuracy": 30}
    tier["schedule"] = {**mini["schedule"], "teacher_epochs": _TEACHER_EPOCHS, "student_epochs": _STUDENT_EPOCHS}
    return tier


def lay_out(folder: Path) -> None:
    """Copy the project into a folder with the small grid; records of an earlier run stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _COPIED:
        if Path(name).is_dir():
            if name != "reports":  # which contains what was reported there
                shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(name, folder / name, ignore=_LEFT, dirs_exist_ok=True)
        elif Path(name).is_file():
            shutil.copyfile(name, folder / name)
    mini = read_yaml(Path("benchmarks/tiers/mini.yaml"))
    (folder / "benchmarks/tiers/quick.yaml").write_text(yaml.safe_dump(quick_tier(mini), sort_keys=False))
    params = read_yaml(Path("params.yaml")) | _GRID
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def quick() -> None:
    """Run a small grid in minutes: one pair, the baseline and two methods, three seeds.

    The project's files are copied to work/quick, and the same stages run there under DVC with shorter schedules,
    so that nothing of the grid in params.yaml is touched. Results there are kept for the next time.
    """
    begun = time.monotonic()
    lay_out(FOLDER)
    environment = {**os.environ, "PYTHONPATH": "", COPIED_FROM: str(Path.cwd())}
    if not (FOLDER / ".dvc").is_dir():
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=FOLDER, check=True, env=environment)
    done = subprocess.run([sys.executable, "-m", "pipelines", "run", "--bare"], cwd=FOLDER, env=environment, check=False)
    if done.returncode:
        raise ValueError(f"the small grid failed; its logs are in {FOLDER}/work/logs")
    print(f"this took {(time.monotonic() - begun) / 60:.1f} min", flush=True)
    print_closing(FOLDER / layout.report(_TIER), _NEXT)
