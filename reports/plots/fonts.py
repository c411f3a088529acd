"""Fonts of figures and PDF, from packages alone, so that the same words are the same bytes on every machine.

matplotlib's own DejaVu Sans has Latin, Greek and Cyrillic; the packages have Chinese, Japanese, Korean, emoji and further scripts.
"""

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ft2font import FT2Font

from reports.formats.printable import code_point, name

FAMILY = "DejaVu Sans"
OWN_FOLDER = Path(mpl.get_data_path()) / "fonts/ttf"
_PACKAGES = "noto_cjk_sans_jp_regular", "manimgx_fonts"
_LIKE_DEJAVU = "NotoSans[", "NotoSans-Italic["  # the same letters in another design
_MOST_LETTERS = 64  # of a name in a figure


@cache
def folders() -> tuple[Path, ...]:
    """Return the folders of all fonts; a package that is not installed is excluded."""
    found = [find_spec(package) for package in _PACKAGES]
    return (OWN_FOLDER, *(Path(spec.origin).parent for spec in found if spec is not None and spec.origin is not None))


@cache
def _letters() -> dict[str, frozenset[int]]:
    """Code points by family, in the order in which a letter is looked for; matplotlib knows the families from then on."""
    found = {FAMILY: frozenset(FT2Font(fontManager.findfont(FAMILY)).get_charmap())}
    for path in (path for folder in folders()[1:] for path in sorted(folder.glob("*.[ot]tf"))):
        if not path.name.startswith(_LIKE_DEJAVU):
            font = FT2Font(path)
            found[font.family_name] = frozenset(font.get_charmap())
            # There is one cut: bold is as it is.
            fontManager.ttflist += [FontEntry(str(path), name=font.family_name, weight=weight) for weight in (400, 700)]
    return found


def families(letters: Iterable[str]) -> list[str]:
    """Return DejaVu Sans and what further families the letters need."""
    wanted = {ord(letter) for letter in letters}
    needed = []
    for family, has in _letters().items():
        if family == FAMILY or wanted & has:
            needed.append(family)
            wanted -= has
    return needed


def drawn(text: str) -> str:
    """Return a text as figures have it: :func:`legible`, a long one without its middle."""
    return shortened(legible(text), _MOST_LETTERS)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters, the middle left out."""
    return text if len(text) <= most else f"{text[: most - most // 3 - 1]}\N{HORIZONTAL ELLIPSIS}{text[-(most // 3) :]}"


def legible(text: str) -> str:
    """Return a name in one line, a letter that no font has as its code point."""
    words = name(text)
    return words if words.isascii() else "".join(map(_legible, words))


def _legible(letter: str) -> str:
    return letter if any(ord(letter) in has for has in _letters().values()) else code_point(letter)
