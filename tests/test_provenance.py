"""The processor by its own name, and energy by the GPU's own counter."""

import sys
from types import SimpleNamespace

import pytest

from pipelines.engine.provenance import cpu_device, gpu_energy_j
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


def test_a_processor_is_named_with_what_its_kernels_depend_on(tmp_path, monkeypatch):
    """The first of a list of processors, its numbers, and the instructions; the architecture where there is no list."""
    about = tmp_path / "cpuinfo"
    processor = "processor\t: {}\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: {}\nflags\t\t: fpu avx2: yes\n\n"
    about.write_text(processor.format(0, "AMD EPYC") + processor.format(1, "another"))
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")

    assert cpu_device(about) == "CPU AMD EPYC, family 26, model 2, AVX2"
    assert cpu_device(tmp_path / "none") == "CPU arm64, AVX2"


@pytest.mark.parametrize(("before", "after", "kilojoules"), [(1000.0, 3500.0, 2.5), (None, 3500.0, None), (1.0, None, None)])
def test_energy_of_a_training(before, after, kilojoules):
    """The counter's difference, or nothing."""
    assert _difference_kj(before, after) == kilojoules
