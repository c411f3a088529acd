"""The file on which workers share a study, and its repair after a killed writer."""

import json
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

_WRITING_S = 5  # that a line may take to be written; a process that holds the lock for longer was killed


def backend(journal: Path) -> JournalFileBackend:
    """Return the file with the lock that its writers take."""
    # By its whole path: the lock is a link to the file, and Optuna takes an old one away only where the link leads there.
    path = str(journal.resolve())
    return JournalFileBackend(path, JournalFileSymlinkLock(path, grace_period=_WRITING_S))


def storage_at(folder: Path) -> JournalStorage:
    """Open the journal in a study's folder; ValueError where it cannot be read."""
    journal = folder / "journal.log"
    try:
        return JournalStorage(backend(journal))
    except (ValueError, KeyError) as error:
        number = _first_bad_line(journal)
        raise ValueError(
            f"{journal}: line {number or '?'} is damaged ({' '.join(str(error).split())}); take it out of the file, or set another name as "
            "tuning.study in params.yaml to begin anew"
        ) from error


def _first_bad_line(journal: Path) -> int | None:
    for number, line in enumerate(journal.read_bytes().splitlines(), 1):
        try:
            json.loads(line)
        except ValueError:
            return number
    return None


def repair(journal: Path) -> bool:
    """Cut off a last line that was not written to its end; only while nobody else can be writing. Return whether there was one."""
    content = journal.read_bytes() if journal.is_file() else b""
    if not content or content.endswith(b"\n"):
        return False
    with journal.open("r+b") as file:
        file.truncate(content.rfind(b"\n") + 1)
    return True
