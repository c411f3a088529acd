"""A published teacher-student pair as its authors ran it, without scale or method.

A pair file states published truth.
How it is scaled down is the tier's business (``benchmarks/tier.py``), by what it is distilled the method's.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from benchmarks.dataset import DatasetName, datasets
from benchmarks.metrics import METRICS, MetricName, Task
from benchmarks.schema import Epochs, Frozen, Id, Iterations, ModulePath, Points, Seed, Text

HeadType = Literal["gfl", "retinanet", "atss", "fcos", "reppoints", "faster_rcnn", "solo", "segmenter", "classifier"]

# Roles by head type: the path of the module that plays it, in teacher and student alike.
_DENSE = {"backbone": "backbone", "neck": "neck", "dense_head": "bbox_head", "predictions": "bbox_head"}
_ONE_STAGE = {**_DENSE, "anchors": "bbox_head"}
TAPS: dict[str, dict[str, str]] = {
    "gfl": {**_ONE_STAGE, "box_distributions": "bbox_head", "box_maps": "bbox_head.gfl_reg"},
    "retinanet": {**_ONE_STAGE, "box_maps": "bbox_head.retina_reg"},
    "atss": {**_ONE_STAGE, "box_maps": "bbox_head.atss_reg"},
    "fcos": {**_DENSE, "box_maps": "bbox_head.conv_reg"},
    "reppoints": {
        "backbone": "backbone",
        "neck": "neck",
        "points_init": "bbox_head.reppoints_pts_init_out",
        "points_refine": "bbox_head.reppoints_pts_refine_out",
    },
    "faster_rcnn": {"backbone": "backbone", "neck": "neck", "anchors": "rpn_head", "roi_head": "roi_head"},
    "solo": {"backbone": "backbone", "neck": "neck"},
    "segmenter": {
        "backbone": "backbone",
        "decoded": "decode_head.dropout",
        "logits": "decode_head.conv_seg",
        "aux_logits": "auxiliary_head.conv_seg",
    },
    "classifier": {"backbone": "backbone", "logits": "head"},
}

# Reasons for which a head type has no module for a role; for roles that are not named here see _NEVER.
_NO_DISTRIBUTIONS = "predicts a box's sides as numbers, not as distributions"
_LACKS: dict[str, dict[str, str]] = {
    "retinanet": {"box_distributions": _NO_DISTRIBUTIONS},
    "atss": {"box_distributions": _NO_DISTRIBUTIONS},
    "fcos": {"anchors": "predicts from points, without anchors", "box_distributions": _NO_DISTRIBUTIONS},
    "reppoints": {
        "predictions": "classes and boxes come from two sets of points, not from one tower's outputs",
        "box_distributions": _NO_DISTRIBUTIONS,
        "anchors": "predicts from points, without anchors",
        "dense_head": "boxes come from two sets of points, not from one tower's outputs",
        "box_maps": "boxes come from points",
    },
    "faster_rcnn": {
        "dense_head": "a two-stage detector has no towers of convolutions that predict classes and boxes",
        "predictions": "a two-stage detector predicts by proposals, not at every location",
        "box_distributions": _NO_DISTRIBUTIONS,
        "box_maps": "its boxes come from the RoI head",
    },
    "solo": {
        "anchors": "predicts masks by grid cell, without anchors",
        "dense_head": "predicts masks, no boxes",
        "predictions": "predicts masks, no boxes",
        "box_distributions": "predicts masks, no boxes",
        "box_maps": "predicts masks, no boxes",
    },
}
_NEVER = {
    "neck": "has no pyramid of features",
    "anchors": "has no anchors",
    "dense_head": "has no dense head of a detector",
    "predictions": "has no dense head of a detector",
    "box_distributions": "has no dense head of a detector",
    "roi_head": "has no RoI head",
    "box_maps": "predicts no boxes",
    "points_init": "has no point-based head",
    "points_refine": "has no point-based head",
    "decoded": "a detector has no decode head",
    "logits": "a detector has no logits of pixels",
    "aux_logits": "has no auxiliary head",
}


ConfigKey = Annotated[str, Field(pattern=r"^\w+(\.\w+)*$", max_length=200)]


class Checkpoint(Frozen):
    """A published weight file."""

    url: str = Field(pattern=r"^https://[^\s/]+/\S*[^\s/]$")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{8,64}$",
        description="digest of the file, or the leading digits that its publisher put into the file name",
    )
    size_bytes: int | None = Field(
        default=None, ge=1, le=10**12, description="None until it has been fetched by somebody who wrote it down"
    )


class Model(Frozen):
    """One side of a pair: an installed config by package, and what the pair's authors changed in it."""

    name: Text
    config: str = Field(pattern=r"^mm(det|seg|pretrain)::[\w.-]+(/[\w.-]+)+\.py$")
    changes: dict[ConfigKey, Any] = Field(default_factory=dict, description="dotted key of the config -> value, for every method")
    why_changed: Text | None = Field(default=None, description="source of the changes")
    initialisation: Checkpoint | None = Field(
        default=None, description="ImageNet weights of the backbone; None where it has none or is trained from random weights"
    )

    @model_validator(mode="after")
    def _changes_have_a_source(self) -> "Model":
        if bool(self.changes) != bool(self.why_changed):
            raise ValueError("changes and why_changed are given together")
        return self


class Teacher(Model):
    """The published teacher; where its weights are public, they are fetched, and else it is trained by its config."""

    checkpoint: Checkpoint | None
    no_checkpoint: Text | None = Field(default=None, description="why there is none to fetch")
    stated: Points | None = Field(description="points of the pair's metric that the publisher of the checkpoint states")
    inferred: Text | None = Field(
        default=None, description="why this is taken to be the authors' teacher, where no source of theirs names it"
    )

    @model_validator(mode="after")
    def _explained(self) -> "Teacher":
        if (self.checkpoint is None) != (self.no_checkpoint is not None):
            raise ValueError("give either a checkpoint or, under no_checkpoint, why there is none")
        return self


class Pair(Frozen):
    """One row of the benchmark.

    ``schedule`` is prose for reports, its length is compared with reported results'; both are the configs'.  ``taps`` and ``lacks`` add to what the
    head type says (:data:`TAPS`): for a role the path of the module whose output plays it in both models,
    or the reason why this pair cannot offer it.
    """

    title: Text
    task: Task
    dataset: DatasetName
    metric: MetricName
    head: HeadType
    schedule: Text
    epochs: Epochs | None = Field(default=None, description="of the student's schedule, repeated data counted")
    iterations: Iterations | None = Field(default=None, description="of a schedule that is not counted in epochs")
    gpus: int = Field(ge=1, le=4096, description="that the authors trained on")
    images_per_gpu: int = Field(
        ge=1, le=4096, description="of a step on each of them; the config's learning rate belongs to the product"
    )
    reported: Literal["last", "best"] = Field(default="last", description="which epoch's weights the authors report")
    teacher: Teacher
    student: Model
    taps: dict[str, ModulePath] = Field(default_factory=dict)
    lacks: dict[str, Text] = Field(default_factory=dict)
    teacher_seed: Seed = Field(default=0, description="one teacher a pair: all its cells learn from the same one")
    repeats: Id | None = Field(
        default=None,
        description="the pair that this one is but for the teacher's seed, to part what is the teacher's from what is the students'",
    )
    not_run: Text | None = Field(default=None, description="why no cell of this pair can run at any tier")

    @model_validator(mode="after")
    def _has_one_length(self) -> "Pair":
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give the length of the student's schedule as either epochs or iterations")
        return self

    @model_validator(mode="after")
    def _metric_is_of_the_task(self) -> "Pair":
        if self.task not in METRICS[self.metric].tasks:
            tasks = " and ".join(METRICS[self.metric].tasks)
            raise ValueError(f"metric {self.metric} is of task {tasks}, and the pair's is {self.task}; correct one of them")
        return self

    @model_validator(mode="after")
    def _data_are_of_the_task(self) -> "Pair":
        record = datasets()[self.dataset]
        if record.splits and (record.format == "label_maps") != (self.task == "segmentation"):
            raise ValueError(
                f"data set {self.dataset} is in format {record.format}, which is not of task {self.task}; correct one of them"
            )
        return self

    @model_validator(mode="after")
    def _roles_are_known(self) -> "Pair":
        known = {*_NEVER, "backbone"}
        if unknown := sorted({*self.taps, *self.lacks} - known):
            raise ValueError(f"taps or lacks name unknown roles {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
        return self

    @property
    def batch_size(self) -> int:
        """Images of a step over all GPUs, to which the config's learning rate belongs."""
        return self.gpus * self.images_per_gpu

    @property
    def modules(self) -> dict[str, str]:
        """Role -> path of the module that plays it, for all roles that this pair offers."""
        return {role: path for role, path in {**TAPS[self.head], **self.taps}.items() if role not in self.lacks}

    def why_without(self, role: str) -> str | None:
        """Reason for which the pair has no module for a role; None where the role is unknown to head types and pair."""
        return self.lacks.get(role) or _LACKS.get(self.head, {}).get(role) or _NEVER.get(role)
