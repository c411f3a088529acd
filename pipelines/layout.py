"""Every path that stages write, and every stage's name, once; dvc.yaml repeats them and a test compares the two."""

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paths import user_path

RUNS = Path("runs")  # what stages write, recorded by DVC
WORK = Path("work")  # what they leave behind: checkpoints, logs, notes of failures
GRID = Path("grid.yaml")
RESOLVED = RUNS / "resolved"
REPORTS = Path("reports")
COMMITTED = REPORTS / "mini"  # results that are part of the project
LAST_ERROR = WORK / "last_error.txt"  # traceback of what failed last
FIRST_USES = Path("artefacts.lock")  # digests of released files at their first use
DOWNLOADS = Path("data/weights")  # of published weights; KD_DOWNLOADS names another folder

# Stages of dvc.yaml.
CHECK, PREPARE, PRETRAIN, TEACHERS, MASKS = "check", "prepare", "pretrain", "teachers", "masks"
TUNE, DISTILL, EVALUATE, RELEASED, REPORT = "tune", "distill", "evaluate", "released", "report"

# Files in the folders below.
MANIFEST = "manifest.json"
RUN = "run.json"
METRICS = "metrics.json"
SAMPLES = "samples.npz"
WEIGHTS = "weights.pth"  # of a backbone or a teacher
INITIALISATION = "initialisation.pth"  # of a teacher's students
DIGESTS = "digests.json"
AUXILIARY_WEIGHTS = "prior.pth"
STUDENT_WEIGHTS = "student.pth"
METHOD_WEIGHTS = "method.pth"  # learned by a method beside its student
STUDY = "study.json"
BEST = "best.yaml"

BACKBONES, TEACHER = "backbones", "teacher"
_TUNED = "tuned"


def downloads() -> Path:
    """Folder of downloaded weights: ``KD_DOWNLOADS``, or ``data/weights``."""
    given = os.environ.get("KD_DOWNLOADS")
    return user_path(given, "KD_DOWNLOADS") if given else DOWNLOADS


@dataclass(frozen=True)
class Cell:
    """A student to train: a pair under a method with a seed, by the recipe's values or by those that a study selected."""

    pair: str
    method: str
    seed: int
    tuned: bool = False

    @property
    def row(self) -> str:
        """The leaderboard's row: ``mgd`` or ``mgd/tuned``."""
        return f"{self.method}/{_TUNED}" if self.tuned else self.method

    @property
    def key(self) -> str:
        """``gfl_r101_r50/mgd/seed0``: behind the stage's name in DVC, and the path under the tier's folder."""
        return f"{self.pair}/{self.row}/seed{self.seed}"

    @classmethod
    def parse(cls, key: str) -> "Cell":
        """Return the cell of a key; ValueError for another text."""
        pair, _, rest = key.partition("/")
        row, _, seed = rest.rpartition("/seed")
        method, _, tuned = row.partition("/")
        if not (pair and method and seed.isdecimal() and tuned in ("", _TUNED)):
            raise ValueError(f"'{key}' is no cell; a cell is named pair/method/seed0, or pair/method/tuned/seed0")
        return cls(pair, method, int(seed), bool(tuned))


def tuned_row(method: str) -> str:
    """Return the row of a method with the values that a study selected."""
    return f"{method}/{_TUNED}"


def split_row(row: str) -> tuple[str, bool]:
    """Return a row's method, and True where its values are those that a study selected."""
    return row.removesuffix(f"/{_TUNED}"), row.endswith(f"/{_TUNED}")


def data(tier: str) -> Path:
    """Folder of a tier's manifest."""
    return Path("data") / tier


def runs(tier: str) -> Path:
    """Folder of a tier's results."""
    return RUNS / tier


def work(tier: str) -> Path:
    """Folder of a tier's checkpoints, logs and notes of failures."""
    return WORK / tier


def digests(tier: str) -> Path:
    """Folder of the digests of a tier's data sets, a file each."""
    return runs(tier) / "data"


def backbones(tier: str) -> Path:
    """Folder of the pre-trained backbones, a folder each."""
    return runs(tier) / BACKBONES


def teacher(tier: str, pair: str) -> Path:
    """Folder of a pair's teacher and of its students' initialisation."""
    return runs(tier) / pair / TEACHER


def auxiliary(tier: str, pair: str, method: str) -> Path:
    """Folder of the auxiliary module that a method is given on a pair."""
    return runs(tier) / pair / method / "prior"


def study(tier: str, pair: str, method: str) -> Path:
    """Folder of a finished study."""
    return runs(tier) / pair / method / _TUNED


def cell(tier: str, one: Cell) -> Path:
    """Folder of a cell's student, record and metrics."""
    return runs(tier) / one.key


def released(tier: str, student: str) -> Path:
    """Record of a student that its authors released."""
    return runs(tier) / RELEASED / f"{student}.json"


def report(tier: str) -> Path:
    """Folder of a tier's leaderboard, in all its forms."""
    return REPORTS / tier


def resolved(stage: str, key: str) -> Path:
    """File of a stage's resolved settings and code; see :mod:`pipelines.resolved`."""
    return RESOLVED / stage / f"{key}.json"
