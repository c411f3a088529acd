"""Division of a batch among the processes of a run, and of each process's part into groups.

Published runs have a few images on each of several GPUs, and losses are formed per GPU: many divide by what is on one.  A process
with more images forms its losses per group of as many, one after the other, and steps on their mean (:mod:`pipelines.engine.groups`),
so that any number of processes takes the published step.
Norms that are synchronised over GPUs (SyncBN) see the whole batch; there each process is one group.
"""

from dataclasses import asdict, dataclass

import torch
from mmengine.config import Config, ConfigDict

from pipelines.engine.data_configs import dicts
from pipelines.engine.setting import Setting


@dataclass(frozen=True)
class Division:
    """A batch's size, the processes that it is divided among, and the groups of images whose losses are formed together."""

    batch_size: int
    processes: int = 1
    groups: int = 1

    @property
    def images_per_group(self) -> int:
        """Images whose losses are formed together."""
        return self.batch_size // self.groups


def images_per_group(setting: Setting) -> int | None:
    """Images that a published schedule has on each GPU; None at a tier with its own schedule."""
    return setting.pair.images_per_gpu if setting.tier.schedule is None else None


def rounded(batch: float, setting: Setting) -> int:
    """Return a batch size as a whole number of groups for each process, one at least."""
    unit = (images_per_group(setting) or 1) * setting.processes
    return max(1, round(batch / unit)) * unit


def divide(config: Config, setting: Setting) -> None:
    """Divide the training batch of a composed config, whose seed is set; ``config.division`` says how.

    Raises:
        ValueError: it cannot be divided evenly, or norms are synchronised over processes without GPUs.
    """
    processes, loader = setting.processes, config.train_dataloader
    is_synchronised = has_synchronised_norms(config.model)
    if is_synchronised and processes > 1 and not torch.cuda.is_available():
        raise ValueError(
            f"params.yaml: gpus_per_run is {processes}, and pair '{setting.pair.title}' has norms that are synchronised over GPUs "
            "(SyncBN), of which there are none here; set it to 1, which is the same step"
        )
    # Made plain for one process, they see the whole batch, too; a tier with its own schedule has plain ones of its own.
    were_synchronised = setting.tier.schedule is None and bool(config.get("has_plain_norms"))
    division = division_of(loader.batch_size, setting, whole=is_synchronised or were_synchronised)
    loader.batch_size //= processes
    config.division = ConfigDict(asdict(division))
    if division.groups > 1:
        hook = ConfigDict(type="GroupsHook", groups=division.groups // processes, seed=config.randomness.seed)
        config.custom_hooks = [*(config.get("custom_hooks") or []), hook]


def has_synchronised_norms(model: ConfigDict) -> bool:
    """Return True where batch norms of a model see the whole batch, whatever it is divided among."""
    return any(part.get("type") == "SyncBN" for part in dicts(model))


def division_of(total: int, setting: Setting, *, whole: bool) -> Division:
    """Return how a batch is divided; ValueError where that is not even.

    Args:
        total: images of a step.
        setting: the pair at a tier.
        whole: norms see the whole batch, which leaves each process one group.
    """
    return Division(total, setting.processes, _groups(total, setting, whole=whole))


def _groups(total: int, setting: Setting, *, whole: bool) -> int:
    processes, wanted = setting.processes, images_per_group(setting)
    if whole or wanted is None or total < wanted:
        groups = processes if whole else max(processes, setting.groups)
        if total % groups:
            raise ValueError(
                f"a batch of {total} images cannot be divided among {groups} processes; choose gpus_per_run in params.yaml to divide it"
            )
        return groups
    if total % (wanted * processes):
        raise ValueError(
            f"a batch of {total} images, {wanted} per GPU as published, cannot be divided among {processes} processes; choose "
            f"gpus_per_run, or batch_size, in params.yaml so that it is a multiple of {wanted * processes}"
        )
    return total // wanted
