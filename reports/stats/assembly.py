"""All tables together with the facts that the runs share, and every p adjusted for all of its kind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reports.schemas.evidence import LedgerEntry, ReleasedStudent
from reports.schemas.leaderboard import Backbone, Leaderboard, RecipeSummary, Row, Table
from reports.schemas.reported import Margin, ReportedResult
from reports.schemas.run import Cost, Environment, Run
from reports.schemas.study import Study, Trial
from reports.stats import answers, inference


def leaderboard(
    tier: str,
    tier_title: str,
    tables: list[Table],
    runs: Sequence[Run],
    *,
    paper_scale: bool = False,
    recipes: Mapping[str, RecipeSummary] | None = None,
    margins: Sequence[Margin] = (),
    studies: Sequence[Study] = (),
    problems: Sequence[str] = (),
    backbones: Sequence[Backbone] = (),
    evidence: Sequence[LedgerEntry] = (),
    released: Sequence[ReleasedStudent] = (),
) -> Leaderboard:
    """Put the tables together with the facts that the runs share.

    Args:
        tier: name.
        tier_title: in words.
        tables: one per pair.
        runs: all of them, including teachers and auxiliary modules; a study's trials are not.
        paper_scale: whether data and models are the published ones.
        recipes: by name.
        margins: that the tables were made with.
        studies: whose trials cost time, too.
        problems: files that could not be used, a line each.
        backbones: trained before all else.
        evidence: for all reported results.
        released: students that their authors released, evaluated here.
    """
    done: list[Run | Study] = [run for run in runs if run.status == "done"]
    done += [study for study in studies if study.status == "done"]
    environments = Counter(run.environment.model_dump_json() for run in done if run.environment)
    devices = Counter(run.environment.device for run in done if run.environment)
    digests: dict[str, set[str]] = {}
    for run in done:
        if run.data:
            digests.setdefault(run.data.name, set()).add(run.data.digest)
    times = sorted(run.finished_at for run in done if run.finished_at)
    costs: list[Cost | Trial] = [run.cost for run in runs if run.status == "done" and run.cost]
    costs += [trial for study in studies for trial in study.trials if trial.iterations]
    energies = [cost.energy_kj for cost in costs if cost.energy_kj is not None]
    tables, num_tests = adjusted(tables, paper_scale=paper_scale)
    tables = [table.model_copy(update={"power": answers.seed_power(table, num_tests)}) for table in tables]
    return Leaderboard(
        tier=tier,
        tier_title=tier_title,
        paper_scale=paper_scale,
        tables=tables,
        recipes=dict(recipes or {}),
        margins=list(margins),
        studies=list(studies),
        backbones=list(backbones),
        evidence=list(evidence),
        released=list(released),
        teacher_effects=answers.teacher_effects(tables),
        rank_correlations=[] if paper_scale else answers.rank_correlations(tables),
        num_tests=num_tests,
        environment=Environment.model_validate_json(environments.most_common(1)[0][0]) if environments else None,
        devices=dict(devices.most_common()) if len(devices) > 1 else {},
        data={name: next(iter(found)) if len(found) == 1 else None for name, found in sorted(digests.items())},
        commits=sorted({run.git.commit for run in done if run.git and run.git.commit}),
        dirty=any(run.git.dirty for run in done if run.git),
        unpushed=sorted({run.git.commit for run in done if run.git and run.git.commit and run.git.pushed is False}),
        why_no_commit=sorted({run.git.why_unknown for run in done if run.git and run.git.why_unknown}),
        first_finished=times[0] if times else None,
        last_finished=times[-1] if times else None,
        train_s=round(sum(cost.train_s for cost in costs), 1),
        energy_kj=round(sum(energies), 3) if energies and len(energies) == len(costs) else None,
        problems=list(problems),
    )


def adjusted(tables: Sequence[Table], *, paper_scale: bool) -> tuple[list[Table], int]:
    """Return the tables with every p adjusted for all of its kind in the leaderboard (Holm), and the number of these.

    At paper scale the tests are those against reported results, elsewhere those of gains against zero: over the baseline,
    and of tuning.
    """
    if paper_scale:
        found = [
            p
            for table_ in tables
            for row in table_.rows
            for result in row.reported
            for against in (result.score_verdict, result.gain_verdict)
            if against
            for p in (against.p_equivalent, against.p_different)
            if p is not None
        ]
    else:
        found = [p for table_ in tables for row in table_.rows for p in _of_gains(row) if p is not None]
    adjusted_p = iter(inference.holm(found))

    def of_result(result: ReportedResult) -> ReportedResult:
        changes: dict[str, Any] = {
            key: against.model_copy(update={"p_holm": min(next(adjusted_p), next(adjusted_p))})
            for key in ("score_verdict", "gain_verdict")
            if (against := getattr(result, key)) and against.p_equivalent is not None
        }
        return result.model_copy(update=changes)

    def of_row(row: Row) -> Row:
        if paper_scale:
            return row.model_copy(update={"reported": [of_result(result) for result in row.reported]})
        over_baseline, by_tuning = (None if p is None else next(adjusted_p) for p in _of_gains(row))
        tuning = row.tuning and row.tuning.model_copy(update={"gain_p_holm": by_tuning})
        return row.model_copy(update={"gain_p_holm": over_baseline, "tuning": tuning})

    return [table_.model_copy(update={"rows": [of_row(row) for row in table_.rows]}) for table_ in tables], len(found)


def _of_gains(row: Row) -> tuple[float | None, float | None]:
    """p-values of a row: of its gain over the baseline, and of tuning's."""
    return row.gain_p, row.tuning.gain_p if row.tuning else None
