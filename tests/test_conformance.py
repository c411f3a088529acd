"""The contract of every method; each recipe of methods/ is tested by existing."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.pair import TAPS
from methods.contract import Composition, View
from pipelines.recipes import load_parts
from pipelines.stages.check import check_recipe
from tests.views import Case

METHODS = sorted(path.stem for path in Path(__file__).parents[1].joinpath("methods").glob("*.yaml"))


def variants():
    """Every recipe on every head type that offers its inputs, with its values there."""
    found = []
    for name in METHODS:
        (part,) = load_parts(name)
        for head, taps in TAPS.items():
            hparams = part.resolve("any", head, "paper")[0].hparams
            if set(part.method.roles(hparams)) <= taps.keys():
                found.append(pytest.param(name, head, hparams, id=f"{name}-{head}"))
    return found


def test_every_method_is_met_on_some_head():
    """None is left out by a misspelt input."""
    assert {parameters.values[0] for parameters in variants()} == set(METHODS)


def handled(case):
    """The inputs through which a case's student has gradients."""
    handles = (name for name in ("dense_head", "roi_head") if getattr(case.student, name) is not None)
    return [*case.student.features, *handles]


def build(name, hparams, case):
    """The method with its published hyper-parameters, in double precision."""
    torch.manual_seed(0)
    return load_parts(name)[0].method(case.channels, **hparams).double()


@pytest.mark.parametrize("name", METHODS)
def test_recipe_and_code_name_the_same_hyper_parameters(name):
    """Keyword-only parameters without defaults, each with a value in the recipe, and no value more."""
    (part,) = load_parts(name)
    check_recipe(part)
    parameters = inspect.signature(part.method.__init__).parameters.values()

    assert all(p.default is inspect.Parameter.empty for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


@pytest.mark.parametrize(("name", "head", "hparams"), variants())
def test_losses_are_finite_scalars_with_the_right_names(name, head, hparams):
    """Names start with ``loss``, which MMEngine optimises, and hold the module's name, so that compositions do not clash."""
    case = Case(head=head)
    losses = build(name, hparams, case)(case.student, case.teacher, case.batch)
    code = load_parts(name)[0].code

    assert all(key.startswith(f"loss_{code}") and value.ndim == 0 and value.isfinite() for key, value in losses.items())
    assert losses or load_parts(name)[0].code == "none"


@pytest.mark.parametrize(("name", "head", "hparams"), variants())
@pytest.mark.parametrize("boxes", ["none", "outside"])
def test_a_batch_without_objects_gives_finite_gradients(name, head, hparams, boxes):
    """No NaN from an empty sum."""
    case = Case(boxes=boxes, sizes=((4, 3), (1, 1)), head=head)
    losses = build(name, hparams, case)(case.student, case.teacher, case.batch)
    leaves = case.student_leaves(handled(case))
    total = sum(losses.values(), start=torch.zeros((), dtype=torch.float64))
    if total.requires_grad:
        gradients = [g for g in torch.autograd.grad(total, leaves, allow_unused=True) if g is not None]

        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert total.isfinite()


@pytest.mark.parametrize(("name", "head", "hparams"), variants())
def test_gradient_reaches_the_student_through_every_role(name, head, hparams):
    """Through each role that the method says it needs; anchors are no function of the student."""
    case = Case(head=head)
    total = sum(build(name, hparams, case)(case.student, case.teacher, case.batch).values())
    for role in set(load_parts(name)[0].method.roles(hparams)) - {"anchors"}:
        gradients = torch.autograd.grad(total, case.student_leaves([role]), retain_graph=True, allow_unused=True)

        assert sum(gradient.abs().sum() for gradient in gradients if gradient is not None) > 0, role


@pytest.mark.parametrize(("name", "head", "hparams"), variants())
def test_a_method_looks_at_no_role_that_it_does_not_name(name, head, hparams):
    """Without gradient through, and without an error from, anything else."""
    full, bare = Case(head=head), Case(head=head)
    method = build(name, hparams, full)
    bare.keep(load_parts(name)[0].method.roles(hparams))
    expected = method(full.student, full.teacher, full.batch)

    assert all(torch.equal(expected[key], value) for key, value in method(bare.student, bare.teacher, bare.batch).items())


@pytest.mark.parametrize(("name", "head", "hparams"), variants())
def test_draws_come_from_the_given_generator_alone(name, head, hparams):
    """Same generator state, other global seed: the same bits."""
    case = Case(head=head)
    method, state = build(name, hparams, case), case.batch.generator.get_state()
    torch.manual_seed(1)
    first = method(case.student, case.teacher, case.batch)
    case.batch.generator.set_state(state)
    torch.manual_seed(2)
    second = method(case.student, case.teacher, case.batch)

    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", METHODS)
def test_provenance_is_stated(name):
    """All but the control name paper and source; what a tier or a pair changes says why."""
    recipe = load_parts(name)[0].recipe

    assert (recipe.code or name) == "none" or (recipe.paper is not None and recipe.source is not None)
    assert all(len(override.why) > 10 for override in recipe.overrides)


def test_a_composition_is_its_parts_side_by_side():
    """Each part's losses under their own names, with their own weights."""
    case, built, expected = Case(), {}, {}
    for name in ("crosskd", "pkd", "fitnet"):
        built[name] = build(name, load_parts(name)[0].resolve("any", "gfl", "paper")[0].hparams, case)
        expected |= built[name](case.student, case.teacher, case.batch)
    joined = Composition(built)
    losses = joined(case.student, case.teacher, case.batch)

    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[key], expected[key]) for key in expected)
    assert joined.tower_position == built["crosskd"].tower_position
    assert len(list(joined.parameters())) == len(list(built["fitnet"].parameters()))


@pytest.mark.parametrize("name", ["cwd", "fgd", "fitnet", "maskd", "maskd_seg"])
def test_a_batch_of_two_is_the_mean_of_batches_of_one(name):
    """Methods whose formula is a mean over images; others normalise over the batch or draw for it."""
    case, singles = Case(boxes="some", num_images=2), []
    method = build(name, load_parts(name)[0].resolve("any", "gfl", "paper")[0].hparams, case)
    whole = method(case.student, case.teacher, case.batch)
    for image in range(2):
        part = slice(image, image + 1)
        views = [
            View({role: tuple(level[part] for level in levels) for role, levels in view.features.items()})
            for view in (case.student, case.teacher)
        ]
        batch = replace(case.batch, boxes_xyxy=case.batch.boxes_xyxy[part], labels=case.batch.labels[part])
        singles.append(method(*views, batch))

    for key, value in whole.items():
        assert value.item() == pytest.approx(sum(losses[key].item() for losses in singles) / 2, rel=1e-9)
