"""Words and numbers as the PDF prints them."""

import re

_CODE = re.compile(r"`([^`]+)`")
_ADDRESS = re.compile(r"https?://[^\s<>)]*[^\s<>).,;]|arXiv:\d{4}\.\d{4,5}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(?=[ ,]|$)")
_REVISION = re.compile(r" at ([0-9a-f]{7,40}|v\d[\w.]*)\b")
_TWO_HOURS_S = 7200

Words = list[dict[str, str]]  # pieces of a line; some have a "url", or are "code"


def source(text: str) -> Words:
    """Words of a source; a repository at the beginning becomes a link, to its revision if one is named."""
    found = _REPOSITORY.match(text)
    if found is None:
        return words(text)
    revision = _REVISION.search(text)
    url = f"https://github.com/{found[0]}" + (f"/tree/{revision[1]}" if revision else "")
    return [{"text": found[0], "url": url}, *words(text[found.end() :])]


def words(text: str) -> Words:
    """Pieces of plain words, code between backticks, and addresses."""
    pieces: Words = []
    for index, piece in enumerate(_CODE.split(text)):
        if index % 2:
            pieces.append({"text": piece, "code": "yes"})
            continue
        end = 0
        for found in _ADDRESS.finditer(piece):
            url = found[0].replace("arXiv:", "https://arxiv.org/abs/")
            pieces += [{"text": piece[end : found.start()]}, {"text": found[0], "url": url}]
            end = found.end()
        pieces.append({"text": piece[end:]})
    return [piece for piece in pieces if piece["text"]]


def typeset(words: str) -> str:
    """Text with true minus signs, and no line break between a number and its unit."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", words).replace(" %", "\N{NO-BREAK SPACE}%")


def minute(moment: str | None) -> str | None:
    """``2026-11-20 10:00``."""
    return moment[:16].replace("T", " ") if moment else None


def duration(seconds: float) -> str:
    """``80 min``, or from two hours on ``2.5 h``."""
    return f"{seconds / 60:.0f} min" if seconds < _TWO_HOURS_S else f"{seconds / 3600:.1f} h"
