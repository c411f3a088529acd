"""Provenance of a number: commit, packages, machine, memory and energy."""

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from reports.schemas.run import Environment, Git

# What a run itself rewrites; a change of these alone is no change of the code.
_WRITTEN_BY_RUNS = (":!dvc.lock", ":!artefacts.lock", ":!reports/*/leaderboard.*", ":!reports/*/runs.csv", ":!reports/*/figures")
_DECISIVE = ("torch", "numpy", "opencv-python-headless", "pycocotools", "mmrazor")
# The maintained forks and the originals share their module names; what is installed decides which ran.
_MMLAB = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmsegmentation": "onedl-mmsegmentation",
}


def git_state() -> Git:
    """Return the commit and whether tracked files differ from it."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *_WRITTEN_BY_RUNS)
    return Git(commit=git("rev-parse", "HEAD"), dirty=None if changed is None else bool(changed))


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment() -> Environment:
    """Interpreter, machine, device, threads and the packages that decide a run's numbers."""
    packages = {name: _installed(name) for name in _DECISIVE}
    mmlab = {}
    for original, fork in _MMLAB.items():
        name = fork if _installed(fork) else original
        mmlab[original] = f"{name} {_installed(name)}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU {platform.machine()}"
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        num_cpus=os.cpu_count(),
        threads=torch.get_num_threads(),
        packages=packages,
        mmlab=mmlab,
    )


def peak_memory_mib() -> float:
    """Highest memory so far: the GPU's allocations where there is one, else the process's resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**10 if sys.platform == "linux" else peak / 2**20


def gpu_energy_j() -> float | None:
    """Return the energy that the current GPU has used since its driver was loaded, joules; None without a GPU or its counter.

    The counter is the whole device's: it is a run's own only where nothing else runs there.
    """
    if not torch.cuda.is_available():
        return None
    import pynvml  # noqa: PLC0415 (only where there is a GPU)

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))) / 1000
    except pynvml.NVMLError:
        return None
