"""FGD against its authors' loops, its masks by hand, and its properties."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods.boxes import pad_boxes
from methods.contract import Batch, View
from methods.fgd import Context, Method, attention, scale_masks
from tests.test_defeat import ALL_CASES
from tests.views import Case, assert_exact

HPARAMS = {
    "foreground_weight": 1e-3,
    "background_weight": 5e-4,
    "attention_weight": 7e-4,
    "context_weight": 5e-6,
    "temperature": 0.5,
    "num_levels": 5,
}
ONES = HPARAMS | dict.fromkeys(("foreground_weight", "background_weight", "attention_weight", "context_weight"), 1.0)


def naive_level(method, level, student, teacher, batch):
    """One level as its authors compute it: a slice a box, and eight weighted copies of the features."""
    student = method.align[level](student)
    num, channels, height, width = student.shape

    def attend(feature):
        value = feature.abs()
        positions = value.mean(dim=1, keepdim=True)
        spatial = (height * width * F.softmax((positions / method.temperature).view(num, -1), dim=1)).view(num, height, width)
        return spatial, channels * F.softmax(value.mean(dim=2).mean(dim=2) / method.temperature, dim=1)

    spatial_t, channel_t = attend(teacher)
    spatial_s, channel_s = attend(student)
    inside, outside = torch.zeros_like(spatial_t), torch.ones_like(spatial_t)
    for image in range(num):
        for box in batch.boxes_xyxy[image]:
            left = int(torch.floor(box[0] / batch.image_hw[1] * width))
            right = int(torch.ceil(box[2] / batch.image_hw[1] * width))
            top = int(torch.floor(box[1] / batch.image_hw[0] * height))
            bottom = int(torch.ceil(box[3] / batch.image_hw[0] * height))
            area = torch.tensor(1.0 / (bottom + 1 - top) / (right + 1 - left), dtype=student.dtype, device=student.device)
            place = (slice(max(top, 0), max(bottom + 1, 0)), slice(max(left, 0), max(right + 1, 0)))
            inside[image][place] = torch.maximum(inside[image][place], area)
        outside[image] = torch.where(inside[image] > 0, 0, 1)
        if outside[image].sum():
            outside[image] /= outside[image].sum()

    def weigh(feature, mask):
        feature = feature * torch.sqrt(spatial_t[:, None]) * torch.sqrt(channel_t[:, :, None, None])
        return feature * torch.sqrt(mask[:, None])

    squared = nn.MSELoss(reduction="sum")
    foreground = squared(weigh(student, inside), weigh(teacher, inside)) / num
    background = squared(weigh(student, outside), weigh(teacher, outside)) / num
    attended = (channel_s - channel_t).abs().sum() / num + (spatial_s - spatial_t).abs().sum() / num

    def with_context(feature, block):
        share = F.softmax(block.attend(feature).view(num, 1, height * width), dim=2)[..., None]
        pooled = torch.matmul(feature.view(num, channels, height * width)[:, None], share).view(num, channels, 1, 1)
        return feature + block.transform(pooled)

    context = squared(with_context(student, method.student_context[level]), with_context(teacher, method.teacher_context[level]))
    return foreground, background, attended, context / num


def naive(method, student, teacher, batch):
    """Levels added."""
    totals = [0.0] * 4
    for level, pair in enumerate(zip(student.features["neck"], teacher.features["neck"], strict=True)):
        if level < method.num_levels:
            totals = [a + b for a, b in zip(totals, naive_level(method, level, *pair, batch), strict=True)]
    names = ("foreground", "background", "attention", "context")
    return {f"loss_fgd_{name}": w * t for name, w, t in zip(names, method.weights, totals, strict=True)}


def build(channels, **changed):
    """A method whose context blocks do more than the zeros they start from."""
    torch.manual_seed(0)
    method = Method(channels, **HPARAMS | changed)
    for parameter in method.parameters():
        nn.init.normal_(parameter, std=0.3)
    return method.double()


@pytest.mark.parametrize("changed", [{}, {"temperature": 0.8, "num_levels": 1}], ids=["one-stage", "one level"])
@pytest.mark.parametrize("case", ALL_CASES)
def test_losses_and_gradients_are_those_of_the_authors_loops(case, changed):
    """All four terms, to nine digits."""
    case = Case(**ALL_CASES[case])

    assert_exact(build(case.channels, **changed), naive, case)


def test_gradients_of_the_context_blocks_are_those_of_the_authors_loops():
    """Both blocks learn, the teacher's too, as in the source."""
    case = Case()
    method = build(case.channels)
    names, parameters = zip(*method.named_parameters(), strict=True)
    ours, theirs = (
        torch.autograd.grad(sum(form(case.student, case.teacher, case.batch).values()), parameters)
        for form in (method, lambda *views: naive(method, *views))
    )

    learned = {name for name, gradient in zip(names, ours, strict=True) if gradient.abs().sum() > 0}
    assert {f"{side}_context.0.{part}.weight" for side in ("student", "teacher") for part in ("attend", "transform.3")} <= learned
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


def test_losses_by_hand():
    """Teacher 1, student -1, two channels, 4 x 4: the attentions are even and equal, each position's error is 2 * 4.

    The box 0-1 covers positions 0 to 1 in both directions: 4 * 8 / 4 inside, 12 * 8 / 12 outside, 16 * 8 with context.
    """
    teacher = torch.ones(1, 2, 4, 4)
    batch = Batch(0, (torch.tensor([[0.0, 0.0, 1.0, 1.0]]),), (torch.tensor([0]),), (4, 4), torch.Generator())

    losses = Method({"neck": ((2, 2),)}, **ONES)(View({"neck": (-teacher,)}), View({"neck": (teacher,)}), batch)

    expected = {"loss_fgd_foreground": 8.0, "loss_fgd_background": 8.0, "loss_fgd_attention": 0.0, "loss_fgd_context": 128.0}
    assert {key: pytest.approx(value.item(), abs=1e-5) for key, value in losses.items()} == expected


def test_smaller_of_two_overlapping_boxes_weighs():
    """A box over 3 rows x 4 columns of 4 x 4 and one over 2 x 2 inside it; the last row shares the background."""
    boxes = torch.tensor([[0.0, 0.0, 3.0, 2.0], [0.0, 0.0, 1.0, 1.0]])[None]

    inside, outside = scale_masks(boxes, (4, 4), (4, 4))

    large, small = 1 / 12, 1 / 4
    assert inside[0].flatten().tolist() == pytest.approx([small, small, large, large] * 2 + [large] * 4 + [0.0] * 4)
    assert outside[0].flatten().tolist() == pytest.approx([0.0] * 12 + [0.25] * 4)


def test_rows_are_of_y_and_columns_of_x():
    """A flat box high up, on a level that is wider than tall; an early commit of the source exchanges the axes."""
    inside, _ = scale_masks(torch.tensor([[[16.0, 0.0, 24.0, 0.0]]]), (32, 64), (4, 8))

    assert inside[0].nonzero().tolist() == [[0, 2], [0, 3]]


def test_masks_without_and_full_of_objects():
    """No box: all is background, equally. A box over everything: no background, and no division by 0."""
    nothing, even = scale_masks(pad_boxes([torch.zeros(0, 4)]), (32, 32), (2, 2))
    full, none = scale_masks(torch.tensor([[[0.0, 0.0, 32.0, 32.0]]]), (32, 32), (2, 2))

    assert nothing.sum().item() == 0
    assert even.flatten().tolist() == [0.25] * 4
    assert full.flatten().tolist() == pytest.approx([1 / 9] * 4)
    assert none.sum().item() == 0


def test_attention_by_hand_and_its_mean():
    """Magnitudes log 3 and 0 at temperature 1 share 3 : 1, times two positions; means are 1 whatever the feature."""
    feature = torch.tensor([[[[-(3.0**0.5), 0.0]]]]).sign() * torch.tensor(3.0).log()

    spatial, channel = attention(feature, 1.0)

    assert spatial.flatten().tolist() == pytest.approx([1.5, 0.5])
    assert channel.item() == pytest.approx(1.0)
    spatial, channel = attention(torch.randn(2, 5, 3, 4, dtype=torch.double), 0.5)
    assert spatial.mean((1, 2)).tolist() == pytest.approx([1.0, 1.0])
    assert channel.mean(1).tolist() == pytest.approx([1.0, 1.0])


def test_a_student_like_its_teacher_loses_nothing():
    """At the start, when both context blocks add nothing; later their difference is what is left."""
    case = Case()
    same = View(case.student.features)

    at_start = Method(case.channels, **HPARAMS).double()(same, same, case.batch)
    later = build(case.channels)(same, same, case.batch)

    assert [value.item() for value in at_start.values()] == [0.0] * 4
    assert [value.item() > 0 for value in later.values()] == [False, False, False, True]


def test_batch_of_two_is_the_mean_of_its_images():
    """Every term is added up an image at a time and divided by the number of images."""
    case = Case()
    method = build(case.channels)

    def views(images):
        return [View({"neck": tuple(level[images] for level in view.features["neck"])}) for view in (case.student, case.teacher)]

    whole = method(*views(slice(None)), case.batch)
    parts = [
        method(*views([i]), Batch(0, (case.batch.boxes_xyxy[i],), (case.batch.labels[i],), case.image_hw, torch.Generator()))
        for i in range(2)
    ]

    for key, value in whole.items():
        assert value.item() == pytest.approx(sum(part[key].item() for part in parts) / 2, rel=1e-9)


def test_context_block_adds_nothing_at_first_and_the_pooled_average_matters():
    """Its last convolution starts at 0, its attention without bias from Kaiming's normal of deviation sqrt(2 / C)."""
    torch.manual_seed(0)
    block = Context(512)

    assert block(torch.randn(1, 512, 3, 3)).abs().max().item() == 0.0
    assert block.attend.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.15)
    assert block.attend.bias.item() == 0.0
