"""The contents of params.yaml, and the stages that they ask for.

DVC cannot derive the stages from ``grid:`` itself: its templates know lists and dictionaries, but no conditions.
So grid.yaml lists every stage with work, and nothing else; :func:`write_stages` derives it from params.yaml.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator, model_validator

from benchmarks.dataset import CheckableName
from benchmarks.published_data import OwnData
from pipelines import layout
from pipelines.layout import Cell
from pipelines.tuning.settings import Id, Rows, Tuning

RENEW = "python -m pipelines.stages.check --renew"


class Grid(BaseModel):
    """The contents of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    tier: Id
    rows: Rows = Field(alias="grid", min_length=1, description="by pair, the methods to run")
    seeds: list[StrictInt] = Field(min_length=1, description="a number n stands for 0 to n - 1")
    baseline_seeds: list[StrictInt] = Field(
        default_factory=list,
        description="of the baseline, which all rows of a pair are compared with; those of the grid if empty",
    )
    data: dict[CheckableName, str] = Field(
        default_factory=dict, description="folders of published data sets; the environment's KD_COCO etc. come first"
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="of a published schedule, where it is not the pair's; the learning rate follows"
    )
    own: OwnData | None = Field(default=None, description="the data of a tier whose data is 'own'")
    tuning: Tuning | None = None

    @field_validator("seeds", "baseline_seeds", mode="before")
    @classmethod
    def _counted(cls, given: Any) -> Any:
        if isinstance(given, int) and not isinstance(given, bool):
            if given < 1:
                raise ValueError(f"a number of seeds is 1 or more, or give a list; got {given}")
            return list(range(given))
        return given

    @model_validator(mode="after")
    def _each_once(self) -> "Grid":
        named: dict[str, list[Any]] = {"seeds": self.seeds, "baseline_seeds": self.baseline_seeds}
        named |= {f"grid.{pair}": methods for pair, methods in self.rows.items()}
        named |= {f"tuning.grid.{pair}": methods for pair, methods in (self.tuning.rows if self.tuning else {}).items()}
        twice = [
            f"{where} names {value!r} more than once: two cells would be the same; remove one"
            for where, values in named.items()
            for value in sorted({v for v in values if values.count(v) > 1}, key=str)
        ]
        if lacking := sorted({*self.seeds} - {*self.baseline_seeds}) if self.baseline_seeds else []:
            twice.append(f"baseline_seeds lacks {lacking[0]}, which seeds has; every row is compared with the baseline; add it")
        if twice:
            raise ValueError("; ".join(twice))
        return self

    @property
    def pairs(self) -> list[str]:
        """Names, in their order."""
        return list(self.rows)

    @property
    def methods(self) -> list[str]:
        """Names that any pair has, each once, in the order of their first mention."""
        return list(dict.fromkeys(method for methods in self.rows.values() for method in methods))

    def seeds_of(self, pair: str, method: str) -> list[int]:
        """The seeds of a row; a pair that only repeats another with a second teacher has the grid's for its baseline, too."""
        from pipelines.params import load_pair  # noqa: PLC0415 (which imports this module)

        more = method == "none" and self.baseline_seeds and load_pair(pair).repeats is None
        return self.baseline_seeds if more else self.seeds


def cells(grid: Grid) -> list[Cell]:
    """All cells with the recipes' values, pair by pair; unsupported ones among them."""
    return [
        Cell(pair, method, seed)
        for pair, methods in grid.rows.items()
        for method in methods
        for seed in grid.seeds_of(pair, method)
    ]


def tuned_cells(grid: Grid) -> list[Cell]:
    """All cells with the values of studies; unsupported ones among them."""
    rows = grid.tuning.rows if grid.tuning else {}
    return [Cell(pair, method, seed, tuned=True) for pair, methods in rows.items() for method in methods for seed in grid.seeds]


def data_set(grid: Grid, pair: str) -> str:
    """The data set that a pair is trained on at the grid's tier: ``scenes``, ``own``, or the pair's own name for it."""
    from pipelines.params import load_pair, load_tier  # noqa: PLC0415 (which imports this module)

    data = load_tier(grid.tier).data
    return load_pair(pair).dataset if data == "published" else data


def data_sets(grid: Grid) -> list[str]:
    """Those of all pairs that can run, each once."""
    from pipelines.params import load_pair  # noqa: PLC0415

    return sorted({data_set(grid, pair) for pair in grid.pairs if load_pair(pair).not_run is None})


def stages(grid: Grid) -> dict[str, Any]:
    """The keys of every stage with work, by kind; of a cell also the files that it depends on by way of others' work."""
    from pipelines.params import auxiliary_of, backbones_needed, impossible_reason, load_pair  # noqa: PLC0415 (which imports this)

    runs: dict[tuple[str, str], bool] = {}

    def supported(cell: Cell) -> bool:
        key = (cell.pair, cell.method)
        if key not in runs:
            runs[key] = impossible_reason(cell.pair, load_pair(cell.pair), cell.method, grid.tier) is None
        return runs[key]

    wanted = [cell for cell in [*cells(grid), *tuned_cells(grid)] if supported(cell)]
    pairs = list(dict.fromkeys(cell.pair for cell in wanted))
    rows = list(dict.fromkeys((cell.pair, cell.method) for cell in wanted))
    return {
        "pretrain": list(backbones_needed(grid, pairs)),
        "teachers": {pair: {"data": data_set(grid, pair), **_starts(grid, pair)} for pair in pairs},
        "masks": {f"{pair}/{method}": _row(pair, method) for pair, method in rows if auxiliary_of(method)},
        "tune": {
            f"{c.pair}/{c.method}": _row(c.pair, c.method) | {"auxiliary": _auxiliary(grid.tier, c)} for c in wanted if c.tuned
        },
        "distill": {
            c.key: _row(c.pair, c.method)
            | {"auxiliary": _auxiliary(grid.tier, c), "tuned": _selected(grid.tier, c)}
            for c in wanted
        },
        "evaluate": {
            **{f"{pair}/teacher": {"pair": pair} for pair in pairs},
            **{c.key: {"pair": c.pair} for c in wanted},
        },
    }  # fmt: skip


def _row(pair: str, method: str) -> dict[str, str]:
    return {"pair": pair, "method": method}


def _starts(grid: Grid, pair: str) -> dict[str, str]:
    """Files that a pair's two models start from; its own settings where these are not made by a stage."""
    from pipelines.params import starts_of  # noqa: PLC0415

    own = layout.resolved("teachers", pair)
    paths = {
        side: layout.backbones(grid.tier) / name / "weights.pth" if name else own for side, name in starts_of(grid, pair).items()
    }
    return {f"{side}_start": str(path.relative_to(layout.RUNS)) for side, path in paths.items()}


def _auxiliary(tier: str, cell: Cell) -> str:
    """The auxiliary module's file; the cell's own settings, which it depends on anyway, where the method has none."""
    from pipelines.params import auxiliary_of  # noqa: PLC0415

    made = layout.auxiliary(tier, cell.pair, cell.method) / "prior.pth" if auxiliary_of(cell.method) else None
    return _below(made, cell)


def _selected(tier: str, cell: Cell) -> str:
    return _below(layout.study(tier, cell.pair, cell.method) / "best.yaml" if cell.tuned else None, cell)


def _below(path: Path | None, cell: Cell) -> str:
    return str((path or layout.resolved("distill", f"{cell.pair}/{cell.method}")).relative_to(layout.RUNS))


_HEAD = f"# The stages that params.yaml asks for, written by {RENEW} (make repro does it itself); not to be edited.\n"


def stages_text(grid: Grid) -> str:
    """The contents of grid.yaml: a line per stage."""
    lines = [_HEAD.rstrip(), "stages:"]
    for stage, keys in stages(grid).items():
        if not keys:
            lines.append(f"  {stage}: {'{}' if isinstance(keys, dict) else '[]'}")
            continue
        lines.append(f"  {stage}:")
        for key in keys:
            value = f": {_flow(keys[key])}" if isinstance(keys, dict) else ""
            lines.append(f"    {'' if isinstance(keys, dict) else '- '}{key}{value}")
    return "\n".join(lines) + "\n"


def _flow(value: dict[str, str]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()


def write_stages(grid: Grid) -> bool:
    """Write grid.yaml where it lags behind; return whether it did."""
    text = stages_text(grid)
    if layout.GRID.is_file() and layout.GRID.read_text() == text:
        return False
    partial = layout.GRID.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(layout.GRID)
    return True


def check_stages(grid: Grid) -> None:
    """ValueError where grid.yaml lags behind params.yaml."""
    if not layout.GRID.is_file() or layout.GRID.read_text() != stages_text(grid):
        raise ValueError(
            f"{layout.GRID}: does not list the stages that params.yaml asks for; renew it: {RENEW} (make repro does it itself)"
        )


def load_stages(path: Path = layout.GRID) -> dict[str, Any]:
    """Stages of grid.yaml, by kind."""
    return dict(yaml.safe_load(path.read_text())["stages"])
