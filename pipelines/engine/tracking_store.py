"""MLflow's record of a run, read back to be checked."""

from dataclasses import dataclass
from typing import Any

from pipelines.engine.tracking import open_store


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run: its last metrics, its parameters and its tags."""

    status: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]


class Store:
    """The tracking store that the runs wrote to."""

    def __init__(self) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415 (seconds)

        self._client: Any = MlflowClient(tracking_uri=open_store())

    def run(self, run_id: str) -> TrackedRun | None:
        """Return a run by its id; None where the store has none of that id."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (as above)

        try:
            found = self._client.get_run(run_id)
        except MlflowException:
            return None
        return TrackedRun(found.info.status, dict(found.data.metrics), dict(found.data.params), dict(found.data.tags))
