"""Provenance of a number: packages, machine, memory and energy."""

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_device()
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        num_cpus=os.cpu_count(),
        threads=torch.get_num_threads(),
        packages=packages,
        mmlab=mmlab,
    )


def cpu_device(about: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, family, model and the instructions that torch uses: its libraries choose their kernels by them.

    Two machines with different answers round differently, and a training on one has other digests than on the other.

    Args:
        about: Linux's list of processors; elsewhere the name of the architecture stands for it.
    """
    found: dict[str, str] = {}
    if about.is_file():
        for line in about.read_text(errors="replace").partition("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    name = found.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key.rpartition(' ')[2]} {found[key]}" for key in ("cpu family", "model") if found.get(key)]
    return ", ".join([f"CPU {name}", *numbers, torch.backends.cpu.get_cpu_capability()])


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
