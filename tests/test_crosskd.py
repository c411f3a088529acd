"""CrossKD against loops in the order of its authors' code, and from images to losses on MMDetection's own modules.

The authors keep a convolution's output and then rectify it in place, so that what is standardised is rectified: the
independent form below runs the towers in that way, on modules whose activation works in place.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from methods.contract import Batch, DensePrediction, DenseTargets, View
from methods.crosskd import BOX_ERRORS, Method, cross, giou_error, iou_error, quality_error
from pipelines.engine import heads
from pipelines.recipes import load_parts
from tests.test_heads import BOX_CONV, CLASS_CONV, FAMILIES, NUM_CLASSES, POSITIONS, batch, detector, frozen, generator
from tests.views import CASES, Case, assert_exact

PUBLISHED = {family: load_parts("crosskd")[0].resolve("any", family, "paper")[0].hparams for family in FAMILIES}
UNRECTIFIED = load_parts("crosskd_unrectified")[0]
VARIANTS = PUBLISHED | {
    "unrectified": PUBLISHED["gfl"] | {"rectified": False},
    "kl over positives": PUBLISHED["gfl"] | {"box_normaliser": "same"},
    "giou over scores": PUBLISHED["atss"] | {"box_normaliser": "scores", "class_weight": 0.3},
}


def build(hparams):
    """The method in double precision."""
    return Method({}, **hparams).double()


def naive_align(student, teacher):
    """Channel by channel: all values of the batch to mean 0 and deviation 1, then to the teacher's."""
    channels = []
    for channel in range(student.shape[1]):
        ours, theirs = student[:, channel], teacher[:, channel]
        single = ours.numel() == 1
        deviation, other = (torch.zeros_like(ours.mean()) if single else value.std() for value in (ours, theirs))
        channels.append((ours - ours.mean()) / (deviation + 1e-6) * other + theirs.mean())
    return torch.stack(channels, dim=1)


def naive_box_error(kind, ours, theirs, index):
    """Box error of one image's locations."""
    if kind == "kl":
        bins = ours.side_logits_NP4B.shape[-1]
        student, teacher = (found.side_logits_NP4B[index].reshape(-1, bins) for found in (ours, theirs))
        log_p, log_t = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
        return (log_t.exp() * (log_t - log_p)).sum(dim=1).reshape(-1, 4).sum(dim=1) / 4
    x1, y1, x2, y2 = ours.boxes_xyxy_NP4[index].unbind(-1)
    u1, v1, u2, v2 = theirs.boxes_xyxy_NP4[index].unbind(-1)
    shared = (torch.min(x2, u2) - torch.max(x1, u1)).clamp(min=0) * (torch.min(y2, v2) - torch.max(y1, v1)).clamp(min=0)
    union = ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared).clamp(min=1e-6)
    if kind == "iou":
        return -torch.log((shared / union).clamp(min=1e-6))
    hull = ((torch.max(x2, u2) - torch.min(x1, u1)) * (torch.max(y2, v2) - torch.min(y1, v1))).clamp(min=1e-6)
    return 1 - (shared / union - (hull - union) / hull)


def naive(method, student, teacher, batch):
    """Features aligned level by level; losses image by image, everything in full."""
    learner, model = student.dense_head, teacher.dense_head
    least = 0.0 if method.rectified else -math.inf
    class_levels, box_levels = (
        tuple(naive_align(s.clamp(min=least), t.clamp(min=least)) for s, t in zip(*towers, strict=True))
        for towers in zip(learner.towers, model.towers, strict=True)
    )
    ours, theirs, targets = model.finish(class_levels, box_levels), model.prediction, learner.targets
    divisor = {"positives": targets.num_positives, "centerness": targets.centerness_sum}[method.normaliser]
    class_loss = box_loss = centerness_loss = weights = 0.0
    for image in range(len(targets.weight_NP)):
        logits, wanted = ours.class_logits_NPK[image], theirs.class_logits_NPK[image].detach().sigmoid()
        label_weight = targets.weight_NP[image][:, None].repeat(1, logits.shape[1])
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        class_loss = class_loss + (entropy * torch.abs(logits.sigmoid() - wanted).pow(1) * label_weight).sum()
        weight = wanted.max(dim=1)[0].clone()
        weight[targets.weight_NP[image] == 0] = 0
        box_loss = box_loss + (naive_box_error(method.box_loss, ours, theirs, image) * weight).sum()
        weights = weights + weight.sum()
        if method.centerness_weight > 0:
            chosen = targets.positive_NP[image].nonzero().squeeze(1)
            centerness_loss = centerness_loss + F.binary_cross_entropy_with_logits(
                ours.centerness_NP[image][chosen], theirs.centerness_NP[image][chosen].detach().sigmoid(), reduction="sum"
            )
    box_divisor = weights if method.box_normaliser == "scores" else divisor
    box_loss = box_loss / box_divisor if box_divisor > 0 else box_loss
    losses = {"loss_crosskd_cls": method.class_weight * class_loss / divisor, "loss_crosskd_box": method.box_weight * box_loss}
    if method.centerness_weight > 0:
        losses["loss_crosskd_centerness"] = method.centerness_weight * centerness_loss / divisor
    return losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_naive_form(case, variant):
    """Every case, with each family's published values and two mixtures of them."""
    assert_exact(build(VARIANTS[variant]), naive, Case(**CASES[case]))


def test_nothing_counts_where_all_locations_are_ignored():
    """Weights of 0 everywhere: losses of 0 and no NaN, with either divisor of the box term."""
    for hparams in (PUBLISHED["gfl"], PUBLISHED["retinanet"]):
        case = Case()
        targets = case.student.dense_head.targets
        case.student.dense_head.targets = DenseTargets(
            torch.zeros_like(targets.weight_NP), targets.positive_NP, targets.num_positives, targets.centerness_sum
        )
        losses = build(hparams)(case.student, case.teacher, case.batch)

        assert [value.item() for value in losses.values()] == [0.0, 0.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_like_the_teacher_costs_only_what_the_entropy_keeps(family):
    """Equal features: scores agree, so that class and box terms vanish; the centerness entropy stays."""
    case = Case(sizes=((8, 6), (4, 3)))
    case.student.dense_head.towers = case.teacher.dense_head.towers
    losses = build(PUBLISHED[family])(case.student, case.teacher, case.batch)

    # Standardising adds 1e-6 to a deviation of about 1.
    assert losses["loss_crosskd_cls"].item() == pytest.approx(0, abs=1e-4)
    assert losses["loss_crosskd_box"].item() == pytest.approx(0, abs=1e-4)
    if family == "atss":
        positive = case.student.dense_head.targets.positive_NP
        share = case.teacher.dense_head.prediction.centerness_NP[positive].sigmoid()
        entropy = -(share * share.log() + (1 - share) * (1 - share).log()).sum() / positive.sum()
        assert losses["loss_crosskd_centerness"].item() == pytest.approx(entropy.item(), rel=1e-4)


@pytest.mark.parametrize("rectified", [True, False])
def test_scale_of_the_students_features_does_not_matter_nor_shift_before_the_activation(rectified):
    """Standardising takes both away, channel by channel; behind a ReLU a shift is another feature."""
    first, second = Case(sizes=((8, 6), (4, 3))), Case(sizes=((8, 6), (4, 3)))
    shift = 0 if rectified else 1
    second.student.dense_head.towers = tuple(
        tuple(3 * level + shift * torch.arange(level.shape[1], dtype=level.dtype)[:, None, None] for level in tower)
        for tower in second.student.dense_head.towers
    )
    method = build(PUBLISHED["gfl"] | {"rectified": rectified})
    losses, others = (method(case.student, case.teacher, case.batch) for case in (first, second))

    assert all(others[key].item() == pytest.approx(losses[key].item(), rel=1e-4) for key in losses)


class Stub:
    """A head whose rest passes features through: class logits from one tower, box corners from the other."""

    def __init__(self, logits, boxes, targets=None):
        self.towers, self.targets = ((logits,), (boxes,)), targets
        self.prediction = self.finish((logits,), (boxes,))

    def finish(self, class_levels, box_levels):
        """Channels are classes and corners."""
        logits, boxes = (levels[0].flatten(2).transpose(1, 2) for levels in (class_levels, box_levels))
        return DensePrediction(logits, (logits.shape[1],), lambda: boxes)


def test_two_locations_by_hand():
    """One class, two locations, the second ignored; of two values a ReLU leaves the greater one greater.

    Teacher logits 0 and log 3, student the other way round: aligned it is log 3 where the teacher says 1/2.
    Class: (log(1 + 3) - log(3) / 2) * (3/4 - 1/2) over two positives.  Box: weight 1/2, boxes (0, 0, 2, 2) and
    (1, 1, 3, 3): overlap 1/7, hull 9, 2 of it empty: 1 - 1/7 + 2/9.
    """
    log3 = math.log(3.0)
    teacher = Stub(
        torch.tensor([0.0, log3], dtype=torch.float64).view(1, 1, 1, 2),
        torch.tensor([[0.0, 1.0], [0.0, 1.0], [2.0, 3.0], [2.0, 3.0]], dtype=torch.float64).view(1, 4, 1, 2),
    )
    student = Stub(
        torch.tensor([5.0, -5.0], dtype=torch.float64).view(1, 1, 1, 2),
        torch.tensor([[7.0, 1.0]] * 4, dtype=torch.float64).view(1, 4, 1, 2),
        DenseTargets(torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]]), torch.tensor(2.0)),
    )
    method = build(PUBLISHED["retinanet"])
    losses = method(View({}, student), View({}, teacher), Batch(0, (), (), (8, 8), generator()))

    assert losses["loss_crosskd_cls"].item() == pytest.approx((math.log(4) - log3 / 2) * 0.25 / 2, rel=1e-5)
    assert losses["loss_crosskd_box"].item() == pytest.approx(0.5 * (1 - 1 / 7 + 2 / 9) / 2, rel=1e-5)


def test_box_errors_by_hand():
    """Disjoint boxes: overlap counts as 1e-6; of a hull of 3 square pixels 1 is empty. No area at all: no NaN."""
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 5.0, 5.0]]], dtype=torch.float64)
    others = torch.tensor([[[2.0, 0.0, 3.0, 1.0], [5.0, 5.0, 5.0, 5.0]]], dtype=torch.float64)
    ours, theirs = (DensePrediction(torch.zeros(1, 2, 1), (2,), lambda found=found: found) for found in (boxes, others))

    assert iou_error(ours, theirs)[0, 0].item() == pytest.approx(-math.log(1e-6))
    assert giou_error(ours, theirs)[0, 0].item() == pytest.approx(1 + 1 / 3)
    assert iou_error(ours, theirs).isfinite().all()
    assert giou_error(ours, theirs)[0, 1].item() == 1.0


@pytest.mark.parametrize("kind", ["giou", "iou"])
def test_box_errors_equal_mmdetections(kind):
    """Values and gradients of its GIoULoss and IoULoss (logarithmic), of overlapping, distant and flat boxes."""
    from mmdet.models.losses import GIoULoss, IoULoss  # noqa: PLC0415

    draws = torch.rand(2, 1, 200, 4, generator=generator(), dtype=torch.float64)
    corner, extent = 20 * draws[..., :2], 10 * draws[..., 2:]
    extent[0, 0, :10] = 0
    boxes = torch.cat([corner, corner + extent], dim=-1)
    first, second = boxes[0].clone().requires_grad_(), boxes[0].clone().requires_grad_()
    loss = {"giou": GIoULoss, "iou": IoULoss}[kind](reduction="none")
    expected = loss(second[0], boxes[1, 0])
    made = (DensePrediction(torch.zeros(()), (200,), lambda given=given: given) for given in (first, boxes[1]))
    found = BOX_ERRORS[kind](*made)[0]
    found.sum().backward()
    expected.sum().backward()

    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert torch.allclose(first.grad, second.grad, rtol=1e-9, atol=1e-12)


def test_quality_error_by_hand():
    """Logit 0 against scores 1 and 1/2: log 2 times 1/2, and nothing."""
    assert quality_error(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.5]]])).item() == pytest.approx(math.log(2) / 2)


def test_unequal_towers_are_refused():
    """One line that names both shapes."""
    with pytest.raises(ValueError, match=r"student.*\(1, 2, 3, 3\).*teacher.*\(1, 4, 3, 3\)"):
        cross(torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3, 3))


@pytest.mark.parametrize("wrong", [{"box_loss": "l1"}, {"normaliser": "images"}, {"box_normaliser": "none"}])
def test_unknown_choices_are_refused(wrong):
    """Before any training starts."""
    with pytest.raises(ValueError, match=r"crosskd: no .*choose one of"):
        Method({}, **(PUBLISHED["retinanet"] | wrong))


def mmdet_towers(head, features, position, *, in_place=True):
    """Both towers' kept features of each level: whole towers in the order of the source (crosskd_retinanet.py, 52-65).

    A convolution without its activation, whose result is kept by name at ``position``, and then the activation; with
    MMDetection's own, which works in place, what is kept changes with it.
    """
    kept = []
    for convs in (head.cls_convs, head.reg_convs):
        levels = []
        for feature in features:
            level = hold = feature
            for number, conv in enumerate(convs, start=1):
                assert conv.activate.inplace
                level = conv(level, activate=False)
                if number == position:
                    hold = level
                level = conv.activate(level) if in_place else F.relu(level)
            levels.append(hold)
        kept.append(levels)
    return kept


def mmdet_outputs(family, head, position, class_kept, box_kept, index):
    """The rest of a head on one level: class logits, box outputs and centerness (or None)."""
    ours, box = (F.relu(class_kept), F.relu(box_kept)) if position else (class_kept, box_kept)
    for number in range(position, 4):
        ours = F.relu(head.cls_convs[number](ours, activate=False))
        box = F.relu(head.reg_convs[number](box, activate=False))
    logits, outputs = getattr(head, CLASS_CONV[family])(ours), getattr(head, BOX_CONV[family])(box)
    if family != "retinanet":
        outputs = outputs * head.scales[index].scale
    centerness = None
    if family == "atss":
        centerness = head.atss_centerness(box)
    return logits, outputs, centerness


def mmdet_boxes(family, head, outputs, index, sizes):
    """Decoded boxes (N, locations, 4) of one level, image by image."""
    priors = head.prior_generator.grid_priors(sizes, device="cpu")[index].double()
    stride, boxes = head.prior_generator.strides[index][0], []
    for image in outputs.permute(0, 2, 3, 1):
        if family == "gfl":
            centres = (priors[:, :2] + priors[:, 2:]) / 2
            distances = head.integral(image.reshape(-1, 68))
            # In units of the stride, as the authors decode it; then to pixels.
            boxes.append(head.bbox_coder.decode(centres / stride, distances) * stride)
        elif family == "fcos":
            boxes.append(head.bbox_coder.decode(priors, image.reshape(-1, 4).exp()))
        else:
            boxes.append(head.bbox_coder.decode(priors, image.reshape(-1, 4)))
    return torch.stack(boxes)


def losses_by_hand(family, hparams, student, teacher, images, samples):
    """The losses written on MMDetection's modules alone: own towers, own loops over levels, its own losses and coders."""
    from mmdet.models.losses import GIoULoss, IoULoss  # noqa: PLC0415

    position, theirs, mine = hparams["position"], teacher.bbox_head, student.bbox_head
    student_features, teacher_features = student.extract_feat(images), teacher.extract_feat(images)
    student_kept, teacher_kept = (
        mmdet_towers(model.bbox_head, features, position, in_place=hparams["rectified"])
        for model, features in ((student, student_features), (teacher, teacher_features))
    )
    sizes = [tuple(feature.shape[2:]) for feature in student_features]
    truths, metas = [sample.gt_instances for sample in samples], [sample.metainfo for sample in samples]
    if family == "fcos":
        labels, distances = mine.get_targets(mine.prior_generator.grid_priors(sizes, device="cpu"), truths)
        weights = [torch.ones(len(level), dtype=torch.float64) for level in labels]
        positive = torch.cat(labels) < NUM_CLASSES
        divisor = mine.centerness_target(torch.cat(distances)[positive]).sum().clamp(min=1e-6)
    else:
        *_, labels, weights, _, _, divisor = mine.get_targets(*mine.get_anchors(sizes, metas, device="cpu"), truths, metas)
        labels, weights = [level.reshape(-1) for level in labels], [level.reshape(-1).double() for level in weights]
    total = {"cls": 0.0, "box": 0.0, "centerness": 0.0, "weights": 0.0}
    for index in range(len(sizes)):
        crossed = []
        for tower in range(2):
            own, other = student_kept[tower][index], teacher_kept[tower][index]
            channels = own.shape[1]
            own, other = (found.permute(1, 0, 2, 3).reshape(channels, -1) for found in (own, other))
            own = (own - own.mean(1, keepdim=True)) / (own.std(1, keepdim=True) + 1e-6)
            own = own * other.std(1, keepdim=True) + other.mean(1, keepdim=True)
            crossed.append(own.reshape(channels, len(images), *sizes[index]).permute(1, 0, 2, 3))
        ours = mmdet_outputs(family, theirs, position, *crossed, index)
        wanted = mmdet_outputs(family, theirs, position, teacher_kept[0][index], teacher_kept[1][index], index)
        logits, scores = (found[0].permute(0, 2, 3, 1).reshape(-1, NUM_CLASSES) for found in (ours, wanted))
        scores = scores.sigmoid()
        for location in range(len(logits)):
            for label in range(NUM_CLASSES):
                p, t = logits[location, label].sigmoid(), scores[location, label]
                entropy = -(t * p.log() + (1 - t) * (1 - p).log())
                total["cls"] = total["cls"] + entropy * (p - t).abs() * weights[index][location]
        weight = scores.max(dim=1)[0] * (weights[index] > 0)
        total["weights"] = total["weights"] + weight.sum()
        if hparams["box_loss"] == "kl":
            bins = (found[1].permute(0, 2, 3, 1).reshape(-1, 17).softmax(1) for found in (ours, wanted))
            p, t = bins
            total["box"] = total["box"] + ((t * (t / p).log()).sum(1) * weight[:, None].expand(-1, 4).reshape(-1)).sum() / 4
        else:
            loss = {"giou": GIoULoss, "iou": IoULoss}[hparams["box_loss"]](reduction="sum")
            boxes = [mmdet_boxes(family, theirs, found[1], index, sizes).reshape(-1, 4) for found in (ours, wanted)]
            total["box"] = total["box"] + loss(*boxes, weight=weight)
        if hparams["centerness_weight"]:
            chosen = labels[index] < NUM_CLASSES
            said, told = (found[2].permute(0, 2, 3, 1).reshape(-1)[chosen] for found in (ours, wanted))
            total["centerness"] = total["centerness"] + F.binary_cross_entropy_with_logits(said, told.sigmoid(), reduction="sum")
    box_divisor = total["weights"] if hparams["box_normaliser"] == "scores" else divisor
    found = {
        "loss_crosskd_cls": hparams["class_weight"] * total["cls"] / divisor,
        "loss_crosskd_box": hparams["box_weight"] * total["box"] / box_divisor,
    }
    if hparams["centerness_weight"]:
        found["loss_crosskd_centerness"] = hparams["centerness_weight"] * total["centerness"] / divisor
    return found


def losses_by_method(family, hparams, student, teacher, images, samples):
    """The losses as a cell computes them."""
    roles, position = ("dense_head",), hparams["position"]
    with heads.HeadRecorder(student, family, roles, position) as tap:
        student(images, samples, mode="loss")
    with torch.no_grad():
        features = teacher.extract_feat(images)
    learner, _ = tap.handles()
    model, _ = heads.teacher_handles(teacher, family, roles, position, features, samples, generator())
    return build(hparams)(View({}, learner), View({}, model), Batch(0, (), (), (64, 96), generator()))


@pytest.fixture
def double_samples():
    """The batch in double precision."""
    return batch(dtype=torch.float64)


END_TO_END = [(family, position, {}) for family in FAMILIES for position in POSITIONS] + [
    ("gfl", 3, {"box_loss": "giou", "box_normaliser": "same"}),
    *((family, PUBLISHED[family]["position"], {"rectified": False}) for family in FAMILIES),
]


@pytest.mark.parametrize(
    ("family", "position", "changed"),
    [pytest.param(*one, marks=pytest.mark.slow if one[0] == "retinanet" and one[1] else ()) for one in END_TO_END],
)
def test_losses_from_images_equal_those_written_on_mmdetections_modules(family, position, changed, double_samples):
    """Whole detectors in double precision, published values at every position: losses, and gradients on the student."""
    student, teacher = detector(family, seed=2).double().train(), frozen(detector(family, seed=1).double())
    hparams = PUBLISHED[family] | {"position": position} | changed
    found = losses_by_method(family, hparams, student, teacher, *double_samples)
    expected = losses_by_hand(family, hparams, student, teacher, *double_samples)

    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].item() == pytest.approx(value.item(), rel=1e-9), key
        assert value.item() > 0
    parameters = [p for p in student.parameters() if p.requires_grad]
    ours, theirs = (torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True) for losses in (found, expected))
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or (mine - other).abs().max() <= 1e-8 * max(other.abs().max().item(), 1e-3)
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_differs_by_rounding_alone(family):
    """The published values from images on, in the precision that cells run in."""
    student, teacher = detector(family, seed=2).train(), frozen(detector(family, seed=1))
    found = losses_by_method(family, PUBLISHED[family], student, teacher, *batch())
    expected = losses_by_hand(family, PUBLISHED[family], student, teacher, *batch())

    assert all(found[key].item() == pytest.approx(value.item(), rel=1e-6) for key, value in expected.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recipe_is_the_official_form_and_the_variant_another(family, double_samples):
    """Rectified in the recipe of every head; the variant differs in nothing else, and on a detector in every loss."""
    student, teacher = detector(family, seed=2).double().train(), frozen(detector(family, seed=1).double())
    other = UNRECTIFIED.resolve("any", family, "paper")[0].hparams
    found, different = (
        losses_by_method(family, hparams, student, teacher, *double_samples) for hparams in (PUBLISHED[family], other)
    )

    assert PUBLISHED[family] == other | {"rectified": True} != other
    assert all(abs(different[key] - value).item() > 5e-4 * value.item() for key, value in found.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_without_objects_whole_detectors_give_finite_losses(family):
    """Both images empty: finite losses and gradients."""
    student, teacher = detector(family, seed=2).train(), frozen(detector(family, seed=1))
    losses = losses_by_method(family, PUBLISHED[family], student, teacher, *batch(objects=False))
    sum(losses.values()).backward()

    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("family", "module", "runs"),
    [("fcos", "conv_centerness", False), ("atss", "atss_centerness", True), ("gfl", "integral", False)],
)
def test_of_the_teachers_head_only_what_a_term_looks_at_is_run(family, module, runs):
    """FCOS has no centerness term, ATSS has; GFL compares distributions and decodes no box."""
    student, teacher, calls = detector(family, seed=2).train(), frozen(detector(family, seed=1)), []
    getattr(teacher.bbox_head, module).register_forward_hook(lambda *_: calls.append(module))
    losses_by_method(family, PUBLISHED[family], student, teacher, *batch())

    assert bool(calls) == runs
