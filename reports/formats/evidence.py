"""The ledger of evidence in words, and as Markdown."""

from collections.abc import Sequence
from itertools import groupby

from reports.formats.markdown_text import Markdown, code, escaped, table
from reports.formats.printable import with_texts
from reports.formats.wording import printed
from reports.schemas.evidence import RUNGS, LedgerEntry, ReleasedStudent
from reports.schemas.leaderboard import Leaderboard

_INTRODUCTION = """\
# Evidence for the reported results

A reported result is first of all a quotation. Each rung below adds evidence, the cheap ones first:

1. **quoted**: read at its source, or second-hand;
2. **artefact known**: its authors released the student's weights or the log of its training;
3. **weights re-evaluated**: the released weights have the reported score here (within 0.1 of a value that rounds to it). This
   verifies the weights, not the method;
4. **log read**: the log ends at the reported score, or has it in its best epoch only;
5. **losses at the log's level**: in the first 500 iterations our losses are within 15 % of the log's;
6. **retrained**: our own students under the published recipe, with their number of seeds.

A confound is a difference from the baseline, or from the source, that the gain may be due to besides the method.
Made from the registries and the records by `./kd evidence`; not edited by hand.
"""


def counts(entries: Sequence[LedgerEntry]) -> dict[str, int]:
    """Return by rung the number of results that have reached it and no higher one."""
    return {rung: sum(entry.rung == rung for entry in entries) for rung in RUNGS}


def paragraphs(board: Leaderboard) -> list[str]:
    """Sentences on all reported results, and on those beside the rows of the grid."""
    if not board.evidence:
        return []
    shown = {result.id for table in board.tables for row in table.rows for result in row.reported}
    beside = [entry for entry in board.evidence if entry.id in shown]
    sentences = [f"Highest rung of evidence of the {len(board.evidence)} reported results: {_listed(board.evidence)}."]
    if beside:
        confounded = sum(bool(entry.confounds) for entry in beside)
        also = f"; of {confounded} of them something besides the method may explain the gain" if confounded else ""
        sentences.append(f"Of the {len(beside)} beside rows of this grid: {_listed(beside)}{also}.")
    return [" ".join([*sentences, "Each result with its next step: evidence.md."])]


def released_sentence(one: ReleasedStudent) -> str:
    """Return the result of a released student in words."""
    scores = "; ".join(
        f"{score.measured:.2f} {score.metric} here, reported {printed(score.value)}: "
        + ("agrees" if score.agrees else f"differs by {score.off:.2f} from all that rounds to it")
        for score in one.scores
    )
    return f"{one.method} on {one.pair}, {one.file} (sha256 {str(one.sha256)[:12]}): {scores}. It verifies the weights, not the method."


def _listed(entries: Sequence[LedgerEntry]) -> str:
    return ", ".join(f"{rung} {num}" for rung, num in counts(entries).items() if num)


def ledger_markdown(entries: Sequence[LedgerEntry]) -> str:
    """Render the ledger: rows of the suite by method, then what has no row here."""
    entries = with_texts(list(entries))
    rows = [entry for entry in entries if entry.what == "method" and entry.is_row]
    others = [entry for entry in entries if not (entry.what == "method" and entry.is_row)]
    parts = [_INTRODUCTION, table(["highest rung", "of the suite's methods", "of all results"], _tally(rows, entries))]
    for method, of_method in groupby(sorted(rows, key=lambda entry: entry.method), key=lambda entry: entry.method):
        parts.append(f"## {escaped(method)}\n\n{_results([*of_method])}")
    for title, what in (("Baselines", "control"), ("Methods and pairs without a row here", "method"), ("Teachers", "teacher")):
        if found := [entry for entry in others if entry.what == what]:
            parts.append(f"## {title}\n\n{_results(found)}")
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _tally(rows: Sequence[LedgerEntry], entries: Sequence[LedgerEntry]) -> list[list[str]]:
    of_rows, of_all = counts(rows), counts(entries)
    return [[rung, str(of_rows[rung]), str(of_all[rung])] for rung in RUNGS]


def _results(entries: Sequence[LedgerEntry]) -> str:
    header = ["result", "on", "reported", "rung", "evidence", "confounds", "next step"]
    return table(header, [_line(entry) for entry in entries])


def _line(entry: LedgerEntry) -> list[str]:
    gain = "" if entry.gain is None else f" ({printed(entry.gain, signed=True)})"
    place = code(entry.pair) if entry.pair else escaped(str(entry.setting))
    if not entry.is_row and entry.what == "method":
        place = Markdown(f"{escaped(entry.method)}, {place}")
    said = "; ".join(f"{rung}: {verdict}" for rung, verdict in entry.verdicts.items())
    step = code(entry.next_step) if entry.next_step.startswith("./kd") else entry.next_step
    return [
        code(entry.id),
        place,
        f"{printed(entry.value)} {entry.metric}{gain}",
        entry.rung,
        said,
        "; ".join(entry.confounds),
        step,
    ]
