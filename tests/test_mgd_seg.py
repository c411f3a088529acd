"""MGD for segmentation against its authors' form, by hand, and with its logits' term off."""

import math

import pytest
import torch

from methods.contract import View
from methods.mgd_seg import Method
from tests.views import CASES, Case, assert_exact

HPARAMS = {"alpha": 0.1, "share_masked": 0.75, "logit_weight": 3.0, "tau": 4.0}
VARIANTS = {"with logits": HPARAMS, "feature alone": HPARAMS | {"logit_weight": 0.0}}


def naive(method, student, teacher, batch):
    """The last backbone map as in detection; logits: softmax over the positions of each image's class."""
    student_map, teacher_map = student.features["backbone"][-1], teacher.features["backbone"][-1]
    num, width, height, breadth = teacher_map.shape
    if student_map.shape[1] != width:
        student_map = torch.nn.functional.conv2d(student_map, *method.align.parameters())
    draws = torch.rand((num, 1, height, breadth), generator=batch.generator, device=batch.generator.device)
    first, _, last = method.generation
    restored = last(torch.relu(first(student_map * torch.where(draws < method.share_masked, 0, 1))))
    losses = {"loss_mgd_seg": method.alpha * ((restored - teacher_map) ** 2).sum() / num}
    if method.logit_weight:
        student_logits, teacher_logits = student.features["logits"][0], teacher.features["logits"][0]
        num, classes = student_logits.shape[:2]
        divergence = 0.0
        for image in range(num):
            for label in range(classes):
                wanted = (teacher_logits[image, label].flatten() / method.tau).softmax(0)
                given = (student_logits[image, label].flatten() / method.tau).softmax(0)
                divergence = divergence + (wanted * (wanted.log() - given.log())).sum()
        losses["loss_mgd_seg_logits"] = method.logit_weight * divergence * method.tau**2 / (classes * num)
    return losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_authors_form(case, variant):
    """Both terms, to nine digits, from the same draws."""
    torch.manual_seed(0)
    case = Case(**CASES[case])

    assert_exact(Method(case.channels, **VARIANTS[variant]).double(), naive, case)


def test_losses_by_hand():
    """All is masked, so the block gives its last bias: (2 - 5)^2 on each of two positions, times alpha 0.1.

    Logits at temperature 1: teacher (3/4, 1/4) against (1/2, 1/2), times 3.
    """
    method = Method({"backbone": ((7, 7), (1, 1)), "logits": ((1, 1),)}, alpha=0.1, share_masked=1.0, logit_weight=3.0, tau=1.0)
    method.generation[0].bias.data.zero_()
    method.generation[2].bias.data.fill_(2.0)
    logits = torch.tensor([math.log(3.0), 0.0]).view(1, 1, 1, 2)
    student = View({"backbone": (torch.rand(1, 7, 2, 4), torch.rand(1, 1, 1, 2)), "logits": (torch.zeros(1, 1, 1, 2),)})
    teacher = View({"backbone": (torch.rand(1, 7, 2, 4), torch.full((1, 1, 1, 2), 5.0)), "logits": (logits,)})

    losses = method(student, teacher, Case().batch)

    assert losses["loss_mgd_seg"].item() == pytest.approx(0.1 * 18)
    assert losses["loss_mgd_seg_logits"].item() == pytest.approx(3 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_without_weight_the_logits_are_not_asked_for():
    """Neither as a role nor in equal number; with weight, other classes are refused."""
    channels = {"backbone": ((4, 6),), "logits": ((19, 21),)}
    Method(channels, **VARIANTS["feature alone"])

    assert Method.roles(VARIANTS["feature alone"]) == ("backbone",)
    assert Method.roles(HPARAMS) == ("backbone", "logits")
    with pytest.raises(ValueError, match=r"mgd_seg, role 'logits': .* have 19 and 21; choose"):
        Method(channels, **HPARAMS)


def test_only_the_last_backbone_map_counts():
    """Earlier stages have no say."""
    case = Case(sizes=((8, 6), (4, 3)))
    method = Method(case.channels, **VARIANTS["feature alone"]).double()
    *early, last = case.student_leaves(["backbone"])
    gradients = torch.autograd.grad(
        method(case.student, case.teacher, case.batch)["loss_mgd_seg"], [*early, last], allow_unused=True
    )

    assert gradients[:-1] == (None,) * len(early)
    assert gradients[-1].abs().sum() > 0


def test_logits_that_equal_the_teachers_cost_nothing():
    """The feature's term stays."""
    case = Case()
    method = Method(case.channels, **HPARAMS).double()
    teacher = View({**case.teacher.features, "logits": case.student.features["logits"]})
    losses = method(case.student, teacher, case.batch)

    assert losses["loss_mgd_seg_logits"].item() == 0.0
    assert losses["loss_mgd_seg"].item() > 0
