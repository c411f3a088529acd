"""The user's request and the files that it names, read once and checked before anything runs.

The only module that opens params.yaml and the YAML files of pairs, tiers and recipes.
"""

from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel

from benchmarks.pair import Pair
from benchmarks.schema import read_as
from benchmarks.tier import Tier
from methods.recipe import Recipe
from pipelines.grid import Grid

Schema = TypeVar("Schema", bound=BaseModel)


def load_yaml(path: Path, schema: type[Schema]) -> Schema:
    """Read a YAML file into a schema.

    Raises:
        ValueError: one line that names the file and all that is wrong in it.
    """
    try:
        written = path.stat()
        return cast("Schema", _read(path, schema, (path.resolve(), written.st_mtime_ns, written.st_size)))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=1024)
def _read(path: Path, schema: type[BaseModel], _version: tuple[Path, int, int]) -> BaseModel:
    # A grid of hundreds of cells reads the same few files again and again.
    return read_as(path, schema)


def _load_named(folder: str, kind: str, name: str, schema: type[Schema]) -> Schema:
    path = Path(folder) / f"{name}.yaml"
    if not path.exists():
        known = sorted(file.stem for file in Path(folder).glob("*.yaml"))
        near = get_close_matches(name, known, n=1)
        meant = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"params.yaml: unknown {kind} '{name}'{meant}; {folder}/ has: {', '.join(known)}")
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


def load_grid(path: Path = Path("params.yaml")) -> Grid:
    """Read the grid; ValueError where it is wrong or names something twice."""
    return load_yaml(path, Grid)


def gpus_per_run(path: Path = Path("params.yaml")) -> int:
    """Read the number of processes of a run, and nothing else: a unit's place is reserved before stage check reads the rest."""
    return load_yaml(path, _Reserved).gpus_per_run


class _Reserved(BaseModel):
    gpus_per_run: int = Grid.model_fields["gpus_per_run"].default
