"""Text that every form of the report can print: names come from users' files and may contain anything."""

import re
import unicodedata
from typing import Any, TypeVar

from pydantic import BaseModel

from reports.schemas.leaderboard import Curve

_Value = TypeVar("_Value")
_SPACES = re.compile(r"\s*[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]\s*")  # with a line's end or a tab; blanks alone stay
_SUSPECT = re.compile(r"[^\x20-\x7e]")
_JOINERS = "\u200c\u200d"  # of Persian and of Indic scripts, and inside emoji


def printable(text: str) -> str:
    """Return a text in one line; a character that is invisible, or turns the line's direction, becomes its code point, ``[U+202E]``."""
    return _SUSPECT.sub(lambda found: _shown(found[0]), _SPACES.sub(" ", text))


def name(text: str) -> str:
    """Return a printable text without blanks at its ends."""
    return printable(text).strip()


def code_point(character: str) -> str:
    """``[U+4E2D]``."""
    return f"[U+{ord(character):04X}]"


def _shown(character: str) -> str:
    category, number = unicodedata.category(character), ord(character)
    is_noncharacter = number & 0xFFFE == 0xFFFE or 0xFDD0 <= number <= 0xFDEF  # noqa: PLR2004 (no XML has them)
    is_invisible = category == "Cf" and character not in _JOINERS and unicodedata.bidirectional(character) != "AN"
    return code_point(character) if category in {"Cc", "Cs", "Co"} or is_invisible or is_noncharacter else character


def with_texts(value: _Value, change: Any = name) -> _Value:
    """Return a record with every text in it changed, keys of mappings, too; a key that another one becomes gets a number.

    Args:
        value: a model, list, tuple, dict or text; all else, and training curves, stay as they are.
        change: function of a text.
    """
    return _changed(value, change)  # type: ignore[no-any-return]


def _changed(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        text = change(value)
        return value if text == value else text
    if isinstance(value, BaseModel) and not isinstance(value, Curve):
        fields = {field: getattr(value, field) for field in type(value).model_fields}
        found = {field: new for field, old in fields.items() if (new := _changed(old, change)) is not old}
        return value.model_copy(update=found) if found else value
    if isinstance(value, (list, tuple)):
        items = [_changed(item, change) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    if isinstance(value, dict):
        keys = _distinct([_changed(key, change) for key in value])
        changed = {key: _changed(item, change) for key, item in zip(keys, value.values(), strict=True)}
        same = all(new is old for new, old in zip(changed, value, strict=True))
        return value if same and all(changed[key] is value[key] for key in value) else changed
    return value


def _distinct(keys: list[Any]) -> list[Any]:
    taken: list[Any] = []
    for key in keys:
        distinct, number = key, 1
        while distinct in taken:
            number += 1
            distinct = f"{key} ({number})"
        taken.append(distinct)
    return taken
