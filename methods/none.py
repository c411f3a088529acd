"""The baseline: the student alone, on the same schedule, through the same stages."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from methods.contract import BaseMethod, Batch, Channels, Multiple, Training, View, Weight


class Method(BaseMethod):
    """No distillation; the student's own hyper-parameters can be tuned.

    Args:
        channels: of no use here.
        rate_times: the learning rate, in multiples of the pair's.
        decay_times: the weight decay, likewise.
        batch_times: images a step, likewise; the images of an epoch, and so the cost, stay the same.
        length_times: epochs or iterations, likewise.
    """

    def __init__(
        self, channels: Channels, *, rate_times: Multiple, decay_times: Weight, batch_times: Multiple, length_times: Multiple
    ) -> None:
        super().__init__(channels)
        self.change = Training(rate_times, decay_times, batch_times, length_times)

    @classmethod
    def trained_as(cls, hparams: Mapping[str, Any]) -> Training:
        return Training(**hparams)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        return {}
