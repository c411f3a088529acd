"""Charts of searches: history, slices, importance and Pareto front."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from reports.formats.printable import with_texts
from reports.formats.studies import searches
from reports.formats.wording import short
from reports.plots.fonts import drawn
from reports.plots.style import (
    BLACK,
    GREY,
    ROW_INCHES,
    TALLEST_INCHES,
    WIDTH_INCHES,
    Drawn,
    legend_columns,
    scale_note,
    styled,
    write,
)
from reports.schemas.leaderboard import Leaderboard
from reports.schemas.study import Study, Trial

_COLOUR = "#0072B2"
_PANEL_INCHES, _BAR_INCHES = 1.9, 0.8
_LETTER_INCHES = 0.085  # of a panel's title
_AIR = 0.05  # of the range that was searched, on either side
_DECADES = 50  # from which on whole powers of ten are ticks enough
_MARKS: dict[str, dict[str, Any]] = {
    "complete": {"marker": "o", "linestyle": "none", "color": _COLOUR, "markersize": 4},
    "pruned": {"marker": "x", "linestyle": "none", "color": GREY, "markersize": 4.5},
    "failed": {"marker": "v", "linestyle": "none", "color": BLACK, "mfc": "white", "markersize": 4.5},
    "best": {"marker": "*", "linestyle": "none", "color": "#D55E00", "mec": "white", "mew": 0.5, "markersize": 10},
    "so far": {"linestyle": "-", "color": _COLOUR, "linewidth": 1.0, "drawstyle": "steps-post"},
    "front": {"linestyle": "-", "color": _COLOUR, "linewidth": 1.0},
    "recipe": {"linestyle": "--", "color": GREY, "linewidth": 1.0},
}  # fmt: skip
_LABELS = {
    "complete": "complete trial", "pruned": "pruned, last score", "failed": "failed", "best": "selected",
    "so far": "best so far", "front": "Pareto front", "recipe": "recipe's values",
}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    """A study under the title of its panel."""

    title: str
    study: Study


def history(board: Leaderboard) -> Iterator[Drawn]:
    """Every trial's score in the order of the search."""
    yield from _history(_entries(board), scale_note(board))


def slices(board: Leaderboard) -> Iterator[Drawn]:
    """Score against each hyper-parameter, a figure per study."""
    for entry in _entries(board):
        yield from _slices(entry, scale_note(board), f"slices-{entry.study.pair}-{entry.study.method}")


def importance(board: Leaderboard) -> Iterator[Drawn]:
    """Draw the importance of each hyper-parameter."""
    yield from _importance(_entries(board), scale_note(board))


def front(board: Leaderboard) -> Iterator[Drawn]:
    """Score against training time, of studies with both objectives."""
    yield from _front(_entries(board), scale_note(board))


def draw_study(study: Study, folder: Path) -> list[Path]:
    """Write the charts of one study as SVG files: history, slices, importance and front, as far as there are trials to show."""
    study = with_texts(study, drawn)
    entry = _Entry(f"{study.pair}, {study.method}", study)
    note = f"Tier {study.tier}."
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        charts = [*_history([entry], note), *_slices(entry, note, "slices"), *_importance([entry], note), *_front([entry], note)]
        return [folder / write(one, folder) for one in charts]


def _entries(board: Leaderboard) -> list[_Entry]:
    return [_Entry(f"{table.title}: {one.title}", one.study) for table in board.tables for one in searches(table, board)]


def _history(entries: Sequence[_Entry], note: str) -> Iterator[Drawn]:
    caption = (
        "Each trial's score on the validation split, in points, in the order of the search. Crosses: pruned trials, at "
        "their last score, of a shorter run; line: the best so far; triangles at the foot: failed trials. "
        "Trials that were lost with their worker are excluded."
    )
    ran = [entry for entry in entries if any(_last_score(trial) is not None for trial in entry.study.trials)]
    keys = "complete", "pruned", "failed", "best", "so far", "recipe"
    yield from _panels("history", "History of the searches", caption, ran, _history_panel, note, keys)


def _history_panel(axis: Axes, study: Study) -> None:
    complete = [(trial.number, trial.values[0]) for trial in study.trials if trial.values]
    recipe = next((trial.values[0] for trial in study.trials if trial.is_recipe and trial.values), None)
    if recipe is not None:
        axis.axhline(recipe, **_MARKS["recipe"])
    so_far = list(accumulate((score for _, score in complete), max))
    last = max(trial.number for trial in study.trials)
    axis.plot([*(number for number, _ in complete), last], [*so_far, *so_far[-1:]] or [math.nan], **_MARKS["so far"])
    _scatter(axis, study, lambda trial: trial.number)
    for trial in study.trials:
        if trial.state == "failed":
            axis.plot(trial.number, 0.03, transform=axis.get_xaxis_transform(), **_MARKS["failed"])
    axis.set_xlabel("trial")
    axis.set_ylabel(_score_label(study))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _slices(entry: _Entry, note: str, name: str) -> Iterator[Drawn]:
    study = entry.study
    if not any(_last_score(trial) is not None for trial in study.trials) or not study.space:
        return
    columns = min(3, len(study.space))
    lines = -(-len(study.space) // columns)
    figure = Figure((WIDTH_INCHES, _PANEL_INCHES * lines + 0.6), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for axis, hparam in zip(axes, study.space, strict=False):
        _slice_panel(axis, study, hparam)
    for axis in axes[::columns]:
        axis.set_ylabel(_score_label(study))
    for axis in axes[len(study.space) :]:
        axis.remove()
    _finish(figure, note, [study], ("complete", "pruned", "best", "recipe"))
    caption = (
        "Scores on the validation split, in points, against each value that was tried; the other values vary, too. Crosses: pruned trials, "
        "at their last score, of a shorter run; dashed line: the recipe's value."
    )
    yield Drawn(name, f"Values tried: {entry.title}", caption, figure)


def _slice_panel(axis: Axes, study: Study, hparam: str) -> None:
    bounds, recipe = study.space[hparam], study.recipe_hparams.get(hparam)
    names = None if bounds.choices is None else [str(choice) for choice in bounds.choices]

    def place(given: Any) -> Any:
        return given if names is None else names.index(str(given)) if str(given) in names else None

    if place(recipe) is not None:
        axis.axvline(place(recipe), **_MARKS["recipe"])
    _scatter(axis, study, lambda trial: place(trial.hparams.get(hparam)))
    axis.set_xlabel(hparam)
    if names is not None:
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
    elif bounds.scale == "log" and bounds.low and bounds.high:
        axis.set_xscale("log")
        air = (bounds.high / bounds.low) ** _AIR
        axis.set_xlim(bounds.low / air, bounds.high * air)
        axis.xaxis.set_major_locator(LogLocator(subs=(1,) if bounds.high >= _DECADES * bounds.low else (1, 2, 5)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    elif bounds.low is not None and bounds.high is not None:
        air = (bounds.high - bounds.low) * _AIR
        axis.set_xlim(bounds.low - air, bounds.high + air)
        axis.xaxis.set_major_locator(MaxNLocator(4))


def _importance(entries: Sequence[_Entry], note: str) -> Iterator[Drawn]:
    caption = (
        "Fraction of the variance of the score on the validation split that each hyper-parameter explains over the trials, by the study's "
        "own estimate; a few trials say little."
    )
    known = [entry for entry in entries if entry.study.importance]
    tallest = max((len(entry.study.importance or {}) for entry in known), default=0)
    inches = _BAR_INCHES + ROW_INCHES * tallest
    yield from _panels("importance", "Importance of hyper-parameters", caption, known, _importance_panel, note, (), inches)


def _importance_panel(axis: Axes, study: Study) -> None:
    fractions = sorted((study.importance or {}).items(), key=lambda item: item[1])
    axis.barh([name for name, _ in fractions], [100 * fraction for _, fraction in fractions], color=_COLOUR, height=0.6)
    axis.set_xlim(0, 100)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("fraction of the variance, %")


def _front(entries: Sequence[_Entry], note: str) -> Iterator[Drawn]:
    caption = (
        "Complete trials by training time and score on the validation split, in points; line: Pareto front, the trials that no other one is better than "
        "in both."
    )
    both = [entry for entry in entries if len(entry.study.objectives) > 1 and entry.study.front]
    keys = "complete", "best", "front"
    yield from _panels("front", "Score against training time in the searches", caption, both, _front_panel, note, keys)


def _front_panel(axis: Axes, study: Study) -> None:
    places = {trial.number: (trial.values[1] / 60, trial.values[0]) for trial in study.trials if trial.values}
    ends = sorted(places[number] for number in study.front)
    axis.plot([x for x, _ in ends], [y for _, y in ends], **_MARKS["front"])
    axis.plot([x for x, _ in places.values()], [y for _, y in places.values()], **_MARKS["complete"])
    if study.best is not None:
        axis.plot(*places[study.best], **_MARKS["best"])
    axis.margins(0.1)
    axis.set_xlabel("training time, min")
    axis.set_ylabel(_score_label(study))


def _panels(
    name: str,
    title: str,
    caption: str,
    entries: Sequence[_Entry],
    draw: Callable[[Axes, Study], None],
    note: str,
    keys: Sequence[str],
    inches: float = _PANEL_INCHES,
) -> Iterator[Drawn]:
    """Draw a panel per study, on as many pages as they need; none for no study."""
    columns = min(2, len(entries)) or 1
    room = max(1, int(TALLEST_INCHES / inches)) * columns
    pages = [entries[start : start + room] for start in range(0, len(entries), room)]
    for number, page in enumerate(pages, start=1):
        lines = -(-len(page) // columns)
        figure = Figure((WIDTH_INCHES, inches * lines + 0.6), layout="constrained")
        letters = int(WIDTH_INCHES / columns / _LETTER_INCHES)
        for place, entry in zip(figure.subfigures(lines, columns, squeeze=False).flat, page, strict=False):
            draw(place.subplots(), entry.study)
            # Above the names of bars, too: the axes alone are narrower than a title.
            place.suptitle(fill(entry.title, letters), x=0.02, ha="left", fontsize=8.5, fontweight="bold")
        _finish(figure, note, [entry.study for entry in page], keys)
        of_many = f" ({number} of {len(pages)})" if len(pages) > 1 else ""
        yield Drawn(name if number == 1 else f"{name}-{number}", title + of_many, caption, figure)


def _finish(figure: Figure, note: str, studies: Sequence[Study], keys: Sequence[str]) -> None:
    """Add the tier above, and below a legend of the marks that occur."""
    figure.suptitle(note, x=0.01, ha="left", color=GREY)
    states = {trial.state for study in studies for trial in study.trials}
    handles = [
        Line2D([], [], **_MARKS[key], label=_LABELS[key]) for key in keys if key not in ("pruned", "failed") or key in states
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(handles))


def _last_score(trial: Trial) -> float | None:
    """Score of a complete trial, last one of a pruned trial; None for others."""
    if trial.values:
        return trial.values[0]
    return trial.reports[-1][1] if trial.state == "pruned" and trial.reports else None


def _scatter(axis: Axes, study: Study, place: Callable[[Trial], Any]) -> None:
    """Draw complete and pruned trials that have a place, and on top the one whose values are selected."""
    shown = [(trial, place(trial), _last_score(trial)) for trial in study.trials]
    known = [(trial, x, score) for trial, x, score in shown if x is not None and score is not None]
    for key in ("complete", "pruned", "best"):
        of_key = [
            (x, score) for trial, x, score in known if (trial.number == study.best if key == "best" else trial.state == key)
        ]
        axis.plot([x for x, _ in of_key], [score for _, score in of_key], **_MARKS[key])


def _score_label(study: Study) -> str:
    return f"validation split,\n{short(study.metric)} points"
