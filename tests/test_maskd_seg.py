"""MasKD for segmentation against its authors' form, by hand, and what it takes over."""

import math

import pytest
import torch
from torch import nn

from methods.contract import View
from methods.maskd import dice_overlap
from methods.maskd_seg import Method, Prior, logit_error
from tests.views import CASES, Case, assert_exact

HPARAMS = {"loss_weight": 2.0, "aux_weight": 0.4, "num_tokens": 8}
VARIANTS = {"with auxiliary head": HPARAMS, "without": HPARAMS | {"aux_weight": 0.0}}


def naive(method, student, teacher, batch):
    """A masked copy of both logits for every token, mean over everything but positions, half of it."""
    losses = {}
    for role, weight in method.weights.items():
        student_map, teacher_map = student.features[role][0], teacher.features[role][0]
        num, _, height, width = teacher_map.shape
        mask = (method.mask_token.expand(num, -1, -1) @ teacher_map.flatten(2)).sigmoid().view(num, -1, height, width)
        masked_student, masked_teacher = student_map[:, None] * mask[:, :, None], teacher_map[:, None] * mask[:, :, None]
        squared = ((masked_student - masked_teacher) ** 2).sum((3, 4))
        losses[f"loss_maskd_seg_{role}"] = weight * 0.5 * (squared / (mask.sum((2, 3))[:, :, None] + 1e-5)).mean()
    return losses


def build(channels, **changed):
    """A method whose tokens were not left at the small numbers that they start from."""
    torch.manual_seed(0)
    method = Method(channels, **HPARAMS | changed)
    nn.init.normal_(method.mask_token)
    return method.double()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_authors_form(case, variant):
    """To nine digits, with and without the auxiliary logits."""
    case = Case(**CASES[case])

    assert_exact(build(case.channels, **VARIANTS[variant]), naive, case)


def test_two_tokens_by_hand():
    """Masks 3/4 and 1/4 on one position: errors (0.75 * 2)^2 / 0.75 = 3 and (0.25 * 2)^2 / 0.25 = 1; half their mean."""
    teacher = torch.full((1, 1, 1, 1), math.log(3.0), dtype=torch.float64)
    tokens = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)

    assert logit_error(teacher + 2, teacher, tokens).item() == pytest.approx(1.0, rel=1e-4)


def test_equal_logits_cost_nothing():
    """Whatever the tokens look at."""
    case = Case()

    assert [v.item() for v in build(case.channels)(case.student, case.student, case.batch).values()] == [0.0, 0.0]


def test_a_batch_of_two_is_the_mean_of_its_images():
    """Images do not see each other."""
    case = Case()
    method = build(case.channels, aux_weight=0.0)

    def loss(chosen):
        views = [View({"logits": (view.features["logits"][0][chosen],)}) for view in (case.student, case.teacher)]
        return method(*views, case.batch)["loss_maskd_seg_logits"].item()

    assert loss(slice(2)) == pytest.approx((loss(slice(1)) + loss(slice(1, 2))) / 2, rel=1e-12)


def test_auxiliary_logits_have_the_same_tokens_and_their_share_of_the_weight():
    """The same logits in both heads: 0.4 of the loss; with weight 0 the role is not asked for."""
    case = Case()
    views = [View(dict.fromkeys(("logits", "aux_logits"), view.features["logits"])) for view in (case.student, case.teacher)]
    losses = build(case.channels)(*views, case.batch)

    assert losses["loss_maskd_seg_aux_logits"].item() == pytest.approx(0.4 * losses["loss_maskd_seg_logits"].item(), rel=1e-12)
    assert [Method.roles(hparams) for hparams in VARIANTS.values()] == [("logits", "aux_logits"), ("logits",)]


def test_other_classes_are_refused():
    """Logits of different meaning cannot be compared."""
    with pytest.raises(ValueError, match=r"maskd_seg, role 'aux_logits': .* have 19 and 21; choose"):
        Method({"logits": ((19, 19),), "aux_logits": ((19, 21),)}, **HPARAMS)


def test_prior_multiplies_the_logits_by_the_masks_sum():
    """Input `logits`: sum over tokens of mask * logits, token by token; the tokens get gradient."""
    torch.manual_seed(0)
    prior = Prior((5,), num_tokens=3, dice_weight=2.0).double()
    logits = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    masks = torch.stack([torch.einsum("k,nkhw->nhw", token, logits).sigmoid() for token in prior.mask_token], dim=1)
    expected = sum(masks[:, t, None] * logits for t in range(3))

    (masked,), losses = prior((logits,))
    (masked.square().sum() + losses["loss_dice"]).backward()

    assert Prior.role == "logits"
    assert torch.allclose(masked, expected, rtol=1e-12)
    assert losses["loss_dice"].item() == pytest.approx(2 * dice_overlap(masks).item(), rel=1e-12)
    assert (prior.mask_token.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_method_takes_over_the_prior(prefix):
    """A file laid out as the authors' is: a bare mask_token."""
    prior = Prior((3,), num_tokens=8, dice_weight=1.0)
    method = Method(Case().channels, **HPARAMS)
    method.load_prior({prefix + key: value for key, value in prior.state_dict().items()})

    assert list(prior.state_dict()) == ["mask_token"]
    assert torch.equal(method.mask_token, prior.mask_token)
    assert not method.mask_token.requires_grad


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"mask_token": torch.ones(6, 3)}, "6x3"),
        ({"mask_modules.0.mask_token": torch.ones(8, 3), "mask_modules.1.mask_token": torch.ones(8, 3)}, "8x3, 8x3"),
        ({"weight": torch.ones(8, 3)}, "none"),
    ],
    ids=["tokens", "of a detector", "something else"],
)
def test_a_prior_that_does_not_fit_is_refused_in_one_line(state, found):
    """The line has the shapes found, those needed and the remedy."""
    method = Method(Case().channels, **HPARAMS)
    with pytest.raises(ValueError, match=f"{found}, .*\\b8x3"):
        method.load_prior(state)
