"""Units on this machine, one per slot: a number of jobs, or one per GPU or group of GPUs."""

import os
import shutil
import subprocess
from pathlib import Path

from pipelines.runner.processes import Child
from pipelines.runner.unit import Unit


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all that the driver lists."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in given.split(",") if gpu]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)  # noqa: S607
    return [str(index) for index, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]


class Local:
    """Slots of this machine.

    Args:
        jobs: units at a time; as many as there are GPUs, or cores, if None.
        gpus_per_unit: GPUs that each unit has to itself.

    Raises:
        ValueError: there are fewer GPUs than a unit needs, or a number is below 1.
    """

    def __init__(self, jobs: int | None = None, gpus_per_unit: int = 1) -> None:
        for option, value in (("--jobs", jobs), ("--gpus-per-unit", gpus_per_unit)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}; give 1 or more")
        gpus = visible_gpus()
        if gpus and len(gpus) < gpus_per_unit:
            raise ValueError(
                f"a unit needs {gpus_per_unit} GPUs, and there are {len(gpus)} ({', '.join(gpus)}); lower --gpus-per-unit"
            )
        groups = [gpus[at : at + gpus_per_unit] for at in range(0, len(gpus) - gpus_per_unit + 1, gpus_per_unit)]
        free = [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]
        self._free = (free or [{}] * (jobs or len(os.sched_getaffinity(0))))[:jobs]
        self.slots = len(self._free)
        self._running: dict[str, tuple[Child, dict[str, str]]] = {}

    def room(self) -> int:
        """Return the number of free slots."""
        return len(self._free)

    def submit(self, unit: Unit) -> None:
        """Start a unit in a free slot."""
        slot = self._free.pop(0)
        unit.log.unlink(missing_ok=True)
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), **slot}
        self._running[unit.key] = (
            Child("pipelines.runner.unit:run", str(unit.folder), environment=environment, log=Path(unit.log)),
            slot,
        )

    def attach(self, unit: Unit, *, is_same: bool) -> bool:  # noqa: ARG002 (other executors need it)
        """Return False: an earlier coordinator's process has ended with its coordinator."""
        return False

    def finish(self, unit: Unit) -> None:
        """Do nothing: the unit's process has logged to MLflow."""

    def ended(self) -> dict[str, str | None]:
        """Units that have ended since the last call, each with its failure; None where it succeeded."""
        found = {key: end for key, (child, _) in self._running.items() if (end := child.poll()) is not None}
        for key in found:
            self._free.append(self._running.pop(key)[1])
        return {key: end.problem for key, end in found.items()}

    def stop(self) -> None:
        """End all units at once, each stage as by Ctrl-C."""
        for child, _ in self._running.values():
            child.terminate()
        for child, _ in self._running.values():
            child.end()
