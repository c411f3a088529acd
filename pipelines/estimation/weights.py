"""Weight files that a grid downloads."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.own import OwnData
from benchmarks.pair import Checkpoint, Pair
from benchmarks.throughput import Complexity
from benchmarks.tier import Tier
from pipelines.engine.fetch import Download


@dataclass(frozen=True)
class WeightFile:
    """A file to download.

    Args:
        used_by: use -> pairs.
        estimated_bytes: None where its size is recorded, or unknown.
        present: True where the folder of downloads has it.
    """

    checkpoint: Checkpoint
    used_by: dict[str, list[str]]
    estimated_bytes: float | None
    present: bool


def trains_teacher(pair: Pair, tier: Tier, own: OwnData | None) -> bool:
    """Return True where the teacher is trained here, rather than downloaded or named with a user's own data."""
    if tier.data == "own":
        return own is None or own.teacher is None
    return tier.model is not None or pair.teacher.checkpoint is None


def weight_files(
    pairs: dict[str, Pair], tier: Tier, own_data: OwnData | None, complexity: Complexity, downloads: Path
) -> list[WeightFile]:
    """Return every published file that the pairs need at this tier, once."""
    if tier.model is not None:
        return []  # reduced models are trained from scratch
    users: dict[Checkpoint, dict[str, list[str]]] = {}
    sizes: dict[Checkpoint, float] = {}
    for name, pair in pairs.items():
        known, own = complexity.pairs.get(name), trains_teacher(pair, tier, own_data)
        wanted = [
            (pair.student.initialisation, "start of the student", known and known.student.backbone_parameters_m),
            (pair.teacher.initialisation if own else None, "start of the teacher", known and known.teacher.backbone_parameters_m),
            (None if own else pair.teacher.checkpoint, "teacher", known and known.teacher.parameters_m),
        ]
        for checkpoint, role, millions in wanted:
            if checkpoint:
                users.setdefault(checkpoint, {}).setdefault(role, []).append(name)
                if millions:
                    sizes[checkpoint] = 4e6 * millions  # float32
    return [
        WeightFile(file, used_by, sizes.get(file), Download(file.url, downloads, file.sha256).target.is_file())
        for file, used_by in users.items()
    ]
