"""One training step of cells, taken by several processes or by one in groups, for comparison; run in processes of their own."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper

from benchmarks.digest import file_sha256
from pipelines.engine import groups, ranks
from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.dummy_batches import dummy_batch
from pipelines.engine.measured_steps import prepare_model
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.precision import Bf16OptimWrapper
from pipelines.engine.setting import Distillation, Weights
from pipelines.engine.weights import save_weights
from pipelines.grid import Precision, Speed
from pipelines.recipes import cell_config, cell_parts
from pipelines.runner.processes import Child
from tests.conftest import build, setting

SIDE_PX = 64
Losses = dict[str, float]
Step = tuple[Losses, dict[str, torch.Tensor]]


class _Keeping(OptimWrapper):
    """Leaves the gradients where they are."""

    def step(self, **_: Any) -> None:
        """Take no step."""

    def zero_grad(self, **_: Any) -> None:
        """Keep them."""


class _KeepingBf16(_Keeping, Bf16OptimWrapper):
    """The same in bfloat16."""


def teacher_of(pair: str, folder: Path) -> Weights:
    """Weights of a random teacher, written once."""
    path = folder / f"{pair}.pth"
    if not path.exists():
        torch.manual_seed(1)
        save_weights(build(compose_training(setting(pair), "teacher", seed=0)), path)
    return Weights(path, file_sha256(path))


def model_of(pair: str, method: str, folder: Path) -> tuple[Any, Any]:
    """Config and model of a cell at tier smoke, initialised, in training."""
    at = setting(pair)
    parts, _ = cell_parts(method, pair, at.pair, "smoke")
    changes = cell_config(method, pair, at.pair, "smoke")
    config = compose_cell(at, Distillation(parts, teacher_of(pair, folder), None, changes), seed=0)
    torch.manual_seed(0)
    MMLogger.get_current_instance().setLevel("ERROR")  # it would log how each weight is initialised
    model = build(config)
    model.init_weights()
    for name, value in model.student.named_parameters():
        if name.endswith(("_cls.bias", "conv_cls.bias")):  # untrained scores of 0.01 leave the heads' divisors at their least, 1
            value.data.zero_()
    return config, model.train()


def step(
    pair: str, method: str, folder: Path, *, images: int, parts: int, precision: Precision = "fp32", speed: Speed | None = None
) -> Step:
    """Return losses, means over all ranks, and gradients of one step on ``images`` images, each rank's in ``parts`` groups."""
    MessageHub.get_instance(
        f"first iteration {uuid4()}"
    )  # draws follow the iteration, and another test's runner may have left one
    config, inner = model_of(pair, method, folder)
    prepare_model(inner, precision, speed or Speed())
    data = dummy_batch(config, (SIDE_PX, SIDE_PX), images)
    mine = {key: values[ranks.rank() :: ranks.number()] for key, values in data.items()}
    model = inner
    if ranks.number() > 1:
        from mmengine.model import MMDistributedDataParallel  # noqa: PLC0415 (as the runner does)

        model = MMDistributedDataParallel(inner, broadcast_buffers=False)
    wrapper = (_KeepingBf16 if precision == "bf16" else _Keeping)(torch.optim.SGD(inner.parameters(), lr=0.1))
    logged = groups.step(model, mine, wrapper, groups=parts, seed=0)
    losses = {key: float(ranks.mean(value.double())) for key, value in logged.items() if key.startswith("loss")}
    gradients = {name: value.grad for name, value in inner.named_parameters() if value.requires_grad}
    unused = [name for name, gradient in gradients.items() if gradient is None]
    assert not unused, f"{pair} {method}: no gradient for {unused}"
    return losses, gradients


def steps_of_rank(cells: list[tuple[str, str]], folder: Path, images: int, parts: int) -> None:
    """Take a rank's part of the steps; the first writes them to ``steps.pth``."""
    prepare_process()
    done = {cell: step(*cell, folder, images=images, parts=parts) for cell in cells}
    if ranks.is_first():
        torch.save(done, folder / "steps.pth")


def start(number: int, function: str, *arguments: Any) -> list[Child]:
    """Start a function in that many processes of one group."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(number), "MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    return [
        Child(function, *arguments, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(number)
    ]


def run(number: int, function: str, *arguments: Any) -> None:
    """Run a function in that many processes; the first failure is raised here."""
    children = start(number, function, *arguments)
    try:
        for child in children:
            while (end := child.poll(1.0)) is None:
                pass
            if end.problem:
                raise RuntimeError(end.problem)
    finally:
        for child in children:
            with suppress(OSError, ValueError):
                child.kill()


def steps_of_ranks(cells: list[tuple[str, str]], folder: Path, *, images: int, number: int, parts: int = 1) -> dict[Any, Step]:
    """Return the steps of all cells, taken by that many processes."""
    for pair in {pair for pair, _ in cells}:
        teacher_of(pair, folder)
    run(number, "tests.ranks:steps_of_rank", cells, folder, images, parts)
    return dict(torch.load(folder / "steps.pth", weights_only=True))


def difference(one: Step, other: Step) -> tuple[float, float]:
    """Largest relative difference of a loss, and the relative difference of all gradients (of their norm)."""
    (losses, gradients), (other_losses, other_gradients) = one, other
    assert losses.keys() == other_losses.keys(), (losses, other_losses)
    assert gradients.keys() == other_gradients.keys()
    of_losses = max(abs(losses[key] - other_losses[key]) / max(abs(losses[key]), 1e-12) for key in losses)
    ours, theirs = (torch.cat([g[name].double().flatten() for name in gradients]) for g in (gradients, other_gradients))
    return of_losses, float((ours - theirs).norm() / ours.norm())
