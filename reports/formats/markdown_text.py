"""Words and tables in Markdown: names are shown as they are, whatever they contain."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.formats.printable import printable

TEMPLATES = Path(__file__).parents[1] / "templates"
# Code, addresses and globs stay, as the registries write them.
# The last character of all else would be emphasis, a link, HTML, an entity or mathematics.
_INLINE = r"""
    (?P<kept>(?P<fence>`+)(?!`).+?(?<!`)(?P=fence)(?!`) | https?://[\w./?=&%\#:~+,@-]+ | \w_\*\.)
    | \\(?=[!-/:-@\[-`{-~]|$) | ` | <(?=[a-zA-Z/!?]) | &(?=\#?\w+;) | (?<!\s)\* | \*(?!\s) | (?<![^\W_])_ | _(?![^\W_])
    | \](?=[(\[:]) | ~(?=~) | (?<=~)~ | \$
"""
_BLOCK = r" | ^(?:[>\#+-]|\d+[.)])(?=\s|$) | ^[-=~](?=[-=~\s]*$)"  # a heading, list, quotation or rule
_IN_CELL, _IN_TEXT = (re.compile(pattern, re.VERBOSE) for pattern in (_INLINE, _INLINE + _BLOCK))


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def escaped(text: str, signs: re.Pattern[str] = _IN_TEXT) -> Markdown:
    """Return words as Markdown; code between backticks stays code, and addresses stay addresses."""
    return Markdown(signs.sub(lambda found: found[0] if found["kept"] else f"{found[0][:-1]}\\{found[0][-1]}", printable(text)))


def code(text: object) -> Markdown:
    """Return a text as code, between more backticks than it has in a row."""
    words = printable(str(text))
    longest = max(map(len, re.findall(r"`+", words)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return Markdown(f"{fence}{space}{words}{space}{fence}" if words else "")


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> Markdown:
    """Table of words, or of Markdown where a cell is it already."""
    written = ["| " + " | ".join(map(_cell, cells)) + " |" for cells in (header, *lines)]
    return Markdown("\n".join([written[0], "|" + "---|" * len(header), *written[1:]]))


@cache
def environment() -> Environment:
    """Return the environment of the templates; what they print is escaped, unless it is :class:`Markdown`."""
    made = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=False, finalize=_finalized)  # noqa: S701 (no HTML)
    made.filters.update(code=code, markdown=Markdown, capitalised=lambda text: text[:1].upper() + text[1:])
    return made


def _finalized(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markdown) else value


def _cell(text: str) -> str:
    words = text if isinstance(text, Markdown) else escaped(text, _IN_CELL)
    return re.sub(r"\s*\n\s*", " ", words).replace("|", r"\|")
