"""Provenance of a number: packages, machine, memory and energy."""

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from pipelines.git_state import git_state as git_state  # noqa: PLC0414 (a part of it)
from reports.schemas.run import Environment

_DECISIVE = ("torch", "numpy", "opencv-python-headless", "pycocotools", "mmrazor")
# The maintained forks and the originals share their module names; what is installed decides which ran.
_MMLAB = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "mmsegmentation": "onedl-mmsegmentation",
}


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
