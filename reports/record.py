"""The schemas of ``run.json`` and ``metrics.json``: written by the stages, read by the reports."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A value that is checked once, when it is made; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Git(Frozen):
    """State of the code; None outside a repository."""

    commit: str | None
    dirty: bool | None


class Environment(Frozen):
    """Where a training ran."""

    python: str
    platform: str
    device: str
    num_cpus: int | None
    threads: int
    packages: dict[str, str | None]
    mmlab: dict[str, str]


class Data(Frozen):
    """The data set that was trained on."""

    name: str
    digest: str


class Cost(Frozen):
    """What a training took."""

    wall_s: float = Field(description="of the process that finished it")
    train_s: float = Field(description="in training iterations, earlier attempts included")
    images_per_s: float = Field(description="training images over train_s")
    num_images: int
    peak_memory_mib: float = Field(description="GPU allocations where there is a GPU, else resident memory")
    resumed_after_iteration: int = Field(description="0 where it ran in one go")


class Run(Frozen):
    """One training: a teacher, a prior (``masks``) or a cell (``distill``)."""

    schema_version: Literal[1] = 1
    stage: Literal["teacher", "masks", "distill"]
    status: Literal["done", "impossible", "left out", "no prior"]
    reason: str | None = Field(default=None, description="why the cell cannot be, where it cannot")
    tier: str
    pair: str
    method: str | None
    seed: int
    hparams: dict[str, Any] = Field(default_factory=dict)
    hparams_origin: str | None = Field(default=None, description="'published', or why the tier changed them")
    git: Git | None = None
    environment: Environment | None = None
    config_sha256: str | None = None
    data: Data | None = None
    teacher_sha256: str | None = None
    prior_sha256: str | None = None
    weights_sha256: str | None = None
    cost: Cost | None = None
    curve: list[dict[str, float]] = Field(default_factory=list)
    mlflow_run_id: str | None = None


class Ap(Frozen):
    """COCO's box AP in points (0-100); None where the split has no such object."""

    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None


class Metrics(Frozen):
    """The result of one student or teacher on the test split."""

    schema_version: Literal[1] = 1
    split: Literal["test"] = "test"
    num_images: int
    weights_sha256: str | None
    box: Ap | None = Field(description="None for a cell that cannot be")
    per_class: dict[str, float | None] = Field(default_factory=dict, description="AP by class, points")
