"""Results and verdicts in words; every form of the report takes them from here."""

from collections.abc import Iterable

from reports.schemas.leaderboard import Leaderboard, Row, Table
from reports.schemas.reported import ReportedComparison, ReportedResult
from reports.stats.inference import LEVEL

_MOST_KJ = 10_000  # more is given in kWh


def short(metric: str) -> str:
    """Name of a metric in a table: AP is that of boxes where nothing else is said."""
    return metric.removeprefix("box ")


def datasets(board: Leaderboard) -> str:
    """Return the published data sets, ``COCO or VOC``."""
    return " or ".join(dict.fromkeys(table.dataset for table in board.tables))


def scale_warning(board: Leaderboard) -> str | None:
    """Warning on what a reduced scale's results do not say, and on the reported ones beside them; None at paper scale."""
    limit = scale_limit(board)
    return limit and f"{limit} Reported gains quote the authors at paper scale on {datasets(board)}, for orientation."


def scale_limit(board: Leaderboard) -> str | None:
    """Sentence on what a reduced scale's results do not say; None at paper scale."""
    if board.paper_scale:
        return None
    return f"Scale: {board.tier_title}. These are not {datasets(board)} results and say nothing about any reported one."


def question(board: Leaderboard) -> str:
    """Hypotheses of the tests, and the number of false positives to expect."""
    if not board.num_tests:
        return "Nothing can be tested yet: it takes two finished seeds of a method and two of its baseline."
    expected = f"{LEVEL * board.num_tests:.1f}"
    if board.paper_scale:
        margins = "; ".join(f"{m.margin:g} {short(m.metric)} on {m.dataset}: {m.why}" for m in board.margins) or "none needed"
        return (
            "Judged are the results whose run had our settings; the others are for orientation, each with its reason. "
            "Reproduced: two one-sided t-tests place our mean within the margin of every value that rounds to the reported "
            "one. Not reproduced: a t-test places it beyond. Inconclusive: neither. Each is wrong in at most 5 % of cases; "
            f"of {board.num_tests} tests {expected} are expected to mislead. After Holm's adjustment all together are wrong in at "
            f"most 5 %. Margins, declared beforehand: {margins}."
        )
    with_tuning = any(row.tuning and row.tuning.gain_p is not None for table in board.tables for row in table.rows)
    more = ", and whether tuning adds to it" if with_tuning else ""
    return (
        "Nothing was reported at this scale, so the only question is whether a gain over the baseline here differs from zero"
        f"{more} (Welch's t-test, unpaired, two-sided). Of {board.num_tests} such tests, {expected} would come out below 5 % if no "
        f"method {'or search ' if with_tuning else ''}had any effect; after Holm's adjustment all together are wrong in at most 5 %."
    )


def mean(row: Row) -> str:
    """``12.4 ± 0.2``; empty where nothing ran."""
    if row.mean is None:
        return ""
    return f"{row.mean:.1f}" + ("" if row.sd is None else f" ± {row.sd:.1f}")


def gain(row: Row) -> str:
    """``+5.7 [+3.2, +8.3]``."""
    return "" if row.gain is None else estimate(row.gain, row.gain_low, row.gain_high)


def estimate(point: float, low: float | None, high: float | None) -> str:
    """Format a difference with its interval, where it has one."""
    return f"{point:+.1f}" + ("" if low is None else f" [{low:+.1f}, {high:+.1f}]")


def recognition(row: Row) -> str:
    """``97 % found, 65 % right``, or of a segmenter ``foreground 61.2``; empty where it was not measured."""
    if row.foreground is not None:
        return f"foreground {row.foreground:.1f}"
    if row.found is None:
        return ""
    return f"{row.found:.0f} % found" + ("" if row.right is None else f", {row.right:.0f} % right")


def gap(row: Row) -> str:
    """``36 % [31, 42]``."""
    if row.gap_closed is None:
        return ""
    interval = "" if row.gap_low is None or row.gap_high is None else f" [{100 * row.gap_low:.0f}, {100 * row.gap_high:.0f}]"
    return f"{100 * row.gap_closed:.0f} %{interval}"


def printed(value: float, *, signed: bool = False) -> str:
    """Format a reported value: one digit after the point, or two where it has them."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text.removesuffix("0")


def reported_scores(results: Iterable[ReportedResult]) -> str:
    """``41.0, 40.6``."""
    return ", ".join(printed(result.value) for result in results)


def reported_gains(results: Iterable[ReportedResult]) -> str:
    """``+2.6, +2.2``."""
    return ", ".join(printed(result.gain, signed=True) for result in results if result.gain is not None)


def verdict(row: Row, board: Leaderboard) -> str:
    """Verdict on a row, in the few words that a table has room for."""
    if row.status != "done":
        return row.status
    if not board.paper_scale:
        return _gain_verdict(row)
    if row.tuned:
        return "tuned: no reported result"
    words = [comparison.verdict for result in row.reported for comparison in (decisive(result),) if comparison]
    if not words:
        return "not comparable" if row.reported else "no reported result"
    return ", ".join(f"{word} ({words.count(word)} of {len(words)})" if len(words) > 1 else word for word in dict.fromkeys(words))


VERDICTS = {  # how a verdict begins -> its meaning
    "significant gain": "the interval excludes zero, also after Holm's correction for all tests of this leaderboard (p < 0.05)",
    "significant loss": "worse than the baseline, also after Holm's correction for all tests of this leaderboard (p < 0.05)",
    "gain not significant after correction": "p < 0.05 on its own, and not once all tests of this leaderboard are counted (Holm)",
    "loss not significant after correction": "p < 0.05 on its own, and not once all tests of this leaderboard are counted (Holm)",
    "not significant": "these seeds do not tell it from no gain at all; that is not the same as no gain",
    "inconclusive": "too few seeds, or too wide an interval, to decide",
    "reproduced": "our mean is within the margin of the reported value (two one-sided tests)",
    "not reproduced": "our mean is beyond the margin of the reported value",
    "not comparable": "the reported result was obtained under other settings, which the row lists",
    "no reported result": "no source reports this method on this pair",
    "tuned": "its hyper-parameters were searched for here, so no reported result is of the same settings",
    "baseline": "the student alone, same schedule",
    "teacher": "the pair's teacher, one run",
    "unsupported": "the method needs inputs that this pair's models do not have",
    "not run": "requested, and no run has finished",
    "failed": "no run finished; the reason is in the row",
}


def verdict_meaning(kind: str) -> str:
    """Explanation of a verdict for the legend; empty for one without."""
    return next((meaning for begins, meaning in VERDICTS.items() if kind.startswith(begins)), "")


def tested(row: Row) -> str:
    """``p 0.01; after Holm's correction p 0.04``; the reason where there is no test."""
    if row.gain_p is None:
        return f"untested: {row.untested}" if row.untested else ""
    return f"p {p_value(row.gain_p)}" + (
        "" if row.gain_p_holm is None else f"; after Holm's correction p {p_value(row.gain_p_holm)}"
    )


def decisive(result: ReportedResult) -> ReportedComparison | None:
    """Comparison of the gain, which includes the source's own baseline; of the score where no gain is printed."""
    return result.gain_verdict or result.score_verdict


def _gain_verdict(row: Row) -> str:
    if row.is_baseline:
        return "baseline"
    if row.gain is None:
        return "no baseline to compare with"
    if row.gain_p is None:
        return f"inconclusive: {row.untested or 'not tested'}"
    if row.gain_p > LEVEL:
        return "not significant"
    word = "gain" if row.gain > 0 else "loss"
    holds = row.gain_p_holm is not None and row.gain_p_holm <= LEVEL
    return f"significant {word}" if holds else f"{word} not significant after correction"


def reading(result: ReportedResult, table: Table) -> list[str]:
    """Sentences on one reported result: why it is not judged, or the verdicts on score and gain; no verdicts at reduced scale."""
    unit = short(table.metric)
    sentences = [f"score {printed(result.value)} {unit} {orientation(result)}"] if result.differs else []
    if result.gain_differs is not None:
        sentences.append(f"gain not judged: {result.gain_differs}")
    if result.score_verdict:
        sentences.append(_comparison(f"score {printed(result.value)} {unit}", result.score_verdict))
    if result.gain_verdict and result.gain is not None:
        sentences.append(_comparison(f"gain {printed(result.gain, signed=True)} {unit}", result.gain_verdict))
    return sentences


def _comparison(subject: str, found: ReportedComparison) -> str:
    interval = "" if found.low is None else f", 90 % interval {found.low:+.2f} to {found.high:+.2f}"
    sentence = f"{subject}: {found.verdict}; ours differs by {found.difference:+.2f}{interval}, margin {found.margin:g}"
    if found.verdict == "inconclusive":
        further = found.further_seeds
        if not further:
            return f"{sentence}; no reasonable number of seeds would decide it"
        return f"{sentence}; {further} further {'seed' if further == 1 else 'seeds'} would decide it"
    if found.p_holm is not None:
        holds = "also" if found.p_holm <= LEVEL else "not"
        sentence += f", {holds} after Holm's adjustment (p {p_value(found.p_holm)})"
    return sentence


def orientation(result: ReportedResult) -> str:
    """``for orientation, not judged: teacher: ...``; empty where the result is comparable."""
    return f"for orientation, not judged: {'; '.join(result.differs)}" if result.differs else ""


def setting(value: object) -> str:
    """Format a hyper-parameter's value; numbers to six digits, all are in leaderboard.json."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def p_value(p: float) -> str:
    """``0.04``, ``0.006`` or ``< 0.001``."""
    least, two_digits = 0.001, 0.01
    return "< 0.001" if p < least else f"{p:.3f}" if p < two_digits else f"{p:.2f}"


def minutes(row: Row) -> str:
    """``1.5``, or with the minutes spent once for all seeds ``1.5 + 0.4``."""
    if row.minutes is None:
        return ""
    return f"{row.minutes:.1f}" + ("" if row.one_time_minutes is None else f" + {row.one_time_minutes:.1f}")


def code_marks(board: Leaderboard) -> str:
    """``; no remote had 1234567890``, and why records name no commit; empty where they do, and it was pushed."""
    unpushed = f"; no remote had {', '.join(commit[:10] for commit in board.unpushed)}" if board.unpushed else ""
    return unpushed + "".join(f"; some runs name no commit: {why}" for why in board.why_no_commit)


def device(board: Leaderboard) -> str:
    """``CPU a``, or ``CPU a (40 runs) and CPU b (1 run), ...``; empty where none was recorded."""
    if not board.devices:
        return board.environment.device if board.environment else ""
    named = " and ".join(f"{name} ({number} run{'s' if number > 1 else ''})" for name, number in board.devices.items())
    return f"{named}; the same seed gives other digits on another kind of processor"


def one_time_costs(board: Leaderboard) -> str:
    """Items behind the plus of :func:`minutes`."""
    tuned = any(row.tuned for table in board.tables for row in table.rows)
    return "a method's auxiliary module" + (", and all trials of a tuned row's search" if tuned else "")


def energy(energy_kj: float) -> str:
    """``85 kJ``, or of much ``10.0 kWh``."""
    return f"{energy_kj:.0f} kJ" if energy_kj < _MOST_KJ else f"{energy_kj / 3600:.1f} kWh"
