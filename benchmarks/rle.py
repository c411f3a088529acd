"""COCO's run-length encoding of masks: runs of 0 and 1 in turn, the first of 0, down the columns.

The compressed form writes each run, from the third on as the difference to the one before the last, in groups of five bits behind
an offset of 48, the lowest group first; bit 6 says that a group follows, and the last group has the sign
(cocodataset/cocoapi, ``common/maskApi.c``, ``rleToString``).
"""

from typing import Any

_OFFSET, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10
_THIRD = 3


def run_lengths(counts: Any) -> list[int] | None:
    """Return the runs of an encoded mask, compressed or not; None where they are none."""
    if isinstance(counts, str):
        return _decompressed(counts)
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return None
    return counts


def _decompressed(text: str) -> list[int] | None:
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        group = ord(character) - _OFFSET
        if not 0 <= group < 2 * _MORE or shift > 12 * _BITS:
            return None
        value |= (group & (_MORE - 1)) << shift
        shift += _BITS
        if group & _MORE:
            continue
        if group & _SIGN:
            value -= 1 << shift
        if len(runs) >= _THIRD:
            value += runs[-2]
        if value < 0:
            return None
        runs.append(value)
        value, shift = 0, 0
    return runs if shift == 0 else None


def mask_area(encoded: Any, height: int, width: int) -> int | None:
    """Return the number of pixels of an encoded mask; None where it is no mask of an image of this size."""
    if not isinstance(encoded, dict) or encoded.get("size") != [height, width]:
        return None
    runs = run_lengths(encoded.get("counts"))
    if runs is None or sum(runs) != height * width:
        return None
    return sum(runs[1::2])
