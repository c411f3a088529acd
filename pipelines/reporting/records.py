"""Records of finished runs and leaderboards, read and checked."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from benchmarks.digest import file_digest
from pipelines import layout
from reports.schemas.evidence import ReleasedStudent
from reports.schemas.leaderboard import Leaderboard
from reports.schemas.run import Metrics, Run
from reports.stats.rows import Result

Schema = TypeVar("Schema", bound=BaseModel)
_VERSIONS = {"Run": 3, "Metrics": 3, "Study": 1, "ReleasedStudent": 1}


def read_record(path: Path, schema: type[Schema]) -> Schema:
    """Read ``run.json``, ``metrics.json``, ``study.json`` or a released student's record; ValueError, one line, where it is not of the present schema."""
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


def released_records(tier: str) -> list[ReleasedStudent]:
    """Read the records of released students that a tier has, by name."""
    return [read_record(path, ReleasedStudent) for path in sorted((layout.runs(tier) / layout.RELEASED).glob("*.json"))]


def read_board(path: Path) -> Leaderboard:
    """Read a leaderboard.json; ValueError, one line, where it cannot be read or is of another schema."""
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
    """Read a finished run and its result, None where either is missing; ValueError where a file is wrong."""
    paths = (folder / "run.json", folder / "metrics.json")
    if not all(path.is_file() for path in paths):
        return None
    run, metrics = read_record(paths[0], Run), read_record(paths[1], Metrics)
    if run.status == "done" and run.weights_sha256 != metrics.weights_sha256:
        raise ValueError(f"{paths[1]}: is of other weights than {paths[0]} records; run stage evaluate again")
    if run.status == "done" and metrics.score is None:
        raise ValueError(f"{paths[1]}: has no score, and {paths[0]} is of a finished run; run stage evaluate again")
    return Result(run, metrics, file_digest(paths[0]), file_digest(paths[1]), target)
