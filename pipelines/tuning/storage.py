"""The database on which workers share a study: a SQLite file, or the server that ``OPTUNA_STORAGE`` names.

A SQLite file serves the workers of one machine; workers on several hosts need a server.
"""

import contextlib
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial

BEAT_S = 10  # between two signs of life of a worker
SILENT_S = 60  # after which a worker is taken for dead
_BUSY_S = 60  # that a worker waits for a file in which others write
_RACES = 20  # with other workers for the same table, one table each; after so many it is something else
_RACED = re.compile("already exists|unique", re.IGNORECASE)


def file_in(folder: Path) -> Path:
    """The database of a study without a server."""
    return folder / "study.db"


def place_of(folder: Path) -> str:
    """Where a study is kept, in words; not the server's URL, which may hold a password."""
    return "the database of OPTUNA_STORAGE" if os.environ.get("OPTUNA_STORAGE") else str(file_in(folder))


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn a failure of the database into a ValueError of one line."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        raise _refusal(folder, error) from error


def _refusal(folder: Path, error: Exception) -> ValueError:
    cause = error.__cause__ if isinstance(error, (ImportError, StorageInternalError)) and error.__cause__ else error
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(". ")
    return ValueError(f"the study in {place_of(folder)} cannot be used: {reason}; see README, Settings, OPTUNA_STORAGE")


def storage_at(folder: Path) -> RDBStorage:
    """The database of the study in a folder, created where there is none; ValueError where it cannot be used."""
    url = os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{file_in(folder)}"
    engine: dict[str, Any] = {"connect_args": {"timeout": _BUSY_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # which heartbeats are
    try:
        storage = _opened(url, engine)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError, KeyError, ValueError) as error:
        raise _refusal(folder, error) from error
    if storage.engine.name == "sqlite":
        # Optuna reads a trial FOR UPDATE before it changes it; SQLite has no such words, and two would get the same trial.
        sqlalchemy.event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def _opened(url: str, engine: dict[str, Any]) -> RDBStorage:
    for race in range(_RACES):
        try:
            return RDBStorage(
                url, engine, heartbeat_interval=BEAT_S, grace_period=SILENT_S, heartbeat_stale_trial_callback=_say_stale
            )
        except sqlalchemy.exc.SQLAlchemyError as error:
            if not _RACED.search(str(error)) or race == _RACES - 1:
                raise
            time.sleep(0.1)
    raise AssertionError


def _say_stale(_: Study, trial: FrozenTrial) -> None:
    print(f"[tune] trial {trial.number}: nothing was heard of its worker for {SILENT_S} s; it is tried again", flush=True)
