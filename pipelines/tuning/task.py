"""What a worker hands to a trial's process; imports nothing heavy, as workers only wait."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.stages.distill import Sources
from pipelines.tuning.settings import Tuning

WORK = Path("work")


@dataclass(frozen=True)
class Task:
    """A cell that is tuned, and where what it is made of lies.

    Args:
        sources: folders of data, teacher and prior.
        tuning: as the user asked.
        code: digest of each module that decides a trial.
    """

    tier: str
    pair: str
    method: str
    sources: Sources
    tuning: Tuning
    code: dict[str, str]

    @property
    def name(self) -> str:
        """``gfl_r101_r50/mgd/tuning``, its place under ``work/<tier>``."""
        return f"{self.pair}/{self.method}/tuning"

    @property
    def study_name(self) -> str:
        """As the journal and the user know the study."""
        return f"{self.tier}/{self.pair}/{self.method}/{self.tuning.study}"

    @property
    def work(self) -> Path:
        """Folder of all its studies and trials."""
        return WORK / self.tier / self.name
