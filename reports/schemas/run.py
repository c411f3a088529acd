"""The schemas of ``run.json`` and ``metrics.json``: written by the stages, read by the reports."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_WITHOUT_EFFECT = ("pinned_memory", "cache_images")  # on any number of a result


class Frozen(BaseModel):
    """A value that is checked once, when it is made; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Git(Frozen):
    """State of the code."""

    commit: str | None
    dirty: bool | None = Field(description="whether tracked files differ from it")
    pushed: bool | None = Field(
        default=None, exclude_if=lambda pushed: pushed is None, description="whether some remote has it; None: not recorded"
    )
    why_unknown: str | None = Field(
        default=None, exclude_if=lambda why: why is None, description="where git names no commit: its reason, in a sentence"
    )


class Environment(Frozen):
    """Machine and packages of a run."""

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
    """Cost of a run."""

    wall_s: float = Field(description="of the process that finished it")
    train_s: float = Field(description="in training iterations, earlier attempts included")
    images_per_s: float = Field(description="training images over train_s")
    num_images: int
    peak_memory_mib: float = Field(description="GPU allocations where there is a GPU, else resident memory")
    resumed_after_iteration: int = Field(description="0 where it ran in one go")
    energy_kj: float | None = Field(
        default=None, description="of the whole GPU, during the process that finished it; None where it has no counter"
    )


class Run(Frozen):
    """One run: a backbone (``pretrain``), a teacher, an auxiliary module (``masks``) or a cell (``distill``)."""

    schema_version: Literal[3] = 3
    stage: Literal["pretrain", "teacher", "masks", "distill"]
    status: Literal["done", "impossible", "left out", "no prior", "not asked"]
    reason: str | None = Field(default=None, description="why the cell cannot be, where it cannot")
    tier: str
    pair: str = Field(description="of stage pretrain the backbone's name")
    method: str | None
    variant: Literal["published", "tuned"] = Field(
        default="published", description="whose hyper-parameters: the recipe's, or a study's"
    )
    seed: int
    hparams: dict[str, Any] = Field(default_factory=dict)
    hparams_origin: str | None = Field(default=None, description="'published', or why the tier changed them")
    config_changes: dict[str, Any] = Field(
        default_factory=dict, description="dotted key of the student's config -> value, as the method's authors changed it"
    )
    origin: str | None = Field(default=None, description="the file that the weights were taken from, where they were not trained")
    git: Git | None = None
    environment: Environment | None = None
    processes: int = Field(
        default=1, ge=1, description="among which each batch was divided, with a GPU each where there are GPUs"
    )
    batch_size: int | None = Field(default=None, ge=1, description="images of a step, over all processes")
    images_per_gpu: int | None = Field(
        default=None, ge=1, description="whose losses are formed together; a process with more forms them group by group"
    )
    precision: str = Field(
        default="fp32", description="number format of training: fp32, tf32, bf16 or fp16; losses are in float32"
    )
    speed: list[str] = Field(default_factory=list, description="settings of params.yaml's speed that were on")
    config_sha256: str | None = None
    data: Data | None = None
    accuracy: float | None = Field(default=None, description="of a pre-trained backbone, percent of the validation split")
    initialisation_sha256: str | None = Field(default=None, description="of what the backbone started from; None: random weights")
    student_initialisation_sha256: str | None = Field(
        default=None, description="in a teacher's record: of what the pair's students start from, written beside it"
    )
    teacher_sha256: str | None = None
    prior_sha256: str | None = None
    weights_sha256: str | None = None
    method_sha256: str | None = Field(default=None, description="of what the method itself learned beside the student")
    finished_at: str | None = Field(default=None, description="UTC, ISO 8601")
    cost: Cost | None = None
    curve: list[dict[str, float]] = Field(default_factory=list)
    mlflow_run_id: str | None = None

    @property
    def division(self) -> str | None:
        """Batch, processes and what else changes numbers in words, such as ``8 x 2, bf16``; None of records before they had them."""
        if self.batch_size is None or self.images_per_gpu is None:
            return None
        each = self.batch_size // self.processes
        groups = f" in groups of {self.images_per_gpu}" if self.images_per_gpu != each else ""
        speed = [name for name in self.speed if name not in _WITHOUT_EFFECT]
        return ", ".join([f"{self.processes} x {each}{groups}", *([self.precision] if self.precision != "fp32" else []), *speed])

    @property
    def row(self) -> str | None:
        """The leaderboard's row, and the folder under the pair's: ``mgd``, or ``mgd/tuned``; None for a teacher."""
        return f"{self.method}/tuned" if self.method and self.variant == "tuned" else self.method


class Ap(Frozen):
    """COCO's AP of boxes or of masks in points (0-100); None where the split has no such object.

    On VOC at full size AP50 is VOC 2007's mean over 11 recalls, and all else is None.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None


class Segmentation(Frozen):
    """Agreement of label maps over a whole split, in points (0-100)."""

    mIoU: float = Field(description="intersection over union, mean over the classes that are in truth or prediction")
    mAcc: float = Field(description="share of a class's pixels that are found, mean over the classes in the truth")
    aAcc: float = Field(description="share of all pixels that are right")
    foreground: float | None = Field(
        default=None,
        description="intersection over union of all that is no background, whatever its class; None without such a class",
    )


class Reading(Frozen):
    """Objects that a detector finds, and those of them that it names rightly, in percent.

    An object is found if a predicted box (or mask) overlaps it with an IoU above 0.5; its class is that of the highest-scoring one.
    """

    found: float = Field(description="of all objects")
    right: float | None = Field(description="of the found ones, those with the right class; None where none is found")


class Metrics(Frozen):
    """The result of one student or teacher on the test split; ``score`` is what its pair is judged by."""

    schema_version: Literal[3] = 3
    split: Literal["test"] = "test"
    num_images: int
    weights_sha256: str | None
    metric: str | None = Field(default=None, description="the pair's, such as 'mask AP'; None for a cell that cannot be")
    score: float | None = Field(default=None, description="points of that metric")
    box: Ap | None = None
    mask: Ap | None = None
    seg: Segmentation | None = None
    reading: Reading | None = Field(default=None, description="of a detector")
    per_class: dict[str, float | None] = Field(default_factory=dict, description="AP or IoU by class, points")
    scores: dict[str, float | None] = Field(
        default_factory=dict, exclude_if=lambda scores: not scores, description="of metrics that are in no group above, by name"
    )

    def flat(self) -> dict[str, float | None]:
        """Every figure by name: ``AP50`` of boxes, ``mask AP50``, ``mIoU``."""
        masks = {f"mask {name}": value for name, value in self.mask.model_dump().items()} if self.mask else {}
        read = {"objects found": self.reading.found, "right class": self.reading.right} if self.reading else {}
        seg = (
            {"foreground IoU" if key == "foreground" else key: value for key, value in self.seg.model_dump().items()}
            if self.seg
            else {}
        )
        return {**(self.box.model_dump() if self.box else {}), **masks, **seg, **self.scores, **read}

    def shown(self) -> dict[str, float | None]:
        """Metrics of a table of single runs: all, but of a pair that is judged by masks only the boxes' AP."""
        if self.mask is None:
            return self.flat()
        kept = ("mask ", "objects found", "right class", *self.scores)
        masks = {name: value for name, value in self.flat().items() if name.startswith(kept)}
        return masks if self.box is None else {**masks, "box AP": self.box.AP}
