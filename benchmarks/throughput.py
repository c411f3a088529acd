"""Costs of training: measured throughput, and the size of the models where there is no measurement.

``throughput.json`` and ``complexity.json`` beside this module contain the records; ``./kd estimate`` reads them.
"""

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measurement(_Frozen):
    """Training steps of one cell, timed after a warm-up, without validation.

    Loading of data is in it, unless ``command`` is ``./kd measure`` (``pipelines.commands.measure`` in older records), which makes up its images once.
    """

    pair: str
    method: str = Field(description="of the recipe; 'teacher' for the teacher's own training")
    tier: str
    device: str = Field(description="as its driver calls it, such as 'NVIDIA H200'")
    gpus: int = Field(ge=1)
    batch_per_gpu: int = Field(ge=1)
    images_per_s: float = Field(gt=0, description="training images over all GPUs together")
    peak_memory_mib: float = Field(gt=0, description="allocated on the fullest GPU")
    precision: str = Field(description="of the matrix products: fp32, tf32, bf16, fp16")
    speed: list[str] = Field(default_factory=list, description="settings of params.yaml's speed that were on")
    command: str = Field(description="what measured it")
    date: dt.date


class Throughput(_Frozen):
    """The contents of ``throughput.json``; measured again, a cell gets a further record."""

    about: str
    records: list[Measurement]

    def newest(self, tier: str, device: str) -> dict[tuple[str, str], Measurement]:
        """Latest record of each (pair, method) at a tier, on devices whose name contains ``device``."""
        chosen = [record for record in self.records if record.tier == tier and device.lower() in record.device.lower()]
        return {(record.pair, record.method): record for record in sorted(chosen, key=lambda record: record.date)}


class Size(_Frozen):
    """One model: multiply-adds of its forward pass on one image, and its weights."""

    forward_gmac: float = Field(gt=0, description="10^9 multiply-adds of convolutions and linear layers")
    parameters_m: float = Field(gt=0, description="10^6 weights")
    backbone_parameters_m: float = Field(gt=0)


class PairSize(_Frozen):
    """Both models of a pair on the same image."""

    train_px: tuple[int, int] = Field(description="height and width that a training image has")
    test_px: tuple[int, int]
    teacher: Size
    student: Size

    @property
    def test_share(self) -> float:
        """Pixels of a test image over those of a training image."""
        return (self.test_px[0] * self.test_px[1]) / (self.train_px[0] * self.train_px[1])


class Complexity(_Frozen):
    """The contents of ``complexity.json``."""

    about: str
    command: str = Field(description="what wrote the file")
    pairs: dict[str, PairSize]
