"""MGD against its authors' form and mmrazor's class, by hand, and what its masks must be."""

import pytest
import torch

from methods.contract import Batch, View
from methods.mgd import Method, keep_mask, restoration_error
from tests.views import CASES, Case, assert_exact

VARIANTS = {
    "one-stage": {"alpha": 0.1, "share_masked": 0.65, "num_levels": 5},
    "one level": {"alpha": 0.3, "share_masked": 0.45, "num_levels": 1},
}


def naive(method, student, teacher, batch):
    """Per level: align where widths differ, mask, restore, squared error summed over everything, divided by N."""
    total = 0.0
    for level, (student_map, teacher_map) in enumerate(zip(student.features["neck"], teacher.features["neck"], strict=True)):
        if level >= method.num_levels:
            continue
        num, width, height, breadth = teacher_map.shape
        if student_map.shape[1] != width:
            student_map = torch.nn.functional.conv2d(student_map, *method.align[level].parameters())  # noqa: PLW2901
        draws = torch.rand((num, 1, height, breadth), generator=batch.generator, device=batch.generator.device)
        masked = student_map * torch.where(draws < method.share_masked, 0, 1)
        first, _, last = method.generation[level]
        restored = last(torch.relu(first(masked)))
        total = total + torch.nn.functional.mse_loss(restored, teacher_map, reduction="sum") / num
    return {"loss_mgd": method.alpha * total}


def generator(seed=0):
    """A seeded generator."""
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_the_authors_form(case, variant):
    """To nine digits, from the same draws, widths equal or not."""
    torch.manual_seed(0)
    case = Case(**CASES[case])

    assert_exact(Method(case.channels, **VARIANTS[variant]).double(), naive, case)


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


def test_every_step_and_level_has_a_mask_of_its_own():
    """Two equal levels with equal blocks would cost twice as much as one if they shared a mask."""
    case = Case(sizes=((8, 6), (8, 6)))
    method = Method(case.channels, alpha=1.0, share_masked=0.5, num_levels=2).double()
    method.generation[1].load_state_dict(method.generation[0].state_dict())
    student, teacher = (View({"neck": (view.features["neck"][0],) * 2}) for view in (case.student, case.teacher))
    state = case.batch.generator.get_state()
    both, again = (method(student, teacher, case.batch)["loss_mgd"].item() for _ in range(2))
    case.batch.generator.set_state(state)
    method.num_levels, method.align, method.generation = 1, method.align[:1], method.generation[:1]
    one = method(student, teacher, case.batch)["loss_mgd"].item()

    assert both != pytest.approx(2 * one, rel=1e-6)
    assert both != pytest.approx(again, rel=1e-6)


def test_equals_mmrazor_without_masking():
    """With lambda 0 both restore the whole feature: the same value from mmrazor's connector and loss."""
    from pipelines.engine.mmlab import import_mmrazor  # noqa: PLC0415

    import_mmrazor()
    from mmrazor.models.architectures.connectors import MGDConnector  # noqa: PLC0415
    from mmrazor.models.losses import MGDLoss  # noqa: PLC0415

    torch.manual_seed(0)
    method = Method({"neck": ((4, 4),)}, alpha=0.3, share_masked=0.0, num_levels=5)
    theirs = MGDConnector(4, 4, lambda_mgd=0.0)
    theirs.generation.load_state_dict(method.generation[0].state_dict())
    student, teacher = torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 5)

    loss = method(View({"neck": (student,)}), View({"neck": (teacher,)}), Batch(0, (), (), (32, 32), generator()))["loss_mgd"]

    assert loss.item() == pytest.approx(MGDLoss(alpha_mgd=0.3)(theirs(student), teacher).item(), rel=1e-5)
