"""Reported results, notes on pairs and recipes, for a report."""

from collections.abc import Callable, Sequence

from benchmarks.pair import Pair
from benchmarks.reported import RegistryEntry
from pipelines.recipes import load_parts, method_title
from reports.schemas.leaderboard import Conflict, RecipeSummary
from reports.schemas.reported import ReportedResult


def stated_differences(figure: RegistryEntry) -> list[str]:
    """Return the differences that the registry names between a result's run and the suite's."""
    return [f"{difference.kind}: {difference.why}" for difference in figure.differs]


def reported_results(
    figures: Sequence[RegistryEntry],
    pair: str,
    metric: str,
    differences: Callable[[RegistryEntry], list[str]] = stated_differences,
) -> dict[str, list[ReportedResult]]:
    """Return the results reported on a pair, by method, and under ``teacher`` its teachers'.

    A result that one source repeats after another is shown once, from the source that is comparable if one is.

    Args:
        figures: the registry.
        pair: name.
        metric: the pair's.
        differences: between a result's run and the suite's.
    """
    found: dict[str, dict[tuple[float, float | None], ReportedResult]] = {}
    for figure in figures:
        at_pair, at_method = (figure.pair, "teacher") if figure.what == "teacher" else figure.place
        if at_method is None or figure.kind == "user_reproduction" or (at_pair, figure.metric) != (pair, metric):
            continue
        gain = None if figure.baseline is None else round(figure.value - figure.baseline, 4)
        entries, differs = found.setdefault(at_method, {}), differences(figure)
        first = entries.get((figure.value, gain))
        if first is None or (first.differs and not differs):
            entries[figure.value, gain] = ReportedResult(
                id=figure.id,
                value=figure.value,
                gain=gain,
                teacher=figure.teacher,
                source=figure.source,
                read=figure.read,
                variant={name: value for name, value in figure.variant.model_dump().items() if value is not None},
                disagrees_with=figure.disagrees_with,
                differs=differs,
                gain_differs=figure.gain_differs,
            )
    return {method: list(entries.values()) for method, entries in found.items()}


def pair_notes(pair: Pair) -> list[str]:
    """Return changes of the published models that apply to every method."""
    notes = []
    for side, model in (("teacher", pair.teacher), ("student", pair.student)):
        if model.changes:
            changed = ", ".join(f"`{key}` = {value}" for key, value in model.changes.items())
            notes.append(f"the {side}'s config has {changed} ({model.why_changed})")
    if pair.teacher.inferred:
        notes.append(f"the teacher is inferred: {' '.join(pair.teacher.inferred.split())}")
    if pair.teacher.no_checkpoint:
        notes.append(f"no published teacher to download: {pair.teacher.no_checkpoint}")
    return notes


def conflicts(figures: Sequence[RegistryEntry]) -> list[Conflict]:
    """Return the results that contradict each other, those of one teacher or method together, the highest first."""
    ids = {figure.id for figure in figures}
    found = [figure for figure in figures if ids.intersection(figure.disagrees_with)]
    return [
        Conflict(
            what="teacher" if figure.what == "teacher" else _shown_title(figure),
            value=figure.value,
            baseline=figure.baseline,
            source=figure.source,
            note=figure.note,
        )
        for figure in sorted(found, key=lambda figure: (figure.what != "teacher", _shown_title(figure), -figure.value))
    ]


def _shown_title(figure: RegistryEntry) -> str:
    """Return a method's title; the name there of one that the suite has not."""
    return method_title(figure.place[1]) if figure.place[1] else figure.printed_method


def recipe_of(name: str) -> RecipeSummary:
    """Return a method's recipe in words."""
    recipe = load_parts(name)[0].recipe
    paper, source = recipe.paper, recipe.source
    return RecipeSummary(
        title=recipe.title,
        is_control=(recipe.code or name) == "none" or recipe.teacher == "untrained",
        paper=f"{paper.title}, {paper.venue}, arXiv:{paper.arxiv}" if paper else None,
        arxiv=paper.arxiv if paper else None,
        source=f"{source.repo} at {source.commit}, {source.path} ({source.licence})" if source else None,
        source_url=f"https://github.com/{source.repo}/tree/{source.commit}" if source else None,
        file=f"methods/{name}.yaml",
        notes=[" ".join(note.split()) for note in recipe.notes],
        deviations=[f"{one.what}: {' '.join(one.why.split())}" for one in recipe.deviations],
    )
