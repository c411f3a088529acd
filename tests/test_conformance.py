"""What every method must keep to; each file of methods/ is met by existing."""

import inspect
from pathlib import Path

import pytest
import torch

from methods.contract import Batch, View
from pipelines.params import check_recipe, load_method, load_recipe

METHODS = sorted(path.stem for path in Path(__file__).parents[1].joinpath("methods").glob("*.yaml"))
ROLES = {"neck": ((6, 8), (6, 8))}


def build(name):
    """The method with its published hyper-parameters, warm-ups over."""
    torch.manual_seed(0)
    return load_method(name)(ROLES, **load_recipe(name).hparams)


def inputs(*, requires_grad=True):
    """Two levels of random features for student and teacher."""
    generator = torch.Generator().manual_seed(1)
    views = []
    for side in range(2):
        features = {
            role: tuple(
                torch.randn(2, widths[side], size, size, generator=generator).requires_grad_(requires_grad)
                for widths, size in zip(levels, (6, 3), strict=True)
            )
            for role, levels in ROLES.items()
        }
        views.append(View(features))
    return views


def batch(seed=0):
    """A batch with a box in the first image and none in the second."""
    boxes = (torch.tensor([[4.0, 4.0, 20.0, 24.0]]), torch.zeros(0, 4))
    return Batch(
        10**6, boxes, (torch.tensor([1]), torch.zeros(0, dtype=torch.long)), (48, 48), torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("name", METHODS)
def test_recipe_and_code_name_the_same_hyper_parameters(name):
    """Keyword-only parameters without defaults, each with a value in the recipe, and no value more."""
    check_recipe(name, load_recipe(name))
    parameters = inspect.signature(load_method(name).__init__).parameters.values()

    assert all(p.default is inspect.Parameter.empty for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_finite_scalars_with_the_right_names(name):
    """Names start with ``loss``: MMEngine optimises those and no others."""
    losses = build(name)(*inputs(), batch())

    assert all(key.startswith("loss") and value.ndim == 0 and value.isfinite() for key, value in losses.items())


@pytest.mark.parametrize("name", METHODS)
def test_gradient_reaches_the_student_everywhere_and_the_teacher_nowhere(name):
    """Through every level of every role that the method needs."""
    method, (student, teacher) = build(name), inputs()
    with torch.no_grad():
        frozen = View({role: tuple(level.detach() for level in levels) for role, levels in teacher.features.items()})
    total = sum(method(student, frozen, batch()).values())
    for role in method.needs:
        for level in student.features[role]:
            (gradient,) = torch.autograd.grad(total, level, retain_graph=True)

            assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", METHODS)
def test_draws_come_from_the_given_generator_alone(name):
    """Same generator seed, other global seed: the same bits."""
    method, (student, teacher) = build(name), inputs()
    torch.manual_seed(1)
    first = method(student, teacher, batch(seed=3))
    torch.manual_seed(2)
    second = method(student, teacher, batch(seed=3))

    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", METHODS)
def test_provenance_is_stated(name):
    """All but the control name paper and source."""
    recipe = load_recipe(name)

    assert name == "none" or (recipe.paper is not None and recipe.source is not None)
