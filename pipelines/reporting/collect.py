"""Leaderboard of a grid, from the records of whatever has finished so far."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.dataset import datasets
from benchmarks.metrics import METRICS
from benchmarks.pair import Pair
from benchmarks.reported import Registry, RegistryEntry
from pipelines import layout
from pipelines.grid import Grid
from pipelines.params import load_pair, load_tier, load_yaml
from pipelines.recipes import method_title
from pipelines.reporting.comparability import run_differences
from pipelines.reporting.ledger import ledger
from pipelines.reporting.margins import margins
from pipelines.reporting.records import released_records
from pipelines.reporting.registry import conflicts, pair_notes, recipe_of, reported_results, stated_differences
from pipelines.reporting.runs import Collected
from pipelines.stage_list import backbones_needed, seeds_of
from reports.schemas.evidence import ReleasedStudent
from reports.schemas.leaderboard import Leaderboard, Table
from reports.schemas.reported import Margin
from reports.stats.assembly import leaderboard
from reports.stats.rows import PairInfo, table


def methods_of(grid: Grid, pair: str) -> list[str]:
    """Return a pair's rows: the grid's methods, each tuned one directly behind its own."""
    tuned = grid.tuning.rows.get(pair, []) if grid.tuning else []
    return [row for method in grid.rows[pair] for row in ([method, layout.tuned_row(method)] if method in tuned else [method])]


def _title(method: str) -> str:
    base, is_tuned = layout.split_row(method)
    return method_title(base) + (", tuned" if is_tuned else "")


def collect_leaderboard(grid: Grid, runs: Path, work: Path) -> Leaderboard:
    """Return the leaderboard of a grid from the records so far; ValueError where a file of the project itself is wrong."""
    tier = load_tier(grid.tier)
    paper_scale = tier.model is None and tier.data == "published"
    registry, declared = load_yaml(Path("benchmarks/reported.yaml"), Registry).root, margins()
    found, tables, used = Collected(runs, work, grid.tier), [], {}
    names: list[str] = []
    released = released_records(grid.tier) if paper_scale else []
    backbones = found.backbones(list(backbones_needed(grid, grid.pairs)))
    for pair_name in grid.pairs:
        pair = load_pair(pair_name)
        methods = methods_of(grid, pair_name)
        names += [part for method in methods for part in layout.split_row(method)[0].split("+")]
        dataset = datasets()[pair.dataset].title
        margin = declared.get((dataset, pair.metric)) if paper_scale else None
        if margin is not None:
            used[dataset, pair.metric] = margin
        of_pair = [figure for figure in registry if pair_name in (figure.pair, figure.place[0])]
        tables.append(_with_logs(_table(found, pair_name, pair, methods, grid, of_pair, margin), released))
    return leaderboard(
        grid.tier,
        tier.title,
        tables,
        found.all_runs,
        paper_scale=paper_scale,
        recipes={name: recipe_of(name) for name in dict.fromkeys(names)},
        margins=list(used.values()),
        studies=found.studies,
        problems=found.problems,
        backbones=backbones,
        evidence=ledger([grid.tier]),
        released=released,
    )


def _with_logs(table: Table, released: Sequence[ReleasedStudent]) -> Table:
    """Return the table with the validations of its authors' logs beside the rows that they are of."""
    logs: dict[str, list[list[tuple[float, float]]]] = {}
    for one in released:
        if one.log and one.pair == table.pair and one.method:
            end = one.log.scores[-1][0]
            logs.setdefault(one.method, []).append([(at / end, score) for at, score in one.log.scores])
    rows = [row if row.tuned else row.model_copy(update={"reported_logs": logs.get(row.method, [])}) for row in table.rows]
    return table.model_copy(update={"rows": rows})


def _table(
    found: Collected,
    name: str,
    pair: Pair,
    methods: Sequence[str],
    grid: Grid,
    figures: Sequence[RegistryEntry],
    margin: Margin | None,
) -> Table:
    cells = {method: found.cells(name, pair, method, seeds_of(grid, name, method)) for method in methods}

    def differences(figure: RegistryEntry) -> list[str]:
        """Return the differences that the registry names, and at paper scale those of the runs."""
        stated = stated_differences(figure)
        method = figure.place[1]
        if stated or margin is None or method is None or method not in cells or cells[method].unsupported:
            return stated
        runs = [result.run for result in cells[method].results]
        return run_differences(figure.settings, name, pair, method, runs, tier=grid.tier, batch_size=grid.batch_size)

    info = PairInfo(
        name=name,
        title=pair.title,
        task=pair.task,
        metric=pair.metric,
        dataset=datasets()[pair.dataset].title,
        schedule=pair.schedule,
        teacher_name=pair.teacher.name,
        notes=pair_notes(pair),
        conflicts=conflicts(figures),
        repeats=pair.repeats,
        curve_key=METRICS[pair.metric].curve_key,
    )
    return table(
        info,
        {method: _title(method) for method in methods},
        teacher=found.teacher(name),
        records=cells,
        reported=reported_results(figures, name, pair.metric, differences),
        margin=margin,
    )
