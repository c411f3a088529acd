"""All tables together: what the runs share, and every p adjusted for all of its kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reports import statistics
from reports.board import Leaderboard, Margin, PublishedFigure, Recipe, Row, Table
from reports.record import Environment, Run


def leaderboard(
    tier: str,
    tier_title: str,
    tables: list[Table],
    runs: Sequence[Run],
    *,
    full_size: bool = False,
    recipes: Mapping[str, Recipe] | None = None,
    margins: Sequence[Margin] = (),
    problems: Sequence[str] = (),
) -> Leaderboard:
    """Put the tables together with what the runs share; ``runs`` are all of them, teachers and priors among them."""
    done = [run for run in runs if run.status == "done"]
    environments = Counter(run.environment.model_dump_json() for run in done if run.environment)
    digests: dict[str, set[str]] = {}
    for run in done:
        if run.data:
            digests.setdefault(run.data.name, set()).add(run.data.digest)
    times = sorted(run.finished_at for run in done if run.finished_at)
    costs = [run.cost for run in done if run.cost]
    joules = [cost.energy_kj for cost in costs if cost.energy_kj is not None]
    tables, num_tests = adjusted(tables, full_size=full_size)
    return Leaderboard(
        tier=tier,
        tier_title=tier_title,
        full_size=full_size,
        tables=tables,
        recipes=dict(recipes or {}),
        margins=list(margins),
        num_tests=num_tests,
        environment=Environment.model_validate_json(environments.most_common(1)[0][0]) if environments else None,
        data={name: next(iter(found)) if len(found) == 1 else None for name, found in sorted(digests.items())},
        commits=sorted({run.git.commit for run in done if run.git and run.git.commit}),
        dirty=any(run.git.dirty for run in done if run.git),
        first_finished=times[0] if times else None,
        last_finished=times[-1] if times else None,
        train_s=round(sum(cost.train_s for cost in costs), 1),
        energy_kj=round(sum(joules), 3) if joules and len(joules) == len(costs) else None,
        problems=list(problems),
    )


def adjusted(tables: Sequence[Table], *, full_size: bool) -> tuple[list[Table], int]:
    """The tables with every p adjusted for all of its kind in the leaderboard (Holm), and how many there are.

    At full size the questions are those against published figures, elsewhere whether gains differ from zero.
    """
    if full_size:
        found = [
            p
            for table_ in tables
            for row in table_.rows
            for figure in row.published
            for against in (figure.score_verdict, figure.gain_verdict)
            if against
            for p in (against.p_same, against.p_apart)
            if p is not None
        ]
    else:
        found = [row.gain_p for table_ in tables for row in table_.rows if row.gain_p is not None]
    of = iter(statistics.holm(found))

    def of_figure(figure: PublishedFigure) -> PublishedFigure:
        changes: dict[str, Any] = {
            key: against.model_copy(update={"p_holm": min(next(of), next(of))})
            for key in ("score_verdict", "gain_verdict")
            if (against := getattr(figure, key)) and against.p_same is not None
        }
        return figure.model_copy(update=changes)

    def of_row(row: Row) -> Row:
        if full_size:
            return row.model_copy(update={"published": [of_figure(figure) for figure in row.published]})
        return row if row.gain_p is None else row.model_copy(update={"gain_p_holm": next(of)})

    return [table_.model_copy(update={"rows": [of_row(row) for row in table_.rows]}) for table_ in tables], len(found)
