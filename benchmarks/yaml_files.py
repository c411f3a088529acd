"""The one reader of YAML files: YAML 1.2 as DVC reads it (ruamel.yaml), without what no file of the suite needs.

``2e-5`` is a number, ``010`` is ten, ``1:30`` and ``yes`` are text.  Refused, with file and line: keys given twice, keys that are no
text, tags, directives, several documents, aliases of themselves or of very much, deep nesting, dates without quotes, and numbers that
are not finite or too long.  The document is made from the parser's events: what composes nodes recurses in C, and ends the process.
"""

import re
import stat
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, events, nodes
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

_MOST_BYTES = 8 * 2**20
_MOST_VALUES = 500_000  # each counted as often as an alias repeats it
_DEEPEST = 50
_LARGEST = 2**63  # of a whole number
_LONGEST = 400  # characters of a number
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UTF16, _UTF32 = (b"\xff\xfe", b"\xfe\xff"), (b"\xff\xfe\0\0", b"\0\0\xfe\xff")


def read_yaml(path: Path, where: str | None = None) -> Any:
    """Return the content of a YAML file: dictionaries, lists, text, numbers, booleans and None.

    Args:
        path: of the file.
        where: what errors call it, if not by its path.

    Raises:
        ValueError: one line that names file and line.
    """
    text = ""
    try:
        text = _text(path)
        return _Document(text).content
    except (ValueError, YAMLError) as error:
        raise ValueError(f"{where or path}: {_said(error, text)}") from error


def _said(error: Exception, text: str) -> str:
    if isinstance(error, ReaderError):
        return f"has the character U+{error.character:04X}, which YAML does not allow; remove it"
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        number = error.problem_mark.line
        line = [*text.split("\n"), *[""] * (number + 1)][number]
        remedy = "; indent with spaces, not tabs" if "\t" in line[: len(line) - len(line.lstrip())] else ""
        return f"is not YAML: line {number + 1}: {' '.join(str(error.problem).split())}{remedy}"
    return " ".join(str(error).split())


def _text(path: Path) -> str:
    try:
        kind = path.stat()
        if not stat.S_ISREG(kind.st_mode):
            raise ValueError("is a folder, not a file" if stat.S_ISDIR(kind.st_mode) else "is no regular file")
        if kind.st_size > _MOST_BYTES:
            raise ValueError(f"has {kind.st_size / 2**20:.0f} MiB; a file of settings has at most {_MOST_BYTES // 2**20}")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if content.startswith((*_UTF32, *_UTF16)) or {content[:2].count(0), content[2:4].count(0)} == {1}:
        raise ValueError(f"is encoded as UTF-{32 if content.startswith(_UTF32) else 16}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8 (Latin-1 or Windows-1252?); save it as UTF-8"
        ) from error


class _Document:
    """The single document of a text.

    Args:
        text: of a file.

    Raises:
        ValueError: it is refused; the message says where and why, without the file.
    """

    def __init__(self, text: str) -> None:
        self._yaml = YAML(typ="safe")
        self._events: Iterator[Any] = iter(self._yaml.parse(text))
        self._anchored: dict[str, tuple[Any, int]] = {}
        self._open: set[str] = set()
        self._keys: list[str] = []  # that lead to what is read
        started = next(self._events), next(self._events)
        if isinstance(started[1], events.StreamEndEvent):
            raise ValueError("is empty")
        if re.match(r"(#.*\n|\s)*%", text):
            raise ValueError(f"{self._at(started[1])}directives such as %YAML are not read; remove it")
        self.content, _ = self._value(next(self._events), 0)
        next(self._events)
        if not isinstance(after := next(self._events), events.StreamEndEvent):
            raise ValueError(f"{self._at(after)}a second document begins; a file has one")
        if self.content is None:
            raise ValueError("is empty")

    def _value(self, event: Any, depth: int) -> tuple[Any, int]:
        """Return a value, and of how many values it consists."""
        if isinstance(event, events.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            raise ValueError(
                f"{self._at(event)}tags such as {event.tag.replace('tag:yaml.org,2002:', '!!')} are not read; remove it"
            )
        if depth > _DEEPEST:
            raise ValueError(f"{self._at(event)}is nested more than {_DEEPEST} levels deep")
        if event.anchor:
            self._open.add(event.anchor)
        if isinstance(event, events.ScalarEvent):
            found = self._scalar(event), 1
        elif isinstance(event, events.SequenceStartEvent):
            found = self._sequence(depth)
        else:
            found = self._mapping(depth)
        if found[1] > _MOST_VALUES:
            raise ValueError(f"{self._at(event)}aliases (or the file itself) make more than {_MOST_VALUES} values of this")
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchored[event.anchor] = found
        return found

    def _alias(self, event: Any) -> tuple[Any, int]:
        if event.anchor in self._open:
            raise ValueError(f"{self._at(event)}*{event.anchor} is a part of what it stands for")
        if event.anchor not in self._anchored:
            raise ValueError(f"{self._at(event)}there is no &{event.anchor} above *{event.anchor}")
        return self._anchored[event.anchor]

    def _sequence(self, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        size = 1
        while not isinstance(event := next(self._events), events.SequenceEndEvent):
            self._keys.append(str(len(found)))
            value, of_value = self._value(event, depth + 1)
            self._keys.pop()
            found.append(value)
            size += of_value
        return found, size

    def _mapping(self, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        size = 1
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            if not isinstance(event, events.ScalarEvent):
                raise ValueError(f"{self._at(event)}a key must be text, not a list, an alias or other keys")
            key, _ = self._value(event, depth + 1)
            if not isinstance(key, str):
                raise ValueError(f"{self._at(event)}key {event.value!r} is not read as text; put it in quotes")
            if key in found:
                raise ValueError(f"{self._at(event)}key '{key}' is given twice; remove one")
            self._keys.append(key)
            found[key], of_value = self._value(next(self._events), depth + 1)
            self._keys.pop()
            size += of_value + 1
        return found, size

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if _CONTROL.search(text):
            raise ValueError(f"{self._at(event)}{text[:40]!r} has a control character; remove it")
        if not event.implicit[0]:
            return text
        kind = str(self._yaml.resolver.resolve(nodes.ScalarNode, text, event.implicit)).rpartition(":")[2]
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in {"int", "float"}:
            return self._number(event, kind)
        if kind == "timestamp":
            raise ValueError(f"{self._at(event)}{text} is read as a date; put it in quotes")
        raise ValueError(
            f"{self._at(event)}{text!r} is not read here (merge keys are not); write the keys out, or put it in quotes"
        )

    def _number(self, event: Any, kind: str) -> int | float:
        if len(event.value) > _LONGEST:
            raise ValueError(f"{self._at(event)}a number of {len(event.value)} digits is too long")
        make = self._yaml.constructor.construct_yaml_int if kind == "int" else self._yaml.constructor.construct_yaml_float
        try:
            number: int | float = make(nodes.ScalarNode(kind, event.value))
        except ValueError as error:
            raise ValueError(f"{self._at(event)}{event.value!r} is no number") from error
        if isinstance(number, int) and abs(number) >= _LARGEST:
            raise ValueError(f"{self._at(event)}{event.value[:40]} is too large a number")
        if not isfinite(number):
            raise ValueError(f"{self._at(event)}{event.value} is not a finite number")
        return number

    def _at(self, event: Any) -> str:
        keys = ".".join(self._keys)[:200]
        return f"line {event.start_mark.line + 1}{f' ({keys})' if keys else ''}: "
