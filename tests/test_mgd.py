"""MGD against the naive form of its formula and mmrazor's class."""

import pytest
import torch

from methods.contract import Batch, View
from methods.mgd import Method, keep_mask, restoration_error


def generator(seed=0):
    """A seeded generator."""
    return torch.Generator().manual_seed(seed)


def test_restoration_error_by_hand():
    """Sum of squares 1 + 4 over everything, divided by the two images."""
    restored = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    teacher = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)

    assert restoration_error(restored, teacher).item() == pytest.approx(2.5)


def test_mask_is_shared_by_channels_and_has_the_stated_share():
    """Ones and zeros, one channel wide; the share of zeros is lambda within four standard deviations."""
    mask = keep_mask((4, 1, 100, 100), 0.65, generator())
    sd = (0.65 * 0.35 / mask.numel()) ** 0.5

    assert mask.shape == (4, 1, 100, 100)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert abs((mask == 0).double().mean().item() - 0.65) < 4 * sd


@pytest.mark.parametrize("channels", [((5, 5), (5, 5)), ((3, 5), (3, 5))])
def test_loss_equals_the_naive_form(channels):
    """Align where channels differ, mask, restore, sum of squares over N, alpha, levels added."""
    torch.manual_seed(0)
    method = Method({"neck": channels}, alpha=0.1, share_masked=0.5).double()
    student = tuple(torch.randn(2, s, size, size, dtype=torch.float64) for (s, _), size in zip(channels, (4, 1), strict=True))
    teacher = tuple(torch.randn(2, t, size, size, dtype=torch.float64) for (_, t), size in zip(channels, (4, 1), strict=True))
    same_draws, expected = generator(5), 0.0
    for level, (s, t) in enumerate(zip(student, teacher, strict=True)):
        aligned = s if channels[level][0] == channels[level][1] else method.align[level](s)
        keep = torch.rand((2, 1, *s.shape[2:]), generator=same_draws) >= 0.5
        first, _, last = method.generation[level]
        restored = last(torch.relu(first(aligned * keep)))
        for n in range(2):
            expected += 0.1 * ((restored[n] - t[n]) ** 2).sum() / 2

    loss = method(View({"neck": student}), View({"neck": teacher}), Batch(0, (), (), (32, 32), generator(5)))["loss_mgd"]

    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


def test_equals_mmrazor_without_masking():
    """With lambda 0 both restore the whole feature: the same value from mmrazor's connector and loss."""
    from pipelines.engine.mmlab import import_mmrazor  # noqa: PLC0415

    import_mmrazor()
    from mmrazor.models.architectures.connectors import MGDConnector  # noqa: PLC0415
    from mmrazor.models.losses import MGDLoss  # noqa: PLC0415

    torch.manual_seed(0)
    method = Method({"neck": ((4, 4),)}, alpha=0.3, share_masked=0.0)
    theirs = MGDConnector(4, 4, lambda_mgd=0.0)
    theirs.generation.load_state_dict(method.generation[0].state_dict())
    student, teacher = torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 5)

    loss = method(View({"neck": (student,)}), View({"neck": (teacher,)}), Batch(0, (), (), (32, 32), generator()))["loss_mgd"]

    assert loss.item() == pytest.approx(MGDLoss(alpha_mgd=0.3)(theirs(student), teacher).item(), rel=1e-5)
