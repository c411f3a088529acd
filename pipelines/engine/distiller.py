"""The model of a cell: mmrazor's distillation of a student under a frozen teacher, by one of our methods."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from methods.contract import Batch, Channels, Composition, Picture, View
from methods.recipe import ResolvedPart
from pipelines.engine import heads
from pipelines.engine.groups import GROUP
from pipelines.engine.mmlab import import_mmrazor
from pipelines.engine.weights import PROBE_PX, FrozenTeacher, load_frozen, read_weights, untrained
from pipelines.recipes import needed_inputs

import_mmrazor()
from mmrazor.models.algorithms import SingleTeacherDistill  # noqa: E402 (importable only now)
from mmrazor.models.distillers import ConfigurableDistiller  # noqa: E402 (as above)

# Inputs that are no recorded feature maps.
_ITERATION_BITS = 22  # of a generator's seed: four million iterations, and a thousand groups above them
_HANDLES = ("dense_head", "predictions", "box_distributions", "roi_head", "anchors")


def _in_full_precision(records: list[Any]) -> tuple[Tensor, ...]:
    """Return an input's record as a tuple of levels, half precision widened to float32.

    A module gives all its levels in one call, or one per call.
    """
    output = records[0] if len(records) == 1 else records
    levels = output if isinstance(output, (tuple, list)) else (output,)
    return tuple(level.float() if level.dtype in (torch.float16, torch.bfloat16) else level for level in levels)


class UnfitError(ValueError):
    """A student and a teacher that cannot be trained under a method."""


@MODELS.register_module()
class MethodDistiller(ConfigurableDistiller):  # type: ignore[misc]
    """mmrazor's distiller with one of our methods in place of its losses and connectors.

    Args:
        parts: ``{name, code, hparams, inherits}`` of each method that is combined.
        hook_points: input -> path of the module whose output it is.
        seed: seed of the methods' own parameters and draws.
    """

    def __init__(self, parts: list[ResolvedPart], hook_points: dict[str, str], seed: int) -> None:
        self.needs = needed_inputs(parts)
        self._maps = {name: hook_points[name] for name in self.needs if name not in _HANDLES}
        recorders = {name: {"type": "ModuleOutputs", "source": path} for name, path in self._maps.items()}
        super().__init__(student_recorders=recorders, teacher_recorders=dict(recorders))
        self._parts, self._seed = parts, seed

    def build_method(self, channels: Channels) -> None:
        """Build the method once the channels are known; the model's own initialisation stays as it was."""
        built = {}
        with torch.random.fork_rng(devices=[]):
            for part in self._parts:
                torch.manual_seed(self._seed)  # a method starts from the same parameters alone and combined
                module = importlib.import_module(f"methods.{part.code}")
                built[part.name] = module.Method(channels, **part.hparams)
        self.method = next(iter(built.values())) if len(built) == 1 else Composition(built)

    def run_maps(self, model: Any, inputs: Tensor) -> Any:
        """Run the part of a model that the recorders need; return the neck's levels where it came to that."""
        modules = {path.split(".")[0] for path in self._maps.values()}
        if modules == {"backbone"} and len(self._maps) == len(self.needs):
            return model.backbone(inputs)
        features = model.extract_feat(inputs)
        for name in sorted(modules - {"backbone", "neck"}):
            getattr(model, name)(features)
        return features

    def maps(self, *, of_student: bool) -> dict[str, tuple[Tensor, ...]]:
        """Return the recorded feature maps by input."""
        recorders = self.student_recorders if of_student else self.teacher_recorders
        return {name: _in_full_precision(recorders.get_recorder(name).data_buffer) for name in self._maps}

    def clear(self) -> None:
        """Drop the recorded tensors: they would keep the graph in memory and forbid copies of the model."""
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()

    def generator(self, device: torch.device, iteration: int, group: int = 0) -> torch.Generator:
        """Return the generator of a step on a group: a resumed training draws what an uninterrupted one would have drawn."""
        return torch.Generator(device=device).manual_seed((self._seed << 32) + (group << _ITERATION_BITS) + iteration)


@MODELS.register_module()
class Distiller(FrozenTeacher, SingleTeacherDistill):  # type: ignore[misc]
    """mmrazor's single-teacher distillation with a verified teacher that is in no checkpoint.

    Args:
        student: config of the student.
        teacher: config of the teacher, without initialisation.
        teacher_weights: file of the teacher's weights, with its ``teacher_sha256``.
        hook_points: input -> module path, valid in both models.
        head: head type of both.
        parts: fields of a :class:`ResolvedPart` per combined method; with ``teacher: untrained`` the teacher's weights are
            random.
        auxiliary_weights: file of the method's auxiliary module, with its ``auxiliary_sha256``, or None.
        seed: the cell's seed.

    Raises:
        ValueError: teacher's or auxiliary module's weights are missing, not the recorded ones, or do not fit; a method
            needs what this pair's models do not have.
    """

    def __init__(
        self,
        student: dict[str, Any],
        teacher: dict[str, Any],
        teacher_weights: str,
        teacher_sha256: str,
        hook_points: dict[str, str],
        head: str,
        parts: list[dict[str, Any]],
        auxiliary_weights: str | None,
        auxiliary_sha256: str | None,
        seed: int,
    ) -> None:
        combined = [ResolvedPart(**part) for part in parts]
        built_student = MODELS.build(student)
        with torch.random.fork_rng(devices=[]):
            teaches = all(part.teacher != "untrained" for part in combined)
            frozen = load_frozen(teacher, teacher_weights, teacher_sha256) if teaches else untrained(teacher, seed)
        distiller = {"type": "MethodDistiller", "parts": combined, "hook_points": hook_points, "seed": seed}
        with DefaultScope.overwrite_default_scope("mmrazor"):  # where its recorders are registered
            super().__init__(architecture=built_student, teacher=frozen, distiller=distiller)
        self._keep_outside(frozen)
        self._seed, self._head, self._hook_points = seed, head, hook_points
        self._inherits = list(dict.fromkeys(name for part in combined for name in part.inherits))
        try:
            self.distiller.build_method(self._probe())
            _check_inheritance(self.student, self.teacher, self._inherits)
            for model in (self.student, self.teacher):
                heads.check_position(model, head, self.distiller.method.tower_position)
        except ValueError as error:
            raise UnfitError(str(error)) from error
        if auxiliary_weights and auxiliary_sha256:
            self.distiller.method.load_prior(read_weights(auxiliary_weights, auxiliary_sha256))

    def init_weights(self) -> None:
        """Initialise the student alone, from the seed alone: every method starts from the same student."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self.student.init_weights()
        for name in self._inherits:
            self.student.get_submodule(name).load_state_dict(self.teacher.get_submodule(name).state_dict())

    def train(self, mode: bool = True) -> nn.Module:  # noqa: FBT001, FBT002 (torch's signature)
        """Switch student and method; the teacher is not in the module tree and stays in evaluation mode."""
        return nn.Module.train(self, mode)

    def loss(self, batch_inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Return the student's own losses and the method's; only the part of the teacher that the method needs is run."""
        losses, recorded = self.run_student(batch_inputs, data_samples)
        if self.distiller.needs:
            features = self.run_teacher(batch_inputs)
            losses.update(self.distil(batch_inputs, data_samples, recorded, features))
            self.distiller.clear()
        return losses

    def run_student(self, batch_inputs: Tensor, data_samples: list[Any]) -> tuple[dict[str, Tensor], heads.HeadRecorder]:
        """Return the student's own losses, and the recorder of its heads meanwhile."""
        distiller = self.distiller
        recorder = heads.HeadRecorder(self.student, self._head, distiller.needs, distiller.method.tower_position)
        with distiller.student_recorders, recorder:
            return dict(self.student(batch_inputs, data_samples, mode="loss")), recorder

    def run_teacher(self, batch_inputs: Tensor) -> Any:
        """Fill the teacher's recorders; return its neck's levels."""
        with torch.no_grad(), self.distiller.teacher_recorders:
            return self.distiller.run_maps(self.teacher, batch_inputs)

    def distil(
        self, batch_inputs: Tensor, data_samples: list[Any], recorded: heads.HeadRecorder, features: tuple[Tensor, ...]
    ) -> dict[str, Tensor]:
        """Return the method's losses on the recorded inputs of both, in full precision; ``features`` are the teacher's neck's."""
        distiller, device = self.distiller, batch_inputs.device
        needs, position = distiller.needs, distiller.method.tower_position
        hub = MessageHub.get_current_instance()
        iteration = int(hub.get_info("iter", 0))
        generator = distiller.generator(device, iteration, int(hub.get_info(GROUP, 0)))
        anchors = None
        if "anchors" in needs:
            sizes = [(level.shape[2], level.shape[3]) for level in features]
            anchors = heads.anchors(self.teacher.get_submodule(self._hook_points["anchors"]), sizes, device)
        objects = [sample.gt_instances for sample in data_samples if "gt_instances" in sample]  # none where pixels are labelled
        batch = Batch(
            iteration=iteration,
            boxes_xyxy=tuple(instances.bboxes for instances in objects),
            labels=tuple(instances.labels for instances in objects),
            image_hw=(batch_inputs.shape[2], batch_inputs.shape[3]),
            generator=generator,
            anchors_xyxy=anchors,
        )
        with torch.autocast(device.type, enabled=False):
            student = View(distiller.maps(of_student=True), *recorded.handles())
            handles = heads.teacher_handles(self.teacher, self._head, needs, position, features, data_samples, generator)
            return dict(distiller.method(student, View(distiller.maps(of_student=False), *handles), batch))

    def visualize(self, batch_inputs: Tensor) -> dict[str, Picture]:
        """Return the method's visualizations of preprocessed images, both models in evaluation; see :meth:`BaseMethod.pictures`."""
        student, teacher = (View(maps) for maps in self._both_maps(batch_inputs))
        with torch.no_grad():
            generator = self.distiller.generator(batch_inputs.device, 0)
            return dict(self.distiller.method.pictures(student, teacher, generator))

    def _both_maps(self, images: Tensor) -> tuple[dict[str, tuple[Tensor, ...]], dict[str, tuple[Tensor, ...]]]:
        """Return the recorded maps of student and teacher, in evaluation."""
        with _evaluating(self.student), torch.no_grad():
            with self.distiller.student_recorders:
                self.distiller.run_maps(self.student, images)
            with self.distiller.teacher_recorders:
                self.distiller.run_maps(self.teacher, images)
        found = self.distiller.maps(of_student=True), self.distiller.maps(of_student=False)
        self.distiller.clear()
        return found

    def _probe(self) -> Channels:
        """Return the channels of every input's levels, found by running both models on one blank image."""
        students, teachers = self._both_maps(torch.zeros(1, 3, PROBE_PX, PROBE_PX))
        for name, levels in students.items():
            if len(levels) != len(teachers[name]):
                raise ValueError(
                    f"input '{name}' has {len(levels)} levels in the student and {len(teachers[name])} in the teacher; "
                    "choose a pair with equal numbers"
                )
        return {
            name: tuple((s.shape[1], t.shape[1]) for s, t in zip(students[name], teachers[name], strict=True))
            for name in students
        }


def _check_inheritance(student: nn.Module, teacher: nn.Module, names: list[str]) -> None:
    """ValueError where a module that the student starts from is not of the teacher's shape."""
    for name in names:
        shapes = [
            {key: value.shape for key, value in model.get_submodule(name).state_dict().items()} for model in (student, teacher)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the method starts the student's {name} from the teacher's, and theirs differ in shape; "
                "choose a pair with equal ones, or empty 'inherits' in an override of the method's recipe"
            )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode for a while: statistics of batch norms are not touched."""
    model.eval()
    try:
        yield
    finally:
        model.train()
