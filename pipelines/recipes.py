"""Recipes as they are on a pair at a tier: overrides applied, values converted, methods combined."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.pair import Pair
from methods.recipe import Conversion, Override, PriorRecipe, PriorTraining, Recipe, ResolvedPart
from pipelines.conversion import converted
from pipelines.params import load_grid, load_pair, load_recipe, load_tier

if TYPE_CHECKING:
    from methods.contract import Training


def _repeated(name: str) -> str:
    """Return the pair that a pair repeats, or itself; what recipes say of the one applies to the other."""
    return (load_pair(name).repeats or name) if Path(f"benchmarks/pairs/{name}.yaml").is_file() else name


@dataclass(frozen=True)
class Part:
    """One of the methods that a name such as ``crosskd+pkd`` combines; most names have one part.

    Args:
        name: of the recipe, ``methods/<name>.yaml``.
        recipe: its content.
        others: names of the methods that it is combined with.
    """

    name: str
    recipe: Recipe
    others: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The module: the recipe's own name, unless it is a variant of another method."""
        return self.recipe.code or self.name

    @property
    def method(self) -> Any:
        """The class ``Method`` of ``methods/<code>.py``."""
        return importlib.import_module(f"methods.{self.code}").Method

    def resolve(self, pair_name: str, head: str, tier_name: str) -> tuple[ResolvedPart, list[str]]:
        """Return the values of the distilling model, ``{name, code, hparams, inherits}``, and the reasons that change the recipe's.

        An override all of whose values a later one replaces is no reason.

        Raises:
            ValueError: the recipe has different values for two of the methods that it is combined with.
        """
        hparams, inherits = self._published(pair_name, head, tier_name), self.recipe.inherits
        applied = self._overrides(pair_name, head, tier_name)
        last: dict[str, Override] = {}  # the override that a value is from
        for override in applied:
            inherits = inherits if override.inherits is None else override.inherits
            last |= dict.fromkeys([*override.hparams, *([] if override.inherits is None else ["inherits"])], override)
        in_force = [id(override) for override in last.values()]
        why = [o.why for o in applied if id(o) in in_force or not (o.hparams or o.inherits is not None)]
        found = self.conversions(pair_name, head, tier_name)
        hparams |= {key: value for key, (value, _) in found.items()}
        why += [reason for _, reason in found.values()]
        return ResolvedPart(self.name, self.code, hparams, inherits, self.recipe.teacher), why

    def conversions(self, pair_name: str, head: str, tier_name: str) -> dict[str, tuple[Any, str]]:
        """Return the values that a tier with reduced models has in place of published ones, each with its reason; else none."""
        if load_tier(tier_name).model is None:
            return {}
        hows = dict(self.recipe.reduced)
        for override in self._overrides(pair_name, head, tier_name):
            hows |= override.reduced
        published = self._published(pair_name, head, tier_name)
        return {key: _converted(key, how, published, pair_name, tier_name) for key, how in hows.items()}

    def _published(self, pair_name: str, head: str, tier_name: str) -> dict[str, Any]:
        """Return the hyper-parameters with all overrides, before any conversion."""
        applied = self._overrides(pair_name, head, tier_name)
        self._check_others(applied)
        return {**self.recipe.hparams, **{key: value for override in applied for key, value in override.hparams.items()}}

    def config_changes(self, pair_name: str, head: str, tier_name: str) -> dict[str, Any]:
        """Return the authors' changes of the student's training config there: dotted key -> value."""
        changes = dict(self.recipe.config)
        for override in self._overrides(pair_name, head, tier_name):
            changes |= override.config
        return changes

    def auxiliary_training(self, pair_name: str, head: str, tier_name: str) -> PriorTraining:
        """Return the schedule of the auxiliary module there, of the tier's length; only for a recipe that has one."""
        given = [override.prior for override in self._overrides(pair_name, head, tier_name) if override.prior]
        training = given[-1] if given else cast("PriorRecipe", self.recipe.prior).training
        schedule = load_tier(tier_name).schedule
        return training.model_copy(update={"iterations": schedule.prior_iterations}) if schedule else training

    def applicable(self, override: Override) -> bool:
        """Return True for an override that applies with the methods beside this one, here none or :attr:`others`."""
        return override.combined_with in (None, *self.others)

    def _overrides(self, pair_name: str, head: str, tier_name: str) -> list[Override]:
        scale = "published" if load_tier(tier_name).model is None else "reduced"
        asked = {"scale": scale, "head": head, "pair": _repeated(pair_name)}
        return [
            override
            for override in filter(self.applicable, self.recipe.overrides)
            if all(getattr(override, key) in (None, value) for key, value in asked.items())
        ]

    def _check_others(self, applied: list[Override]) -> None:
        """ValueError where overrides for two of the methods beside this one set something differently."""
        found: dict[str, dict[str, Any]] = {}
        for override in applied:
            if override.combined_with is not None:
                values = {**override.hparams, **override.config}
                values |= {} if override.inherits is None else {"inherits": override.inherits}
                values |= {} if override.prior is None else {"prior": override.prior}
                found.setdefault(override.combined_with, {}).update(values)
        for one, other in combinations(found, 2):
            for key in found[one].keys() & found[other].keys():
                if found[one][key] != found[other][key]:
                    raise ValueError(
                        f"methods/{self.name}.yaml: {key} is {found[one][key]} combined with {one} and {found[other][key]} combined "
                        f"with {other}, and {'+'.join((self.name, *self.others))} combines all of them; write a recipe of its own "
                        "for this combination"
                    )


def _converted(key: str, how: Conversion, published: dict[str, Any], pair_name: str, tier_name: str) -> tuple[Any, str]:
    tier = load_tier(tier_name)
    try:
        return converted(
            key, published[key], how, published, load_pair(pair_name), tier, load_grid().own if tier.data == "own" else None
        )
    except ValueError as error:
        raise ValueError(f"benchmarks/tiers/{tier_name}.yaml with {pair_name}: {error}") from error


def load_parts(method_name: str) -> list[Part]:
    """Read the recipe of each part of a method; ValueError where one is unknown, wrong or combined with itself."""
    names = method_name.split("+")
    if len(set(names)) < len(names):
        raise ValueError(f"params.yaml: method '{method_name}' combines a method with itself")
    parts = [Part(name, load_recipe(name), tuple(other for other in names if other != name)) for name in names]
    if len(parts) > 1 and "none" in names:
        raise ValueError(f"params.yaml: method '{method_name}' combines the baseline, which is no distillation")
    codes = [part.code for part in parts]
    if twice := next((code for code in codes if codes.count(code) > 1), None):
        raise ValueError(f"params.yaml: method '{method_name}' combines two recipes of methods/{twice}.py; choose one of them")
    if sum(part.recipe.prior is not None for part in parts) > 1:
        raise ValueError(
            f"params.yaml: method '{method_name}' combines two methods with an auxiliary module; only one may have one"
        )
    return parts


def method_title(method_name: str) -> str:
    """Return a method's title in reports."""
    return " + ".join(part.recipe.title for part in load_parts(method_name))


def auxiliary_of(method_name: str) -> Part | None:
    """Return the part of a method that is given an auxiliary module, trained beforehand; None where no part is."""
    return next((part for part in load_parts(method_name) if part.recipe.prior is not None), None)


def cell_parts(method_name: str, pair_name: str, pair: Pair, tier_name: str) -> tuple[list[ResolvedPart], str]:
    """Return the parts of the distilling model, and the origin of their values."""
    resolved = [(part.name, *part.resolve(pair_name, pair.head, tier_name)) for part in load_parts(method_name)]
    origins = [f"{name}: {reason}" if "+" in method_name else reason for name, _, why in resolved for reason in why]
    if load_tier(tier_name).model is not None:
        origins += [
            f"the authors' {name} starts from the teacher's {' and '.join(part.inherits)}, which a scaled tier does not"
            for name, part, _ in resolved
            if part.inherits
        ]
    return [part for _, part, _ in resolved], "; ".join(origins) or "published"


def cell_config(method_name: str, pair_name: str, pair: Pair, tier_name: str) -> dict[str, Any]:
    """Return the authors' changes of the student's published training config; nothing where the tier has its own schedule.

    Raises:
        ValueError: combined methods have different values of one key.
    """
    if load_tier(tier_name).schedule is not None:
        return {}
    changes: dict[str, Any] = {}
    for part in load_parts(method_name):
        for key, value in part.config_changes(pair_name, pair.head, tier_name).items():
            if changes.setdefault(key, value) != value:
                raise ValueError(
                    f"{method_name} on {pair_name}: its methods' authors set {key} differently ({changes[key]} and {value}); "
                    "write a recipe of its own for this composition"
                )
    return changes


def trained_as(parts: list[ResolvedPart]) -> "Training":
    """Return the changes of the student's own training by a method, or by the first of several."""
    from methods.contract import Training  # noqa: PLC0415 (torch takes seconds, and most users of recipes need none)

    if not parts:
        return Training()
    found = importlib.import_module(f"methods.{parts[0].code}").Method.trained_as(parts[0].hparams)
    return cast("Training", found)


def flat_hparams(parts: list[ResolvedPart]) -> dict[str, Any]:
    """Return all hyper-parameters by name; a combination's carry the name of their part."""
    if len(parts) == 1:
        return dict(parts[0].hparams)
    return {f"{part.name}.{key}": value for part in parts for key, value in part.hparams.items()}


def with_hparams(parts: list[ResolvedPart], values: dict[str, Any]) -> list[ResolvedPart]:
    """Return the parts with some hyper-parameters replaced, named as :func:`flat_hparams` names them."""
    unknown = values.keys() - flat_hparams(parts).keys()
    if unknown:
        raise ValueError(f"{'+'.join(part.name for part in parts)} has no hyper-parameter {', '.join(sorted(unknown))}")
    prefix = {part.name: "" if len(parts) == 1 else f"{part.name}." for part in parts}
    return [
        replace(part, hparams={key: values.get(prefix[part.name] + key, value) for key, value in part.hparams.items()})
        for part in parts
    ]


def needed_inputs(parts: list[ResolvedPart]) -> list[str]:
    """Return the inputs that the parts need with these hyper-parameters, each once."""
    inputs: Iterator[str] = (
        name for part in parts for name in importlib.import_module(f"methods.{part.code}").Method.roles(part.hparams)
    )
    return list(dict.fromkeys(inputs))


def impossible_reason(pair_name: str, pair: Pair, method_name: str, tier_name: str) -> str | None:
    """Return the reason why this method cannot run on this pair, known without training; None where it can.

    Raises:
        ValueError: the method needs an input that is unknown to pairs and to head types.
    """
    if pair.not_run is not None:
        return pair.not_run
    for name in needed_inputs(cell_parts(method_name, pair_name, pair, tier_name)[0]):
        if name not in pair.modules:
            reason = pair.why_without(name)
            if reason is None:
                raise ValueError(
                    f"{method_name} needs input '{name}', which no pair has; benchmarks/pairs/{pair_name}.yaml offers: "
                    f"{', '.join(sorted(pair.modules))}; correct the method, or add the input to benchmarks/pair.py"
                )
            return f"needs '{name}': {reason}"
    return None
