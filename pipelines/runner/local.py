"""Units on this machine, one per slot: a number of jobs, or one per GPU or group of GPUs."""

import os
from pathlib import Path

from pipelines.runner.gpus import visible_gpus
from pipelines.runner.processes import Child
from pipelines.runner.unit import Unit


class Local:
    """Slots of this machine.

    Args:
        jobs: units at a time; as many as there are GPUs, or cores, if None.
        gpus_per_run: GPUs that each unit has to itself, or cores where there are no GPUs.

    Raises:
        ValueError: there are fewer of them than a run needs, or ``jobs`` is below 1.
    """

    def __init__(self, jobs: int | None = None, gpus_per_run: int = 1) -> None:
        if jobs is not None and jobs < 1:
            raise ValueError(f"--jobs is {jobs}; give 1 or more")
        gpus, cores = visible_gpus(), len(os.sched_getaffinity(0))
        if 1 < gpus_per_run > (len(gpus) or cores):
            there = f"{len(gpus)} GPUs ({', '.join(gpus)})" if gpus else f"no GPUs, and {cores} cores"
            raise ValueError(
                f"gpus_per_run is {gpus_per_run}, and there are {there}; lower it in params.yaml, or by --gpus-per-run"
            )
        groups = [gpus[at : at + gpus_per_run] for at in range(0, len(gpus) - gpus_per_run + 1, gpus_per_run)]
        free = [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]
        self._free = (free or [{}] * (jobs or cores // gpus_per_run))[:jobs]
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
