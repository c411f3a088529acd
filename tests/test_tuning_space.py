"""Search spaces: ranges of recipes and params.yaml against the values in force."""

import math

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from methods.recipe import ResolvedPart, TunableRange
from pipelines import params
from pipelines.grid import Grid
from pipelines.params import load_pair
from pipelines.recipes import impossible_reason, load_parts, with_hparams
from pipelines.stages.check import check_tuning
from pipelines.tuning.params import TuningParams
from pipelines.tuning.space import as_record, distribution, search_space
from reports.schemas.study import SearchRange
from tests.conftest import PAIR, ROOT, tuning
from tests.published import RUNNABLE, read_once
from tests.test_recipes import METHODS, TIERS


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root; each is read once."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(params, "load_yaml", read_once)


def asked(**changes):
    """A ``tuning:`` of params.yaml."""
    return TuningParams(**tuning(**changes))


def grid(**changes):
    """A grid of one pair that is tuned."""
    return Grid(**{"tier": "mini", "rows": {PAIR: ["none", "mgd", "crosskd"]}, "seeds": [0], "tuning": tuning(), **changes})


@pytest.mark.parametrize("tier", TIERS)
def test_every_recipe_has_a_space_where_it_runs(tier):
    """On each pair: the recipe's value lies inside, and a weight of 0, a term switched off there, is not searched."""
    for pair_name in RUNNABLE:
        pair = load_pair(pair_name)
        for method in (name for name in METHODS if load_parts(name)[0].recipe.tunable):
            if impossible_reason(pair_name, pair, method, tier) is None:
                space, start = search_space(asked(grid={pair_name: [method]}), method, pair_name, pair, tier)

                assert space.keys() == start.keys() <= load_parts(method)[0].recipe.tunable.keys()
                assert all(one._contains(one.to_internal_repr(start[name])) for name, one in space.items())
                assert all(value > 0 for value in start.values())


def test_bounds_are_multiples_of_what_is_in_force():
    """MGD's weight at tier mini is the tier's; a share has bounds of its own."""
    space, start = search_space(asked(), "mgd", PAIR, load_pair(PAIR), "mini")

    assert start == {"alpha": 0.0284, "share_masked": 0.65}
    assert (space["alpha"].low, space["alpha"].high) == pytest.approx((0.00284, 0.284))
    assert as_record(space)["share_masked"] == SearchRange(low=0.2, high=0.8, scale="linear")
    assert as_record(space)["alpha"].scale == "log"


def test_joined_methods_are_searched_together():
    """Names carry their part, and what is found goes back to it."""
    space, start = search_space(asked(grid={PAIR: ["crosskd+pkd"]}), "crosskd+pkd", PAIR, load_pair(PAIR), "paper")
    parts = [
        ResolvedPart("crosskd", "crosskd", {"box_weight": 4.0}, []), ResolvedPart("pkd", "pkd", {"loss_weight": 10.0}, []),
    ]  # fmt: skip

    assert set(space) == {"crosskd.class_weight", "crosskd.box_weight", "pkd.loss_weight"}
    assert start["crosskd.box_weight"] == 4.0
    assert [part.hparams for part in with_hparams(parts, {"pkd.loss_weight": 6.0})] == [
        {"box_weight": 4.0},
        {"loss_weight": 6.0},
    ]
    with pytest.raises(ValueError, match=r"crosskd\+pkd has no hyper-parameter loss_weight"):
        with_hparams(parts, {"loss_weight": 6.0})


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        ({"times": (0.5, 2)}, 4.0, FloatDistribution(2.0, 8.0, log=True)),
        ({"times": (0.5, 2), "scale": "linear"}, 4.0, FloatDistribution(2.0, 8.0)),
        ({"between": (0, 1)}, 0.5, FloatDistribution(0.0, 1.0)),
        ({"between": (1, 6)}, 3, IntDistribution(1, 6)),
        ({"times": (0.1, 2.5)}, 3, IntDistribution(1, 8, log=True)),
        ({"choices": ["a", "b"]}, "a", CategoricalDistribution(["a", "b"])),
        ({"choices": [True, False]}, True, CategoricalDistribution([True, False])),
    ],
)
def test_distributions(bounds, value, expected):
    """A value's type decides: whole numbers stay whole."""
    assert distribution("there", TunableRange(**bounds), value) == expected


@pytest.mark.parametrize(
    ("bounds", "value", "said"),
    [
        ({"times": (0.5, 2)}, 0.0, " 0.0 "),
        ({"times": (0.5, 2)}, "kl", "'kl'"),
        ({"between": (0, 1)}, True, "True "),
        ({"between": (0, 1)}, 3.0, "value 3 "),
        ({"between": (1.5, 6)}, 3, "1.5 to 6"),
        ({"choices": ["a", "b"]}, "c", "'c'"),
    ],
)
def test_ranges_that_do_not_fit_a_value(bounds, value, said):
    """One line that begins with where."""
    with pytest.raises(ValueError, match=r"^there: ") as caught:
        distribution("there", TunableRange(**bounds), value)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({}, "times, between and choices"),
        ({"times": (0.5, 2), "between": (0, 1)}, "times, between and choices"),
        ({"between": (2, 1)}, "2 to 1"),
        ({"between": (1, 1)}, "is empty"),
        ({"between": (0, math.inf)}, "is empty"),
        ({"between": (0, 1), "scale": "log"}, "must be above 0"),
        ({"times": (-1, 2)}, "must be above 0"),
        ({"choices": ["a"]}, "two or more"),
        ({"choices": ["a", "b"], "scale": "log"}, "without a scale"),
        ({"between": "wide"}, "valid tuple"),
    ],
)
def test_ranges_that_are_none(bounds, said):
    """Refused where they are read."""
    with pytest.raises(ValidationError) as caught:
        TunableRange(**bounds)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"tuning": tuning(space={"mgd": {"alfa": {"times": [0.1, 10]}}})},
            r"tuning\.space\.mgd\.alfa: .*: alpha, share_masked",
        ),
        ({"tuning": tuning(space={"pkd": {}})}, r"tuning\.space .*pkd,"),
        ({"tuning": tuning(space={"mgd": {}})}, r"tuning.*mgd has nothing to tune"),
        ({"tuning": tuning(grid={PAIR: ["none_twice"]})}, rf"tuning\.grid .*none_twice .*{PAIR},"),
        (
            {"tuning": tuning(grid={PAIR: ["mgd", "pkd"]})},
            rf"tuning\.grid .*pkd .*{PAIR},",
        ),
        ({"tuning": tuning(grid={"atss_r101_r50": ["mgd"]})}, r"tuning\.grid .*mgd .*atss_r101_r50,"),
        ({"tuning": tuning(seed=9), "baseline_seeds": [0, 9]}, r"tuning\.seed 9 "),
        ({"tuning": tuning(seed=0)}, r"tuning\.seed 0 "),
        (
            {"tuning": tuning(grid={PAIR: ["crosskd"]}, space={"crosskd": {"centerness_weight": {"times": [0.1, 10]}}})},
            r"tuning\.space\.crosskd\.centerness_weight: .*0\.0",
        ),
    ],
)
def test_what_does_not_fit_the_grid(changes, said):
    """One line each, before anything runs."""
    with pytest.raises(ValueError, match=rf"^params\.yaml: .*{said}") as caught:
        check_tuning(grid(**changes))

    assert "\n" not in str(caught.value)


def test_nothing_is_searched_where_nothing_is_wanted():
    """An empty grid switches tuning off, whatever else stands there; what is impossible on its pair is no error."""
    check_tuning(grid(tuning=None))
    check_tuning(grid(tuning=tuning(grid={}, seed=0, space={"pkd": {}})))
    rows = {PAIR: ["none", "mgd", "mgd_seg"]}
    check_tuning(grid(rows=rows, tuning=tuning(grid={PAIR: ["mgd_seg"]}, space={"mgd_seg": {"x": {"times": [1, 2]}}})))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objectives": ["train_s"]}, "[score, train_s]"),
        ({"objectives": ["score", "train_s"]}, "pruner to none"),
        ({"share": 0}, "greater than 0"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"max_hours": 0}, "greater than 0"),
        ({"sampler": "grid"}, "'tpe' or 'random'"),
        ({"seed": "a"}, "valid integer"),
        ({"study": "my study"}, "match pattern"),
        ({"budget": 3}, "Extra inputs"),
    ],
)
def test_settings_that_are_none(changes, said):
    """Refused where params.yaml is read."""
    with pytest.raises(ValidationError) as caught:
        asked(**changes)

    assert said in str(caught.value)
