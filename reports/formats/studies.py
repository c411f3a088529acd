"""Searches behind tuned rows, in the words and numbers that every form of the report has in common."""

import math
from dataclasses import dataclass
from typing import Any

from reports.formats import wording
from reports.schemas.leaderboard import Leaderboard, Row, Table
from reports.schemas.study import SearchRange, Study, Trial
from reports.stats.inference import LEVEL

_CLOSE = 0.05  # to a bound of a search range, relative to its length on its scale
_SAMPLERS = {"tpe": "TPE", "random": "random draws"}


@dataclass(frozen=True)
class Search:
    """A study with the rows that belong to it.

    Args:
        study: itself.
        title: of the method.
        row: the method's own, with the recipe's values; None where the grid has none.
        tuned: the row with the selected values.
        metric: of the pair, short.
    """

    study: Study
    title: str
    row: Row | None
    tuned: Row | None
    metric: str


@dataclass(frozen=True)
class SearchedHparam:
    """One hyper-parameter: its search space, the recipe's value, the selected one, and its importance."""

    name: str
    space: str
    recipe: str
    best: str
    importance: str


@dataclass(frozen=True)
class TrialLine:
    """One trial: its state, its values in the order of the space, its score on the validation split, or why it has none."""

    number: str
    state: str
    values: list[str]
    score: str
    reason: str
    minutes: str


def searches(table: Table, board: Leaderboard) -> list[Search]:
    """Return the searches of a pair, in the order of its rows."""
    rows = {row.id: row for row in table.rows}
    order = {row.method: place for place, row in enumerate(table.rows)}
    found = sorted((one for one in board.studies if one.pair == table.pair), key=lambda one: order.get(one.method, len(order)))
    return [
        Search(
            study,
            rows[study.method].title if study.method in rows else study.method,
            rows.get(study.method),
            next((row for row in table.rows if row.tuned and row.method == study.method), None),
            wording.short(table.metric),
        )
        for study in found
    ]


def division(search: Search, board: Leaderboard) -> str:
    """Division of the gain on the test split between method and tuning; empty where a part is not known yet."""
    row, tuning = search.row, search.tuned.tuning if search.tuned else None
    if search.study.method == "none" and search.tuned and search.tuned.gain is not None:
        return f"Baseline: {wording.gain(search.tuned)} {search.metric} by tuning its own training alone."
    if row is None or row.gain is None or tuning is None or tuning.gain is None:
        return ""
    by_tuning = wording.estimate(tuning.gain, tuning.gain_low, tuning.gain_high)
    return (
        f"{search.title}: {wording.gain(row)} {search.metric} over the baseline by the method with the recipe's values, and "
        f"{by_tuning} by tuning, {_significance(search, board)}."
    )


def _significance(search: Search, board: Leaderboard) -> str:
    """Return the result of the significance test of the gain by tuning."""
    tuning = search.tuned.tuning if search.tuned else None
    if tuning is None or tuning.gain_p is None or tuning.gain is None:
        return f"not tested ({tuning.untested if tuning and tuning.untested else 'no result'})"
    p_values = f"p {wording.p_value(tuning.gain_p)}"
    if tuning.gain_p_holm is not None and not board.paper_scale:
        p_values += f", after Holm {wording.p_value(tuning.gain_p_holm)}"
    if tuning.gain_p > LEVEL:
        return f"not significant ({p_values})"
    return f"significantly {'above' if tuning.gain > 0 else 'below'} zero ({p_values})"


def account(search: Search) -> str:
    """Trials of a search, their cost, and the score on the validation split, which selected and so is no result."""
    study = search.study
    states = [trial.state for trial in study.trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed", "lost") if state in states)
    saved = (
        f", {100 * study.saved_fraction:.0f} % of the iterations saved by pruning ({study.pruner})"
        if study.saved_fraction
        else ""
    )
    begun = (
        f"Search by {_SAMPLERS.get(study.sampler, study.sampler)}: {len(study.counted)} trials of {100 * study.schedule_share:.0f} % "
        f"of a cell's schedule ({counts}), {study.train_s / 60:.1f} min of training{saved}"
    )
    best = None if study.best is None else study.trial(study.best)
    if best is None or best.values is None:
        return f"{begun}. No trial was complete."
    recipe = next((trial for trial in study.trials if trial.is_recipe and trial.values), None)
    if best.is_recipe:
        return f"{begun}. None was better than the recipe's values on the validation split: {best.values[0]:.1f} {search.metric} there."
    beside = "" if recipe is None or recipe.values is None else f", the recipe's values {recipe.values[0]:.1f}"
    return (
        f"{begun}. Selected on the validation split: trial {best.number} with {best.values[0]:.1f} {search.metric} there{beside}; "
        f"the best of several on the split that selected it is optimistic.{_at_bounds(study, best)}"
    )


def _at_bounds(study: Study, best: Trial) -> str:
    """Sentence on selected values close to a bound of the search range: values beyond may be better still."""
    close = []
    for name, bounds in study.space.items():
        if bounds.low is not None and bounds.high is not None:
            low, here, high = (
                math.log(float(v)) if bounds.scale == "log" else float(v) for v in (bounds.low, best.hparams[name], bounds.high)
            )
            if min(here - low, high - here) < _CLOSE * (high - low):
                close.append(f"{name} is at the {'lower' if here - low < high - here else 'upper'} bound of its search range")
    return f" {'; '.join(close)}: values beyond were not tried." if close else ""


def searched(study: Study) -> list[SearchedHparam]:
    """Every hyper-parameter of the space."""
    best = {} if study.best is None else study.trial(study.best).hparams
    importance = study.importance or {}
    return [
        SearchedHparam(
            name,
            _space(bounds),
            value(study.recipe_hparams.get(name)),
            value(best.get(name)),
            f"{100 * importance[name]:.0f} %" if name in importance else "",
        )
        for name, bounds in study.space.items()
    ]


def tried(study: Study) -> list[TrialLine]:
    """Every trial, including lost ones."""
    return [
        TrialLine(
            str(trial.number),
            _state(trial, study),
            [value(trial.hparams.get(name)) for name in study.space],
            _score(trial),
            trial.reason or "",
            f"{trial.train_s / 60:.1f}",
        )
        for trial in study.trials
    ]


def value(given: Any) -> str:
    """Format a hyper-parameter's value: numbers to three digits; empty where there is none."""
    if given is None:
        return ""
    return f"{given:.3g}" if isinstance(given, float) else str(given)


def _space(bounds: SearchRange) -> str:
    if bounds.choices is not None:
        return "one of " + ", ".join(value(choice) for choice in bounds.choices)
    return f"{value(bounds.low)} to {value(bounds.high)}, {bounds.scale}"


def _state(trial: Trial, study: Study) -> str:
    words = [
        trial.state,
        *(["recipe's values"] if trial.is_recipe else []),
        *(["selected"] if trial.number == study.best else []),
    ]
    return ", ".join(words)


def _score(trial: Trial) -> str:
    """Score, or the last one before the trial was pruned; empty for others."""
    if trial.values is not None:
        return f"{trial.values[0]:.1f}"
    if trial.state == "pruned" and trial.reports:
        iteration, score = trial.reports[-1]
        return f"{score:.1f} at {iteration}"
    return ""
