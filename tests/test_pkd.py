"""PKD against its authors' form and mmrazor's class, by hand, and its properties."""

import pytest
import torch

from methods.contract import View
from methods.pkd import Method, correlation_error
from tests.views import CASES, Case, assert_exact, rand

VARIANTS = {"all levels": {"loss_weight": 6.0, "num_levels": 5}, "the finest": {"loss_weight": 10.0, "num_levels": 1}}


def naive(method, student, teacher, batch):
    """Per level: channels first, mean and deviation of each row, both features standardised, half the mean square."""

    def standardised(feature):
        rows = feature.permute(1, 0, 2, 3).reshape(feature.shape[1], -1)
        # torch's deviation of a single value is no number; it has none.
        deviation = rows.std(dim=1, keepdim=True) if rows.shape[1] > 1 else torch.zeros_like(rows)
        rows = (rows - rows.mean(dim=1, keepdim=True)) / (deviation + 1e-6)
        return rows.reshape(feature.shape[1], feature.shape[0], *feature.shape[2:]).permute(1, 0, 2, 3)

    total = 0.0
    for level, pair in enumerate(zip(student.features["neck"], teacher.features["neck"], strict=True)):
        if level < method.num_levels:
            total = total + ((standardised(pair[0]) - standardised(pair[1])) ** 2).mean() / 2
    return {"loss_pkd": method.loss_weight * total}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_authors_form(case, variant):
    """To nine digits; different widths are refused."""
    case = Case(**CASES[case])
    if case.neck[0] != case.neck[1]:
        with pytest.raises(ValueError, match=r"pkd, role 'neck': .* have 5 and 8.*; choose"):
            Method(case.channels, **VARIANTS[variant])
        return

    assert_exact(Method(case.channels, **VARIANTS[variant]).double(), naive, case)


def test_opposite_features_by_hand():
    """(0, 2) becomes (-1, 1) / sqrt 2 and (5, 3) its opposite: each squared difference is 2, half their mean 1."""
    student, teacher = torch.tensor([0.0, 2.0]).view(1, 1, 1, 2), torch.tensor([5.0, 3.0]).view(1, 1, 1, 2)

    assert correlation_error(student, teacher).item() == pytest.approx(1.0, rel=1e-5)


def test_is_one_less_the_correlation():
    """Averaged over the channels, times (M - 1) / M for M values a channel."""
    student, teacher = rand(3, 4, 5, 2), rand(3, 4, 5, 2, seed=1)
    rows = [torch.stack([feature.transpose(0, 1).flatten(1) for feature in (student, teacher)])[:, c] for c in range(4)]
    expected = sum(1 - torch.corrcoef(row)[0, 1].item() for row in rows) / 4 * 29 / 30

    assert correlation_error(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_scale_and_shift_of_a_channel_do_not_count():
    """Zero where student and teacher are equal but for these, on either side; a mirrored channel costs."""
    student, scale, shift = rand(2, 3, 4, 5), rand(1, 3, 1, 1, seed=1).exp(), rand(1, 3, 1, 1, seed=2)
    other = rand(2, 3, 4, 5, seed=3)

    assert correlation_error(student, student).item() == 0.0
    assert correlation_error(student, scale * student + shift).item() == pytest.approx(0.0, abs=1e-10)
    assert correlation_error(scale * student + shift, other).item() == pytest.approx(
        correlation_error(student, other).item(), rel=1e-5
    )
    assert correlation_error(student, -scale * student).item() > 1


@pytest.mark.parametrize("of", ["student", "teacher"])
def test_a_constant_channel_gives_finite_gradients(of):
    """Its deviation is zero; the other channels learn all the same."""
    student, teacher = rand(2, 3, 4, 5), rand(2, 3, 4, 5, seed=1)
    {"student": student, "teacher": teacher}[of][:, 1] = 7.0
    (gradient,) = torch.autograd.grad(correlation_error(student.requires_grad_(), teacher), student)

    assert gradient.isfinite().all()
    assert (gradient[:, [0, 2]].abs().amax((0, 2, 3)) > 0).all()


def test_levels_beyond_the_asked_for_do_not_count():
    """Nor need they be equally wide."""
    student, teacher = (tuple(rand(2, width, 3, 3, seed=seed) for seed in range(3)) for width in (4, 4))
    method = Method({"neck": ((4, 4), (4, 4), (4, 9))}, loss_weight=1.0, num_levels=2)
    other = (*teacher[:2], rand(2, 9, 3, 3))
    first, second = (method(View({"neck": student}), View({"neck": levels}), None)["loss_pkd"] for levels in (teacher, other))

    assert torch.equal(first, second)


def test_equals_mmrazor():
    """The same value from mmrazor's class."""
    from pipelines.engine.mmlab import import_mmrazor  # noqa: PLC0415

    import_mmrazor()
    from mmrazor.models.losses import PKDLoss  # noqa: PLC0415

    levels = [tuple(rand(2, 4, size, 5, seed=seed + size) for size in (6, 3)) for seed in (0, 10)]
    method = Method({"neck": ((4, 4), (4, 4))}, loss_weight=3.0, num_levels=4)
    ours = method(View({"neck": levels[0]}), View({"neck": levels[1]}), None)["loss_pkd"]

    assert ours.item() == pytest.approx(PKDLoss(loss_weight=3.0)(*levels).item(), rel=1e-12)
