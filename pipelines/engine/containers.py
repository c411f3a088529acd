"""Models inside the checkpoints of distillers: found by their own keys, whatever stands before and beside them.

A distiller's checkpoint has the student under a prefix and more beside it.  Seen in the code that writes them: mmrazor 0.1
(``architecture.model.``, beside it ``distiller.teacher.`` and ``distiller.losses.``; BaseArchitecture and GeneralDistill), mmrazor 1.x
(``architecture.``, ``teacher.``, ``distiller.``; SingleTeacherDistill), MGD and FGD (``student.``, ``teacher.``, ``distill_losses.``;
DetectionDistiller in yzd-v/MGD and yzd-v/FGD), parallel wrappers (``module.``).  Averaged weights need no flag: the old and the new hook
for them both leave the average in ``state_dict`` and the weights before it beside.
"""

import copy
import re
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipelines.engine.state_dicts import UNWANTED, State, in_todays_names, load_whole, stripped, with_versions

_TEACHER = re.compile(r"(^|\.)(teacher|.*_teacher)\.")
# Beside a model without a prefix: what a distiller adds to the model's own modules.
_ADDED = re.compile(r"(teacher|student|distill|connector)")
_WHICH = "use the file of this pair's own model"


@dataclass(frozen=True)
class Extracted:
    """A model's weights out of a checkpoint.

    Args:
        state: under the model's own keys, on the CPU.
        prefix: that its keys had.
        beside: number of tensors that were dropped, by the first word of their keys.
    """

    state: State
    prefix: str
    beside: dict[str, int]

    @property
    def told(self) -> str:
        """Changes that were made to the file, in words; empty where there are none."""
        under = f"its model is under '{self.prefix}'" if self.prefix else ""
        dropped = ", ".join(f"{num} tensors of {name}" for name, num in self.beside.items())
        return "; ".join(part for part in (under, f"left out: {dropped}" if dropped else "") if part)


def extract(state: State, model: nn.Module, source: str | Path) -> Extracted:
    """Return the weights of a model that a checkpoint contains alone or among others.

    Args:
        state: as :func:`pipelines.engine.weights.read_weights` returns it.
        model: the whole model, or the backbone for an ImageNet file; it is left as it is.
        source: the file, for errors.

    Raises:
        ValueError: the model's keys are found whole under no prefix or under several, or a value is not finite.
    """
    fitting, errors = [], []
    for prefix in _prefixes(state, model):
        copied = copy.deepcopy(model)
        try:
            load_whole(copied, _inner(state, prefix, model), _named(source, prefix), _WHICH)
        except ValueError as error:
            errors.append((bool(_TEACHER.search(prefix)), error))
        else:
            fitting.append((prefix, copied))
    if not fitting:
        raise min(errors, key=lambda one: one[0])[1]
    # A student and its teacher may be of one architecture: the student is what was trained.
    trained = [one for one in fitting if not _TEACHER.search(one[0])] or fitting
    if len(trained) > 1:
        names = " and ".join(f"'{prefix}'" for prefix, _ in trained)
        raise ValueError(
            f"weights {source} hold {type(model).__name__} {len(trained)} times, under {names}; keep the right one in the file alone"
        )
    prefix, loaded = trained[0]
    weights = {key: value.detach().cpu() for key, value in loaded.state_dict().items()}
    _refuse_other_kinds(_inner(state, prefix, model), weights, source)
    _refuse_not_finite(weights, source)
    taken = {key for key in _inner(state, prefix, model) if not key.startswith(UNWANTED)}
    left = [key for key in state if not key.startswith(prefix) or key.removeprefix(prefix) not in taken]
    beside = Counter(re.split(r"[._]", key.removeprefix(prefix))[0] for key in left)
    return Extracted(weights, prefix, dict(beside))


def _prefixes(state: State, model: nn.Module) -> list[str]:
    """Return what stands before names of the model's own children, the most promising first; a teacher's last among equals."""
    own = in_todays_names(model.state_dict(), model).keys()
    children, matches = {key.split(".")[0] for key in own}, Counter({"": 0})
    for key in state:
        words = key.split(".")
        at = next((number for number, word in enumerate(words) if word in children), None)
        if at is not None:
            prefix = "".join(f"{word}." for word in words[:at])
            matches[prefix] += key.removeprefix(prefix) in own
    in_order = sorted(matches, key=lambda prefix: (-matches[prefix], bool(_TEACHER.search(prefix))))
    trained = next((prefix for prefix in in_order if not _TEACHER.search(prefix)), in_order[0])
    return [prefix for prefix in in_order if 2 * matches[prefix] >= matches[in_order[0]] or prefix == trained]


def _inner(state: State, prefix: str, model: nn.Module) -> State:
    """Return the keys under a prefix, without it; where there is none, without what a distiller adds."""
    if prefix:
        return stripped(state, prefix)
    children = {name for name, _ in model.named_children()}
    kept = OrderedDict((k, v) for k, v in state.items() if (first := k.split(".")[0]) in children or not _ADDED.match(first))
    return with_versions(kept, getattr(state, "_metadata", None))


def _named(source: str | Path, prefix: str) -> str:
    return f"{source} ('{prefix}' in it)" if prefix else str(source)


def _refuse_other_kinds(given: State, weights: State, source: str | Path) -> None:
    """ValueError for numbers that torch would convert without a word: quantised or complex ones in place of weights."""
    odd = [
        f"{key} ({str(value.dtype).removeprefix('torch.')})"
        for key, value in given.items()
        if key in weights and weights[key].is_floating_point() and not value.is_floating_point()
    ]
    if odd:
        more = f" and {len(odd) - 1} more tensors" if len(odd) > 1 else ""
        raise ValueError(f"weights {source}: {odd[0]}{more} are no floating-point numbers; use the file before it was quantised")


def _refuse_not_finite(weights: State, source: str | Path) -> None:
    bad = [key for key, value in weights.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        more = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise ValueError(
            f"weights {source}: {bad[0]}{more} hold values that are not finite; the training diverged, use another file"
        )
    if negative := [key for key, value in weights.items() if key.endswith("running_var") and (value < 0).any()]:
        raise ValueError(f"weights {source}: {negative[0]} is a variance below 0; the file is damaged, use another one")
    matrices = [value for value in weights.values() if value.dim() > 1]
    if matrices and not any(value.any() for value in matrices):
        raise ValueError(
            f"weights {source}: all weights are 0; the file was written before its model was trained, use another one"
        )
