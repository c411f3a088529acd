"""Search spaces: ranges of recipes and params.yaml as Optuna's distributions."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.pair import Pair
from methods.recipe import TunableRange
from pipelines.recipes import cell_parts, flat_hparams, load_parts
from pipelines.tuning.params import TuningParams
from reports.schemas.study import SearchRange


def tunable(method: str) -> dict[str, TunableRange]:
    """Return the ranges that a method's recipes call tunable; names as :func:`pipelines.recipes.flat_hparams` gives them."""
    parts = load_parts(method)
    return {
        name if len(parts) == 1 else f"{part.name}.{name}": bounds
        for part in parts
        for name, bounds in part.recipe.tunable.items()
    }


def ranges_of(tuning: TuningParams, method: str) -> dict[str, TunableRange]:
    """Return the searched ranges: those of params.yaml for the method, else those that its recipes call tunable."""
    named = tuning.space.get(method)
    return tunable(method) if named is None else named


def search_space(
    tuning: TuningParams, method: str, pair_name: str, pair: Pair, tier: str
) -> tuple[dict[str, BaseDistribution], dict[str, Any]]:
    """Return the distributions of a cell's hyper-parameters, and the recipe's values of these.

    Raises:
        ValueError: a name is unknown, a range is of the wrong type or excludes the recipe's value, or nothing is tunable.
    """
    values = flat_hparams(cell_parts(method, pair_name, pair, tier)[0])
    named = tuning.space.get(method)
    where = f"params.yaml: tuning.space.{method}" if named is not None else f"methods/{method}.yaml: tunable"
    ranges = ranges_of(tuning, method)
    if unknown := [name for name in ranges if name not in values]:
        has = f"it has: {', '.join(values)}" if values else "it has none"
        raise ValueError(f"{where}.{unknown[0]}: {method} has no such hyper-parameter; {has}")
    # A term that the recipe switches off on this pair stays off; one that the user names is meant.
    on = {name: bounds for name, bounds in ranges.items() if named is not None or bounds.times is None or values[name]}
    if not on:
        raise ValueError(
            f"{where}: {method} has nothing to tune on {pair_name}; take it out of tuning.methods, or name ranges under "
            f"tuning.space.{method}"
        )
    space = {name: distribution(f"{where}.{name}", bounds, values[name]) for name, bounds in on.items()}
    return space, {name: values[name] for name in space}


def distribution(where: str, bounds: TunableRange, value: Any) -> BaseDistribution:
    """Return the range of a hyper-parameter with this value in force; ValueError, beginning with ``where``, if they do not fit."""
    if bounds.choices is not None:
        if value not in bounds.choices:
            raise ValueError(f"{where}: the recipe's value {value!r} is not among the choices {bounds.choices}; add it")
        return CategoricalDistribution(bounds.choices)
    if isinstance(value, (bool, str)):
        raise ValueError(f"{where}: {value!r} is no number; give choices")
    if bounds.times is not None and value <= 0:
        raise ValueError(f"{where}: multiples of {value} are no range (the term is switched off there); give between")
    low, high = bounds.between or tuple(factor * value for factor in bounds.times or ())
    is_log = bounds.scale == "log" or (bounds.times is not None and bounds.scale is None)
    if not low <= value <= high:
        raise ValueError(f"{where}: the recipe's value {value:g} is outside of {low:g} to {high:g}; widen the range")
    if not isinstance(value, int):
        return FloatDistribution(low, high, log=is_log)
    if bounds.between and (low, high) != (round(low), round(high)):
        raise ValueError(f"{where}: counts in whole numbers, and {low:g} to {high:g} are not; round them")
    return IntDistribution(max(1, round(low)) if bounds.times else round(low), round(high), log=is_log)


def as_record(space: Mapping[str, BaseDistribution]) -> dict[str, SearchRange]:
    """Return a search space as in the study's record."""
    found = {}
    for name, one in space.items():
        if isinstance(one, CategoricalDistribution):
            found[name] = SearchRange(choices=list(one.choices))
        elif isinstance(one, (FloatDistribution, IntDistribution)):
            found[name] = SearchRange(low=one.low, high=one.high, scale="log" if one.log else "linear")
    return found
