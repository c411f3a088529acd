"""MasKD against its authors' form, by hand, and its folded formulas against the plain ones, in float64."""

import math

import pytest
import torch
from torch import nn

from methods.contract import Proposals
from methods.maskd import Method, Prior, ReceptiveTokens, dice_overlap, masked_error, pooled_conv3x3, token_masks
from tests.views import CASES, Case, assert_exact, rand

SHAPES = [(2, 5, 7, 6), (1, 3, 1, 1), (3, 4, 1, 5), (2, 8, 2, 2)]
HPARAMS = {
    "loss_weight": 10.0,
    "num_tokens": 6,
    "warmup_iterations": 5000,
    "box_loss": "none",
    "box_beta": 0.0,
    "box_weight": 0.0,
    "init_weight": 0.0,
}
VARIANTS = {
    "neck alone": {},
    "warming up": {"warmup_iterations": 10**9},
    "RetinaNet": {"box_loss": "box_maps", "box_weight": 0.7},
    "Faster R-CNN": {"box_loss": "roi_head", "box_beta": 1.0, "box_weight": 0.3},
    "RepPoints": {"box_loss": "points", "box_beta": 0.11, "box_weight": 0.2, "init_weight": 0.1},
}


def build(channels, **changed):
    """A method whose tokens were not left at the small numbers that they start from."""
    torch.manual_seed(0)
    method = Method(channels, **HPARAMS | changed)
    for tokens in method.mask_modules:
        nn.init.normal_(tokens.mask_token, std=0.3)
    return method.double()


def naive_masked_error(student, teacher, masks, weights):
    """The published form: every token's masked features are built, (N, T, C, H, W)."""
    masked_student = student[:, None] * masks[:, :, None]
    masked_teacher = teacher[:, None] * masks[:, :, None]
    per_channel = ((masked_student - masked_teacher) ** 2).sum((3, 4)) / masks.sum((2, 3))[:, :, None]
    return (per_channel.mean(2) * weights).sum(1).mean()


def naive(method, student, teacher, batch):
    """As its authors: the convolution before the pooling, a masked copy a token, a loss a head's level."""
    total = 0.0
    for level, (student_map, teacher_map) in enumerate(zip(student.features["neck"], teacher.features["neck"], strict=True)):
        conv, module = method.align[level], method.mask_modules[level]
        num, _, height, width = teacher_map.shape
        aligned = conv(student_map)
        mask = (module.mask_token.expand(num, -1, -1) @ teacher_map.flatten(2)).sigmoid().view(num, -1, height, width)
        if batch.iteration >= method.warmup_iterations:
            with torch.no_grad():
                own = (module.mask_token.expand(num, -1, -1) @ aligned.flatten(2)).sigmoid().view(num, -1, height, width)
            mask = mask * own
        weights = module.prob(teacher_map).softmax(1).flatten(1)
        total = total + naive_masked_error(aligned, teacher_map, mask, weights)
    losses = {"loss_maskd": method.loss_weight * total}
    for role, weight in method.box_weights.items():
        if role == "roi_head":
            pairs = [[view.roi_head.predict(student.roi_head.proposals).box_deltas_RD for view in (student, teacher)]]
        else:
            pairs = zip(student.features[role], teacher.features[role], strict=True)
        box = 0.0
        for given, wanted in pairs:
            difference = (given - wanted).abs()
            beta = method.box_beta
            squared = 0.5 * difference**2 / beta if beta else difference
            box = box + torch.where(difference < beta, squared, difference - 0.5 * beta).mean()
        losses[f"loss_maskd_{role}"] = weight * box
    return losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_authors_form(case, variant):
    """Tokens folded into one weight a position, and all head terms, to nine digits."""
    case = Case(**CASES[case])

    assert_exact(build(case.channels, **VARIANTS[variant]), naive, case)


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_error_and_gradient_equal_the_naive_form(shape):
    """Folding the tokens into one weight a position changes neither value nor gradient."""
    num, _, height, width = shape
    student, teacher = rand(*shape, seed=1).requires_grad_(), rand(*shape, seed=2)
    masks, weights = rand(num, 6, height, width, seed=3).sigmoid(), rand(num, 6, seed=4).softmax(1)

    ours = masked_error(student, teacher, masks, weights)
    naive = naive_masked_error(student, teacher, masks, weights)
    (our_grad,), (naive_grad,) = torch.autograd.grad(ours, student), torch.autograd.grad(naive, student)

    assert ours.item() == pytest.approx(naive.item(), rel=1e-10)
    assert torch.allclose(our_grad, naive_grad, rtol=1e-10, atol=1e-14)


def test_masked_error_by_hand():
    """One image, one channel, two positions, one token: (0.5 * 2)^2 / (0.5 + 0.25) and nothing else."""
    student = torch.tensor([[[[2.0, 0.0]]]])
    masks = torch.tensor([[[[0.5, 0.25]]]])

    assert masked_error(student, torch.zeros(1, 1, 1, 2), masks, torch.ones(1, 1)).item() == pytest.approx(1 / 0.75)


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_convolution_equals_convolving_and_pooling(shape):
    """Nine region sums give what the convolution gives after average pooling."""
    conv = nn.Conv2d(shape[1], 9, 3, padding=1).double()
    feature = rand(*shape, seed=5)

    assert torch.allclose(pooled_conv3x3(feature, conv.weight, conv.bias), conv(feature).mean((2, 3)), rtol=1e-12, atol=1e-14)


def test_weights_equal_the_branch_as_a_module():
    """The branch's modules, called one after the other, give the same weights."""
    tokens = ReceptiveTokens(8, 6).double()
    feature = rand(2, 8, 5, 4, seed=6)

    assert torch.allclose(tokens.weights(feature), tokens.prob(feature).flatten(1).softmax(1), rtol=1e-12)


def test_dice_equals_the_naive_form():
    """Mean over ordered pairs of different masks of 2 <a, b> / (<a, a> + <b, b>)."""
    masks = rand(2, 4, 3, 5, seed=7).sigmoid()
    pairs = [
        2 * (masks[n, i] * masks[n, j]).sum() / ((masks[n, i] ** 2).sum() + (masks[n, j] ** 2).sum())
        for n in range(2)
        for i in range(4)
        for j in range(4)
        if i != j
    ]

    assert dice_overlap(masks).item() == pytest.approx((sum(pairs) / len(pairs)).item(), rel=1e-9)


def test_dice_of_identical_and_of_disjoint_masks():
    """Identical masks overlap wholly, disjoint ones not at all."""
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])

    assert dice_overlap(torch.stack([one, one])[None]).item() == pytest.approx(1.0)
    assert dice_overlap(torch.stack([one, other])[None]).item() == 0.0


def test_token_mask_by_hand():
    """The sigmoid of the inner product of token and feature."""
    feature = torch.tensor([1.0, math.log(3.0)]).view(1, 2, 1, 1)

    assert token_masks(torch.tensor([[0.0, 1.0]]), feature).item() == pytest.approx(0.75)


def test_a_vanished_mask_weighs_nothing():
    """A token's mask of 0 everywhere, as far below the sigmoid's range, gives no 0 / 0."""
    student = rand(1, 2, 3, 3).float().requires_grad_()
    masks = torch.stack([torch.full((3, 3), -120.0).sigmoid(), torch.ones(3, 3)])[None]
    error = masked_error(student, torch.zeros(1, 2, 3, 3), masks, torch.tensor([[0.75, 0.25]]))
    (gradient,) = torch.autograd.grad(error, student)

    assert masks[0, 0].sum() == 0
    assert error.item() == pytest.approx(0.25 * student.square().mean().item(), rel=1e-5)
    assert gradient.isfinite().all()


def test_student_mask_joins_in_the_iteration_that_ends_the_warm_up():
    """The last one before it sees the teacher's mask alone; after that nothing changes any more."""
    losses = []
    for iteration in (0, 9, 10, 1000):
        case = Case(iteration=iteration)
        losses.append(build(case.channels, warmup_iterations=10)(case.student, case.teacher, case.batch)["loss_maskd"].item())

    assert losses[0] == losses[1]
    assert losses[2] == losses[3]
    assert losses[1] != pytest.approx(losses[2], rel=1e-3)


def test_equal_features_cost_nothing_behind_the_identity():
    """Whatever the tokens look at; neither do equal box outputs."""
    case = Case()
    method = build(case.channels, **VARIANTS["RepPoints"])
    for conv in method.align:
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)

    assert [value.item() for value in method(case.student, case.student, case.batch).values()] == [0.0] * 3


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 2.505 / 2 + 0.5), (0.0, 3.1 / 2 + 1)])
def test_box_terms_by_hand(beta, expected):
    """Differences 0.1 and 3: mean of 0.005 and 2.5 with beta 1, of themselves with beta 0; a level of 1 adds 0.5 or 1."""
    case = Case(sizes=((1, 2), (1, 1)))
    case.student.features["box_maps"] = (torch.tensor([0.1, 3.0]).expand(1, 4, 1, 2), torch.ones(1, 4, 1, 1))
    case.teacher.features["box_maps"] = (torch.zeros(1, 4, 1, 2), torch.zeros(1, 4, 1, 1))
    losses = build(case.channels, box_loss="box_maps", box_weight=10.0, box_beta=beta)(case.student, case.teacher, case.batch)

    assert losses["loss_maskd_box_maps"].item() == pytest.approx(10 * expected)


def test_no_proposals_cost_nothing():
    """A mean over nothing would be no number."""
    case = Case()
    case.student.roi_head.proposals = Proposals(torch.zeros(0, 5).double(), torch.zeros(0).long())
    losses = build(case.channels, **VARIANTS["Faster R-CNN"])(case.student, case.teacher, case.batch)

    assert losses["loss_maskd_roi_head"].item() == 0.0


def test_both_roi_heads_are_asked_about_the_students_proposals():
    """The teacher's own are not looked at."""
    case = Case()
    method = build(case.channels, **VARIANTS["Faster R-CNN"])
    expected = method(case.student, case.teacher, case.batch)["loss_maskd_roi_head"]
    case.teacher.roi_head.proposals = None

    assert torch.equal(method(case.student, case.teacher, case.batch)["loss_maskd_roi_head"], expected)


def test_roles_are_those_of_the_box_term():
    """Inputs that are not compared are not required; an unknown term or other widths are refused."""
    roles = {name: Method.roles(HPARAMS | changed) for name, changed in VARIANTS.items()}

    assert roles["neck alone"] == ("neck",)
    assert roles["RetinaNet"] == ("neck", "box_maps")
    assert roles["Faster R-CNN"] == ("neck", "roi_head")
    assert roles["RepPoints"] == ("neck", "points_refine", "points_init")
    with pytest.raises(ValueError, match=r"box_loss 'l1'.* none, box_maps, roi_head, points"):
        Method({"neck": ((4, 6),)}, **HPARAMS | {"box_loss": "l1"})
    with pytest.raises(ValueError, match=r"maskd, role 'box_maps': .* have 4 and 36; choose"):
        Method({"neck": ((4, 6),), "box_maps": ((4, 36),)}, **HPARAMS | {"box_loss": "box_maps"})


def test_prior_replaces_features_by_their_masked_sum():
    """Masked feature = sum over tokens of weight * mask * feature; tokens and branch get gradients."""
    prior = Prior((4,), num_tokens=3, dice_weight=2.0).double()
    feature = rand(2, 4, 3, 3, seed=8)
    tokens = prior.mask_modules[0]
    masks, weights = tokens.masks(feature), tokens.weights(feature)
    expected = (weights[:, :, None, None, None] * masks[:, :, None] * feature[:, None]).sum(1)

    (masked,), losses = prior((feature,))
    (masked.sum() + losses["loss_dice"]).backward()

    assert torch.allclose(masked, expected, rtol=1e-12)
    assert losses["loss_dice"].item() == pytest.approx(2.0 * dice_overlap(masks).item())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in prior.parameters())


@pytest.mark.parametrize("prefix", ["", "module.", "distiller.losses.loss_maskd_fpn."])
def test_method_takes_over_the_prior(prefix):
    """Under any prefix, as in the authors' files, which hold their teacher as well."""
    prior = Prior((6, 6), num_tokens=2, dice_weight=1.0)
    method = Method({"neck": ((4, 6), (4, 6))}, **HPARAMS | {"num_tokens": 2})
    method.load_prior({"backbone.conv1.weight": torch.ones(3)} | {prefix + key: v for key, v in prior.state_dict().items()})

    assert {f"mask_modules.{level}.{name}" for level in range(2) for name in ReceptiveTokens(6, 2).state_dict()} == set(
        prior.state_dict()
    )
    assert all(
        torch.equal(value, prior.state_dict()[f"mask_modules.{key}"]) for key, value in method.mask_modules.state_dict().items()
    )


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (Prior((6, 6), num_tokens=3, dice_weight=1.0).state_dict(), r"2 levels .* \(3x6, 3x6\) in 10 tensors"),
        (Prior((6, 8), num_tokens=2, dice_weight=1.0).state_dict(), r"2 levels .* \(2x6, 2x8\) in 10 tensors"),
        (Prior((6,) * 3, num_tokens=2, dice_weight=1.0).state_dict(), r"3 levels .* \(2x6, 2x6, 2x6\) in 15 tensors"),
        ({"mask_modules.0.mask_token": torch.ones(2, 6), "mask_modules.1.mask_token": torch.ones(2, 6)}, "in 2 tensors"),
        ({"mask_token": torch.ones(8, 19)}, r"0 levels"),
    ],
    ids=["tokens", "channels", "levels", "no branch", "of segmentation"],
)
def test_a_prior_that_does_not_fit_is_refused_in_one_line(state, found):
    """The line has the shapes found, those needed and the remedy."""
    method = Method({"neck": ((4, 6), (4, 6))}, **HPARAMS | {"num_tokens": 2})
    with pytest.raises(ValueError, match=found + r".*\b2 levels .*\(2x6, 2x6\) in 10 tensors"):
        method.load_prior(state)
