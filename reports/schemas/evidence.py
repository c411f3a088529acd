"""The schemas of what is known of a reported result beyond its quotation."""

from typing import Any, Literal, get_args

from pydantic import Field

from reports.schemas.run import Data, Environment, Frozen, Git, Metrics


class LossLevel(Frozen):
    """One loss in the first iterations of an author's training and of ours."""

    name: str
    theirs: float = Field(description="mean over the first iterations")
    ours: float
    agrees: bool


class ReadLog(Frozen):
    """Contents of an author's log."""

    schema_version: Literal[1] = 1
    file: str
    sha256: str
    format: Literal["mmcv json", "mmengine json", "text"]
    metric: str = Field(description="key of the score in the log, such as bbox_mAP")
    scores: list[tuple[int, float]] = Field(description="epoch (iteration of a schedule by iterations) and points, 0-100")
    by_epoch: bool
    last: float = Field(description="points, as exact as the log has them")
    best: float
    best_at: int = Field(description="epoch or iteration of the best")
    teacher: float | None = Field(default=None, description="points of the teacher in the same log, where it was validated too")
    batch_size: int | None = Field(default=None, description="images per step over all GPUs, where the log says it")
    images_per_gpu: int | None = None
    gpus: int | None = None
    lr: float | None = Field(default=None, description="highest learning rate")
    first_losses: dict[str, float] = Field(description="by name as in the log, mean over the first iterations")
    first_iterations: int = Field(description="iterations that the means are over")


class ReportedScore(Frozen):
    """A reported score beside the one that was measured here on the same weights."""

    reported: str = Field(description="id in the registry")
    metric: str
    value: float = Field(description="points, as reported")
    measured: float
    off: float = Field(description="points between what was measured and the nearest value that rounds to the reported one")
    agrees: bool


class ReleasedStudent(Frozen):
    """A student that its authors released, evaluated here, and the log of its training.

    It verifies the weights, not the method that made them.
    """

    schema_version: Literal[1] = 1
    origin: Literal["released"] = "released"
    student: str = Field(description="name in benchmarks/artefacts.yaml")
    reported: list[str] = Field(description="ids in the registry")
    tier: str
    pair: str | None
    method: str | None
    address: str | None = Field(default=None, description="of the weights")
    file: str | None = None
    sha256: str | None = Field(default=None, description="of the whole file")
    container: str = Field(default="", description="what was undone to get at the student; empty where nothing was")
    config_changes: dict[str, Any] = Field(default_factory=dict, description="to the student's published config")
    metrics: Metrics | None = None
    scores: list[ReportedScore] = Field(default_factory=list)
    seconds: float | None = Field(default=None, description="of the evaluation")
    peak_memory_mib: float | None = None
    log: ReadLog | None = None
    without_log: str | None = Field(default=None, description="why the log was not read, where one was released")
    data: Data | None = None
    git: Git
    environment: Environment
    finished_at: str
    mlflow_run_id: str | None = None


Rung = Literal["quoted", "artefact known", "weights re-evaluated", "log read", "losses at the log's level", "retrained"]
RUNGS: tuple[Rung, ...] = get_args(Rung)


class LedgerEntry(Frozen):
    """A reported result, the evidence for it, and what would add to it."""

    id: str
    pair: str | None
    setting: str | None = Field(default=None, description="in words, where it is no pair of this suite")
    method: str = Field(description="name here or, if the suite has it not, there")
    is_row: bool = Field(description="whether the suite has a row for it")
    what: Literal["teacher", "control", "method"]
    kind: str = Field(description="published, a reimplementation, or a user's")
    metric: str
    value: float
    gain: float | None
    source: str
    verdicts: dict[Rung, str] = Field(description="of every rung that is reached")
    confounds: list[str] = Field(description="differences that the gain may be due to, besides the method")
    next_step: str

    @property
    def rung(self) -> Rung:
        """The highest that is reached."""
        return next(rung for rung in reversed(RUNGS) if rung in self.verdicts)
