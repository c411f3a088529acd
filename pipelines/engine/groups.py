"""A step on a batch in groups, equal to a step of as many GPUs with a group on each.

Losses are formed per group and their gradients averaged, as DistributedDataParallel does over GPUs.  Heads that average a divisor
over GPUs (``reduce_mean`` of MMDetection: GFL, ATSS, FCOS) average it over groups as well; it is taken from a pass without gradients
beforehand.  Each group draws random numbers of its own, whichever process has it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from pipelines.engine import ranks

GROUP = "group"  # of MMEngine's message hub: the number of the group that is being trained on, over all processes


@HOOKS.register_module()
class GroupsHook(Hook):  # type: ignore[misc]
    """Trains on each batch in groups.

    Args:
        groups: of a process's part of the batch.
        seed: of the run.
    """

    def __init__(self, groups: int, seed: int) -> None:
        self._groups, self._seed = groups, seed

    def before_train(self, runner: Runner) -> None:
        """Replace the model's step, which the training loop calls."""
        runner.model.train_step = partial(step, runner.model, groups=self._groups, seed=self._seed)


def step(model: Any, data: dict[str, Sequence[Any]], optim_wrapper: Any, *, groups: int, seed: int) -> dict[str, Tensor]:
    """Train on a batch; return its losses, means over the groups.

    Args:
        model: the runner's, in DistributedDataParallel where there are several processes.
        data: of the loader: by key, one item per image.
        optim_wrapper: MMEngine's.
        groups: every n-th image is in the same one, as the sampler would give them to n processes.
        seed: of the run; random numbers follow it, the iteration and the group's number.
    """
    inner = getattr(model, "module", model)
    parts = [{key: values[start::groups] for key, values in data.items()} for start in range(min(groups, len(data["inputs"])))]
    hub, iteration = MessageHub.get_current_instance(), int(MessageHub.get_current_instance().get_info("iter", 0))

    def begin(part: int) -> Any:
        number = part * ranks.number() + ranks.rank()
        hub.update_info(GROUP, number)
        torch.manual_seed(int(np.random.SeedSequence([seed, iteration, number]).generate_state(1, np.uint64)[0] >> 1))
        return inner.data_preprocessor(parts[part], True)  # noqa: FBT003 (training)

    averaged = _averaged_divisors(inner, optim_wrapper, begin, len(parts)) if len(parts) > 1 else []
    sums: dict[str, Tensor] = {}
    for part in range(len(parts)):
        is_last = part == len(parts) - 1
        batch = begin(part)
        reduced: Any = _reducing(inner, averaged.__getitem__) if averaged else nullcontext()
        with nullcontext() if is_last or model is inner else model.no_sync():
            with optim_wrapper.optim_context(model), reduced:
                losses = model._run_forward(batch, mode="loss")  # noqa: SLF001 (MMEngine's own step calls it, too)
            loss, logged = inner.parse_losses(losses)
            optim_wrapper.backward(loss / len(parts))
        for key, value in logged.items():
            sums[key] = sums.get(key, 0) + value.detach() / len(parts)
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return sums


def _averaged_divisors(inner: nn.Module, optim_wrapper: Any, begin: Callable[[int], Any], parts: int) -> list[Tensor]:
    """Return what the heads' divisors are on average over all groups, in the order in which they are taken; none where no head averages."""
    if not _modules(inner):
        return []
    student = getattr(inner, "student", inner)  # of a distillation: its own losses are all that is needed
    local: list[list[Tensor]] = []
    with torch.no_grad(), _still_statistics(student):
        for part in range(parts):
            batch = begin(part)
            taken: list[Tensor] = []

            def keep(_number: int, value: Tensor, taken: list[Tensor] = taken) -> Tensor:
                taken.append(value.detach().clone())
                return value

            with optim_wrapper.optim_context(inner), _reducing(inner, keep, with_value=True):
                student(**batch, mode="loss")
            local.append(taken)
    return [ranks.mean(torch.stack(values).mean(0)) for values in zip(*local, strict=True)]


def _modules(model: nn.Module) -> list[ModuleType]:
    """Modules of code that call ``reduce_mean`` for a part of the model."""
    owners = {kind.__module__ for part in model.modules() for kind in type(part).__mro__ if kind.__module__.startswith("mmdet.")}
    return [sys.modules[name] for name in sorted(owners) if "reduce_mean" in vars(sys.modules[name])]


@contextmanager
def _reducing(model: nn.Module, value_of: Callable[..., Tensor], *, with_value: bool = False) -> Iterator[None]:
    """Answer the heads' calls of ``reduce_mean`` by their number, and by their value where requested."""
    numbers = count()

    def answer(tensor: Tensor) -> Tensor:
        number = next(numbers)
        return value_of(number, tensor) if with_value else value_of(number).clone()

    modules = _modules(model)
    before = [module.reduce_mean for module in modules]
    for module in modules:
        module.reduce_mean = answer  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            module.reduce_mean = function  # type: ignore[attr-defined]


@contextmanager
def _still_statistics(model: nn.Module) -> Iterator[None]:
    """Keep batch norms in training from counting a batch twice."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001 (torch's base)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
