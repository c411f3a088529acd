"""FGFI against the loops of the code it follows, and which positions its mask holds."""

from dataclasses import replace

import pytest
import torch

from methods.contract import Batch, View
from methods.fgfi import Method, near_objects
from tests.test_defeat import ALL_CASES
from tests.views import Case, assert_exact


def naive_iou(anchors, boxes):
    """All pairs, both corners at once."""
    low = torch.max(anchors[:, None, :2], boxes[:, :2])
    high = torch.min(anchors[:, None, 2:], boxes[:, 2:])
    extent = (high - low).clamp(min=0)
    overlap = extent[:, :, 0] * extent[:, :, 1]
    area_anchors = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
    area_boxes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return overlap / (area_anchors[:, None] + area_boxes - overlap)


def naive_masks(method, neck, batch):
    """Image after image, level after level, box after box; in double precision."""
    found = []
    for level, ours in enumerate(neck):
        num, _, height, width = ours.shape
        anchors = batch.anchors_xyxy[level].reshape(-1, 4)
        masks = []
        for image in range(num):
            mask = torch.zeros(height, width, dtype=torch.double, device=ours.device)
            boxes = []
            for box in batch.boxes_xyxy[image]:
                scale = torch.sqrt((box[2] - box[0] + 1) * (box[3] - box[1] + 1))
                if int(torch.floor(torch.log2(scale / method.finest_px + 1e-6)).clamp(0, len(neck) - 1)) == level:
                    boxes.append(box)
            if boxes:
                iou = naive_iou(anchors, torch.stack(boxes))
                best = iou.max(dim=0)[0]
                iou = iou.view(height, width, -1, len(boxes))
                for index in range(len(boxes)):
                    mask += (iou[:, :, :, index] > best[index] * method.share).sum(dim=2)
            masks.append((mask > 0).double())
        found.append(torch.stack(masks))
    return found


def naive(method, student, teacher, batch):
    """The masks repeated over channels, a level after the other."""
    neck, total = student.features["neck"], 0.0
    for level, mask in enumerate(naive_masks(method, neck, batch)):
        adapted = method.adapt[level](neck[level])
        full = mask[:, None].repeat(1, adapted.shape[1], 1, 1)
        difference = torch.pow(adapted - teacher.features["neck"][level], 2)
        total = total + (difference * full).sum() / max(1.0, float(full.sum() * 2))
    return {"loss_fgfi": total / len(neck) * method.weight}


def masks_alone(method, student, batch):
    """The part that ``python -m tools.speed`` times separately."""
    neck = student.features["neck"]
    return {"ours": lambda: method.masks(neck, batch), "naive": lambda: naive_masks(method, neck, batch)}


def build(channels, share=0.5):
    """A method whose convolutions do more than the nearly zero ones it starts from."""
    torch.manual_seed(0)
    method = Method(channels, weight=3.0, share=share, finest_px=56)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return method.double()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("case", ALL_CASES)
def test_loss_and_gradients_are_those_of_the_loops(case, share):
    """Every level and box, to nine digits."""
    case = Case(**ALL_CASES[case])

    assert_exact(build(case.channels, share), naive, case)


@pytest.mark.parametrize(("share", "expected"), [(0.3, [True, True, False]), (0.5, [True, False, False])])
def test_positions_above_a_share_of_the_best_count(share, expected):
    """IoU 1, 1/3 and 0 with one box."""
    anchors = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0], [8.0, 0.0, 12.0, 4.0]]).view(1, 3, 1, 4)

    assert near_objects(anchors, torch.tensor([[0.0, 0.0, 4.0, 4.0]]), share).tolist() == [expected]


def test_exactly_the_share_does_not_count():
    """IoU 1 and exactly 1/2 at a share of 1/2: the comparison is strict."""
    anchors = torch.tensor([[0.0, 0.0, 3.0, 4.0], [1.0, 0.0, 4.0, 4.0]]).view(1, 2, 1, 4)

    assert near_objects(anchors, torch.tensor([[0.0, 0.0, 3.0, 4.0]]), 0.5).tolist() == [[True, False]]


def test_any_anchor_of_a_position_suffices_and_the_best_is_each_boxs_own():
    """A box far from all anchors (best IoU 1/8) marks its nearest position as a well met one does."""
    anchors = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 4.0, 4.0]], [[8.0, 0.0, 12.0, 4.0], [8.0, 0.0, 9.0, 1.0]]])[None]
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [8.0, 0.0, 12.0, 32.0]])

    assert near_objects(anchors, boxes[:1], 0.5).tolist() == [[True, False]]
    assert near_objects(anchors, boxes[1:], 0.5).tolist() == [[False, True]]
    assert near_objects(anchors, boxes, 0.5).tolist() == [[True, True]]


@pytest.mark.parametrize(
    "boxes", [torch.zeros(0, 4), torch.tensor([[50.0, 50.0, 60.0, 60.0]]), torch.tensor([[1.0, 1.0, 1.0, 3.0]])]
)
def test_no_box_no_overlap_and_no_area_mark_nothing(boxes):
    """A best IoU of 0 is exceeded by no anchor."""
    anchors = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0]]).view(1, 2, 1, 4)

    assert not near_objects(anchors, boxes, 0.5).any()


def test_loss_by_hand():
    """Two channels, one of two positions marked, adapted student 0, teacher 1 and 3: 3 * (1 + 9) / (2 * 2)."""
    method = Method({"neck": ((1, 2),)}, weight=3.0, share=0.5, finest_px=56)
    for parameter in method.parameters():
        torch.nn.init.zeros_(parameter)
    teacher = View({"neck": (torch.tensor([[[[1.0, 7.0]], [[3.0, 7.0]]]]),)})
    anchors = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0]]).view(1, 2, 1, 4)
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    batch = Batch(0, (box,), (torch.tensor([0]),), (4, 8), torch.Generator(), (anchors,))

    loss = method(View({"neck": (torch.ones(1, 1, 1, 2),)}), teacher, batch)["loss_fgfi"]

    assert loss.item() == pytest.approx(7.5)


def test_the_order_of_boxes_does_not_matter():
    """A position is marked by any box, whichever comes first."""
    case = Case(**ALL_CASES["boxes on three levels"])
    method = build(case.channels)
    turned = replace(case.batch, boxes_xyxy=tuple(boxes.flip(0) for boxes in case.batch.boxes_xyxy))

    losses = [method(case.student, case.teacher, batch)["loss_fgfi"].item() for batch in (case.batch, turned)]

    assert losses[0] == losses[1] > 0


def test_only_the_level_of_a_box_is_searched_for_its_best_anchor():
    """A small box lies on the finest level: anchors that meet it better elsewhere change nothing, its own do."""
    case = Case(num_images=1)
    method = build(case.channels)
    batch = replace(case.batch, boxes_xyxy=(torch.tensor([[4.0, 4.0, 20.0, 20.0]], dtype=torch.double),))
    finest, middle, coarsest = batch.anchors_xyxy
    elsewhere = replace(batch, anchors_xyxy=(finest, batch.boxes_xyxy[0].expand_as(middle), coarsest))
    own = replace(batch, anchors_xyxy=(batch.boxes_xyxy[0].expand_as(finest), middle, coarsest))

    before, same, other = (method(case.student, case.teacher, b)["loss_fgfi"].item() for b in (batch, elsewhere, own))

    assert before == same != other


def test_a_student_like_its_teacher_loses_nothing():
    """With an adaptation that passes features on."""
    case = Case()
    method = build(case.channels)
    for conv in method.adapt:
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)

    assert method(case.student, case.student, case.batch)["loss_fgfi"].item() == pytest.approx(0.0, abs=1e-12)
