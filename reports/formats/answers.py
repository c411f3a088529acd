"""Paragraphs on the whole leaderboard, the same in every form of the report."""

from reports.formats.evidence import paragraphs as evidence_paragraphs
from reports.formats.evidence import released_sentence
from reports.formats.wording import estimate, p_value, short
from reports.schemas.answers import RankCorrelation, TeacherEffect
from reports.schemas.leaderboard import Leaderboard, Table
from reports.stats.inference import LEVEL

_GOOD_POWER = 0.9


def on_evidence(board: Leaderboard) -> list[str]:
    """Paragraphs on what supports the reported results: the ledger's counts, and released students evaluated here."""
    return [*evidence_paragraphs(board), *(released_sentence(one) for one in board.released if one.scores)]


def sections(board: Leaderboard, *, with_evidence: bool = True) -> list[tuple[str, list[str]]]:
    """Titles and paragraphs; those on evidence may stand elsewhere."""
    found = [
        ("Evidence for the reported results", on_evidence(board) if with_evidence else []),
        ("Initial weights", _backbones(board)),
        ("Power of the seeds", [_power(table) for table in board.tables if table.power]),
        ("Effect of the teacher's seed", [_teacher_effect(effect) for effect in board.teacher_effects]),
    ]
    if not board.paper_scale:
        found.append((f"Does tier {board.tier} predict the reported gains?", _correlations(board)))
    return [(title, paragraphs) for title, paragraphs in found if paragraphs]


def _backbones(board: Leaderboard) -> list[str]:
    if not board.backbones:
        return []
    accuracies = ", ".join(f"{one.name} {one.accuracy:.1f} % in {one.cost.train_s:.0f} s" for one in board.backbones)
    text = (
        "Backbones start from weights pre-trained once each on naming the digit in synthetic images, where published ones start "
        f"from ImageNet; accuracy on the validation split: {accuracies}."
    )
    return [text]


def _power(table: Table) -> str:
    found = table.power
    if found is None:
        return ""
    verdict = "enough" if found.power >= _GOOD_POWER else f"below {_GOOD_POWER:g}: a gain that is not significant may be real"
    return (
        f"{table.title}: {found.seeds} seeds per row and {found.baseline_seeds} of the baseline vary by {found.sd:.2f} "
        f"{short(table.metric)} (standard deviation within a row, pooled). A true gain of {found.gain:g} on one row alone would be "
        f"found with power {found.power:.2f} after Holm over {found.num_tests} tests, {verdict}."
    )


def _teacher_effect(effect: TeacherEffect) -> str:
    significant = "significant" if effect.p <= LEVEL else "not significant"
    return (
        f"{effect.title} on {effect.pair}: under a second teacher, trained with another seed, its students score "
        f"{estimate(effect.difference, effect.low, effect.high)} {short(effect.metric)} (p {p_value(effect.p)}): {significant}. "
        f"Standard deviation between students of one teacher {effect.student_sd:.2f}, between teachers {effect.teacher_sd:.2f}; "
        "the latter is of two teachers, so hardly more than its order of magnitude. Intervals of the rows hold for the one teacher "
        "that they were trained under."
    )


def _correlations(board: Leaderboard) -> list[str]:
    lines = [_correlation(one) for one in board.rank_correlations]
    if not lines:
        return []
    overall = board.rank_correlations[-1]
    if overall.low is None or overall.low <= 0:
        conclusion = f"So these rows do not show whether tier {board.tier} orders the methods as the reported gains do."
    else:
        conclusion = (
            f"So over these rows tier {board.tier} orders the methods as the reported gains do, better than chance; for a method "
            "that is not among them that is not known."
        )
    return [*lines, conclusion]


def _correlation(one: RankCorrelation) -> str:
    if one.rho is None:
        return f"{one.what}: {one.num_rows} {'row has' if one.num_rows == 1 else 'rows have'} a reported gain, too few to rank."
    interval = "" if one.low is None else f", 95 % bootstrap interval {one.low:+.2f} to {one.high:+.2f}"
    return f"{one.what}: Spearman's rank correlation of the gains here with the reported ones {one.rho:+.2f}{interval}, n {one.num_rows}."
