"""Answers in one sentence per pair, and the order of a pair's rows."""

from collections import Counter
from collections.abc import Sequence

from reports.formats.wording import datasets, decisive, estimate, gap, printed, short
from reports.schemas.evidence import RUNGS, Rung
from reports.schemas.leaderboard import Leaderboard, Row, Table
from reports.stats.inference import LEVEL


def scale(board: Leaderboard) -> str:
    """Conditions that all headlines hold under, as their lead."""
    if board.paper_scale:
        return f"At paper scale, on {datasets(board)}:"
    return f"At reduced scale ({board.tier_title}), not on {datasets(board)}:"


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the baseline, then the rows from the highest gain to the lowest, then those without one; ties stay in the grid's order."""
    return sorted(rows, key=lambda row: (not row.is_baseline, row.gain is None, -(row.gain or 0.0), row.status != "done"))


def is_control(row: Row, board: Leaderboard) -> bool:
    """Return True for a row without a trained teacher: the baseline, a longer one, a placebo."""
    return all(part in board.recipes and board.recipes[part].is_control for part in row.parts) or row.method == "none"


def best(table: Table, board: Leaderboard) -> Row | None:
    """Return the row that gains most under a trained teacher; None where none gains."""
    row = next(iter(_distilled(table, board)), None)
    return row if row and row.gain is not None and row.gain > 0 else None


def rung(row: Row, table: Table, board: Leaderboard) -> Rung | None:
    """Return the highest rung of evidence for the reported results of a row; None without any."""
    entries = [
        one
        for one in board.evidence
        if (one.pair, one.method, one.setting) == (table.pair, row.method, None) and one.what != "teacher"
    ]
    return max((one.rung for one in entries), key=RUNGS.index, default=None)


def headline(table: Table, board: Leaderboard) -> str:
    """Answer for one pair in words: the method that gains most, the controls that gain as well, and what has no result."""
    rows = [row for row in table.rows if not is_control(row, board) and row.status != "unsupported"]
    absent = [f"{row.title} ({row.status})" for row in rows if row.status != "done"]
    sentences = [f"On {table.title}, {_answer(table, board, rows)}.", *_controls(table, board)]
    if board.paper_scale and (counts := _verdicts(rows)):
        sentences.append(f"Reported results here: {counts}.")
    if absent and any(row.seeds for row in table.rows):
        sentences.append(f"Without a result: {', '.join(absent)}.")
    return " ".join(sentences)


def _distilled(table: Table, board: Leaderboard) -> list[Row]:
    """Rows under a trained teacher that have a gain, from the highest."""
    return [row for row in ranked(table.rows) if row.gain is not None and not is_control(row, board)]


def _answer(table: Table, board: Leaderboard, rows: Sequence[Row]) -> str:
    found = _distilled(table, board)
    if not any(row.seeds for row in table.rows):
        return f"nothing has finished yet, of {len(table.rows)} {'row' if len(table.rows) == 1 else 'rows'}"
    if table.baseline is None:
        return "no gain is known yet: the baseline has not finished"
    if not found:
        which = "no distilled student has finished yet" if rows else "no method is in this grid"
        return f"{which}; the baseline scores {table.baseline.mean:.1f} {short(table.metric)}"
    first, count = found[0], len({row.method for row in found})
    gained = f"{estimate(first.gain or 0.0, first.gain_low, first.gain_high)} {short(table.metric)}"
    if (first.gain or 0.0) <= 0:
        return f"no method gains: {first.title}, {'the only one' if count == 1 else f'the highest of {count}'}, is at {gained}"
    if first.gain_p is not None and first.gain_p > LEVEL:
        return f"no gain is significant: {first.title} has the highest of {count}, {gained}"
    return f"{first.title} gains {gained}{_gap_words(first)}, {_place(count)}{_caution(first, board)}"


def _gap_words(row: Row) -> str:
    return "" if row.gap_closed is None else f" and closes {gap(row)} of the gap to the teacher"


def _place(count: int) -> str:
    return "the only method here" if count == 1 else f"the most of {count} methods"


def _caution(row: Row, board: Leaderboard) -> str:
    """Return the reservation on a gain that a test did not confirm; empty on one that holds after correction."""
    if row.gain_p is None:
        return f"; untested: {row.untested or 'too few runs'}"
    holds = row.gain_p_holm is not None and row.gain_p_holm <= LEVEL
    return "" if holds else f", but not significantly after correction for {board.num_tests} tests"


def _controls(table: Table, board: Leaderboard) -> list[str]:
    """Sentences on the controls whose own gain is significant."""
    found = _distilled(table, board)
    highest = found[0].gain or 0.0 if found else 0.0
    return [
        f"Control {row.title!r} gains {estimate(row.gain, row.gain_low, row.gain_high)}{', more than any method' if row.gain > highest else ''}."
        for row in ranked(table.rows)
        if row.gain is not None
        and row.gain > 0
        and row.gain_p_holm is not None
        and row.gain_p_holm <= LEVEL
        and is_control(row, board)
    ]


def _verdicts(rows: Sequence[Row]) -> str:
    """``2 reproduced, 1 inconclusive; CrossKD's +3.5 reproduced`` of the judged results; empty where none was."""
    judged = [(row, result, found) for row in rows for result in row.reported if (found := decisive(result))]
    counts = Counter(found.verdict for *_, found in judged)
    each = ", ".join(
        f"{row.title} {printed(result.value) if result.gain is None else printed(result.gain, signed=True)} {found.verdict}"
        for row, result, found in judged
    )
    return f"{', '.join(f'{number} {verdict}' for verdict, number in counts.items())} ({each})" if judged else ""
