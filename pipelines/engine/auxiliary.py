"""The model that learns a method's prior on the frozen teacher."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from pipelines.engine.weights import PROBE_PX, FrozenTeacher, load_frozen

# In evaluation some give what no loss takes: FCOS pixels instead of strides, RepPoints boxes, SOLO masks' probabilities.
_HEADS = {"bbox_head", "mask_head"}


@MODELS.register_module()
class PriorLearner(FrozenTeacher, BaseModel):  # type: ignore[misc]
    """A method's prior between the frozen teacher's neck and head; only the prior is trained.

    Args:
        teacher: config of the teacher, without initialisation; weights as in :class:`Distiller`.
        taps: role -> module path; the prior replaces the output of the one that plays its role.
        code: module of the method whose ``prior`` is learned, with the prior's ``hparams``.
        seed: seed of the prior's parameters.
    """

    def __init__(
        self,
        teacher: dict[str, Any],
        teacher_weights: str,
        teacher_sha256: str,
        taps: dict[str, str],
        code: str,
        hparams: dict[str, Any],
        seed: int,
    ) -> None:
        frozen = load_frozen(teacher, teacher_weights, teacher_sha256)
        super().__init__(data_preprocessor=frozen.data_preprocessor)
        self._keep_outside(frozen)
        for name in _HEADS & {name for name, _ in frozen.named_children()}:
            frozen.get_submodule(name).training = True  # of the head alone: norms and dropout inside stay frozen
        learned = importlib.import_module(f"methods.{code}").Method.prior
        tap = frozen.get_submodule(taps[learned.role])
        with _recording(tap) as outputs, torch.no_grad():
            features = frozen.extract_feat(torch.zeros(1, 3, PROBE_PX, PROBE_PX))
            owner = taps[learned.role].split(".")[0]
            if owner not in ("backbone", "neck"):
                frozen.get_submodule(owner)(features)
        channels = tuple(level.shape[1] for level in _levels(outputs[0]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prior = learned(channels, **hparams)
        self._losses: dict[str, Tensor] = {}
        tap.register_forward_hook(self._replace)

    def _replace(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():
            return output
        replaced, self._losses = self.prior(_levels(output))
        return replaced[0] if isinstance(output, Tensor) else tuple(replaced)

    def forward(self, inputs: Tensor, data_samples: list[Any], mode: str = "loss") -> Any:
        """The teacher's own losses on the replaced features, and the prior's."""
        losses = dict(self.teacher(inputs, data_samples, mode=mode))
        losses.update(self._losses)
        self._losses = {}
        return losses


def _levels(output: Any) -> tuple[Tensor, ...]:
    """What a module gives as a tuple of levels: a neck gives several, a classifier of pixels one."""
    return (output,) if isinstance(output, Tensor) else tuple(output)


@contextmanager
def _recording(module: nn.Module) -> Iterator[list[Any]]:
    """Collect what a module gives."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
