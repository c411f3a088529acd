"""``artefacts.lock``: by address, the digests of published files at their first use, to be committed.

Publishers state no digest, or the eight digits of it that are in a file's name: these recognise a cut file, not one that was made
to have them.
"""

from datetime import datetime, timezone
from pathlib import Path

import yaml

from benchmarks.artefacts import FirstUse, KnownDigests
from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.params import load_yaml
from pipelines.runner import locks

_PATIENCE_S = 60.0


def first_uses() -> dict[str, FirstUse]:
    """Read ``artefacts.lock``."""
    return load_yaml(layout.FIRST_USES, KnownDigests).root if layout.FIRST_USES.is_file() else {}


def check(address: str, path: Path, sha256: str) -> None:
    """Hold a file against its first use.

    Raises:
        ValueError: it is another file.
    """
    known = first_uses().get(address)
    if known and known.sha256 != sha256:
        raise ValueError(
            f"{path} has sha256 {sha256[:12]}..., at its first use on {known.first_used} it had {known.sha256[:12]}...: it is cut "
            f"off, or its publisher has exchanged it; download {address} again, or accept it by removing the address "
            f"from {layout.FIRST_USES}"
        )


def note(address: str, path: Path, sha256: str) -> None:
    """Enter a file that has proved to be what it should be, unless its address is there."""
    if address in first_uses():
        return
    layout.WORK.mkdir(parents=True, exist_ok=True)
    with locks.held(layout.WORK / "artefacts", patience_s=_PATIENCE_S):
        known = first_uses()
        if address in known:
            return
        today = datetime.now(timezone.utc).date().isoformat()
        known[address] = FirstUse(sha256=sha256, bytes=path.stat().st_size, first_used=today)
        content = {name: use.model_dump() for name, use in sorted(known.items())}
        write_whole(
            layout.FIRST_USES,
            "# Digests of published files at their first use, whose publishers state none or a part of it; to be committed.\n"
            + yaml.safe_dump(content, sort_keys=False),
        )
