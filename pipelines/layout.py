"""Every path that stages write, and every stage's name, once; dvc.yaml repeats them and a test compares the two."""

from dataclasses import dataclass
from pathlib import Path

RUNS = Path("runs")  # what stages write, recorded by DVC
WORK = Path("work")  # what they leave behind: checkpoints, logs, notes of failures
GRID = Path("grid.yaml")
RESOLVED = RUNS / "resolved"
REPORTS = Path("reports")
COMMITTED = REPORTS / "mini"  # results that are part of the project


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
        return f"{self.method}/tuned" if self.tuned else self.method

    @property
    def key(self) -> str:
        """``gfl_r101_r50/mgd/seed0``: behind the stage's name in DVC, and the path under the tier's folder."""
        return f"{self.pair}/{self.row}/seed{self.seed}"

    @classmethod
    def parse(cls, key: str) -> "Cell":
        """The cell of a key; ValueError for another text."""
        pair, _, rest = key.partition("/")
        row, _, seed = rest.rpartition("/seed")
        method, _, tuned = row.partition("/")
        if not (pair and method and seed.isdecimal() and tuned in ("", "tuned")):
            raise ValueError(f"'{key}' is no cell; a cell is named pair/method/seed0, or pair/method/tuned/seed0")
        return cls(pair, method, int(seed), bool(tuned))


def data(tier: str) -> Path:
    """Folder of a tier's manifest."""
    return Path("data") / tier


def digests(tier: str) -> Path:
    """Folder of the digests of a tier's data sets, a file each."""
    return RUNS / tier / "data"


def backbones(tier: str) -> Path:
    """Folder of the pre-trained backbones, a folder each."""
    return RUNS / tier / "backbones"


def teacher(tier: str, pair: str) -> Path:
    """Folder of a pair's teacher and of what its students start from."""
    return RUNS / tier / pair / "teacher"


def auxiliary(tier: str, pair: str, method: str) -> Path:
    """Folder of the auxiliary module that a method is given on a pair."""
    return RUNS / tier / pair / method / "prior"


def study(tier: str, pair: str, method: str) -> Path:
    """Folder of a finished study."""
    return RUNS / tier / pair / method / "tuned"


def cell(tier: str, one: Cell) -> Path:
    """Folder of a cell's student, record and metrics."""
    return RUNS / tier / one.key


def report(tier: str) -> Path:
    """Folder of a tier's leaderboard, in all its forms."""
    return REPORTS / tier


def resolved(stage: str, key: str) -> Path:
    """File of a stage's resolved settings and code; see :mod:`pipelines.resolved`."""
    return RESOLVED / stage / f"{key}.json"
