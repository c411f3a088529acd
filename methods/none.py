"""The control: the student alone, on the same schedule, through the same stages."""

from torch import Tensor

from methods.contract import BaseMethod, Batch, View


class Method(BaseMethod):
    """No distillation."""

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:  # noqa: ARG002, D102
        return {}
