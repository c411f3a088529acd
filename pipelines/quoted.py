"""What a report quotes: figures of the registry, and what the files of pairs and methods say."""

from collections.abc import Sequence

from benchmarks.pair import Pair
from benchmarks.published import Figure
from pipelines.params import load_parts
from reports.board import PublishedFigure, Recipe


def published_figures(figures: Sequence[Figure], pair: str, metric: str) -> dict[str, list[PublishedFigure]]:
    """By method, what its authors and others publish on a pair; what one source repeats after another is shown once."""
    found: dict[str, list[PublishedFigure]] = {}
    for figure in figures:
        shown = figure.other_method is None and figure.kind != "user_reproduction"
        if shown and (figure.pair, figure.metric) == (pair, metric):
            gain = None if figure.baseline is None else round(figure.value - figure.baseline, 4)
            entries = found.setdefault(figure.method_name, [])
            if (figure.value, gain) not in [(other.value, other.gain) for other in entries]:
                known = {name: value for name, value in figure.variant.model_dump().items() if value is not None}
                entries.append(
                    PublishedFigure(
                        id=figure.id,
                        value=figure.value,
                        gain=gain,
                        teacher=figure.teacher,
                        source=figure.source,
                        read=figure.read,
                        variant=known,
                        disagrees_with=figure.disagrees_with,
                    )
                )
    return found


def pair_notes(pair: Pair, figures: Sequence[Figure]) -> list[str]:
    """Where the published models were changed for every method, and which sources disagree."""
    notes = []
    for side, model in (("teacher", pair.teacher), ("student", pair.student)):
        if model.changes:
            changed = ", ".join(f"`{key}` = {value}" for key, value in model.changes.items())
            notes.append(f"the {side}'s config has {changed} ({model.why_changed})")
    if pair.teacher.no_checkpoint:
        notes.append(f"no published teacher to fetch: {pair.teacher.no_checkpoint}")
    by_id = {figure.id: figure for figure in figures}
    for figure in figures:
        rivals = [by_id[name] for name in figure.disagrees_with if name in by_id and name > figure.id]
        notes += [
            f"sources disagree on {'the teacher' if figure.what == 'teacher' else figure.method_name}: "
            f"{_claimed(figure)} against {_claimed(rival)}" + (f" ({figure.note})" if figure.note else "")
            for rival in rivals
        ]
    return notes


def _claimed(figure: Figure) -> str:
    over = "" if figure.baseline is None else f" over {figure.baseline}"
    return f"{figure.value}{over} in {figure.source}"


def recipe_of(name: str) -> Recipe:
    """What a method's file says, in words."""
    recipe = load_parts(name)[0].recipe
    paper, source = recipe.paper, recipe.source
    return Recipe(
        title=recipe.title,
        paper=f"{paper.title}, {paper.venue}, arXiv:{paper.arxiv}" if paper else None,
        source=f"{source.repo} at {source.commit}, {source.path} ({source.licence})" if source else None,
        notes=[" ".join(note.split()) for note in recipe.notes],
        deviations=[f"{one.what}: {' '.join(one.why.split())}" for one in recipe.deviations],
    )
