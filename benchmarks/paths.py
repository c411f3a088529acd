"""Paths that users write, in params.yaml and in the environment, read in one way."""

import os
import re
from pathlib import Path

_LONGEST_NAME = 255  # bytes between two slashes
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


def user_path(given: str, where: str) -> Path:
    """Return a path as a shell would read it: ``~``, ``~user`` and variables expanded; a relative one is relative to the project.

    Args:
        given: as the user wrote it.
        where: the key or variable, for messages.

    Raises:
        ValueError: it is empty, names nobody or nothing, or no disk can have it.
    """
    if not given.strip():
        raise ValueError(f"{where} is empty; give a path")
    if "\0" in given or not given.isprintable():
        raise ValueError(f"{where}: {given!a} has a character that no path should have; write it again")
    expanded = _home(_VARIABLE.sub(lambda found: _value(found, given, where), given), where)
    long = [part for part in Path(expanded).parts if len(os.fsencode(part)) > _LONGEST_NAME]
    if long:
        raise ValueError(f"{where}: the name {long[0][:40]}... in it is longer than {_LONGEST_NAME} bytes; give a path")
    return Path(expanded)


def _value(found: re.Match[str], given: str, where: str) -> str:
    name = found[1] or found[2]
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"{where}: {given} names ${name}, which is not set; export it, or write the path out")
    return value


def _home(path: str, where: str) -> str:
    """Expand a tilde."""
    if not path.startswith("~"):
        return path
    own = path.partition("/")[0] == "~"
    # An empty HOME would make the path one of the root.
    expanded = path if own and os.environ.get("HOME") == "" else os.path.expanduser(path)  # noqa: PTH111 (Path's raises)
    if expanded.startswith("~"):
        whose = "HOME is not set and this user has no home" if own else f"there is no user {path.partition('/')[0][1:]}"
        raise ValueError(f"{where}: {path} begins with a tilde, and {whose}; write the path out")
    return expanded
