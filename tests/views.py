"""Random views of a student and a teacher with every input that a method may need, and no framework."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.pair import TAPS
from methods.contract import Batch, DensePrediction, DenseTargets, Proposals, RoiPrediction, View

NUM_CLASSES = 3
NUM_BINS = 5  # of a box side's distribution
TOWER_CHANNELS = 6
MAP_ROLES = ("neck", "backbone", "decoded", "logits", "aux_logits", "box_maps", "points_init", "points_refine")
DENSE_ROLES = ("dense_head", "predictions", "box_distributions")


class FakeDenseHead:
    """A dense head whose rest is fixed linear maps; one anchor a position."""

    def __init__(self, case, generator, *, of_student):
        def rand(*shape):
            return torch.randn(*shape, generator=generator, dtype=case.dtype)

        sizes = case.sizes
        self.towers = tuple(
            tuple(rand(case.num_images, case.tower_channels, *size).requires_grad_(of_student) for size in sizes)
            for _ in range(2)
        )
        self._class_weight, self._side_weight, self._centre_weight = (
            rand(num, case.tower_channels) for num in (case.num_classes, 4 * NUM_BINS, 1)
        )
        self._num_locations = tuple(height * width for height, width in sizes)
        num = sum(self._num_locations)
        self._has_sides, self._has_centerness = case.head in (None, "gfl"), case.head in (None, "atss", "fcos")
        self.shows_prediction = True
        self._centres = torch.rand(num, 2, generator=generator, dtype=case.dtype) * max(case.image_hw)
        weight = (torch.rand(case.num_images, num, generator=generator) > 0.2).to(case.dtype)
        positive = (torch.rand(case.num_images, num, generator=generator) > 0.7) & (weight > 0) & case.with_objects
        centerness_sum = (0.4 * positive.sum()).clamp(min=1e-6).to(case.dtype) if case.head in (None, "fcos") else None
        self.targets = DenseTargets(weight, positive, positive.sum().clamp(min=1).to(case.dtype), centerness_sum)

    @property
    def prediction(self):
        """On its own towers."""
        assert self.shows_prediction, "predictions of its own that were not asked for"
        return self.finish(*self.towers)

    def finish(self, class_levels, box_levels):
        """ReLU, then a linear map; the box sides are the mean distance of their distribution, times 4 pixels."""

        def apply(weight, levels):
            flat = [torch.einsum("oc,nchw->nhwo", weight, level.relu()).flatten(1, 2) for level in levels]
            return torch.cat(flat, dim=1)

        sides = apply(self._side_weight, box_levels).unflatten(-1, (4, NUM_BINS))
        distances = 4 * (sides.softmax(-1) * torch.arange(NUM_BINS, dtype=sides.dtype)).sum(-1)
        boxes = torch.cat([self._centres - distances[..., :2], self._centres + distances[..., 2:]], dim=-1)
        return DensePrediction(
            apply(self._class_weight, class_levels),
            self._num_locations,
            lambda: boxes,
            (lambda: sides) if self._has_sides else None,
            (lambda: apply(self._centre_weight, box_levels).squeeze(-1)) if self._has_centerness else None,
        )


class FakeRoiHead:
    """A RoI head that is a linear map of the proposals' coordinates."""

    def __init__(self, case, generator, *, of_student):
        num_classes = self._num_classes = case.num_classes
        self.weight = torch.randn(5, 5 * num_classes + 1, generator=generator, dtype=case.dtype).requires_grad_(of_student)
        num = 7
        index = torch.randint(case.num_images, (num, 1), generator=generator).to(case.dtype)
        corners = torch.rand(num, 4, generator=generator, dtype=case.dtype)
        labels = torch.randint(num_classes + 1, (num,), generator=generator)
        self.proposals = Proposals(
            torch.cat([index, corners], 1), labels if case.with_objects else torch.full_like(labels, num_classes)
        )

    def predict(self, proposals):
        """Class logits first, box outputs after them."""
        out = proposals.rois_R5 @ self.weight
        return RoiPrediction(out[:, : self._num_classes + 1], out[:, self._num_classes + 1 :])


@dataclass
class Case:
    """A random batch and what both models showed on it.

    Args:
        sizes: (height, width) of every neck level.
        neck: channels of student and teacher.
        boxes: "some" (overlapping, one reaching outside the image, none in the last image of several),
            "none", or "outside" (wholly outside the image).
        head: a family of heads, whose inputs alone are there; None for all inputs.
    """

    seed: int = 0
    num_images: int = 2
    sizes: tuple[tuple[int, int], ...] = ((8, 6), (4, 3), (1, 1))
    neck: tuple[int, int] = (8, 8)
    boxes: str = "some"
    iteration: int = 10**6
    dtype: torch.dtype = torch.float64
    image_hw: tuple[int, int] = (64, 48)
    num_boxes: int = 4
    tower_channels: int = TOWER_CHANNELS
    num_classes: int = NUM_CLASSES
    finest_stride: int = 8
    roles: tuple[str, ...] = MAP_ROLES  # maps that are made
    head: str | None = None
    student: View = field(init=False)
    teacher: View = field(init=False)
    batch: Batch = field(init=False)

    @property
    def with_objects(self) -> bool:
        """Allows positive locations and proposals."""
        return self.boxes == "some"

    @property
    def channels(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Role -> per level (student channels, teacher channels)."""
        levels = len(self.sizes)
        return {
            "neck": (self.neck,) * levels,
            "backbone": tuple((4 * 2**level, 6 * 2**level) for level in range(levels)),
            "decoded": ((4, 6),),
            "logits": ((self.num_classes, self.num_classes),),
            "aux_logits": ((self.num_classes, self.num_classes),),
            "box_maps": ((4, 4),) * levels,
            "points_init": ((18, 18),) * levels,
            "points_refine": ((18, 18),) * levels,
        }

    def __post_init__(self):
        generator = torch.Generator().manual_seed(self.seed)

        def view(side):
            features = {
                role: tuple(
                    torch.randn(self.num_images, widths[side], *size, generator=generator, dtype=self.dtype).requires_grad_(
                        side == 0
                    )
                    for widths, size in zip(levels, self.sizes, strict=False)
                )
                for role, levels in self.channels.items()
                if role in self.roles
            }
            of_student = side == 0
            return View(
                features,
                FakeDenseHead(self, generator, of_student=of_student),
                FakeRoiHead(self, generator, of_student=of_student),
            )

        self.student, self.teacher = view(0), view(1)
        # Both heads predict at the same places.
        self.teacher.dense_head._centres = self.student.dense_head._centres
        self.batch = Batch(
            self.iteration,
            *self._objects(generator),
            self.image_hw,
            torch.Generator().manual_seed(self.seed + 1),
            self._anchors(),
        )
        if self.head is not None:
            self.keep(TAPS[self.head])

    def keep(self, roles) -> None:
        """Take away every input that is not among these."""
        for view in (self.student, self.teacher):
            for role in view.features.keys() - set(roles):
                del view.features[role]
            for handle, served in (("dense_head", DENSE_ROLES), ("roi_head", ("roi_head",))):
                if not set(served) & set(roles):
                    object.__setattr__(view, handle, None)
        if self.student.dense_head is not None:
            self.student.dense_head.shows_prediction = bool({"predictions", "box_distributions"} & set(roles))
        if "anchors" not in roles:
            object.__setattr__(self.batch, "anchors_xyxy", None)

    def _objects(self, generator):
        height, width = self.image_hw
        boxes, labels = [], []
        for image in range(self.num_images):
            num = 0 if self.boxes == "none" or (image and image == self.num_images - 1) else self.num_boxes
            corner = torch.rand(num, 2, generator=generator, dtype=self.dtype) * torch.tensor(
                [0.8 * width, 0.8 * height], dtype=self.dtype
            )
            extent = (torch.rand(num, 2, generator=generator, dtype=self.dtype) * 0.6 + 0.05) * torch.tensor(
                [width, height], dtype=self.dtype
            )
            box = torch.cat([corner, corner + extent], dim=1)
            boxes.append(box + 3 * max(self.image_hw) if self.boxes == "outside" else box)
            labels.append(torch.randint(self.num_classes, (num,), generator=generator))
        return tuple(boxes), tuple(labels)

    def _anchors(self):
        levels = []
        for level, (height, width) in enumerate(self.sizes):
            stride = self.finest_stride * 2**level
            y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
            centres = torch.stack([x, y], -1).to(self.dtype)[:, :, None]
            shapes = [[1.0, 1.0]] if self.head in ("gfl", "atss") else [[1.0, 1.0], [0.7, 1.4]]
            sides = torch.tensor(shapes, dtype=self.dtype) * 2 * stride
            levels.append(torch.cat([centres - sides / 2, centres + sides / 2], dim=-1))
        return tuple(levels)

    def student_leaves(self, roles) -> list[Tensor]:
        """The student's tensors behind the roles, for gradients."""
        leaves = []
        for role in roles:
            if role in DENSE_ROLES and self.student.dense_head is not None:
                leaves += [level for tower in self.student.dense_head.towers for level in tower]
            elif role == "roi_head" and self.student.roi_head is not None:
                leaves.append(self.student.roi_head.weight)
            elif role in self.student.features:
                leaves += self.student.features[role]
        return leaves


# Shapes, batch sizes, widths and objects that every method must get right.
CASES = {
    "plain": {},
    "one image, one level of one pixel": {"num_images": 1, "sizes": ((1, 1),), "seed": 1},
    "wider teacher": {"neck": (5, 8), "seed": 2},
    "no objects": {"boxes": "none", "seed": 3},
    "boxes outside the image": {"boxes": "outside", "seed": 4},
    "three images, five levels": {"num_images": 3, "sizes": ((9, 7), (5, 4), (3, 2), (2, 1), (1, 1)), "seed": 5},
}


def rand(*shape, seed=0):
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_exact(method, naive, case, *, rel=1e-9):
    """Losses and their gradients on the student equal the naive form's.

    Args:
        method: a built ``Method`` in float64.
        naive: function of (method, student, teacher, batch) that gives losses by the same names.
        case: a :class:`Case`; its generator is set back in between.
    """
    state = case.batch.generator.get_state()
    ours = method(case.student, case.teacher, case.batch)
    case.batch.generator.set_state(state)
    theirs = naive(method, case.student, case.teacher, case.batch)
    leaves = case.student_leaves([*MAP_ROLES, "dense_head", "roi_head"])

    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        expected = torch.as_tensor(theirs[key], dtype=case.dtype)
        assert value.ndim == 0
        assert abs(value.item() - expected.item()) <= rel * max(abs(expected.item()), 1e-12), key
        gradients = [
            torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
            if loss.requires_grad
            else [None] * len(leaves)
            for loss in (value, expected)
        ]
        for leaf, *pair in zip(leaves, *gradients, strict=True):
            mine, reference = (torch.zeros_like(leaf) if gradient is None else gradient for gradient in pair)
            scale = reference.abs().max().item()
            assert (mine - reference).abs().max().item() <= rel * max(scale, 1e-12), key
