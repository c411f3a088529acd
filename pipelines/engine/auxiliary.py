"""Training of a method's auxiliary module on the frozen teacher: the model and its config."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from methods.recipe import PriorTraining
from pipelines.engine.compose import base_config, finish
from pipelines.engine.hooks import POINT_EVERY
from pipelines.engine.setting import Setting, Weights
from pipelines.engine.weights import PROBE_PX, FrozenTeacher, load_frozen

# In evaluation some give what no loss takes: FCOS pixels instead of strides, RepPoints boxes, SOLO masks' probabilities.
_HEADS = {"bbox_head", "mask_head"}


@MODELS.register_module()
class AuxiliaryTraining(FrozenTeacher, BaseModel):  # type: ignore[misc]
    """A method's auxiliary module between the frozen teacher's neck and head; only that module is trained.

    Args:
        teacher: config of the teacher, without initialisation; weights as in :class:`Distiller`.
        hook_points: input -> module path; the auxiliary module replaces the output of the one that gives its input.
        code: module of the method, with its auxiliary module's ``hparams``.
        seed: seed of the auxiliary module's parameters.
    """

    def __init__(
        self,
        teacher: dict[str, Any],
        teacher_weights: str,
        teacher_sha256: str,
        hook_points: dict[str, str],
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
        hooked = frozen.get_submodule(hook_points[learned.role])
        with _recording(hooked) as outputs, torch.no_grad():
            features = frozen.extract_feat(torch.zeros(1, 3, PROBE_PX, PROBE_PX))
            owner = hook_points[learned.role].split(".")[0]
            if owner not in ("backbone", "neck"):
                frozen.get_submodule(owner)(features)
        channels = tuple(level.shape[1] for level in _levels(outputs[0]))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.auxiliary = learned(channels, **hparams)
        self._losses: dict[str, Tensor] = {}
        hooked.register_forward_hook(self._replace)

    def _replace(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():
            return output
        replaced, self._losses = self.auxiliary(_levels(output))
        return replaced[0] if isinstance(output, Tensor) else tuple(replaced)

    def forward(self, inputs: Tensor, data_samples: list[Any], mode: str = "loss") -> Any:
        """Return the teacher's own losses on the replaced features, and the auxiliary module's."""
        losses = dict(self.teacher(inputs, data_samples, mode=mode))
        losses.update(self._losses)
        self._losses = {}
        return losses


def _levels(output: Any) -> tuple[Tensor, ...]:
    """Return a module's output as a tuple of levels: a neck gives several, a classifier of pixels one."""
    return (output,) if isinstance(output, Tensor) else tuple(output)


@contextmanager
def _recording(module: nn.Module) -> Iterator[list[Any]]:
    """Collect a module's outputs."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def compose_auxiliary(
    setting: Setting, teacher: Weights, *, code: str, hparams: dict[str, Any], training: PriorTraining, seed: int
) -> Config:
    """Return the config that trains a method's auxiliary module on the frozen teacher.

    Args:
        setting: the pair at a tier.
        teacher: its weights.
        code: the method's module.
        hparams: of the auxiliary module.
        training: its schedule.
        seed: of its parameters and of the order of the images.
    """
    config = base_config(setting, "teacher")
    config.model = ConfigDict(
        type="AuxiliaryTraining",
        teacher=config.model,
        teacher_weights=str(teacher.path),
        teacher_sha256=teacher.sha256,
        hook_points=setting.pair.modules,
        code=code,
        hparams=hparams,
        seed=seed,
    )
    iterations = training.iterations
    optimizer = {"type": training.optimizer, "lr": training.lr, "weight_decay": training.weight_decay}
    if training.optimizer == "SGD":
        optimizer["momentum"] = 0.9
    config.optim_wrapper = ConfigDict(type="OptimWrapper", optimizer=optimizer)
    if training.clip_grad_norm is not None:
        config.optim_wrapper.clip_grad = ConfigDict(max_norm=training.clip_grad_norm)
    config.param_scheduler = [ConfigDict(type="CosineAnnealingLR", by_epoch=False, T_max=iterations, eta_min=1e-6)]
    config.train_cfg = ConfigDict(type="IterBasedTrainLoop", max_iters=iterations)
    # The masked teacher is used by nobody: nothing to validate.
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    config.default_hooks.checkpoint.update(by_epoch=False, interval=POINT_EVERY)
    # A published config has one GPU's images.
    config.train_dataloader.batch_size = setting.total_batch
    config.train_dataloader.sampler = ConfigDict(type="InfiniteSampler", shuffle=True)
    config.train_dataloader.pop("batch_sampler", None)
    config.randomness = ConfigDict(seed=seed)
    finish(config, setting)
    return config
