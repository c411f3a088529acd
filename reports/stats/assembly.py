"""All tables together: what the runs share, and every p adjusted for all of its kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reports.schemas.leaderboard import Leaderboard, Margin, PublishedFigure, Recipe, Row, Start, Table
from reports.schemas.run import Cost, Environment, Run
from reports.schemas.study import Study, Trial
from reports.stats import answers, inference


def leaderboard(
    tier: str,
    tier_title: str,
    tables: list[Table],
    runs: Sequence[Run],
    *,
    full_size: bool = False,
    recipes: Mapping[str, Recipe] | None = None,
    margins: Sequence[Margin] = (),
    studies: Sequence[Study] = (),
    problems: Sequence[str] = (),
    starts: Sequence[Start] = (),
) -> Leaderboard:
    """Put the tables together with what the runs share.

    Args:
        tier: name.
        tier_title: in words.
        tables: one a pair.
        runs: all trainings, teachers and priors among them; a study's trials are not.
        full_size: whether data and models are the published ones.
        recipes: by name.
        margins: that the tables were made with.
        studies: whose trials cost time, too.
        problems: files that could not be used, a line each.
        starts: backbones that were trained before all else.
    """
    done: list[Run | Study] = [run for run in runs if run.status == "done"]
    done += [study for study in studies if study.status == "done"]
    environments = Counter(run.environment.model_dump_json() for run in done if run.environment)
    digests: dict[str, set[str]] = {}
    for run in done:
        if run.data:
            digests.setdefault(run.data.name, set()).add(run.data.digest)
    times = sorted(run.finished_at for run in done if run.finished_at)
    trainings: list[Cost | Trial] = [run.cost for run in runs if run.status == "done" and run.cost]
    trainings += [trial for study in studies for trial in study.trials if trial.iterations]
    joules = [training.energy_kj for training in trainings if training.energy_kj is not None]
    tables, num_tests = adjusted(tables, full_size=full_size)
    tables = [table.model_copy(update={"power": answers.seed_power(table, num_tests)}) for table in tables]
    return Leaderboard(
        tier=tier,
        tier_title=tier_title,
        full_size=full_size,
        tables=tables,
        recipes=dict(recipes or {}),
        margins=list(margins),
        studies=list(studies),
        starts=list(starts),
        teacher_splits=answers.teacher_splits(tables),
        predictions=[] if full_size else answers.predictions(tables),
        num_tests=num_tests,
        environment=Environment.model_validate_json(environments.most_common(1)[0][0]) if environments else None,
        data={name: next(iter(found)) if len(found) == 1 else None for name, found in sorted(digests.items())},
        commits=sorted({run.git.commit for run in done if run.git and run.git.commit}),
        dirty=any(run.git.dirty for run in done if run.git),
        first_finished=times[0] if times else None,
        last_finished=times[-1] if times else None,
        train_s=round(sum(training.train_s for training in trainings), 1),
        energy_kj=round(sum(joules), 3) if joules and len(joules) == len(trainings) else None,
        problems=list(problems),
    )


def adjusted(tables: Sequence[Table], *, full_size: bool) -> tuple[list[Table], int]:
    """The tables with every p adjusted for all of its kind in the leaderboard (Holm), and how many there are.

    At full size the questions are those against published figures, elsewhere whether gains differ from zero: those over
    the control, and those of tuning.
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
        found = [p for table_ in tables for row in table_.rows for p in _of_gains(row) if p is not None]
    of = iter(inference.holm(found))

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
        over_control, by_tuning = (None if p is None else next(of) for p in _of_gains(row))
        tuning = row.tuning and row.tuning.model_copy(update={"gain_p_holm": by_tuning})
        return row.model_copy(update={"gain_p_holm": over_control, "tuning": tuning})

    return [table_.model_copy(update={"rows": [of_row(row) for row in table_.rows]}) for table_ in tables], len(found)


def _of_gains(row: Row) -> tuple[float | None, float | None]:
    """A row's own p's: of its gain over the control, and of what tuning added."""
    return row.gain_p, row.tuning.gain_p if row.tuning else None
