"""MasKD against naive forms of its formulas, in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods.contract import Batch, View
from methods.maskd import Method, Prior, ReceptiveTokens, dice_overlap, masked_error, pooled_conv3x3, token_masks

SHAPES = [(2, 5, 7, 6), (1, 3, 1, 1), (3, 4, 1, 5), (2, 8, 2, 2)]


def rand(*shape, seed=0):
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive_masked_error(student, teacher, masks, weights):
    """The published form: every token's masked features are built, (N, T, C, H, W)."""
    num, tokens = masks.shape[:2]
    total = 0.0
    for n in range(num):
        for t in range(tokens):
            mask = masks[n, t]
            masked_s = torch.stack([mask * channel for channel in student[n]])
            masked_t = torch.stack([mask * channel for channel in teacher[n]])
            per_channel = ((masked_s - masked_t) ** 2).sum((1, 2)) / mask.sum()
            total = total + weights[n, t] * per_channel.mean() / num
    return total


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


@pytest.mark.parametrize(("iteration", "customised"), [(9, False), (10, True)])
def test_student_mask_joins_after_the_warm_up(iteration, customised):
    """Until the warm-up ends the teacher's mask alone weighs, then its product with the student's."""
    torch.manual_seed(0)
    method = Method({"neck": ((4, 6), (4, 6))}, loss_weight=3.0, num_tokens=2, warmup_iterations=10).double()
    student = tuple(rand(2, 4, size, size, seed=size) for size in (4, 2))
    teacher = tuple(rand(2, 6, size, size, seed=size + 10) for size in (4, 2))
    batch = Batch(iteration, (), (), (32, 32), torch.Generator())
    expected = 0.0
    for level, (s, t) in enumerate(zip(student, teacher, strict=True)):
        conv, tokens = method.align[level], method.mask_modules[level]
        aligned = F.conv2d(s, conv.weight, conv.bias)
        masks = torch.einsum("tc,nchw->nthw", tokens.mask_token, t).sigmoid()
        if customised:
            masks = masks * torch.einsum("tc,nchw->nthw", tokens.mask_token, aligned).sigmoid()
        weights = tokens.prob(t).flatten(1).softmax(1)
        expected += 3.0 * naive_masked_error(aligned, t, masks.detach(), weights.detach())

    loss = method(View({"neck": student}), View({"neck": teacher}), batch)["loss_maskd"]

    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


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


def test_method_takes_over_the_prior():
    """Tokens that were learned are the ones that weigh; a prior of other shape is refused."""
    prior = Prior((6, 6), num_tokens=2, dice_weight=1.0)
    method = Method({"neck": ((4, 6), (4, 6))}, loss_weight=1.0, num_tokens=2, warmup_iterations=0)
    method.load_prior(prior.state_dict())

    assert torch.equal(method.mask_modules[1].mask_token, prior.mask_modules[1].mask_token)
    with pytest.raises(RuntimeError, match="size mismatch"):
        method.load_prior(Prior((6, 6), num_tokens=3, dice_weight=1.0).state_dict())
