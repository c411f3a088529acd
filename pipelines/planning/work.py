"""What a grid still needs: trainings, evaluations and files."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.datasets import OwnData
from benchmarks.pair import Checkpoint, Pair
from benchmarks.throughput import Complexity, Throughput
from benchmarks.tier import Tier
from pipelines.params import Cell, Grid, cell_config, cells, impossible_reason, load_pair, load_parts, load_tier, load_yaml
from pipelines.planning.finished import Finished
from pipelines.planning.lengths import Length, length_at, num_images
from pipelines.planning.speeds import Speed, Speeds, known_speeds

Kind = Literal["teachers", "masks", "students", "evaluation"]


@dataclass(frozen=True)
class Work:
    """The same work some times over, such as one cell's training with several seeds.

    Args:
        what: the method, or which side is evaluated.
        length: of a training; None for an evaluation, and where the number of images is not known.
        images: that pass through the model each time.
        speed: None where nothing tells.
    """

    kind: Kind
    pair: str
    what: str
    times: int
    length: Length | None
    images: int | None
    speed: Speed | None

    @property
    def hours(self) -> float | None:
        """All of it, on one GPU or core."""
        if self.images is None or self.speed is None:
            return None
        return self.times * self.images / self.speed.images_per_s / 3600


@dataclass(frozen=True)
class WeightFile:
    """A file to be fetched.

    Args:
        used_by: role -> pairs.
        estimated_bytes: in case its size is not recorded.
        present: it lies in the folder of downloads.
    """

    checkpoint: Checkpoint
    used_by: dict[str, list[str]]
    estimated_bytes: float | None
    present: bool


@dataclass(frozen=True)
class Plan:
    """All that is printed.

    Args:
        all_cells: the grid's, without those that are left out.
        impossible: (pair, method) -> why.
        to_run: cells that are possible and not done.
    """

    grid: Grid
    tier: Tier
    pairs: dict[str, Pair]
    all_cells: list[Cell]
    impossible: dict[tuple[str, str], str]
    finished: Finished
    to_run: list[Cell]
    work: list[Work]
    weights: list[WeightFile]

    @property
    def cached(self) -> list[Cell]:
        """Cells that are possible and done."""
        return [
            cell for cell in self.all_cells if cell in self.finished.cells and (cell.pair, cell.method) not in self.impossible
        ]

    @property
    def unit(self) -> str:
        """What hours are counted of: shrunk models are trained on CPUs, one core each."""
        return "GPU" if self.tier.model is None else "core"

    def hours(self, kind: Kind | None, *, measured: bool) -> float:
        """Sum over the work of one kind, or of all."""
        return sum(w.hours or 0.0 for w in self.work if kind in (None, w.kind) and w.speed and w.speed.measured == measured)

    @property
    def unknown(self) -> int:
        """Pieces of work whose time nothing tells."""
        return sum(work.times for work in self.work if work.hours is None)


def make_plan(grid: Grid, finished: Finished, *, device: str, tflops: float, downloads: Path) -> Plan:
    """Count and price everything that the grid still needs; ValueError where a file that it names is wrong."""
    tier = load_tier(grid.tier)
    pairs = {name: load_pair(name) for name in grid.pairs}
    every = cells(grid)
    impossible = {
        (pair, method): reason
        for pair, method in dict.fromkeys((cell.pair, cell.method) for cell in every)
        if (reason := impossible_reason(pair, pairs[pair], method, grid.tier))
    }
    to_run = [cell for cell in every if (cell.pair, cell.method) not in impossible and cell not in finished.cells]
    throughput = load_yaml(Path("benchmarks/throughput.json"), Throughput)
    complexity = load_yaml(Path("benchmarks/complexity.json"), Complexity)
    speeds = known_speeds(grid.tier, tier, device=device, tflops=tflops, throughput=throughput, complexity=complexity)
    used = {cell.pair: pairs[cell.pair] for cell in every if (cell.pair, cell.method) not in impossible}
    work = [
        item
        for name, pair in used.items()
        for item in _pair_work(name, pair, grid, tier, Counter(c.method for c in to_run if c.pair == name), finished, speeds)
    ]
    weights = _weights(used, tier, grid.own, complexity, downloads)
    return Plan(grid, tier, pairs, every, impossible, finished, to_run, work, weights)


def trains_teacher(pair: Pair, tier: Tier, own: OwnData | None) -> bool:
    """Whether the teacher is trained here, rather than fetched or named with a user's own data."""
    if tier.data == "own":
        return own is None or own.teacher is None
    return tier.model is not None or pair.teacher.checkpoint is None


def _pair_work(
    name: str, pair: Pair, grid: Grid, tier: Tier, seeds: Counter[str], finished: Finished, speeds: Speeds
) -> list[Work]:
    """What one pair still needs, ``seeds`` trainings of each method."""
    images = num_images(tier, pair, Path("data") / grid.tier / "manifest.json")

    def training(kind: Kind, what: str, times: int, length: Length | None, speed: Speed | None) -> Work:
        return Work(kind, name, what, times, length, length.images if length else None, speed)

    def evaluation(what: str, side: str, times: int, seen: int | None) -> Work:
        return Work("evaluation", name, what, times, None, seen, speeds.forward(name, side))

    def seen(length: Length | None, speed: Speed | None) -> int | None:
        """Images that are predicted on: the test split, and validation where the training's time is without it."""
        if images is None or length is None:
            return None
        return images.test + (0 if speed and speed.whole else length.validations * images.tune)

    work = []
    if name not in finished.teachers:
        length, speed, test = None, speeds.teacher(name), images and images.test
        if trains_teacher(pair, tier, grid.own):
            length = images and length_at(tier, pair, "teacher", {}, images)
            work.append(training("teachers", "teacher", 1, length, speed))
            test = seen(length, speed)
        work.append(evaluation("teacher", "teacher", 1, test))
    for method, times in seeds.items():
        prior = _prior_iterations(method, name, pair, grid.tier)
        if prior and (name, method) not in finished.priors:
            batch = tier.schedule.batch_size if tier.schedule else pair.batch_size
            length = Length(prior, batch, batch, 0)
            work.append(training("masks", method, 1, length, speeds.prior(name, method)))
        changes = cell_config(method, name, pair, grid.tier)
        length, speed = images and length_at(tier, pair, "student", changes, images), speeds.student(name, method)
        work += [training("students", method, times, length, speed), evaluation(method, "student", times, seen(length, speed))]
    return work


def _prior_iterations(method: str, pair_name: str, pair: Pair, tier_name: str) -> int:
    """Of learning what the method needs to know beforehand; 0 where that is nothing."""
    parts = (part for part in load_parts(method) if part.recipe.prior is not None)
    return next((part.prior_training(pair_name, pair.head, tier_name).iterations for part in parts), 0)


def _weights(
    pairs: dict[str, Pair], tier: Tier, own_data: OwnData | None, complexity: Complexity, downloads: Path
) -> list[WeightFile]:
    """Every published file that the pairs need at this tier, once."""
    from pipelines.engine.fetch import Download  # noqa: PLC0415 (only where something is fetched)

    if tier.model is not None:
        return []  # shrunk models are trained from scratch
    users: dict[Checkpoint, dict[str, list[str]]] = {}
    sizes: dict[Checkpoint, float] = {}
    for name, pair in pairs.items():
        known, own = complexity.pairs.get(name), trains_teacher(pair, tier, own_data)
        wanted = [
            (pair.student.initialisation, "start of the student", known and known.student.backbone_parameters_m),
            (pair.teacher.initialisation if own else None, "start of the teacher", known and known.teacher.backbone_parameters_m),
            (None if own else pair.teacher.checkpoint, "teacher", known and known.teacher.parameters_m),
        ]
        for checkpoint, role, millions in wanted:
            if checkpoint:
                users.setdefault(checkpoint, {}).setdefault(role, []).append(name)
                if millions:
                    sizes[checkpoint] = 4e6 * millions  # float32
    return [
        WeightFile(file, used_by, sizes.get(file), Download(file.url, downloads, file.sha256).target.is_file())
        for file, used_by in users.items()
    ]
