"""Random numbers of the processes that load a training's images."""

import os
import random

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module()  # type: ignore[untyped-decorator]
def seed_worker(_worker_id: int) -> None:
    """Seed a worker by its own torch seed, which follows the epoch's, and by the rank.

    MMEngine's are seeded once, and go on over all epochs: a resumed training would mirror and scale other images than an
    uninterrupted one.
    """
    seeds = np.random.SeedSequence([torch.initial_seed(), int(os.environ.get("RANK", "0"))]).generate_state(3)
    np.random.seed(seeds[0])  # noqa: NPY002 (MMCV's transforms draw from it)
    random.seed(int(seeds[1]))
    torch.manual_seed(int(seeds[2]))


def seed_workers(config: Config) -> None:
    """Start a training's workers anew in each epoch, with its seed."""
    loader = config.train_dataloader
    if loader.get("num_workers", 0):
        loader.persistent_workers = False
        loader.worker_init_fn = ConfigDict(type="seed_worker")
