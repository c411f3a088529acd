"""Records of a grid's runs, collected from the folders of a tier."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.digest import file_digest
from benchmarks.pair import Pair
from pipelines import layout
from pipelines.recipes import impossible_reason, load_parts
from pipelines.reporting.records import read_record, read_result
from reports.schemas.leaderboard import Backbone, MissingRun
from reports.schemas.run import Run
from reports.schemas.study import Study
from reports.stats.rows import Result, RowRecords


@dataclass
class Collected:
    """Records of one tier; what cannot be used is noted and excluded.

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

    def backbones(self, names: Sequence[str]) -> list[Backbone]:
        """Return the pre-trained backbones."""
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
                Backbone(
                    name=name, accuracy=run.accuracy, cost=run.cost, weights_sha256=str(run.weights_sha256),
                    run_sha256=file_digest(path), mlflow_run_id=run.mlflow_run_id,
                )
            )  # fmt: skip
        return made

    def teacher(self, pair: str) -> Result | None:
        """Return a pair's teacher; None where it is missing or cannot be used."""
        try:
            result = self._result(self.runs / pair / "teacher", f"teachers@{pair}", ("teacher", pair, None, None))
        except ValueError as error:
            self.problems.append(str(error))
            return None
        return result

    def cells(self, pair_name: str, pair: Pair, method: str, seeds: Sequence[int]) -> RowRecords:
        """Return a method's cells on a pair; an auxiliary module counts once, though the tuned row needs it, too."""
        base, _ = layout.split_row(method)
        if reason := impossible_reason(pair_name, pair, base, self.tier):
            return RowRecords(unsupported=reason)
        found = [self._cell(pair_name, method, seed) for seed in seeds]
        results = [one for one in found if isinstance(one, Result)]
        missing = [one for one in found if isinstance(one, MissingRun)]
        targets = " ".join(f"evaluate@{pair_name}/{method}/seed{seed}" for seed in seeds)
        prior = self._prior(pair_name, base) if any(part.recipe.prior for part in load_parts(base)) else None
        if base == method:
            self.all_runs += [prior] if prior else []
            return RowRecords(results, missing, None, prior, f"dvc repro {targets}")
        study = self._study(pair_name, base)
        self.studies += [study] if study else []
        return RowRecords(results, missing, None, prior, f"dvc repro {targets}", study)

    def _prior(self, pair: str, method: str) -> Run | None:
        path = self.runs / pair / method / "prior/run.json"
        try:
            return read_record(path, Run) if path.is_file() else None
        except ValueError as error:
            self._note(error)
            return None

    def _study(self, pair: str, method: str) -> Study | None:
        """Read the study of a tuned row; None where it has not ended."""
        path = self.runs / pair / method / "tuned/study.json"
        try:
            found = read_record(path, Study) if path.is_file() else None
            if found and (found.tier, found.pair, found.method) != (self.tier, pair, method):
                raise ValueError(
                    f"{path}: is of the study {found.tier}, {found.pair}/{found.method}, and is where that of "
                    f"{self.tier}, {pair}/{method} belongs; run stage tune again, or remove it"
                )
        except ValueError as error:
            self._note(error)
            return None
        return found if found and found.status == "done" else None

    def _note(self, error: ValueError) -> None:
        """Note a problem once, though two rows may need the file."""
        if str(error) not in self.problems:
            self.problems.append(str(error))

    def _cell(self, pair: str, method: str, seed: int) -> Result | MissingRun:
        base, _ = layout.split_row(method)
        folder = f"{pair}/{method}/seed{seed}"
        target = f"distill@{folder}"
        try:
            found = self._result(self.runs / folder, target, ("distill", pair, method, seed))
            record = self.runs / folder / "run.json"
            trained = found is None and record.is_file() and read_record(record, Run).status == "done"
        except ValueError as error:
            self.problems.append(str(error))
            return MissingRun(seed=seed, status="unreadable", reason=str(error))
        if found is not None:
            return found
        notes = {"": self.work / folder / "failed.txt"}
        if base != method:
            notes["its search: "] = self.work / pair / base / "tuning/failed.txt"
        for whose, note in notes.items():
            if note.is_file():
                return MissingRun(seed=seed, status="failed", reason=whose + note.read_text().strip())
        return MissingRun(seed=seed, status="not evaluated" if trained else "not run")

    def _result(self, folder: Path, target: str, expected: tuple[str, str, str | None, int | None]) -> Result | None:
        found = read_result(folder, target)
        if found is None:
            return None
        run = found.run
        actual = (run.stage, run.pair, run.row, run.seed if expected[3] is not None else None)
        if (run.tier, actual) != (self.tier, expected):
            raise ValueError(
                f"{folder / 'run.json'}: is of the row {run.tier}, {_joined(actual)}, and is where that of {self.tier}, "
                f"{_joined(expected)} belongs; run its stage again, or remove it"
            )
        if run.status != "done":
            return None
        self.all_runs.append(run)
        return found


def _joined(identity: tuple[str, str, str | None, int | None]) -> str:
    return "/".join(str(part) for part in identity if part is not None)
