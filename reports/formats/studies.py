"""The searches behind tuned rows, in the words and figures that every form of the report shares."""

import math
from dataclasses import dataclass
from typing import Any

from reports.formats import wording
from reports.schemas.leaderboard import Leaderboard, Row, Table
from reports.schemas.study import Range, Study, Trial

_CLOSE = 0.05  # to an end of a range, as a share of its length on its scale
_SAMPLERS = {"tpe": "TPE", "random": "random draws"}


@dataclass(frozen=True)
class Search:
    """A study with what is told of it.

    Args:
        study: itself.
        title: of the method.
        row: the method's own, with the recipe's values; None where the grid has none.
        tuned: the row with the values that the study hands out.
        metric: of the pair, short.
    """

    study: Study
    title: str
    row: Row | None
    tuned: Row | None
    metric: str


@dataclass(frozen=True)
class Searched:
    """One hyper-parameter: where it was looked for, what the recipe has, what was handed out, and how much it matters."""

    name: str
    looked: str
    recipe: str
    best: str
    importance: str


@dataclass(frozen=True)
class Tried:
    """One trial: what became of it, its values in the order of the space, its score on the tune split, or why it has none."""

    number: str
    state: str
    values: list[str]
    score: str
    reason: str
    minutes: str


def searches(table: Table, board: Leaderboard) -> list[Search]:
    """Of a pair, in the order of its rows."""
    rows = {row.method: row for row in table.rows}
    order = {row.base: place for place, row in enumerate(table.rows)}
    found = sorted((one for one in board.studies if one.pair == table.pair), key=lambda one: order.get(one.method, len(order)))
    return [
        Search(
            study,
            rows[study.method].title if study.method in rows else study.method,
            rows.get(study.method),
            rows.get(f"{study.method}/tuned"),
            wording.short(table.metric),
        )
        for study in found
    ]


def division(search: Search, board: Leaderboard) -> str:
    """How much of the gain on the test split is the method and how much is tuning; empty where a part is not known yet."""
    row, tuning = search.row, search.tuned.tuning if search.tuned else None
    if search.study.method == "none" and search.tuned and search.tuned.gain is not None:
        return f"The control: {wording.gain(search.tuned)} {search.metric} by tuning its own training alone."
    if row is None or row.gain is None or tuning is None or tuning.gain is None:
        return ""
    by_tuning = wording.estimate(tuning.gain, tuning.gain_low, tuning.gain_high)
    return (
        f"{search.title}: {wording.gain(row)} {search.metric} over the control by the method with the recipe's values, and "
        f"{by_tuning} by tuning, {_shown(search, board)}."
    )


def _shown(search: Search, board: Leaderboard) -> str:
    """What the test says of the part that is tuning's."""
    tuning = search.tuned.tuning if search.tuned else None
    if tuning is None or tuning.gain_p is None or tuning.gain is None:
        why = tuning.untested if tuning and tuning.untested else "not tested"
        return f"which cannot be told from chance ({why})"
    told = f"p {wording.p_value(tuning.gain_p)}"
    if tuning.gain_p_holm is not None and not board.full_size:
        told += f", after Holm {wording.p_value(tuning.gain_p_holm)}"
    if tuning.gain_p > wording.LEVEL:
        return f"which is not shown to differ from zero ({told})"
    return f"which is {'above' if tuning.gain > 0 else 'below'} zero ({told})"


def account(search: Search) -> str:
    """What was tried, what it cost, and what the tune split says of it; it is the split that chose, so no result."""
    study = search.study
    states = [trial.state for trial in study.trials]
    told = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed", "lost") if state in states)
    spared = (
        f", {100 * study.saved_share:.0f} % of the iterations spared by pruning ({study.pruner})" if study.saved_share else ""
    )
    begun = (
        f"Search by {_SAMPLERS.get(study.sampler, study.sampler)}: {len(study.counted)} trials of {100 * study.schedule_share:.0f} % "
        f"of a cell's schedule ({told}), {study.train_s / 60:.1f} min of training{spared}"
    )
    best = None if study.best is None else study.trial(study.best)
    if best is None or best.values is None:
        return f"{begun}. No trial was complete."
    recipe = next((trial for trial in study.trials if trial.is_recipe and trial.values), None)
    if best.is_recipe:
        return f"{begun}. None was better than the recipe's values on the tune split: {best.values[0]:.1f} {search.metric} there."
    beside = "" if recipe is None or recipe.values is None else f", the recipe's values {recipe.values[0]:.1f}"
    return (
        f"{begun}. Chosen by the tune split: trial {best.number} with {best.values[0]:.1f} {search.metric} there{beside}; the best "
        f"of several on the split that chose it flatters.{_ends(study, best)}"
    )


def _ends(study: Study, best: Trial) -> str:
    """Names what was handed out close to an end of its range: what is beyond may be better still."""
    close = []
    for name, bounds in study.space.items():
        if bounds.low is not None and bounds.high is not None:
            low, here, high = (
                math.log(float(v)) if bounds.scale == "log" else float(v) for v in (bounds.low, best.hparams[name], bounds.high)
            )
            if min(here - low, high - here) < _CLOSE * (high - low):
                close.append(f"{name} lies close to the {'lower' if here - low < high - here else 'upper'} end of its range")
    return f" {'; '.join(close)}: what is beyond was not tried." if close else ""


def searched(study: Study) -> list[Searched]:
    """Every hyper-parameter of the space."""
    best = {} if study.best is None else study.trial(study.best).hparams
    importance = study.importance or {}
    return [
        Searched(
            name,
            _looked(bounds),
            value(study.recipe_hparams.get(name)),
            value(best.get(name)),
            f"{100 * importance[name]:.0f} %" if name in importance else "",
        )
        for name, bounds in study.space.items()
    ]


def tried(study: Study) -> list[Tried]:
    """Every trial, lost ones among them."""
    return [
        Tried(
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
    """A hyper-parameter's: numbers to three digits; empty where there is none."""
    if given is None:
        return ""
    return f"{given:.3g}" if isinstance(given, float) else str(given)


def _looked(bounds: Range) -> str:
    if bounds.choices is not None:
        return "one of " + ", ".join(value(choice) for choice in bounds.choices)
    return f"{value(bounds.low)} to {value(bounds.high)}, {bounds.scale}"


def _state(trial: Trial, study: Study) -> str:
    words = [
        trial.state,
        *(["recipe's values"] if trial.is_recipe else []),
        *(["handed out"] if trial.number == study.best else []),
    ]
    return ", ".join(words)


def _score(trial: Trial) -> str:
    """The result, or where it stood when it was pruned; empty for others."""
    if trial.values is not None:
        return f"{trial.values[0]:.1f}"
    if trial.state == "pruned" and trial.reports:
        iteration, score = trial.reports[-1]
        return f"{score:.1f} at {iteration}"
    return ""
