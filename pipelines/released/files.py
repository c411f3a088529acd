"""Files that authors released: found among the downloads or fetched, and known by the digest of their first use."""

from datetime import datetime, timezone
from pathlib import Path

import yaml

from benchmarks.artefacts import Artefact, FirstUse, KnownDigests
from benchmarks.digest import file_sha256
from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.engine.fetch import Download, downloads, fetch_many
from pipelines.params import load_yaml
from pipelines.runner import locks

_PATIENCE_S = 60.0


def first_uses() -> dict[str, FirstUse]:
    """Read ``artefacts.lock``: by address, the digests of files at their first use."""
    return load_yaml(layout.FIRST_USES, KnownDigests).root if layout.FIRST_USES.is_file() else {}


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
    found, known = file_sha256(path), first_uses().get(artefact.address)
    if artefact.sha256 and not found.startswith(artefact.sha256):
        raise ValueError(
            f"{path} has sha256 {found[:12]}..., its publisher's has {artefact.sha256}: it is cut off or another file; "
            f"remove it and download {artefact.address} again"
        )
    if known and known.sha256 != found:
        raise ValueError(
            f"{path} has sha256 {found[:12]}..., at its first use on {known.first_used} it had {known.sha256[:12]}...: it is cut "
            f"off, or its publisher has exchanged it; download {artefact.address} again, or accept it by removing the address "
            f"from {layout.FIRST_USES}"
        )
    return path, found


def note_first_use(artefact: Artefact, path: Path, sha256: str) -> None:
    """Enter a file that has proved to be what it should be in ``artefacts.lock``, unless it is there."""
    layout.WORK.mkdir(parents=True, exist_ok=True)
    with locks.held(layout.WORK / "artefacts", patience_s=_PATIENCE_S):
        known = first_uses()
        if artefact.address in known:
            return
        today = datetime.now(timezone.utc).date().isoformat()
        known[artefact.address] = FirstUse(sha256=sha256, bytes=path.stat().st_size, first_used=today)
        content = {address: use.model_dump() for address, use in sorted(known.items())}
        write_whole(
            layout.FIRST_USES,
            "# Digests of released files at their first use, whose publishers state none; to be committed.\n"
            + yaml.safe_dump(content, sort_keys=False),
        )


def _download(artefact: Artefact) -> Download:
    return Download(artefact.address, downloads(), sha256=artefact.sha256, unknown=True)
