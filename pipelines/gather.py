"""What a report is made of, read from the records of whatever has finished so far."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from benchmarks.pair import Pair
from benchmarks.published import Figure, Registry
from pipelines.params import Grid, impossible_reason, load_pair, load_parts, load_tier, load_yaml, method_title
from reports.assembly import leaderboard
from reports.board import Leaderboard, Margin, Missing, PublishedFigure, Recipe, Table
from reports.record import Metrics, Run
from reports.rows import Cells, PairInfo, Result, table

Schema = TypeVar("Schema", bound=BaseModel)
_DATASETS = {"coco": "COCO", "voc": "VOC", "cityscapes": "Cityscapes", "imagenet": "ImageNet"}  # as printed
_VERSIONS = {"Run": 2, "Metrics": 2}


class Margins(RootModel[list[Margin]]):
    """The contents of ``reports/margins.yaml``."""


def margins(path: Path = Path("reports/margins.yaml")) -> dict[tuple[str, str], Margin]:
    """By data set and metric; ValueError where the file is wrong or names one twice."""
    found = load_yaml(path, Margins).root
    by_key = {(margin.dataset, margin.metric): margin for margin in found}
    if len(by_key) < len(found):
        raise ValueError(f"{path}: names a data set and metric twice; one margin each")
    return by_key


def read_record(path: Path, schema: type[Schema]) -> Schema:
    """Read ``run.json`` or ``metrics.json``; ValueError, one line, where it is not of the schema or of an older one."""
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
    """

    runs: Path
    work: Path
    tier: str
    problems: list[str] = field(default_factory=list)
    all_runs: list[Run] = field(default_factory=list)

    def teacher(self, pair: str) -> Result | None:
        """The pair's teacher."""
        try:
            result = self._result(self.runs / pair / "teacher", f"teachers@{pair}", ("teacher", pair, None, None))
        except ValueError as error:
            self.problems.append(str(error))
            return None
        return result

    def cells(self, pair_name: str, pair: Pair, method: str, seeds: Sequence[int]) -> Cells:
        """A method's cells on a pair."""
        if reason := impossible_reason(pair_name, pair, method, self.tier):
            return Cells(impossible=reason)
        results, missing = [], []
        for seed in seeds:
            found = self._cell(pair_name, method, seed)
            (missing if isinstance(found, Missing) else results).append(found)
        prior = None
        if any(part.recipe.prior for part in load_parts(method)):
            try:
                path = self.runs / pair_name / method / "prior/run.json"
                prior = read_record(path, Run) if path.is_file() else None
                self.all_runs += [prior] if prior else []
            except ValueError as error:
                self.problems.append(str(error))
        targets = " ".join(f"evaluate@{pair_name}-{method}-{seed}" for seed in seeds)
        return Cells(results, missing, None, prior, f"dvc repro {targets}")

    def _cell(self, pair: str, method: str, seed: int) -> Result | Missing:
        folder, target = f"{pair}/{method}/seed{seed}", f"distill@{pair}-{method}-{seed}"
        try:
            found = self._result(self.runs / folder, target, ("distill", pair, method, seed))
            record = self.runs / folder / "run.json"
            trained = found is None and record.is_file() and read_record(record, Run).status == "done"
        except ValueError as error:
            self.problems.append(str(error))
            return Missing(seed=seed, status="unreadable", reason=str(error))
        if found is not None:
            return found
        note = self.work / folder / "failed.txt"
        if note.is_file():
            return Missing(seed=seed, status="failed", reason=note.read_text().strip())
        return Missing(seed=seed, status="not evaluated" if trained else "not run")

    def _result(self, folder: Path, target: str, expected: tuple[str, str, str | None, int | None]) -> Result | None:
        found = read_result(folder, target)
        if found is None:
            return None
        run = found.run
        claimed = (run.stage, run.pair, run.method, run.seed if expected[3] is not None else None)
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


def gather(grid: Grid, runs: Path, work: Path) -> Leaderboard:
    """The leaderboard of a grid from what is there; ValueError where a file of the project itself is wrong."""
    tier = load_tier(grid.tier)
    full_size = tier.model is None and tier.data == "published"
    registry, declared = load_yaml(Path("benchmarks/published.yaml"), Registry).root, margins()
    found, tables, used = Gathered(runs, work, grid.tier), [], {}
    names: list[str] = []
    for pair_name in grid.pairs:
        pair = load_pair(pair_name)
        methods = [method for method in grid.methods if method not in grid.leave_out.get(pair_name, [])]
        names += [part for method in methods for part in method.split("+")]
        dataset = _DATASETS[pair.dataset]
        margin = declared.get((dataset, pair.metric)) if full_size else None
        if margin is not None:
            used[dataset, pair.metric] = margin
        of_pair = [figure for figure in registry if figure.pair == pair_name]
        tables.append(_table(found, pair_name, pair, methods, grid.seeds, of_pair, margin))
    return leaderboard(
        grid.tier,
        tier.title,
        tables,
        found.all_runs,
        full_size=full_size,
        recipes={name: recipe_of(name) for name in dict.fromkeys(names)},
        margins=list(used.values()),
        problems=found.problems,
    )


def _table(
    found: Gathered,
    name: str,
    pair: Pair,
    methods: Sequence[str],
    seeds: Sequence[int],
    figures: Sequence[Figure],
    margin: Margin | None,
) -> Table:
    info = PairInfo(
        name=name,
        title=pair.title,
        task=pair.task,
        metric=pair.metric,
        dataset=_DATASETS[pair.dataset],
        schedule=pair.schedule,
        teacher_name=pair.teacher.name,
        notes=pair_notes(pair, figures),
    )
    return table(
        info,
        {method: method_title(method) for method in methods},
        teacher=found.teacher(name),
        cells={method: found.cells(name, pair, method, seeds) for method in methods},
        published=published_figures(figures, name, pair.metric),
        margin=margin,
    )
