"""GPUs that this process may use, found without importing torch."""

import os
import shutil
import subprocess


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that the driver lists."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in given.split(",") if gpu]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]
