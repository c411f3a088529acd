"""DeFeat against the loops of its authors' code, and what its masks and labels must be."""

import math

import pytest
import torch
from torch.nn import functional as F

from methods.boxes import adaptation, box_mask, level_masks, level_of, masked_error, pad_boxes, stride_of
from methods.contract import Batch, Proposals, RoiPrediction, View
from methods.defeat import Method, proposal_kl
from tests.views import CASES, Case, assert_exact

NECK = {
    "foreground_weight": 3.0,
    "background_weight": 12.0,
    "finest_px": 56,
    "backbone_foreground_weight": 0.0,
    "backbone_background_weight": 0.0,
    "backbone_first_stage": 1,
    "head_foreground_weight": 0.0,
    "head_background_weight": 0.0,
    "temperature": 1.0,
    "proposals": "teacher",
    "labels": "proposals",
}
HEAD = {"head_foreground_weight": 2.0, "head_background_weight": 0.5, "temperature": 3.0}
BACKBONE = {"backbone_foreground_weight": 0.7, "backbone_background_weight": 1.3}
VARIANTS = {
    "released": {},
    "all terms": HEAD | BACKBONE,
    "labels of the student": HEAD | {"labels": "student"},
    "proposals of the student": HEAD | {"proposals": "student"},
    "backbone alone": BACKBONE | {"foreground_weight": 0.0, "background_weight": 0.0},
}
# Boxes of 20 to 300 pixels: they lie on different levels, as those of the common cases do not.
LARGE = {"image_hw": (512, 384), "sizes": ((16, 12), (8, 6), (4, 3)), "num_boxes": 12, "finest_stride": 32, "seed": 6}
ALL_CASES = CASES | {"boxes on three levels": LARGE}


def naive_mask(boxes, level, num_levels, finest_px, image_hw, height, width):
    """Mask of one image, box after box; of all boxes where ``level`` is None."""
    stride = 1
    while stride * height < image_hw[0] or stride * width < image_hw[1]:
        stride *= 2
    mask = torch.zeros(height, width, dtype=torch.double, device=boxes.device)
    for box in boxes:
        scale = torch.sqrt((box[2] - box[0] + 1) * (box[3] - box[1] + 1))
        own_level = torch.floor(torch.log2(scale / finest_px + 1e-6)).clamp(min=0, max=num_levels - 1)
        if level is not None and int(own_level) != level:
            continue
        left, top, right, bottom = (int(value) for value in box / stride)
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left == right or top == bottom:
            if left < width and top < height:
                mask[top, left] += 1
        elif left < right and top < bottom:
            mask[top:bottom, left:right] += 1
    return (mask > 0).double()


def naive_masks(method, neck, batch):
    """Masks of all levels and images."""
    return [
        torch.stack([naive_mask(b, i, len(neck), method.finest_px, batch.image_hw, *level.shape[2:]) for b in batch.boxes_xyxy])
        for i, level in enumerate(neck)
    ]


def masks_alone(method, student, batch):
    """The part that ``python -m tools.speed`` times separately."""
    neck = student.features["neck"]
    return {
        "ours": lambda: level_masks(batch.boxes_xyxy, batch.image_hw, neck, method.finest_px),
        "naive": lambda: naive_masks(method, neck, batch),
    }


def naive(method, student, teacher, batch):
    """The authors' way: a mask a box, repeated over channels, in double precision."""
    losses = {}

    def decoupled(role, convs, students, teachers, masks, weights):
        inside = outside = 0.0
        for conv, ours, theirs, mask in zip(convs, students, teachers, masks, strict=True):
            adapted = conv(ours)
            full = mask[:, None].repeat(1, adapted.shape[1], 1, 1)
            inside = inside + (torch.pow(adapted - theirs, 2) * full).sum() / max(1.0, float(full.sum() * 2))
            outside = outside + (torch.pow(adapted - theirs, 2) * (1 - full)).sum() / max(1.0, float((1 - full).sum() * 2))
        losses[f"loss_defeat_{role}_foreground"] = inside / len(masks) * weights[0]
        losses[f"loss_defeat_{role}_background"] = outside / len(masks) * weights[1]

    neck = student.features.get("neck")
    if any(method.neck_weights):
        masks = naive_masks(method, neck, batch)
        decoupled("neck", method.neck_adapt, neck, teacher.features["neck"], masks, method.neck_weights)
    if any(method.backbone_weights):
        mask = torch.stack([naive_mask(b, None, 1, 56, batch.image_hw, *neck[0].shape[2:]) for b in batch.boxes_xyxy])
        stages = range(method.first_stage - 1, len(student.features["backbone"]))
        students, teachers = ([view.features["backbone"][i] for i in stages] for view in (student, teacher))
        masks = [F.interpolate(mask[:, None], size=list(stage.shape[2:]), mode="nearest")[:, 0] for stage in students]
        convs = [lambda feature, pair=pair: pair[0](feature).clamp(min=0) for pair in method.backbone_adapt]
        decoupled("backbone", convs, students, teachers, masks, method.backbone_weights)
    if any(method.head_weights):
        proposals = (teacher if method.proposals == "teacher" else student).roi_head.proposals
        labels = (student.roi_head.proposals if method.labels == "student" else proposals).labels_R.tolist()
        ours = student.roi_head.predict(proposals).class_logits_RK
        theirs = teacher.roi_head.predict(proposals).class_logits_RK.detach()
        divergences = {"foreground": [], "background": []}
        for row, label in zip(range(len(ours)), labels, strict=False):
            p = F.softmax(theirs[row] / method.temperature, dim=0)
            q = F.softmax(ours[row] / method.temperature, dim=0)
            part = "background" if label == ours.shape[1] - 1 else "foreground"
            divergences[part].append((p * (p.log() - q.log())).sum() * method.temperature**2)
        for (part, values), weight in zip(divergences.items(), method.head_weights, strict=True):
            losses[f"loss_defeat_head_{part}"] = weight * sum(values) / max(1, len(values))
    return losses


def build(channels, **changed):
    """A method whose convolutions do more than the nearly zero ones it starts from."""
    torch.manual_seed(0)
    method = Method(channels, **NECK | changed)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return method.double()


class TableHead:
    """A RoI head that says what a table holds for the proposals, which are row numbers."""

    def __init__(self, logits, rows, labels):
        self.logits = torch.tensor(logits, dtype=torch.double)
        self.proposals = Proposals(torch.tensor(rows)[:, None].expand(-1, 5), torch.tensor(labels))

    def predict(self, proposals):
        """Class logits of the rows."""
        logits = self.logits[proposals.rois_R5[:, 0]]
        return RoiPrediction(logits, logits[:, :0])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", ALL_CASES)
def test_losses_and_gradients_are_those_of_the_authors_loops(case, variant):
    """Every term, every level, every proposal, to nine digits."""
    case = Case(**ALL_CASES[case])

    assert_exact(build(case.channels, **VARIANTS[variant]), naive, case)


def test_later_stages_alone_can_be_imitated():
    """From stage 2 on: two of three stages, each with its own convolution."""
    case = Case()
    method = build(case.channels, **BACKBONE, backbone_first_stage=2)

    assert len(method.backbone_adapt) == 2
    assert_exact(method, naive, case)


def test_neck_by_hand():
    """Stride 4; the box holds the first of four positions, adapted student 0, teacher 1 to 4.

    Foreground 1 / (2 * 1), background (4 + 9 + 16) / (2 * 3); times 3 and 12.
    """
    method = Method({"neck": ((1, 1),)}, **NECK)
    for parameter in method.parameters():
        torch.nn.init.zeros_(parameter)
    teacher = View({"neck": (torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]),)})
    batch = Batch(0, (torch.tensor([[0.0, 0.0, 4.0, 4.0]]),), (torch.tensor([0]),), (8, 8), torch.Generator())

    losses = method(View({"neck": (torch.ones(1, 1, 2, 2),)}), teacher, batch)

    assert losses["loss_defeat_neck_foreground"].item() == pytest.approx(1.5)
    assert losses["loss_defeat_neck_background"].item() == pytest.approx(58.0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("proposals", (2 * 1.0, 0.5 * 0.5)), ("student", (2 * 0.5, 0.5 * 1.0))],
)
def test_labels_belong_to_the_proposals_unless_the_official_mismatch_is_asked_for(labels, expected):
    """Three proposals of the teacher diverge by D, D and 0, and are labelled object, background, background.

    The foreground's mean is D, the background's D / 2.  The student's own labels, four of them, begin with background,
    object, object: applied by index, the foreground's mean is D / 2, the background's D.
    """
    even, uneven = [0.0, 0.0], [math.log(3.0), 0.0]
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    student = View({}, roi_head=TableHead([even, even, even, even], [3, 3, 3, 3], [1, 0, 0, 0]))
    teacher = View({}, roi_head=TableHead([uneven, uneven, even, even], [0, 1, 2], [0, 1, 1]))
    weights = {"foreground_weight": 0.0, "background_weight": 0.0} | HEAD | {"temperature": 1.0}
    method = Method({}, **NECK | weights | {"labels": labels})

    losses = method(student, teacher, Batch(0, (), (), (8, 8), torch.Generator()))

    assert losses["loss_defeat_head_foreground"].item() == pytest.approx(expected[0] * divergence)
    assert losses["loss_defeat_head_background"].item() == pytest.approx(expected[1] * divergence)


def test_one_proposal_by_hand_and_no_proposal():
    """T = 2: logits 2 log 3 and 0 soften to (3/4, 1/4); times T^2. Nothing chosen gives 0."""
    student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3.0), 0.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))

    assert proposal_kl(student, teacher, torch.tensor([True]), 2.0).item() == pytest.approx(expected)
    assert proposal_kl(student, teacher, torch.tensor([False]), 2.0).item() == 0.0
    assert proposal_kl(student[:0], teacher[:0], torch.zeros(0, dtype=torch.bool), 2.0).item() == 0.0


def test_mask_is_half_open_and_a_thin_box_marks_one_position():
    """Stride 8 on 4 x 4: 8-24 by 0-16 is two by two; a tall box within one column marks its upper corner alone."""
    wide = [torch.tensor([[8.0, 0.0, 24.0, 16.0]])]
    tall = [torch.tensor([[9.0, 8.0, 15.0, 32.0]])]

    assert box_mask(wide, (32, 32), (4, 4)).nonzero()[:, 1:].tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert box_mask(tall, (32, 32), (4, 4)).nonzero()[:, 1:].tolist() == [[1, 1]]


@pytest.mark.parametrize("side", [(-40.0, 0.0, -20.0, 16.0), (0.0, 40.0, 16.0, 60.0), (math.nan,) * 4])
def test_what_lies_outside_marks_nothing(side):
    """Left of the image, below it, and what fills up an image with fewer boxes."""
    assert box_mask([torch.tensor([side])], (32, 32), (4, 4)).sum().item() == 0


def test_a_box_that_begins_left_of_the_image_begins_at_its_edge():
    """From -20 to 4 both corners are in the first column, which makes it thin; from -20 to 20 it is two columns wide."""
    thin, wide = ([torch.tensor([[-20.0, 0.0, right, 16.0]])] for right in (4.0, 20.0))

    assert box_mask(thin, (32, 32), (4, 4)).nonzero()[:, 1:].tolist() == [[0, 0]]
    assert box_mask(wide, (32, 32), (4, 4)).nonzero()[:, 1:].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("extent", "level"), [(1, 0), (55, 0), (110, 0), (111, 1), (222, 1), (223, 2), (447, 3), (895, 4), (5000, 4)]
)
def test_level_goes_up_when_the_size_doubles(extent, level):
    """The size counts a pixel more than the difference of the corners; 56, 112, 224, ... begin levels 0, 1, 2, ..."""
    assert level_of(torch.tensor([0.0, 0.0, extent, extent]), 5, 56).item() == level


def test_each_box_is_on_exactly_one_level():
    """A small and a large box: a mark on the finest and on the third level, none on the second."""
    boxes = torch.tensor([[10.0, 10.0, 60.0, 60.0], [100.0, 100.0, 400.0, 400.0]])
    levels = tuple(torch.zeros(1, 1, size, size) for size in (128, 64, 32))

    masks = level_masks([boxes], (512, 512), levels, 56)

    assert [mask.sum().item() for mask in masks] == [13 * 13, 0, 19 * 19]


@pytest.mark.parametrize("image_hw", [(800, 1344), (800, 1088), (608, 1024), (64, 96), (480, 480)])
def test_stride_is_found_from_the_level_size(image_hw):
    """P2 to P7 of padded images: each level halves the one before, rounded up."""
    size, strides = tuple(side // 4 for side in image_hw), []
    for _ in range(6):
        strides.append(stride_of(image_hw, size))
        size = tuple(-(-side // 2) for side in size)
        if size == (1, 1):
            break

    assert strides == [4, 8, 16, 32, 64, 128][: len(strides)]


def test_padding_keeps_the_boxes_and_adds_no_number():
    """Images with two boxes, none and one become (3, 2, 4); no image at all with boxes still has a column."""
    boxes = [torch.rand(2, 4), torch.rand(0, 4), torch.rand(1, 4)]

    padded = pad_boxes(boxes)

    assert padded.shape == (3, 2, 4)
    assert padded.isnan().all(-1).tolist() == [[False, False], [True, True], [False, True]]
    assert torch.equal(padded[2, :1], boxes[2])
    assert pad_boxes([torch.rand(0, 4)]).shape == (1, 1, 4)


def test_inside_and_outside_add_up_to_the_whole_error():
    """Each part times twice its number of values, added, is the sum of squared differences."""
    case = Case(sizes=((8, 6),), seed=3)
    error = (case.student.features["neck"][0] - case.teacher.features["neck"][0]).square().sum(1)
    (mask,) = level_masks(case.batch.boxes_xyxy, case.image_hw, case.student.features["neck"], 56)
    num = [2 * 8 * part.sum() for part in (mask, 1 - mask)]

    whole = num[0] * masked_error(error, mask, 8) + num[1] * masked_error(error, 1 - mask, 8)

    assert min(num) > 0
    assert whole.item() == pytest.approx(error.sum().item())


def test_a_student_like_its_teacher_loses_nothing():
    """With an adaptation that passes features on, and one RoI head for both."""
    case = Case()
    method = build(case.channels, **HEAD)
    for conv in method.neck_adapt:
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)

    losses = method(case.student, View(case.student.features, None, case.student.roi_head), case.batch)

    assert [abs(value.item()) < 1e-12 for value in losses.values()] == [True] * 4


def test_adaptation_starts_near_zero_from_the_global_generator():
    """Normal values with their multiples of 2 taken off, times 1e-4; same seed, same weights."""
    torch.manual_seed(3)
    first = adaptation(((16, 32),))[0].weight
    torch.manual_seed(3)
    second = adaptation(((16, 32),))[0].weight

    assert first.abs().max().item() < 2e-4
    assert 0.8e-4 < first.std().item() < 1e-4
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changed", "roles"),
    [
        ({}, ("neck",)),
        (HEAD, ("neck", "roi_head")),
        (BACKBONE, ("neck", "backbone")),
        (HEAD | {"foreground_weight": 0.0, "background_weight": 0.0}, ("roi_head",)),
        (BACKBONE | {"foreground_weight": 0.0, "background_weight": 0.0}, ("neck", "backbone")),
    ],
)
def test_roles_follow_the_weights(changed, roles):
    """Nothing is asked for whose weights are 0; the backbone's mask needs the neck's finest grid."""
    assert Method.roles(NECK | changed) == roles


@pytest.mark.parametrize(
    "changed",
    [
        {"proposals": "both"},
        {"labels": "teacher"},
        BACKBONE | {"backbone_first_stage": 4},
        BACKBONE | {"backbone_first_stage": 0},
    ],
)
def test_what_cannot_be_is_refused(changed):
    """Unknown names, and stages that the backbone does not show."""
    with pytest.raises(ValueError, match="defeat"):
        Method(Case().channels, **NECK | changed)
