"""CWD against its authors' form and mmrazor's class, by hand, and its properties."""

import math

import pytest
import torch

from methods.contract import View
from methods.cwd import Method, channel_kl
from tests.views import CASES, Case, assert_exact, rand

VARIANTS = {
    "neck": {"loss_weight": 10.0, "tau": 1.0, "role": "neck", "decoded_weight": 0.0},
    "logits": {"loss_weight": 5.0, "tau": 4.0, "role": "logits", "decoded_weight": 0.0},
    "logits and decoded feature": {"loss_weight": 3.0, "tau": 4.0, "role": "logits", "decoded_weight": 50.0},
}


def naive(method, student, teacher, batch):
    """Per level: both softmaxes over the positions of an image's channel, then p log p - p log q, all materialised."""

    def level(student_map, teacher_map):
        num, channels, height, width = student_map.shape
        teacher_rows = teacher_map.reshape(num * channels, height * width) / method.tau
        student_rows = student_map.reshape(num * channels, height * width) / method.tau
        wanted = torch.softmax(teacher_rows, dim=1)
        divergence = wanted * torch.log_softmax(teacher_rows, dim=1) - wanted * torch.log_softmax(student_rows, dim=1)
        return divergence.sum() * method.tau**2 / (channels * num)

    levels = zip(student.features[method.role], teacher.features[method.role], strict=True)
    losses = {"loss_cwd": method.loss_weight * sum(level(*maps) for maps in levels)}
    if method.decoded_weight:
        (ours,), (theirs,) = student.features["decoded"], teacher.features["decoded"]
        aligned = torch.einsum("oc,nchw->nohw", method.align.weight[:, :, 0, 0], ours)
        # Divided by the channels before the convolution: 4 of the student's, where 6 of the teacher's are compared.
        losses["loss_cwd_decoded"] = 50.0 * level(aligned, theirs) * theirs.shape[1] / ours.shape[1]
    return losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_authors_form(case, variant):
    """To nine digits, on the neck and on logits; different widths on the neck are refused."""
    case, hparams = Case(**CASES[case]), VARIANTS[variant]
    if hparams["role"] == "neck" and case.neck[0] != case.neck[1]:
        with pytest.raises(ValueError, match=r"^cwd, .*'neck': .* 5 and 8, 5 and 8, 5 and 8\b"):
            Method(case.channels, **hparams)
        return

    assert_exact(Method(case.channels, **hparams).double(), naive, case)


def test_two_positions_by_hand():
    """At temperature 2: teacher (3/4, 1/4), student (1/2, 1/2); their divergence times 4."""
    teacher = torch.tensor([2 * math.log(3.0), 0.0]).view(1, 1, 1, 2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))

    assert channel_kl(torch.zeros(1, 1, 1, 2), teacher, 2.0).item() == pytest.approx(expected)


def test_zero_where_equal_but_for_a_constant_a_channel():
    """A softmax does not see what is added to all positions; any other difference costs."""
    student = rand(2, 3, 4, 5)
    shifted = student + rand(2, 3, 1, 1, seed=1)

    assert channel_kl(student, student, 1.0).item() == 0.0
    assert channel_kl(student, shifted, 1.0).item() == pytest.approx(0.0, abs=1e-14)
    assert channel_kl(student, 1.1 * student, 1.0) > 1e-4


def test_a_batch_of_two_is_the_mean_of_its_images():
    """Images do not see each other."""
    student, teacher = rand(2, 3, 4, 5), rand(2, 3, 4, 5, seed=1)
    single = [channel_kl(student[n : n + 1], teacher[n : n + 1], 3.0).item() for n in range(2)]

    assert channel_kl(student, teacher, 3.0).item() == pytest.approx(sum(single) / 2, rel=1e-12)


def test_needs_the_role_that_it_is_told():
    """And looks at no other."""
    case = Case()
    method = Method(case.channels, **VARIANTS["logits"])
    views = [View({"logits": view.features["logits"]}) for view in (case.student, case.teacher)]

    assert [Method.roles(hparams) for hparams in VARIANTS.values()] == [("neck",), ("logits",), ("logits", "decoded")]
    assert torch.equal(method(*views, case.batch)["loss_cwd"], method(case.student, case.teacher, case.batch)["loss_cwd"])


def test_equals_mmrazor():
    """The same value from mmrazor's class."""
    from pipelines.engine.mmlab import import_mmrazor  # noqa: PLC0415

    import_mmrazor()
    from mmrazor.models.losses import ChannelWiseDivergence  # noqa: PLC0415

    student, teacher = rand(2, 4, 6, 5), rand(2, 4, 6, 5, seed=1)
    theirs = ChannelWiseDivergence(tau=4.0, loss_weight=3.0)(student, teacher)

    assert 3 * channel_kl(student, teacher, 4.0).item() == pytest.approx(theirs.item(), rel=1e-12)
