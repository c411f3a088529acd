"""Recipes and their values compared with the code of the methods."""

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import create_model

from benchmarks.pair import HeadType, Pair
from benchmarks.schema import problems as problems_of
from methods.recipe import Conversion, Override, Recipe
from pipelines.recipes import Part, cell_parts, load_parts


def check_recipe(part: Part) -> None:
    """Compare a recipe with the code that it names.

    Raises:
        ValueError: the code is missing, a hyper-parameter is in one and not in the other, or a value is not of the kind and within the
            bounds that the code annotates it with.
    """
    name, recipe = part.name, part.recipe
    if not Path(f"methods/{part.code}.py").is_file():
        raise ValueError(
            f"methods/{name}.yaml: there is no methods/{part.code}.py beside it; write it, or name the module under 'code:'"
        )
    method = part.method
    parts = [("hparams", recipe.hparams, method)]
    if (recipe.prior is None) != (method.prior is None):
        raise ValueError(f"methods/{name}.yaml: key 'prior' must be there exactly if {part.code}.py has an auxiliary module")
    if recipe.prior is not None:
        parts.append(("prior.hparams", recipe.prior.hparams, method.prior))
    problems = []
    for where, given, code in parts:
        signature = inspect.signature(code.__init__).parameters
        expected = {key for key, value in signature.items() if value.kind is inspect.Parameter.KEYWORD_ONLY}
        problems += [f"{where}.{key} is missing" for key in sorted(expected - given.keys())]
        problems += [f"{where}.{key} is no parameter of {part.code}.py" for key in sorted(given.keys() - expected)]
        problems += wrong_values(code, given, where)
    problems += _wrong_conversions(method, recipe.reduced, recipe.hparams, "reduced")
    problems += _wrong_ranges(method, recipe)
    for number, override in enumerate(recipe.overrides):
        problems += [
            f"overrides.{number}.hparams.{key} is not among hparams"
            for key in sorted(override.hparams.keys() - recipe.hparams.keys())
        ]
        problems += wrong_values(method, override.hparams, f"overrides.{number}.hparams")
        problems += _wrong_conversions(method, override.reduced, recipe.hparams, f"overrides.{number}.reduced")
        problems += _unknown_place(override, f"overrides.{number}")
        other = override.combined_with
        if other is not None and (other in (name, "none") or not Path(f"methods/{other}.yaml").is_file()):
            known = ", ".join(sorted(path.stem for path in Path("methods").glob("*.yaml") if path.stem not in (name, "none")))
            problems.append(
                f"overrides.{number}.combined_with is {other!r}, which it cannot be combined with; there are: {known}"
            )
    if problems:
        raise ValueError(f"methods/{name}.yaml: {'; '.join(problems)}")


@cache
def kinds_of(code: Any) -> dict[str, Any]:
    """Annotations of the hyper-parameters of a method or an auxiliary module."""
    hints = get_type_hints(code.__init__, include_extras=True)
    parameters = inspect.signature(code.__init__).parameters
    return {name: hints.get(name, Any) for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


def wrong_values(code: Any, given: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with values by the annotations of the code; names that it does not have are passed over."""
    known = {key: value for key, value in given.items() if key in kinds_of(code)}
    return problems_of(known, _schema(code, tuple(known)), (where,))


@cache
def _schema(code: Any, names: tuple[str, ...]) -> Any:
    return create_model("HyperParameters", **{name: (kinds_of(code)[name], ...) for name in names})  # type: ignore[call-overload]


def _wrong_ranges(code: Any, recipe: Recipe) -> Iterator[str]:
    yield from (f"tunable.{key} is not among hparams" for key in sorted(recipe.tunable.keys() - recipe.hparams.keys()))
    for key, bounds in recipe.tunable.items():
        if bounds.choices is None and not _is_number(kinds_of(code).get(key, Any)):
            yield f"tunable.{key}: is no number; give choices"
        for value in bounds.choices or bounds.between or ():
            yield from wrong_values(code, {key: value}, "tunable")


def _wrong_conversions(code: Any, hows: Mapping[str, Conversion], hparams: Mapping[str, Any], where: str) -> list[str]:
    lost = [f"{where}.{key} is not among hparams" for key in sorted(hows.keys() - hparams.keys())]
    kinds = {key: kinds_of(code).get(key) for key in hows if key in hparams}
    return lost + [f"{where}.{key}: is no number, and cannot be converted" for key, kind in kinds.items() if not _is_number(kind)]


def _is_number(kind: Any) -> bool:
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return plain in (int, float, Any)


def _unknown_place(override: Override, where: str) -> Iterator[str]:
    heads, pairs = get_args(HeadType), [path.stem for path in Path("benchmarks/pairs").glob("*.yaml")]
    for kind, name, known in (("head", override.head, heads), ("pair", override.pair, pairs)):
        if name is not None and name not in known:
            near = get_close_matches(name, known, n=1)
            yield f"{where}.{kind} is {name!r}, which no pair is" + (f"; did you mean {near[0]!r}?" if near else "")


def check_cell(method: str, pair_name: str, pair: Pair, tier: str) -> None:
    """ValueError where a value that a method has on a pair, converted where models are reduced, is not what its code takes."""
    for one, part in zip(cell_parts(method, pair_name, pair, tier)[0], load_parts(method), strict=True):
        if wrong := wrong_values(part.method, one.hparams, "hparams"):
            raise ValueError(f"methods/{part.name}.yaml: on {pair_name} at tier {tier}: {'; '.join(wrong)}")


def check_search(method: str, space: Mapping[str, BaseDistribution]) -> None:
    """ValueError where a search may select a value that the method's code does not take."""
    parts = load_parts(method)
    for name, one in space.items():
        prefix, _, key = name.rpartition(".")
        code = next(part for part in parts if prefix in ("", part.name)).method
        ends = one.choices if isinstance(one, CategoricalDistribution) else ()
        ends = (one.low, one.high) if isinstance(one, (FloatDistribution, IntDistribution)) else ends
        if wrong := [problem for value in ends for problem in wrong_values(code, {key: value}, method)]:
            raise ValueError(f"params.yaml: tuning.space or methods/{method}.yaml: tunable: {wrong[0]}")
