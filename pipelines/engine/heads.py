"""MMDetection's heads as a method sees them; the differences between head types are here alone.

A student's handles give what its own losses computed, recorded while a :class:`HeadRecorder` is open; nothing stays
attached to it.  A teacher's run only what is read; it is frozen, so that its own outputs carry no graph.
Shapes: N images, C channels, H x W positions of a level, A anchors per position, P locations, K classes, D box outputs.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from methods.contract import DensePrediction, DenseTargets, Levels, Proposals, RoiPrediction
from pipelines.engine.roi_head import RoiHandle, draw


@dataclass(frozen=True)
class HeadType:
    """Differences of one type of dense heads from the others.

    Args:
        convs: names of the convolutions that give class scores, boxes and centerness (or None).
        decode: boxes of a head, its box outputs, priors and strides, a row per location.
        targets: assigned targets, of a head, the result of its ``get_targets``, the number of images, and what the head's own
            losses have averaged over GPUs, in their order.
        distributions: whether the box outputs are logits of distances.
    """

    convs: tuple[str, str, str | None]
    decode: Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    targets: Callable[[Any, Any, int, Sequence[Tensor]], DenseTargets]
    distributions: bool = False


def _decode_deltas(head: Any, deltas: Tensor, anchors: Tensor, _: Tensor) -> Tensor:
    return cast("Tensor", head.bbox_coder.decode(anchors, deltas))


def _decode_distributions(head: Any, logits: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    return cast("Tensor", head.bbox_coder.decode(head.anchor_center(anchors), head.integral(logits) * strides))


def _decode_distances(head: Any, distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    distances = distances.clamp(min=0) * strides if head.norm_on_bbox else distances.exp()
    return cast("Tensor", head.bbox_coder.decode(points, distances))


def _anchor_targets(head: Any, assigned: Any, _: int, reduced: Sequence[Tensor]) -> DenseTargets:
    *_, labels, weights, _, _, num_positives = assigned  # some heads give the anchors first
    labels_NP, weight_NP = torch.cat(labels, dim=1), torch.cat(weights, dim=1)
    positive_NP = (labels_NP >= 0) & (labels_NP < head.num_classes)
    # MMDetection's GFL and ATSS average it over GPUs, its RetinaNet does not; nor do the authors of CrossKD.
    divisor = reduced[0].to(weight_NP) if reduced else weight_NP.new_full((), float(num_positives))
    return DenseTargets(weight_NP, positive_NP, divisor)


def _point_targets(head: Any, assigned: Any, num_images: int, reduced: Sequence[Tensor]) -> DenseTargets:
    labels_NP = torch.cat([level.view(num_images, -1) for level in assigned[0]], dim=1)  # images one after the other
    positive_NP = (labels_NP >= 0) & (labels_NP < head.num_classes)
    num_positives, centerness_sum = reduced
    return DenseTargets(
        torch.ones_like(labels_NP, dtype=centerness_sum.dtype),
        positive_NP,
        num_positives.clamp(min=1),
        centerness_sum.clamp(min=1e-6),
    )


DENSE = {
    "gfl": HeadType(("gfl_cls", "gfl_reg", None), _decode_distributions, _anchor_targets, distributions=True),
    "retinanet": HeadType(("retina_cls", "retina_reg", None), _decode_deltas, _anchor_targets),
    "atss": HeadType(("atss_cls", "atss_reg", "atss_centerness"), _decode_deltas, _anchor_targets),
    "fcos": HeadType(("conv_cls", "conv_reg", "conv_centerness"), _decode_distances, _point_targets),
}


class DenseHandle:
    """The contract's ``DenseHead`` on a head.

    Args:
        head: MMDetection's.
        head_type: a key of :data:`DENSE`.
        position: tower convolution whose outputs ``towers`` are.
        towers: class tower's and box tower's kept features; none where a method has no use for them.
        assigned: of a student, the result of ``get_targets``.
        reduced: of a student, what its losses have averaged over GPUs.
        outputs: of a student, its prediction convolutions' outputs, a map per level: classes, boxes and (where the head
            has that branch) centerness; None where they were not recorded.
    """

    def __init__(
        self, head: Any, head_type: str, position: int, towers: tuple[Levels, Levels], assigned: Any = None,
        outputs: Sequence[Levels] | None = None, reduced: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        self._head, self._type, self._position, self.towers, self._assigned = head, DENSE[head_type], position, towers, assigned
        self._outputs, self._reduced = outputs, reduced
        self._levels = (outputs or towers)[0]

    @cached_property
    def targets(self) -> DenseTargets:
        """The targets that the student's own losses assigned."""
        return self._type.targets(self._head, self._assigned, len(self._levels[0]), self._reduced)

    @cached_property
    def prediction(self) -> DensePrediction:
        """The head's outputs on its own features: those recorded of a student, else computed from the towers on."""
        if self._outputs is None:
            return self.finish(*self.towers)
        classes, boxes, *centerness = self._outputs
        return self._prediction(classes, boxes, (lambda: centerness[0]) if centerness else None)

    def finish(self, class_levels: Levels, box_levels: Levels) -> DensePrediction:
        """Return the head's outputs on given features, from the activation behind the kept ones on."""
        head, (class_conv, box_conv, centerness_conv) = self._head, self._type.convs
        class_features, box_features = self._finish(head.cls_convs, class_levels), self._finish(head.reg_convs, box_levels)
        centerness_features = box_features if getattr(head, "centerness_on_reg", True) else class_features
        return self._prediction(
            tuple(map(getattr(head, class_conv), class_features)),
            tuple(map(getattr(head, box_conv), box_features)),
            (lambda: tuple(map(getattr(head, str(centerness_conv)), centerness_features))) if centerness_conv else None,
        )

    def _prediction(self, class_maps: Levels, box_maps: Levels, centerness_maps: Callable[[], Levels] | None) -> DensePrediction:
        head = self._head
        if scales := getattr(head, "scales", None):
            box_maps = tuple(scale(level_NCHW) for scale, level_NCHW in zip(scales, box_maps, strict=True))
        outputs_NPD = self._rows(box_maps)

        def boxes() -> Tensor:
            places = (place.repeat(len(outputs_NPD), 1) for place in self._places)
            decoded: Tensor = self._type.decode(head, outputs_NPD.flatten(0, 1), *places)
            return decoded.view(*outputs_NPD.shape[:2], 4)

        return DensePrediction(
            self._rows(class_maps),
            tuple(level_NCHW[0, 0].numel() * head.num_base_priors for level_NCHW in class_maps),
            boxes,
            (lambda: outputs_NPD.unflatten(-1, (4, -1))) if self._type.distributions else None,  # type: ignore[no-untyped-call]
            (lambda: self._rows(centerness_maps()).squeeze(-1)) if centerness_maps else None,
        )

    def _finish(self, convs: nn.ModuleList, levels: Levels) -> Levels:
        if self._position:
            levels = tuple(level.relu() for level in levels)
        for conv in convs[self._position :]:
            levels = tuple(map(conv, levels))
        return levels

    def _rows(self, maps: Levels) -> Tensor:
        """Return a convolution's outputs (N, P, D), a row per location."""
        width = maps[0].shape[1] // self._head.num_base_priors
        rows = [level_NCHW.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, width)) for level_NCHW in maps]  # type: ignore[no-untyped-call]
        return torch.cat(rows, dim=1)

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        """Priors (P, 4 or 2) in pixels, and the strides (P, 1) of their levels."""
        generator, levels = self._head.prior_generator, self._levels
        priors = generator.grid_priors([level.shape[2:] for level in levels], device=levels[0].device)
        strides = [prior.new_full((len(prior), 1), stride[0]) for prior, stride in zip(priors, generator.strides, strict=True)]
        return torch.cat(priors), torch.cat(strides)


def _wide(levels: Sequence[Tensor]) -> Levels:
    """Half precision widened to float32."""
    return tuple(level.float() if level.dtype in (torch.float16, torch.bfloat16) else level for level in levels)


# Inputs that a dense head's handle serves; the last two of them with the student's own predictions.
_DENSE_INPUTS = {"dense_head", "predictions", "box_distributions"}


class HeadRecorder:
    """Recorder of a student's heads while it is open, as far as the inputs need it; then it gives their handles."""

    def __init__(self, student: Any, head_type: str, inputs: Sequence[str], position: int | None) -> None:
        self._student, self._type, self._position = student, head_type, position or 0
        self._methods: dict[str, tuple[Any, str]] = {}
        if _DENSE_INPUTS & set(inputs):
            head = student.bbox_head
            self._methods["targets"] = (head, "get_targets")
            module = sys.modules[type(head).__module__]
            if hasattr(module, "reduce_mean"):
                self._methods["reduced"] = (module, "reduce_mean")
            if "dense_head" in inputs:
                owners = [convs[position - 1].activate for convs in (head.cls_convs, head.reg_convs)] if position else [head]
                self._methods |= {f"tower {number}": (owner, "forward") for number, owner in enumerate(owners)}
            if _DENSE_INPUTS & set(inputs) - {"dense_head"}:
                convs = filter(None, DENSE[head_type].convs)
                self._methods |= {f"output {name}": (getattr(head, name), "forward") for name in convs}
        if "roi_head" in inputs:
            self._methods |= {"rois": (student.roi_head, "_bbox_forward"), "labels": (student.roi_head.bbox_head, "get_targets")}
        self._before: dict[str, Any] = {}
        self._calls: dict[str, list[tuple[Any, Any]]] = {name: [] for name in self._methods}

    def _record(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._calls[name].append((args, method(*args, **kwargs)))
        return self._calls[name][-1][1]

    def __enter__(self) -> "HeadRecorder":  # noqa: PYI034 (Self is not in Python 3.10)
        for name, (owner, attribute) in self._methods.items():
            # A ReLU that works in place would change what is kept of a tower.
            method = torch.relu if self._position and name.startswith("tower") else getattr(owner, attribute)
            self._before[name] = vars(owner).get(attribute)
            setattr(owner, attribute, partial(self._record, name, method))
        return self

    def __exit__(self, *_: object) -> None:
        for name, (owner, attribute) in self._methods.items():
            if self._before[name] is None:  # a method of its class
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, self._before[name])

    def handles(self) -> tuple[DenseHandle | None, RoiHandle | None]:
        """Return the student's dense head and RoI head, None where no input needs it; once its losses are computed."""
        calls, dense, roi = self._calls, None, None
        if "targets" in calls:
            kept = [[args[0] for args, _ in calls[name]] for name in calls if name.startswith("tower")]
            # At 0 the head saw all levels in one call.
            class_tower, box_tower = kept if self._position else kept[0] * 2 if kept else ((), ())
            outputs = [_wide([output for _, output in calls[name]]) for name in calls if name.startswith("output")] or None
            assigned, reduced = calls["targets"][0][1], [result for _, result in calls.get("reduced", ())]
            dense = DenseHandle(
                self._student.bbox_head,
                self._type,
                self._position,
                (_wide(class_tower), _wide(box_tower)),
                assigned,
                outputs,
                reduced,
            )
        if "rois" in calls:
            (((levels, rois_R5), said),), ((_, assigned),) = calls["rois"], calls["labels"]
            proposals, own = Proposals(rois_R5, assigned[0]), RoiPrediction(*_wide((said["cls_score"], said["bbox_pred"])))
            roi = RoiHandle(self._student.roi_head, _wide(levels), lambda: proposals, own)
        return dense, roi


def teacher_handles(
    teacher: Any, head_type: str, inputs: Sequence[str], position: int | None,
    features: Sequence[Tensor], samples: list[Any], generator: torch.Generator,
) -> tuple[DenseHandle | None, RoiHandle | None]:  # fmt: skip
    """Return handles on a frozen teacher's heads, from its neck's output, the batch's data samples and generator."""
    dense, roi, number = None, None, position or 0
    if _DENSE_INPUTS & set(inputs):
        head = teacher.bbox_head
        class_tower, box_tower = (_kept(convs, number, _wide(features)) for convs in (head.cls_convs, head.reg_convs))
        dense = DenseHandle(head, head_type, number, (class_tower, box_tower))
    if "roi_head" in inputs:
        levels = _wide(features)
        roi = RoiHandle(teacher.roi_head, levels, partial(draw, teacher, levels, samples, generator))
    return dense, roi


def _kept(convs: nn.ModuleList, position: int, levels: Levels) -> Levels:
    for number, conv in enumerate(convs[:position], start=1):
        levels = tuple(conv(level, activate=number < position) for level in levels)
    return levels


def check_position(model: Any, head_type: str, position: int | None) -> None:
    """ValueError where a head's towers have no convolution of that number."""
    count = 0 if position is None else min(len(model.bbox_head.cls_convs), len(model.bbox_head.reg_convs))
    if not 0 <= (position or 0) <= count:
        raise ValueError(f"no position {position} in a {head_type} head with {count} convolutions a tower; choose 0 to {count}")


def anchors(head: Any, sizes: Sequence[tuple[int, int]], device: torch.device) -> Levels:
    """Return a head's anchors (H, W, A, 4) on levels of the given heights and widths."""
    priors = head.prior_generator.grid_priors(sizes, device=device)
    return tuple(prior.view(*size, -1, 4) for prior, size in zip(priors, sizes, strict=True))
