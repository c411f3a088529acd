"""Kinds and bounds of what files of settings may say, and the words for what they may not.

Bounds are generous: what is beyond them is a slip of the pen, and would hang, fill the disk or end in a framework's words.
"""

import json
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from benchmarks.yaml_files import read_yaml

Schema = TypeVar("Schema")

_NOT_BLANK = r"\S"
Text = Annotated[str, Field(pattern=_NOT_BLANK, max_length=5000)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100, description="of a tier or pair: the name of its file")]
ModulePath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.\w+)*$", max_length=200)]
# MMEngine seeds NumPy, which takes 32 bits, with the seed plus a rank; the suite's other generators take more.
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Epochs = Annotated[int, Field(ge=1, le=9999)]  # the seed of an epoch is 10,000 x the run's + its number
Iterations = Annotated[int, Field(ge=1, le=2**22)]  # the bits that a method's generator has for them
Warmup = Annotated[int, Field(ge=0, le=2**22)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
Rate = Annotated[float, Field(gt=0, le=1000)]
Decay = Annotated[float, Field(ge=0, le=1000)]
ClipNorm = Annotated[float, Field(gt=0, le=1e9)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Points = Annotated[float, Field(gt=0, le=100)]


class Frozen(BaseModel):
    """A schema that knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_as(path: Path, schema: type[Schema], where: str | None = None) -> Schema:
    """Read a YAML file into a schema; kinds are taken literally: a boolean or a text in quotes is no number, 1.0 is not whole.

    Args:
        path: of the file.
        schema: of its content.
        where: what errors call it, if not by its path.

    Raises:
        ValueError: one line that names the file and all that is wrong in it.
    """
    return validated(read_yaml(path, where), schema, where or str(path))


def validated(content: Any, schema: type[Schema], where: str) -> Schema:
    """Return values as a schema; null for a key that may be left out leaves it out.

    Raises:
        ValueError: one line that begins with ``where`` and names all that is wrong.
    """
    try:
        return _validated(content, schema)
    except ValidationError as error:
        found = [_problem(problem, schema) for problem in error.errors()]
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(f"{where}: {'; '.join(found[:_SHOWN])}{more}") from error


def problems(content: Any, schema: Any, above: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with values by a schema, a clause each; ``above`` are the keys that lead to them."""
    try:
        _validated(content, schema)
    except ValidationError as error:
        return [_problem(problem, schema, above) for problem in error.errors()]
    return []


def _validated(content: Any, schema: type[Schema]) -> Schema:
    # As JSON, for which strictness means what it should: lists are taken for tuples, but no text for numbers.
    return TypeAdapter(schema).validate_json(json.dumps(_without_nulls(content, schema)), strict=True)


_SHOWN = 12
_MUST = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be keys with values",
    "model_type": "must be keys with values",
    "dataclass_type": "must be keys with values",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "must match the pattern {pattern}",
}


def _problem(problem: Any, schema: Any, above: tuple[str, ...] = ()) -> str:
    loc, kind, given = problem["loc"], problem["type"], problem.get("input")
    where = ".".join(str(part) for part in (*above, *loc)) or "the file"
    if kind == "extra_forbidden":
        near = get_close_matches(str(loc[-1]), _fields(_below(schema, loc[:-1])), n=1)
        return f"unknown key '{where}' ({f'did you mean {near[0]!r}?' if near else 'misspelt?'})"
    if kind == "missing":
        return f"key '{where}' is missing"
    bounds = {key: f"{bound:g}" if isinstance(bound, float) else bound for key, bound in problem.get("ctx", {}).items()}
    if (kind == "too_short" and bounds["min_length"] == 1) or bounds.get("pattern") == _NOT_BLANK:
        kind = "string_too_short"
    said = _MUST[kind].format(**bounds) if kind in _MUST else problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(given, (dict, list)) or kind == "value_error" else f", got {_short(given)}"
    if isinstance(given, (dict, list)) and kind in _MUST and kind.endswith("_type"):
        shown = f", got {'a list' if isinstance(given, list) else 'keys with values'}"
    return f"{where}: {said}{shown}"


def _short(value: Any) -> str:
    if isinstance(value, (bool, NoneType)):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 (a line of a terminal)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_pydantic_dataclass(kind))


def _options(kind: Any) -> list[Any]:
    """Kinds that a value may have, without what only qualifies them."""
    if get_origin(kind) is Annotated:
        return _options(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [option for part in get_args(kind) for option in _options(part)]
    if isinstance(kind, type) and issubclass(kind, BaseModel) and "root" in kind.model_fields:
        return _options(kind.model_fields["root"].annotation)
    return [kind]


def _fields(kind: Any) -> dict[str, Any]:
    """Fields of a schema by the name that a file has for them."""
    found: dict[str, Any] = {}
    for one in filter(_is_model, _options(kind)):
        fields = one.model_fields if issubclass(one, BaseModel) else one.__pydantic_fields__
        found |= {field.alias or name: field for name, field in fields.items()}
    return found


def _child(kind: Any, key: Any) -> Any:
    """Kind of a value inside of another; None where that is not known."""
    if key in (fields := _fields(kind)):
        return fields[key].annotation
    for one in _options(kind):
        arguments = get_args(one)
        if get_origin(one) is dict:
            return arguments[1]
        if get_origin(one) in (list, tuple) and isinstance(key, int):
            return arguments[0] if get_origin(one) is list or ... in arguments else dict(enumerate(arguments)).get(key)
    return None


def _below(kind: Any, loc: Any) -> Any:
    for key in loc:
        kind = _child(kind, key) or kind  # the name of a kind among several is no key
    return kind


def _without_nulls(content: Any, kind: Any) -> Any:
    """Leave out the keys whose value is null and that have another default."""
    if isinstance(content, list):
        return [_without_nulls(value, _child(kind, number)) for number, value in enumerate(content)]
    if not isinstance(content, dict):
        return content
    fields = _fields(kind)
    return {
        key: _without_nulls(value, _child(kind, key))
        for key, value in content.items()
        if not (
            value is None and key in fields and not fields[key].is_required() and NoneType not in _options(fields[key].annotation)
        )
    }
