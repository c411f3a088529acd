"""Processes of one run: torchrun starts them, and each is a rank of one process group, with a device of its own.

The first rank writes, tracks and prints; the others only train.
"""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from pipelines.runner import launch

_TIMEOUT_S = 1800.0  # of a collective, and of joining

Value = TypeVar("Value")


def join() -> None:
    """Join the run's process group, where torchrun has started this process; silence all ranks but the first.

    Raises:
        ValueError: there are fewer devices than processes, torch lacks the backend, or the first rank cannot be reached.
    """
    number = launch.world_size()
    if number == 1 or distributed.is_initialized():
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    has_gpu = torch.cuda.is_available()
    backend, is_there = ("nccl", distributed.is_nccl_available()) if has_gpu else ("gloo", distributed.is_gloo_available())
    if not is_there:
        raise ValueError(
            f"this torch has no {backend}, which {number} processes need; install a build with it, or set gpus_per_run: 1"
        )
    if has_gpu:
        if local_rank >= torch.cuda.device_count():
            raise ValueError(
                f"rank {rank} has no GPU of its own: there are {torch.cuda.device_count()} here; lower gpus_per_run in params.yaml"
            )
        torch.cuda.set_device(local_rank)
    timeout_s = float(os.environ.get("KD_TIMEOUT_S", _TIMEOUT_S))
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        distributed.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    except (RuntimeError, ValueError) as error:  # torch's own are RuntimeErrors
        raise ValueError(
            f"rank {rank} of {number} cannot reach rank 0 at {place} within {timeout_s:g} s; are all nodes up, and is the port open "
            f"between them? ({type(error).__name__})"
        ) from error
    if rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process)


def is_first() -> bool:
    """Return True on the first rank, and where there is but one process."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def number() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def first_says(choose: Callable[[], Value]) -> Value:
    """Return on all ranks what a function returns on the first."""
    said: list[Any] = [choose() if is_first() else None]
    if distributed.is_initialized():
        distributed.broadcast_object_list(said, device=_device())
    return said[0]  # type: ignore[no-any-return]


def all_say(value: Value) -> list[Value]:
    """Return every rank's value, on all of them."""
    if not distributed.is_initialized():
        return [value]
    said: list[Any] = [None] * number()
    distributed.all_gather_object(said, value)
    return said


def mean(values: Tensor) -> Tensor:
    """Return the mean of a tensor over the ranks, in its shape."""
    if not distributed.is_initialized():
        return values
    summed = values.to(_device(), copy=True)
    distributed.all_reduce(summed)
    return summed / number()


def least(value: Tensor) -> Tensor:
    """Return the least value of the ranks, element by element."""
    if not distributed.is_initialized():
        return value
    found = value.to(_device(), copy=True)
    distributed.all_reduce(found, op=distributed.ReduceOp.MIN)
    return found


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else torch.device("cpu")
