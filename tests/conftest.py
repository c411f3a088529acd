"""Shared fixtures: a scratch project, small data, and MMLab quiet."""

import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tests.small_grid import init_dvc, scratch, without_git_warning  # noqa: F401 (scratch: a fixture of several files)

ROOT = Path(__file__).parents[1]
PAIR = "gfl_r101_r50"
METHODS = ("none", "mgd", "maskd", "crosskd+pkd")  # of the grid that tests run: control, plain, with a prior, joined
# Of reports/, what runs and commands write.
REPORTS = ("mini", "measurements")
_STAGES: list[str] = []  # grid.yaml of the grid that tests run: to list stages takes seconds
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# A user's own runs are tracked, find their data and are cached elsewhere.
for name in ("MLFLOW_TRACKING_URI", "KD_COCO", "KD_VOC", "KD_CITYSCAPES", "KD_DOWNLOADS"):
    os.environ.pop(name, None)
# A shell's background jobs ignore Ctrl-C, and what they start inherits that; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ |= {"DVC_GLOBAL_CONFIG_DIR": "/nonexistent", "DVC_SYSTEM_CONFIG_DIR": "/nonexistent"}


# `finished` is made by the first and waited for by whoever comes next: test_tune is not begun beside test_pipeline.
LONGEST = (
    "test_pipeline", "test_runner", "test_slurm", "test_tune", "test_slurm_smoke", "test_smoke", "test_engine", "test_own_grid",
    "test_contributing", "test_cluster", "test_bench", "test_cache", "test_names",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_tracking_store():
    """Forget the store that MLflow notes in the environment of a test's own process."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True, scope="module")
def _short_collections():
    """Keep what imports have left out of garbage collections: statsmodels asks for one per adjustment, 0.3 s each behind MMLab."""
    yield
    if "mmdet" in sys.modules and not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests of processes wait for half of their time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").sync_playwright().start()
    found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    yield found
    found.close()
    playwright.stop()


def pytest_collection_modifyitems(items):
    """Files that take minutes come first, so that parallel workers end together."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def committed(path: str) -> str:
    """The text of a file as git has it, staged changes included; the file's own where the tree is no checkout.

    Tests judge documents, results and the default grid by it: in the work tree these are the user's, to edit and to run.
    """
    return git("cat-file", "blob", f":{path}") if (ROOT / ".git").exists() else (ROOT / path).read_text()


def git(*arguments: str, at: Path = ROOT) -> str:
    """Run git and return its output; checkouts of other users, as in containers, are read, too."""
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_stage(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run ``python -m ...`` in a project as a user would, output captured."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CI": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment},
    )
    done.stderr = without_git_warning(done.stderr)
    return done


def run_here(project: Path, module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a stage in this process, with the result that :func:`run_stage` has, without the seconds that its imports take.

    It runs this checkout's code: a test that edits a copy's code, or that is about the process, takes :func:`run_stage`.
    """
    from pipelines import errors  # noqa: PLC0415

    code, out, err, before = 0, io.StringIO(), io.StringIO(), dict(os.environ)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(project)
        patch.setattr(sys, "argv", [module, *arguments])
        try:
            errors.run(importlib.import_module(module).main)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:  # MLflow notes its store in the environment, which later tests hand to their processes
            os.environ.clear()
            os.environ.update(before)
    return subprocess.CompletedProcess([module, *arguments], code, out.getvalue(), without_git_warning(err.getvalue()))


def copy_project(target: Path) -> Path:
    """The project's own files without results, with a small grid at tier smoke and a DVC of its own."""
    for name in ("benchmarks", "methods", "pipelines", "reports"):
        shutil.copytree(
            ROOT / name,
            target / name,
            ignore=shutil.ignore_patterns("__pycache__", *REPORTS),
        )
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, target / name)
    (target / "params.yaml").write_text(committed("params.yaml"))
    edit_yaml(
        target / "params.yaml", tier="smoke", grid={PAIR: list(METHODS)}, seeds=1, baseline_seeds=[], tuning=tuning(grid={})
    )
    if not _STAGES:
        renew(target)
        _STAGES.append((target / "grid.yaml").read_text())
    (target / "grid.yaml").write_text(_STAGES[0])
    init_dvc(target)
    return target


def renew(project: Path) -> None:
    """Bring grid.yaml up to date with an edited params.yaml, as a user does before ``dvc repro``."""
    done = run_here(project, "pipelines.stages.check", "--renew")
    assert done.returncode == 0, done.stdout + done.stderr


def tuning(**changes: object) -> dict:
    """The section `tuning` of params.yaml: three short trials, each measured twice."""
    budget = {"trials": 3, "share": 1.0, "reports": 2, "startup_trials": 1, "seed": 100}
    return {"grid": {PAIR: ["mgd"]}, **budget, **changes}


def edit_yaml(path: Path, **changes: object) -> None:
    """Change top-level keys of a YAML file."""
    content = yaml.safe_load(path.read_text())
    content.update(changes)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def at_root():
    """Work in the project's own folder, with MMLab's components registered, for all tests of a file."""
    from pipelines.engine.mmlab import prepare_process  # noqa: PLC0415 (seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        prepare_process()
        yield


@pytest.fixture
def project(tmp_path):
    """A fresh copy of the project at tier smoke."""
    return copy_project(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy in which a small smoke grid has been run by the runner (through real DVC and MLflow); one for all workers of pytest."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    folder = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.getbasetemp()
    target = folder / "finished"
    with (folder / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "output.txt").is_file():
            shutil.rmtree(target, ignore_errors=True)  # of a worker that failed
            target.mkdir()
            copy_project(target)
            edit_yaml(target / "params.yaml", tuning=tuning())
            done = run_stage(target, "pipelines", "run")
            assert done.returncode == 0, done.stdout + done.stderr
            (target / "output.txt").write_text(done.stdout)
    return target


@pytest.fixture
def finished_copy(finished, tmp_path):
    """The finished project, to be changed."""
    target = tmp_path / "copy"
    shutil.copytree(finished, target, symlinks=True)
    return target


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text())


def setting(pair_name: str = PAIR, tier_name: str = "smoke", data: Path = Path("data")):
    """A pair at a tier; published data lie under ``/data``, where nothing need be as long as nothing is loaded."""
    from pipelines.engine.data_configs import data_source  # noqa: PLC0415
    from pipelines.engine.setting import Setting  # noqa: PLC0415 (seconds)
    from pipelines.params import load_pair, load_tier  # noqa: PLC0415

    pair, tier = load_pair(pair_name), load_tier(tier_name)
    roots = {name: f"/data/{name}" for name in ("coco", "voc", "cityscapes")}
    return Setting(pair, tier, data_source(pair, tier, data, roots=roots))


def build(config):
    """A model as the Runner builds it."""
    from mmengine.registry import MODELS, DefaultScope  # noqa: PLC0415 (seconds)

    from pipelines.engine.mmlab import quiet  # noqa: PLC0415

    with quiet(), DefaultScope.overwrite_default_scope(config.get("default_scope", "mmdet")):
        return MODELS.build(config.model)


def total(losses):
    """All losses of a step added up, as MMEngine does."""
    return sum(sum(value) if isinstance(value, list) else value for key, value in losses.items() if "loss" in key)
