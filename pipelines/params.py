"""What the user asks for, read once and checked before anything runs.

The only module that opens params.yaml and the YAML files of pairs, tiers and recipes.
"""

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from benchmarks.pair import Pair
from benchmarks.tier import Tier
from methods.recipe import Recipe

Schema = TypeVar("Schema", bound=BaseModel)
Id = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Grid(BaseModel):
    """The contents of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: Id
    pairs: list[Id] = Field(min_length=1)
    methods: list[Id] = Field(min_length=1)
    seeds: list[StrictInt] = Field(min_length=1)


@dataclass(frozen=True)
class Cell:
    """One student to train."""

    pair: str
    method: str
    seed: int


def load_yaml(path: Path, schema: type[Schema]) -> Schema:
    """Read a YAML file into a schema.

    Raises:
        ValueError: one line that names the file and all that is wrong in it.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_problem(problem) for problem in error.errors())
        raise ValueError(f"{path}: {problems}") from error


def _problem(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "the file"
    kind, given = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return f"unknown key '{where}' (misspelt?)"
    if kind == "missing":
        return f"key '{where}' is missing"
    return f"{where}: {problem['msg']}" + ("" if isinstance(given, (dict, list)) else f", got {given!r}")


def _load_named(folder: str, kind: str, name: str, schema: type[Schema]) -> Schema:
    path = Path(folder) / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in Path(folder).glob("*.yaml")))
        raise ValueError(f"params.yaml: unknown {kind} '{name}'; {folder}/ has: {known}")
    return load_yaml(path, schema)


def load_tier(name: str) -> Tier:
    """Read ``benchmarks/tiers/<name>.yaml``; ValueError where it is unknown or wrong."""
    return _load_named("benchmarks/tiers", "tier", name, Tier)


def load_pair(name: str) -> Pair:
    """Read ``benchmarks/pairs/<name>.yaml``; ValueError where it is unknown or wrong."""
    return _load_named("benchmarks/pairs", "pair", name, Pair)


def load_recipe(name: str) -> Recipe:
    """Read ``methods/<name>.yaml``; ValueError where it is unknown or wrong."""
    return _load_named("methods", "method", name, Recipe)


def load_method(name: str) -> Any:
    """Import ``methods/<name>.py`` and return its ``Method``."""
    return importlib.import_module(f"methods.{name}").Method


def load_grid(path: Path = Path("params.yaml")) -> Grid:
    """Read the grid; ValueError where it is wrong or names something twice."""
    grid = load_yaml(path, Grid)
    twice = [
        f"{axis} names {value!r} more than once"
        for axis in ("pairs", "methods", "seeds")
        for value in sorted({v for v in getattr(grid, axis) if getattr(grid, axis).count(v) > 1}, key=str)
    ]
    if twice:
        raise ValueError(f"{path}: {'; '.join(twice)}: two cells would be the same; remove one")
    return grid


def cells(grid: Grid) -> list[Cell]:
    """All cells of a grid, in the order in which DVC runs them."""
    return [Cell(pair, method, seed) for pair in grid.pairs for method in grid.methods for seed in grid.seeds]


def resolved_hparams(recipe: Recipe, tier_name: str) -> tuple[dict[str, Any], str]:
    """The hyper-parameters of a method at a tier, and where they come from."""
    at_tier = recipe.at.get(tier_name)
    if at_tier is None:
        return dict(recipe.hparams), "published"
    return {**recipe.hparams, **at_tier.hparams}, at_tier.why


def impossible_reason(pair: Pair, method_name: str) -> str | None:
    """Why this method cannot run on this pair, known without training; None where it can.

    Raises:
        ValueError: the pair neither taps a role that the method needs nor says why it cannot.
    """
    for role in load_method(method_name).needs:
        if role in pair.lacks:
            return f"needs '{role}': {pair.lacks[role]}"
        if role not in pair.taps:
            taps = ", ".join(sorted(pair.taps))
            raise ValueError(
                f"{method_name} needs role '{role}', which pair '{pair.title}' does not tap (it taps: {taps}); "
                "add it under 'taps:' in the pair's file, or under 'lacks:' with the reason"
            )
    return None


def check_recipe(name: str, recipe: Recipe) -> None:
    """Compare a recipe with the code beside it.

    Raises:
        ValueError: a hyper-parameter stands in one and not in the other.
    """
    method = load_method(name)
    parts = [("hparams", recipe.hparams, method)]
    if (recipe.prior is None) != (method.prior is None):
        raise ValueError(f"methods/{name}.yaml: 'prior' must stand there exactly if {name}.py has a prior")
    if recipe.prior is not None:
        parts.append(("prior.hparams", recipe.prior.hparams, method.prior))
    problems = []
    for where, given, part in parts:
        signature = inspect.signature(part.__init__).parameters
        expected = {key for key, value in signature.items() if value.kind is inspect.Parameter.KEYWORD_ONLY}
        problems += [f"{where}.{key} is missing" for key in sorted(expected - given.keys())]
        problems += [f"{where}.{key} is no parameter of {name}.py" for key in sorted(given.keys() - expected)]
    for tier, scale in recipe.at.items():
        problems += [
            f"at.{tier}.hparams.{key} is not among hparams" for key in sorted(scale.hparams.keys() - recipe.hparams.keys())
        ]
    if problems:
        raise ValueError(f"methods/{name}.yaml: {'; '.join(problems)}")


def check_all(grid: Grid) -> None:
    """Check everything that the grid names; ValueError with the first file's problems."""
    load_tier(grid.tier)
    recipes = {name: load_recipe(name) for name in grid.methods}
    pairs = {name: load_pair(name) for name in grid.pairs}
    for name, recipe in recipes.items():
        check_recipe(name, recipe)
    for pair in pairs.values():
        for name in grid.methods:
            impossible_reason(pair, name)
