"""FitNet's detection form against loops, by hand, and its properties."""

import pytest
import torch
from torch import nn

from methods.contract import View
from methods.fitnet import Method
from tests.views import CASES, Case, assert_exact


def naive(method, student, teacher, batch):
    """Per level: a 1x1 convolution, then the mean of the squared difference, materialised."""
    total = 0.0
    for level, (student_map, teacher_map) in enumerate(zip(student.features["neck"], teacher.features["neck"], strict=True)):
        conv = method.align[level]
        aligned = conv(student_map)
        total = total + ((aligned - teacher_map) ** 2).mean()
    return {"loss_fitnet": method.loss_weight * total}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_plain_form(case):
    """To nine digits, widths equal or not."""
    case = Case(**CASES[case])

    assert_exact(Method(case.channels, loss_weight=0.7).double(), naive, case)


def test_two_channels_become_one_by_hand():
    """2 * 1 - 3 + 5 = 4 and 2 * 0 - 1 + 5 = 4 against 1 and 2: (9 + 4) / 2; a level of its own adds 2^2; times 10."""
    method = Method({"neck": ((2, 1), (1, 1))}, loss_weight=10.0)
    method.align[0].weight.data = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
    method.align[0].bias.data = torch.tensor([5.0])
    method.align[1].weight.data.fill_(1.0)
    method.align[1].bias.data.zero_()
    student = (torch.tensor([[[[1.0, 0.0]], [[3.0, 1.0]]]]), torch.tensor([[[[3.0]]]]))
    teacher = (torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[1.0]]]]))

    loss = method(View({"neck": student}), View({"neck": teacher}), None)["loss_fitnet"]

    assert loss.item() == pytest.approx(10 * (13 / 2 + 4))


def test_equal_features_cost_nothing_behind_the_identity():
    """And something behind any other convolution, which stands there at equal widths, too."""
    case = Case()
    method = Method(case.channels, loss_weight=1.0).double()
    before = method(case.student, case.student, case.batch)["loss_fitnet"]
    for conv in method.align:
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)

    assert before > 0
    assert method(case.student, case.student, case.batch)["loss_fitnet"].item() == 0.0


def test_a_batch_of_two_is_the_mean_of_its_images():
    """Images do not see each other."""
    case = Case()
    method = Method(case.channels, loss_weight=2.0).double()

    def loss(chosen):
        views = [View({"neck": tuple(level[chosen] for level in view.features["neck"])}) for view in (case.student, case.teacher)]
        return method(*views, case.batch)["loss_fitnet"].item()

    assert loss(slice(2)) == pytest.approx((loss(slice(1)) + loss(slice(1, 2))) / 2, rel=1e-12)
