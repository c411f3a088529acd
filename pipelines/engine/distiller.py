"""The model of a cell: mmrazor's distillation of a student under a frozen teacher, with one of our methods."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from methods.contract import Batch, Channels, View
from pipelines.engine.mmlab import import_mmrazor
from pipelines.engine.weights import PROBE_PX, FrozenTeacher, load_frozen, read_weights

import_mmrazor()
from mmrazor.models.algorithms import SingleTeacherDistill  # noqa: E402
from mmrazor.models.distillers import ConfigurableDistiller  # noqa: E402


def _load_method(name: str) -> Any:
    return importlib.import_module(f"methods.{name}")


def _in_full_precision(features: Any) -> tuple[Tensor, ...]:
    """A role's record as a tuple of levels, half precision widened to float32."""
    levels = features if isinstance(features, (tuple, list)) else (features,)
    return tuple(level.float() if level.dtype in (torch.float16, torch.bfloat16) else level for level in levels)


@MODELS.register_module()
class MethodDistiller(ConfigurableDistiller):  # type: ignore[misc]
    """mmrazor's distiller with one of our methods in place of its losses and connectors.

    Args:
        method: name of a module of ``methods``.
        hparams: the method's keyword arguments.
        taps: role -> path of the module whose output plays it.
        seed: seed of the method's own parameters and draws.
    """

    def __init__(self, method: str, hparams: dict[str, Any], taps: dict[str, str], seed: int) -> None:
        self._needs = _load_method(method).Method.needs
        recorders = {role: {"type": "ModuleOutputs", "source": taps[role]} for role in self._needs}
        super().__init__(student_recorders=recorders, teacher_recorders=dict(recorders))
        self._name, self._hparams, self._seed = method, hparams, seed

    def build_method(self, channels: Channels) -> None:
        """Build the method once the channels are known; the model's own initialisation stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self.method = _load_method(self._name).Method(channels, **self._hparams)

    def view(self, *, of_student: bool) -> View:
        """What the recorders hold."""
        return View({role: _in_full_precision(self.get_record(role, from_student=of_student)) for role in self._needs})

    def clear(self) -> None:
        """Drop the recorded tensors: they would keep the graph in memory and forbid copies of the model."""
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()

    def method_losses(self, inputs: Tensor, samples: list[Any], iteration: int) -> dict[str, Tensor]:
        """The method's losses on the batch that was just recorded, in full precision."""
        generator = torch.Generator(device=inputs.device)
        # One stream a step: a resumed training draws what an uninterrupted one would have drawn.
        generator.manual_seed((self._seed << 32) + iteration)
        batch = Batch(
            iteration=iteration,
            boxes_xyxy=tuple(sample.gt_instances.bboxes for sample in samples),
            labels=tuple(sample.gt_instances.labels for sample in samples),
            image_hw=(inputs.shape[2], inputs.shape[3]),
            generator=generator,
        )
        with torch.autocast(inputs.device.type, enabled=False):
            losses = self.method(self.view(of_student=True), self.view(of_student=False), batch)
        return dict(losses)


@MODELS.register_module()
class Distiller(FrozenTeacher, SingleTeacherDistill):  # type: ignore[misc]
    """mmrazor's single-teacher distillation with a verified teacher that is in no checkpoint.

    Args:
        student: config of the student.
        teacher: config of the teacher, without initialisation.
        teacher_weights: file of the teacher's weights, with its ``teacher_sha256``.
        taps: role -> module path, valid in both models.
        method: name of the method, with its ``hparams``.
        prior_weights: file of what the method's prior learned, with its ``prior_sha256``, or None.
        seed: the cell's seed.

    Raises:
        ValueError: teacher or prior weights are missing, not the recorded ones, or do not fit.
    """

    def __init__(
        self,
        student: dict[str, Any],
        teacher: dict[str, Any],
        teacher_weights: str,
        teacher_sha256: str,
        taps: dict[str, str],
        method: str,
        hparams: dict[str, Any],
        prior_weights: str | None,
        prior_sha256: str | None,
        seed: int,
    ) -> None:
        built_student = MODELS.build(student)
        with torch.random.fork_rng(devices=[]):
            frozen = load_frozen(teacher, teacher_weights, teacher_sha256)
        distiller = {"type": "MethodDistiller", "method": method, "hparams": hparams, "taps": taps, "seed": seed}
        with DefaultScope.overwrite_default_scope("mmrazor"):  # where its recorders are registered
            super().__init__(architecture=built_student, teacher=frozen, distiller=distiller)
        self._keep_outside(frozen)
        self._seed = seed
        self.distiller.build_method(self._probe())
        if prior_weights and prior_sha256:
            self.distiller.method.load_prior(read_weights(prior_weights, prior_sha256))

    def init_weights(self) -> None:
        """Initialise the student alone, from the seed alone: every method starts from the same student."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self.student.init_weights()

    def train(self, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002 (torch's signature)
        """Switch student and method; the teacher is not in the module tree and stays in evaluation mode."""
        return nn.Module.train(self, mode)

    def loss(self, batch_inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """The student's own losses and the method's; of the teacher only what the method needs is run."""
        with self.distiller.student_recorders:
            losses = dict(self.student(batch_inputs, data_samples, mode="loss"))
        if self.distiller._needs:  # noqa: SLF001 (its other half)
            with torch.no_grad(), self.distiller.teacher_recorders:
                self.teacher.extract_feat(batch_inputs)
        iteration = int(MessageHub.get_current_instance().get_info("iter", 0))
        losses.update(self.distiller.method_losses(batch_inputs, data_samples, iteration))
        self.distiller.clear()
        return losses

    def _probe(self) -> Channels:
        """Channels of every role's levels, seen by running both models on one blank image."""
        blank = torch.zeros(1, 3, PROBE_PX, PROBE_PX)
        with _evaluating(self.student), torch.no_grad():
            with self.distiller.student_recorders:
                self.student.extract_feat(blank)
            with self.distiller.teacher_recorders:
                self.teacher.extract_feat(blank)
        views = [self.distiller.view(of_student=side).features for side in (True, False)]
        self.distiller.clear()
        return {
            role: tuple((s.shape[1], t.shape[1]) for s, t in zip(views[0][role], views[1][role], strict=True))
            for role in views[0]
        }


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: statistics of batch norms are not touched."""
    model.eval()
    try:
        yield
    finally:
        model.train()
