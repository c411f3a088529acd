"""The argument of a trial's process; imports nothing heavy, as workers only wait."""

from dataclasses import dataclass
from pathlib import Path

from pipelines import layout
from pipelines.tuning.params import TuningParams


@dataclass(frozen=True)
class Task:
    """A cell that is tuned.

    Args:
        tuning: as the user set it.
        code: digest of each module that decides a trial.
    """

    tier: str
    pair: str
    method: str
    tuning: TuningParams
    code: dict[str, str]

    @property
    def name(self) -> str:
        """``gfl_r101_r50/mgd/tuning``, its place under ``work/<tier>``."""
        return f"{self.pair}/{self.method}/tuning"

    @property
    def study_name(self) -> str:
        """Name of the study in the journal and in messages."""
        return f"{self.tier}/{self.pair}/{self.method}/{self.tuning.study}"

    @property
    def work(self) -> Path:
        """Folder of all its studies and trials."""
        return layout.work(self.tier) / self.name
