"""Estimate of a grid's cost: cells, remaining work, files, hours."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.pair import Pair
from benchmarks.throughput import Complexity, Throughput
from benchmarks.tier import Tier
from pipelines.estimation.completed import Completed
from pipelines.estimation.lengths import num_images
from pipelines.estimation.throughput import known_speeds
from pipelines.estimation.weights import WeightFile, weight_files
from pipelines.estimation.workload import Kind, Remaining, Work, backbone_runs
from pipelines.grid import Grid
from pipelines.layout import Cell
from pipelines.params import load_pair, load_tier, load_yaml
from pipelines.recipes import impossible_reason
from pipelines.stage_list import cells, tuned_cells


@dataclass(frozen=True)
class Estimate:
    """Everything that is printed.

    Args:
        all_cells: the grid's.
        unsupported: (pair, method) -> reason.
        to_run: supported cells that are not completed.
        tuned: supported cells that are trained once more with the values that stage ``tune`` selects.
    """

    grid: Grid
    tier: Tier
    pairs: dict[str, Pair]
    all_cells: list[Cell]
    unsupported: dict[tuple[str, str], str]
    completed: Completed
    to_run: list[Cell]
    tuned: list[Cell]
    work: list[Work]
    weights: list[WeightFile]

    @property
    def cached(self) -> list[Cell]:
        """Supported cells that are completed."""
        return [
            cell for cell in self.all_cells if cell in self.completed.cells and (cell.pair, cell.method) not in self.unsupported
        ]

    @property
    def studies(self) -> list[tuple[str, str]]:
        """Pair and method of each study."""
        return list(dict.fromkeys((cell.pair, cell.method) for cell in self.tuned))

    @property
    def unit(self) -> str:
        """Unit that hours are counted of: reduced models are trained on CPUs, one core each."""
        return "GPU" if self.tier.model is None else "core"

    def hours(self, kind: Kind | None, *, measured: bool) -> float:
        """Sum over the work of one kind, or of all."""
        return sum(w.hours or 0.0 for w in self.work if kind in (None, w.kind) and w.speed and w.speed.measured == measured)

    @property
    def unknown(self) -> int:
        """Number of pieces of work of unknown time."""
        return sum(work.times for work in self.work if work.hours is None)


def make_estimate(grid: Grid, completed: Completed, *, device: str, tflops: float, downloads: Path) -> Estimate:
    """Count everything that the grid still needs; ValueError where a file that it names is wrong."""
    tier = load_tier(grid.tier)
    pairs = {name: load_pair(name) for name in grid.pairs}
    every = cells(grid)
    unsupported = {
        (pair, method): reason
        for pair, method in dict.fromkeys((cell.pair, cell.method) for cell in every)
        if (reason := impossible_reason(pair, pairs[pair], method, grid.tier))
    }
    to_run = [cell for cell in every if (cell.pair, cell.method) not in unsupported and cell not in completed.cells]
    throughput = load_yaml(Path("benchmarks/throughput.json"), Throughput)
    complexity = load_yaml(Path("benchmarks/complexity.json"), Complexity)
    speeds = known_speeds(grid.tier, tier, device=device, tflops=tflops, throughput=throughput, complexity=complexity)
    used = {cell.pair: pairs[cell.pair] for cell in every if (cell.pair, cell.method) not in unsupported}
    tuned = [cell for cell in tuned_cells(grid) if (cell.pair, cell.method) not in unsupported]
    work: list[Work] = backbone_runs(tier, used, completed, speeds)
    for name, pair in used.items():
        images = num_images(tier, pair, Path("data") / grid.tier / "manifest.json")
        remaining = Remaining(name, pair, grid, tier, images, completed, speeds)
        work += remaining.teacher()
        for method in grid.rows[name]:
            again = [cell for cell in tuned if (cell.pair, cell.method) == (name, method)]
            work += remaining.method(
                method,
                published=sum((cell.pair, cell.method) == (name, method) for cell in to_run),
                tuned=len(set(again) - completed.tuned),
                is_searched=bool(again) and (name, method) not in completed.studies,
            )
    weights = weight_files(used, tier, grid.own, complexity, downloads)
    return Estimate(grid, tier, pairs, every, unsupported, completed, to_run, tuned, work, weights)
