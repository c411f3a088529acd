"""Energy by the GPU's own counter."""

import sys
from types import SimpleNamespace

import pytest

from pipelines.engine.provenance import gpu_energy_j
from pipelines.engine.training import _difference_kj


class NVMLError(Exception):
    """The exception that pynvml raises."""


def test_energy_is_the_counter_of_this_gpu(monkeypatch):
    """Millijoules of the GPU with torch's current device's UUID, in joules; None where it has no counter."""
    asked = []

    def counter(handle):
        if handle == "GPU-none":
            raise NVMLError
        return 1_500_000

    fake = SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or uuid, nvmlDeviceGetTotalEnergyConsumption=counter,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    uuids = iter(["abc", "none"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    monkeypatch.setattr(
        "torch.cuda.get_device_properties", lambda number: SimpleNamespace(uuid=next(uuids) if number == 3 else "wrong")
    )

    assert gpu_energy_j() == 1500.0
    assert gpu_energy_j() is None
    assert asked == ["GPU-abc", "GPU-none"]


@pytest.mark.parametrize(("before", "after", "kilojoules"), [(1000.0, 3500.0, 2.5), (None, 3500.0, None), (1.0, None, None)])
def test_energy_of_a_training(before, after, kilojoules):
    """The counter's difference, or nothing."""
    assert _difference_kj(before, after) == kilojoules
