"""Records of runs in MLflow, as they run; :mod:`pipelines.engine.tracking_board` adds what the report says of them.

MLflow is a convenience: whatever goes wrong with it is a warning, and the run continues.
The store is set by ``MLFLOW_TRACKING_URI``; without it, a SQLite file under ``mlflow/`` of the project.  Where many hosts would
write to that file (``KD_TRACKING=deferred``), a run is entered from its record when it has ended: see
:mod:`pipelines.engine.tracking_records`.
"""

import contextlib
import functools
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmengine.dist import is_main_process

from benchmarks.paths import user_path
from pipelines.engine.tracking_names import run_name
from pipelines.runner import locks

# Before mlflow is imported: no telemetry, and an unreachable server is noticed in seconds, not minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
# It logs, with the traceback, what it raises; the warning of this module says it in a line.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

STORE = Path("mlflow")
_PATIENCE_S = 60.0  # for the lock of a local store, which is held for a moment
_DELETED = "deleted"  # MLflow's word for what its pages have put aside
_MAX_FAILURES = 3  # after so many the run is no longer tracked: each may have cost a time-out
_SYSTEM_METRICS_S = 10  # seconds between two samples of processor, memory and GPU


def tracking_uri() -> str:
    """Return the tracking store: the environment's, or this project's SQLite file by absolute path."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    scheme = next((one for one in ("sqlite:///", "file://") if given.startswith(one)), "")
    path = given.removeprefix(scheme).removeprefix("/")
    if path.startswith(("~", "$")):  # as a shell would have read it outside quotes
        found = str(user_path(path, "MLFLOW_TRACKING_URI"))
        return f"{scheme}{quote(found)}" if scheme else found
    return given or _own_store()


def _own_store() -> str:
    """Return the address of this project's SQLite file; a relative one where the path has signs that addresses use."""
    path = (STORE / "mlflow.db").resolve()
    return f"sqlite:///{STORE / 'mlflow.db' if set('%?#') & set(str(path)) else path}"


def artifacts_of(experiment: str) -> str:
    """Return where a local store puts an experiment's files."""
    return (STORE / "artifacts" / experiment).resolve().as_uri()


def open_store() -> str:
    """Return the tracking store once it names its files where they are: MLflow writes a place down whole, and a checkout moves."""
    uri = tracking_uri()
    database = STORE / "mlflow.db"
    if uri != _own_store() or not database.is_file():
        return uri
    with _alone():
        if _set_damaged_aside(database):
            return uri
    with _alone(), contextlib.closing(sqlite3.connect(database, timeout=_PATIENCE_S)) as store, store:
        has_tables = store.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone()
        known = store.execute("SELECT name, artifact_location FROM experiments").fetchall() if has_tables else []
        for name, place in known:
            present = artifacts_of(name)
            if place and place != present and place.endswith(f"/{STORE}/artifacts/{quote(name)}"):
                store.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (present, name))
                store.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
                    (present, len(place) + 1, len(place) + 1, f"{place}/"),
                )
    return uri


def _set_damaged_aside(database: Path) -> bool:
    """Rename a database that is cut off or no database, so that a new one is begun; return whether it was."""
    with contextlib.closing(sqlite3.connect(database, timeout=_PATIENCE_S)) as store:
        try:
            (size,), (count,) = (store.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count"))
            store.execute("SELECT name FROM sqlite_master").fetchall()
            is_damaged = bool(database.stat().st_size < size * count)
        except sqlite3.OperationalError:  # locked
            return False
        except sqlite3.DatabaseError:
            is_damaged = True
    if is_damaged:
        database.replace(database.with_name(f"{database.name}.damaged"))
        print(
            f"MLflow: {database} is cut off or damaged; it is kept as {database.name}.damaged, and a new one is begun",
            file=sys.stderr,
        )
    return is_damaged


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the store's lock: two processes that create one SQLite store at once destroy each other's work."""
    try:
        with locks.held(STORE / ".lock", patience_s=_PATIENCE_S):
            yield
    except locks.BusyError as error:
        raise locks.BusyError(f"{STORE} is held by {error}") from error


def _guarded(method: Callable[..., Any]) -> Callable[..., None]:
    """Turn any failure into a warning, and stop trying after ``_MAX_FAILURES``."""

    @functools.wraps(method)
    def call(self: "Tracker", *args: Any, **kwargs: Any) -> None:
        if self.run_id is None or self.failures >= _MAX_FAILURES:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 (tracking must not end a run, whatever it raises)
            self.failures += 1
            _warn(f"{method.__name__} failed", error)

    return call


def _warn(what: str, error: Exception) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    print(f"warning: MLflow: {what}: {reason}; the training goes on, its results are in run.json", file=sys.stderr)


class Tracker:
    """One MLflow run; does nothing, quietly, where MLflow cannot be reached."""

    def __init__(self, experiment: str, name: str, *, resume: str | None = None) -> None:
        """Open a run.

        Args:
            experiment: name of the experiment; created where it is missing.
            name: stage and name of the run, such as ``distill/gfl_r101_r50/mgd/seed0``; MLflow has it as :func:`run_name`.
            resume: id of a run to go on with, or None for a new one.
        """
        self.run_id: str | None = None
        self.failures = 0
        self._monitor: Any = None
        if not is_main_process() or os.environ.get("KD_TRACKING") == "deferred":
            return
        try:
            import mlflow  # noqa: PLC0415 (seconds)
            from mlflow import MlflowClient  # noqa: PLC0415 (as above)

            uri = open_store()
            mlflow.set_tracking_uri(uri)
            with _alone():
                self._client: Any = MlflowClient(tracking_uri=uri)  # its methods are not called before there is a run
                self.run_id = resume if resume and self._exists(resume) else self._create(experiment, name, uri)
        except Exception as error:  # noqa: BLE001 (as above)
            _warn("cannot be reached", error)

    def _exists(self, run_id: str) -> bool:
        """Reopen a run; return False where the store has none of that id."""
        try:
            if (found := self._client.get_run(run_id)).info.lifecycle_stage == _DELETED:
                self._restore_experiment(found.info.experiment_id)
                self._client.restore_run(run_id)
                print(f"MLflow: run {run_id} had been deleted; it is restored", file=sys.stderr)
            self._client.set_terminated(run_id, status="RUNNING")
        except Exception:  # noqa: BLE001 (another store than the one it was begun in)
            return False
        return True

    def _create(self, experiment: str, name: str, uri: str) -> str:
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            # A server knows where its artifacts go; the local store would put them in the current folder.
            local = uri.startswith("sqlite:")
            location = artifacts_of(experiment) if local else None
            experiment_id = self._client.create_experiment(experiment, artifact_location=location)
        else:
            experiment_id = found.experiment_id
            self._restore_experiment(experiment_id)
        return str(self._client.create_run(experiment_id, run_name=run_name(name)).info.run_id)

    def _restore_experiment(self, experiment_id: str) -> None:
        """Restore an experiment that was deleted: MLflow keeps its name, and takes no run for it."""
        found = self._client.get_experiment(experiment_id)
        if found.lifecycle_stage == _DELETED:
            self._client.restore_experiment(experiment_id)
            print(f"MLflow: experiment {found.name} had been deleted; it is restored", file=sys.stderr)

    @_guarded
    def start_system_metrics(self) -> None:
        """Sample processor, memory and GPU until :meth:`finish`."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor  # noqa: PLC0415 (as above)

        self._monitor = SystemMetricsMonitor(self.run_id, sampling_interval=_SYSTEM_METRICS_S)  # type: ignore[no-untyped-call]
        self._monitor.start()

    @_guarded
    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters; a resumed run keeps the ones that it has."""
        known = self._client.get_run(self.run_id).data.params
        for key, value in values.items():
            if key not in known:
                self._client.log_param(self.run_id, key, value)

    @_guarded
    def tags(self, values: Mapping[str, Any]) -> None:
        """Record tags."""
        for key, value in values.items():
            self._client.set_tag(self.run_id, key, str(value))

    @_guarded
    def dataset(self, name: str, digest: str, source: str, split: str = "train") -> None:
        """Record a split of the data set by name, digest and source; of one name MLflow keeps one split."""
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 (as above)

        entity = Dataset(name=f"{name} {split}", digest=digest[:36], source_type="local", source=source)
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(entity, [InputTag("mlflow.data.context", split)])])

    @_guarded
    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at an iteration."""
        from mlflow.entities import Metric  # noqa: PLC0415 (as above)

        now = int(time.time() * 1000)
        batch = [Metric(key, float(value), now, step) for key, value in values.items()]
        self._client.log_batch(self.run_id, metrics=batch)

    @_guarded
    def artifact(self, path: Path) -> None:
        """Store a file."""
        self._client.log_artifact(self.run_id, str(path))

    @_guarded
    def finish(self, status: str = "FINISHED") -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if self._monitor is not None:
            self._monitor.finish()
        self._client.set_terminated(self.run_id, status=status)
