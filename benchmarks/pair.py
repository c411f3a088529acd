"""A published teacher-student pair: what its authors ran, and nothing about scale or method.

A pair file states published truth.
How it is scaled down is the tier's business (``benchmarks/tier.py``), by what it is distilled the method's.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

HeadFamily = Literal["gfl", "retinanet", "atss", "fcos", "reppoints", "faster_rcnn"]
Task = Literal["detection"]
DatasetName = Literal["coco"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(_Frozen):
    """A published weight file."""

    url: str = Field(pattern=r"^https://")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{8,64}$",
        description="digest of the file, or the leading digits that its publisher put into the file name",
    )


class Teacher(_Frozen):
    """The published teacher: an installed config by package, and its weights."""

    name: str
    config: str = Field(pattern=r"^mm(det|seg)::.+\.py$")
    checkpoint: Checkpoint


class Student(_Frozen):
    """The published student: an installed config by package; it starts from its config's initialisation."""

    name: str
    config: str = Field(pattern=r"^mm(det|seg)::.+\.py$")


class Pair(_Frozen):
    """One row of the benchmark.

    ``taps`` maps each role that methods may ask for to the path of the module whose output plays it.
    Teacher and student are of one architecture family, so one path serves both.
    ``lacks`` gives, for a role that this pair can never offer, the reason; methods that need it are
    reported with that reason instead of being run.
    """

    title: str
    task: Task
    dataset: DatasetName
    head: HeadFamily
    teacher: Teacher
    student: Student
    taps: dict[str, str] = Field(min_length=1)
    lacks: dict[str, str] = Field(default_factory=dict)
