"""How figures and verdicts are put into words; every form of the report says them with these."""

from collections.abc import Iterable

from reports.schemas.leaderboard import Against, Leaderboard, PublishedFigure, Row, Table, TeacherRow

LEVEL = 0.05  # of one test alone, and of all together after Holm


def short(metric: str) -> str:
    """How a table calls its metric: AP is that of boxes where nothing else is said."""
    return metric.removeprefix("box ")


def datasets(board: Leaderboard) -> str:
    """The published data sets, ``COCO or VOC``."""
    return " or ".join(dict.fromkeys(table.dataset for table in board.tables))


def scale_warning(board: Leaderboard) -> str | None:
    """What must not be read into a scaled tier's figures; None at full size."""
    if board.full_size:
        return None
    return (
        f"Scale: {board.tier_title}. These are not {datasets(board)} figures and say nothing about any published one. "
        f"The columns headed published quote the authors at full size on {datasets(board)}, for orientation."
    )


def question(board: Leaderboard) -> str:
    """What the tests ask, and how many false answers to expect."""
    if not board.num_tests:
        return "Nothing can be tested yet: it takes two finished seeds of a method and two of its control."
    expected = f"{LEVEL * board.num_tests:.1f}"
    if board.full_size:
        margins = "; ".join(f"{m.margin:g} {short(m.metric)} on {m.dataset}: {m.why}" for m in board.margins) or "none needed"
        return (
            "Judged are the results whose run had our settings; the others are for orientation, each with its reason. "
            "Reproduced: two one-sided t-tests place our mean within the margin of every value that rounds to the published "
            "figure. Not reproduced: a t-test places it beyond. Inconclusive: neither. Each is wrong in at most 5 % of cases; "
            f"of {board.num_tests} tests {expected} are expected to mislead. After Holm's adjustment all together are wrong in at "
            f"most 5 %. Margins, declared beforehand: {margins}."
        )
    is_tuned = any(row.tuning and row.tuning.gain_p is not None for table in board.tables for row in table.rows)
    more = ", and whether tuning adds to it" if is_tuned else ""
    return (
        "At this scale no figure was published, so the only question is whether a gain over the control here differs from zero"
        f"{more} (Welch's t-test, unpaired, two-sided). Of {board.num_tests} such tests, {expected} would come out below 5 % if no "
        f"method {'or search ' if is_tuned else ''}had any effect; after Holm's adjustment all together are wrong in at most 5 %."
    )


def mean(row: Row) -> str:
    """``12.4 ± 0.2``; empty where nothing ran."""
    if row.mean is None:
        return ""
    return f"{row.mean:.1f}" + ("" if row.sd is None else f" ± {row.sd:.1f}")


def gain(row: Row) -> str:
    """``+5.7 [+3.2, +8.3]``."""
    if row.gain is None:
        return ""
    return estimate(row.gain, row.gain_low, row.gain_high)


def estimate(point: float, low: float | None, high: float | None) -> str:
    """A difference with its interval, where it has one."""
    return f"{point:+.1f}" + ("" if low is None else f" [{low:+.1f}, {high:+.1f}]")


def reads(result: Row | TeacherRow) -> str:
    """``97 % found, 65 % right``, or of a segmenter ``foreground 61.2``; empty where it was not measured."""
    if isinstance(result, TeacherRow):
        names = ("objects found", "right class", "foreground IoU")
        found, right, foreground = (result.metrics.get(name) for name in names)
    else:
        found, right, foreground = result.found, result.right, result.foreground
    if foreground is not None:
        return f"foreground {foreground:.1f}"
    if found is None:
        return ""
    return f"{found:.0f} % found" + ("" if right is None else f", {right:.0f} % right")


def gap(row: Row) -> str:
    """``36 % [31, 42]``."""
    if row.gap_closed is None:
        return ""
    interval = "" if row.gap_low is None or row.gap_high is None else f" [{100 * row.gap_low:.0f}, {100 * row.gap_high:.0f}]"
    return f"{100 * row.gap_closed:.0f} %{interval}"


def printed(value: float, *, signed: bool = False) -> str:
    """A published figure as printed: one digit after the point, or two where it has them."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text.removesuffix("0")


def published_scores(figures: Iterable[PublishedFigure]) -> str:
    """``41.0, 40.6``."""
    return ", ".join(printed(figure.value) for figure in figures)


def published_gains(figures: Iterable[PublishedFigure]) -> str:
    """``+2.6, +2.2``."""
    return ", ".join(printed(figure.gain, signed=True) for figure in figures if figure.gain is not None)


def verdict(row: Row, board: Leaderboard) -> str:
    """One word or two on the row, as a table has room for."""
    if row.status != "done":
        return row.status
    if not board.full_size:
        return _gain_word(row)
    if row.is_tuned:
        return "tuned: no published figure"
    words = [against.verdict for figure in row.published for against in (_decisive(figure),) if against]
    if not words:
        return "not comparable" if row.published else "no published figure"
    return ", ".join(f"{word} ({words.count(word)} of {len(words)})" if len(words) > 1 else word for word in dict.fromkeys(words))


def _decisive(figure: PublishedFigure) -> Against | None:
    """A figure's verdict: the gain's, which the source's own control carries; the score's where no gain is printed."""
    return figure.gain_verdict or figure.score_verdict


def _gain_word(row: Row) -> str:
    if row.method == "none":
        return "control"
    if row.gain is None:
        return "no control to compare with"
    if row.gain_p is None:
        return f"inconclusive: {row.untested or 'not tested'}"
    if row.gain_p > LEVEL:
        return "gain not shown"
    word = "gain above zero" if row.gain > 0 else "loss below zero"
    return word if row.gain_p_holm is not None and row.gain_p_holm <= LEVEL else f"{word}, not after Holm"


def reading(figure: PublishedFigure, table: Table) -> list[str]:
    """Sentences on one published figure: why it is not judged, or the verdicts on score and gain; no verdicts at scaled tiers."""
    sentences = [f"score {printed(figure.value)} {short(table.metric)} {orientation(figure)}"] if figure.differs else []
    if figure.gain_differs is not None:
        sentences.append(f"gain not judged: {figure.gain_differs}")
    for what, value, against in (
        ("score", printed(figure.value), figure.score_verdict),
        ("gain", "" if figure.gain is None else printed(figure.gain, signed=True), figure.gain_verdict),
    ):
        if against is None:
            continue
        interval = "" if against.low is None else f", 90 % interval {against.low:+.2f} to {against.high:+.2f}"
        sentence = (
            f"{what} {value} {short(table.metric)}: {against.verdict}; ours differs by {against.difference:+.2f}{interval}, "
            f"margin {against.margin:g}"
        )
        if against.p_holm is not None and against.verdict != "inconclusive":
            holds = "also" if against.p_holm <= LEVEL else "not"
            sentence += f", {holds} after Holm's adjustment (p {p_value(against.p_holm)})"
        if against.verdict == "inconclusive":
            further = against.further_seeds
            sentence += (
                f"; {further} further {'seed' if further == 1 else 'seeds'} would decide it"
                if further
                else "; no reasonable number of seeds would decide it"
            )
        sentences.append(sentence)
    return sentences


def orientation(figure: PublishedFigure) -> str:
    """``for orientation, not judged: teacher: ...``; empty where the figure is comparable."""
    return f"for orientation, not judged: {'; '.join(figure.differs)}" if figure.differs else ""


def setting(value: object) -> str:
    """A hyper-parameter's value; numbers to six digits, all are in leaderboard.json."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def p_value(p: float) -> str:
    """``0.04``, ``0.006`` or ``< 0.001``."""
    least, two_digits = 0.001, 0.01
    return "< 0.001" if p < least else f"{p:.3f}" if p < two_digits else f"{p:.2f}"


def minutes(row: Row) -> str:
    """``1.5``, or with what was spent beforehand ``1.5 + 0.4``."""
    if row.minutes is None:
        return ""
    return f"{row.minutes:.1f}" + ("" if row.beforehand_minutes is None else f" + {row.beforehand_minutes:.1f}")


def beforehand(board: Leaderboard) -> str:
    """What stands behind the plus of :func:`minutes`."""
    tuned = any(row.is_tuned for table in board.tables for row in table.rows)
    return "what a method learns beforehand, its prior" + (", and a tuned row's search, all its trials together" if tuned else "")
