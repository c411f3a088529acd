"""Files that authors released: found among the downloads or fetched, and known by the digest of their first use."""

from pathlib import Path

from benchmarks.artefacts import Artefact
from benchmarks.digest import file_sha256
from pipelines import first_uses
from pipelines.engine.fetch import Download, downloads, fetch_many


def place_of(artefact: Artefact) -> Path:
    """Path at which a file is looked for: what a user downloaded there by hand is found."""
    by_hand = downloads() / artefact.file
    if by_hand.is_file() or artefact.host:
        return by_hand
    return _download(artefact).target


def get(artefact: Artefact) -> tuple[Path, str]:
    """Return a released file and its sha256, fetched where that is possible without a browser.

    Raises:
        ValueError: it has to be downloaded by hand, cannot be fetched, or is not the file of the first use.
    """
    path = place_of(artefact)
    if not path.is_file():
        if artefact.host:
            code = f" with the code {artefact.code}" if artefact.code else ""
            raise ValueError(
                f"{artefact.file} is on {artefact.host}, where only a browser can download: open {artefact.address}{code}, "
                f"put the file at {path}, and run again"
            )
        path = fetch_many([_download(artefact)])[0]
    found = file_sha256(path)
    if artefact.sha256 and not found.startswith(artefact.sha256):
        raise ValueError(
            f"{path} has sha256 {found[:12]}..., its publisher's has {artefact.sha256}: it is cut off or another file; "
            f"remove it and download {artefact.address} again"
        )
    first_uses.check(artefact.address, path, found)
    return path, found


def note_first_use(artefact: Artefact, path: Path, sha256: str) -> None:
    """Enter a file that has proved to be what it should be in ``artefacts.lock``, unless it is there."""
    first_uses.note(artefact.address, path, sha256)


def _download(artefact: Artefact) -> Download:
    return Download(artefact.address, downloads(), sha256=artefact.sha256, unknown=True)
