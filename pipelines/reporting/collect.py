"""What a report is made of, read from the records of whatever has finished so far."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from benchmarks.dataset import datasets
from benchmarks.metrics import METRICS
from benchmarks.pair import Pair
from benchmarks.reported import Registry, ReportedResult
from pipelines.grid import Grid
from pipelines.params import backbones_needed, impossible_reason, load_pair, load_parts, load_tier, load_yaml, method_title
from pipelines.reporting.comparability import contradictions, settings_here, split_differs
from pipelines.reporting.registry import pair_notes, published_figures, recipe_of, stated_differences
from reports.schemas.leaderboard import Leaderboard, Margin, Missing, Start, Table
from reports.schemas.run import Metrics, Run
from reports.schemas.study import Study
from reports.stats.assembly import leaderboard
from reports.stats.rows import Cells, PairInfo, Result, table

Schema = TypeVar("Schema", bound=BaseModel)
_VERSIONS = {"Run": 3, "Metrics": 3, "Study": 1}
_TUNED = "/tuned"  # behind a method's name: its row with the values of its study


def margins() -> dict[tuple[str, str], Margin]:
    """Declared margins by the data set's title and the metric; ValueError where one is declared twice."""
    found = [
        Margin(dataset=record.title, metric=one.metric, margin=one.margin, planning_sd=one.planning_sd, why=one.why)
        for record in datasets().values()
        for one in record.margins
    ]
    by_key = {(margin.dataset, margin.metric): margin for margin in found}
    if len(by_key) < len(found):
        raise ValueError("benchmarks/datasets: a data set and metric have two margins; one margin each")
    return by_key


def read_record(path: Path, schema: type[Schema]) -> Schema:
    """Read ``run.json``, ``metrics.json`` or ``study.json``; ValueError, one line, where it is not of the schema or of an older one."""
    text = path.read_text()
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("schema_version",):
            raise ValueError(
                f"{path}: is of schema {first['input']}, and this version reads {_VERSIONS[schema.__name__]}; run its stage again"
            ) from error
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'the file'}: {p['msg']}" for p in error.errors())
        raise ValueError(f"{path}: {problems}; run its stage again") from error


def read_board(path: Path) -> Leaderboard:
    """A leaderboard.json; ValueError, one line, where it cannot be read or is of another schema."""
    try:
        return Leaderboard.model_validate_json(path.read_text())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("schema_version",):
            wanted = Leaderboard.model_fields["schema_version"].default
            raise ValueError(f"{path}: is of schema {first['input']}, and this version reads {wanted}; make it again") from error
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}; make it again") from error


def read_result(folder: Path, target: str) -> Result | None:
    """A finished training and its result, or None where one is not there; ValueError where a file is wrong."""
    paths = (folder / "run.json", folder / "metrics.json")
    if not all(path.is_file() for path in paths):
        return None
    run, metrics = read_record(paths[0], Run), read_record(paths[1], Metrics)
    if run.status == "done" and run.weights_sha256 != metrics.weights_sha256:
        raise ValueError(f"{paths[1]}: was measured on other weights than {paths[0]} records; run stage evaluate again")
    if run.status == "done" and metrics.score is None:
        raise ValueError(f"{paths[1]}: has no score, and {paths[0]} is of a finished training; run stage evaluate again")
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return Result(run, metrics, *digests, target)


@dataclass
class Gathered:
    """Records of one tier as they are found; what cannot be used is noted and left out.

    Args:
        runs: folder of the tier's records.
        work: folder of the tier's work directories, where failures are noted.
        problems: a line for each file that cannot be used.
        all_runs: of everything that was read.
        studies: that have ended.
    """

    runs: Path
    work: Path
    tier: str
    problems: list[str] = field(default_factory=list)
    all_runs: list[Run] = field(default_factory=list)
    studies: list[Study] = field(default_factory=list)

    def starts(self, names: Sequence[str]) -> list[Start]:
        """The backbones that were trained before all else."""
        made = []
        for name in names:
            path = self.runs / "backbones" / name / "run.json"
            try:
                run = read_record(path, Run) if path.is_file() else None
            except ValueError as error:
                self._note(error)
                continue
            if run is None or run.status != "done" or run.accuracy is None or run.cost is None:
                continue
            self.all_runs.append(run)
            made.append(
                Start(
                    name=name, accuracy=run.accuracy, cost=run.cost, weights_sha256=str(run.weights_sha256),
                    run_sha256=hashlib.sha256(path.read_bytes()).hexdigest(), mlflow_run_id=run.mlflow_run_id,
                )
            )  # fmt: skip
        return made

    def teacher(self, pair: str) -> Result | None:
        """The pair's teacher."""
        try:
            result = self._result(self.runs / pair / "teacher", f"teachers@{pair}", ("teacher", pair, None, None))
        except ValueError as error:
            self.problems.append(str(error))
            return None
        return result

    def cells(self, pair_name: str, pair: Pair, method: str, seeds: Sequence[int]) -> Cells:
        """A method's cells on a pair; its prior, where it has one, counts once though its tuned row needs it, too."""
        base = method.removesuffix(_TUNED)
        if reason := impossible_reason(pair_name, pair, base, self.tier):
            return Cells(impossible=reason)
        results, missing = [], []
        for seed in seeds:
            found = self._cell(pair_name, method, seed)
            (missing if isinstance(found, Missing) else results).append(found)
        targets = " ".join(f"evaluate@{pair_name}/{method}/seed{seed}" for seed in seeds)
        prior = self._prior(pair_name, base) if any(part.recipe.prior for part in load_parts(base)) else None
        if base == method:
            self.all_runs += [prior] if prior else []
            return Cells(results, missing, None, prior, f"dvc repro {targets}")
        study = self._study(pair_name, base)
        self.studies += [study] if study else []
        return Cells(results, missing, None, prior, f"dvc repro {targets}", study)

    def _prior(self, pair: str, method: str) -> Run | None:
        path = self.runs / pair / method / "prior/run.json"
        try:
            return read_record(path, Run) if path.is_file() else None
        except ValueError as error:
            self._note(error)
            return None

    def _study(self, pair: str, method: str) -> Study | None:
        """The search behind a tuned row; None where it has not ended."""
        path = self.runs / pair / method / "tuned/study.json"
        try:
            found = read_record(path, Study) if path.is_file() else None
            if found and (found.tier, found.pair, found.method) != (self.tier, pair, method):
                raise ValueError(
                    f"{path}: claims the study of {found.tier}, {found.pair}/{found.method}, and lies where that of "
                    f"{self.tier}, {pair}/{method} belongs; run stage tune again, or remove it"
                )
        except ValueError as error:
            self._note(error)
            return None
        return found if found and found.status == "done" else None

    def _note(self, error: ValueError) -> None:
        """Once, though two rows may need the file."""
        if str(error) not in self.problems:
            self.problems.append(str(error))

    def _cell(self, pair: str, method: str, seed: int) -> Result | Missing:
        base = method.removesuffix(_TUNED)
        folder = f"{pair}/{method}/seed{seed}"
        target = f"distill@{folder}"
        try:
            found = self._result(self.runs / folder, target, ("distill", pair, method, seed))
            record = self.runs / folder / "run.json"
            trained = found is None and record.is_file() and read_record(record, Run).status == "done"
        except ValueError as error:
            self.problems.append(str(error))
            return Missing(seed=seed, status="unreadable", reason=str(error))
        if found is not None:
            return found
        notes = {"": self.work / folder / "failed.txt"}
        if base != method:
            notes["its search: "] = self.work / pair / base / "tuning/failed.txt"
        for whose, note in notes.items():
            if note.is_file():
                return Missing(seed=seed, status="failed", reason=whose + note.read_text().strip())
        return Missing(seed=seed, status="not evaluated" if trained else "not run")

    def _result(self, folder: Path, target: str, expected: tuple[str, str, str | None, int | None]) -> Result | None:
        found = read_result(folder, target)
        if found is None:
            return None
        run = found.run
        claimed = (run.stage, run.pair, run.row, run.seed if expected[3] is not None else None)
        if (run.tier, claimed) != (self.tier, expected):
            raise ValueError(
                f"{folder / 'run.json'}: claims the row of {run.tier}, {_told(claimed)}, and lies where that of {self.tier}, "
                f"{_told(expected)} belongs; run its stage again, or remove it"
            )
        if run.status != "done":
            return None
        self.all_runs.append(run)
        return found


def _told(identity: tuple[str, str, str | None, int | None]) -> str:
    return "/".join(str(part) for part in identity if part is not None)


def methods_of(grid: Grid, pair: str) -> list[str]:
    """A pair's rows: the grid's methods, each tuned one directly behind its own."""
    tuned = grid.tuning.rows.get(pair, []) if grid.tuning else []
    return [row for method in grid.rows[pair] for row in ([method, method + _TUNED] if method in tuned else [method])]


def _title(method: str) -> str:
    base = method.removesuffix(_TUNED)
    return method_title(base) + ("" if base == method else ", tuned")


def gather(grid: Grid, runs: Path, work: Path) -> Leaderboard:
    """The leaderboard of a grid from what is there; ValueError where a file of the project itself is wrong."""
    tier = load_tier(grid.tier)
    full_size = tier.model is None and tier.data == "published"
    registry, declared = load_yaml(Path("benchmarks/reported.yaml"), Registry).root, margins()
    found, tables, used = Gathered(runs, work, grid.tier), [], {}
    names: list[str] = []
    starts = found.starts(list(backbones_needed(grid, grid.pairs)))
    for pair_name in grid.pairs:
        pair = load_pair(pair_name)
        methods = methods_of(grid, pair_name)
        names += [part for method in methods for part in method.removesuffix(_TUNED).split("+")]
        dataset = datasets()[pair.dataset].title
        margin = declared.get((dataset, pair.metric)) if full_size else None
        if margin is not None:
            used[dataset, pair.metric] = margin
        of_pair = [figure for figure in registry if pair_name in (figure.pair, figure.place[0])]
        tables.append(_table(found, pair_name, pair, methods, grid, of_pair, margin))
    return leaderboard(
        grid.tier,
        tier.title,
        tables,
        found.all_runs,
        full_size=full_size,
        recipes={name: recipe_of(name) for name in dict.fromkeys(names)},
        margins=list(used.values()),
        studies=found.studies,
        problems=found.problems,
        starts=starts,
    )


def _table(
    found: Gathered,
    name: str,
    pair: Pair,
    methods: Sequence[str],
    grid: Grid,
    figures: Sequence[ReportedResult],
    margin: Margin | None,
) -> Table:
    cells = {method: found.cells(name, pair, method, grid.seeds_of(name, method)) for method in methods}

    def differences(figure: ReportedResult) -> list[str]:
        """Those that the registry names, and at full size those of the runs as they were."""
        stated = stated_differences(figure)
        method = figure.place[1]
        if stated or margin is None or method is None or method not in cells or cells[method].impossible:
            return stated
        processes = max((result.run.processes for result in cells[method].results), default=1)
        here = settings_here(name, pair, method, tier=grid.tier, batch_size=grid.batch_size, processes=processes)
        split = split_differs(figure.settings, here, method)
        return contradictions(figure.settings, here) + ([split] if split else [])

    info = PairInfo(
        name=name,
        title=pair.title,
        task=pair.task,
        metric=pair.metric,
        dataset=datasets()[pair.dataset].title,
        schedule=pair.schedule,
        teacher_name=pair.teacher.name,
        notes=pair_notes(pair, figures),
        repeats=pair.repeats,
        curve_key=METRICS[pair.metric].curve_key,
    )
    return table(
        info,
        {method: _title(method) for method in methods},
        teacher=found.teacher(name),
        cells=cells,
        published=published_figures(figures, name, pair.metric, differences),
        margin=margin,
    )
