"""What a grid still needs: trainings, evaluations and files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from benchmarks.pair import Checkpoint, Pair
from benchmarks.published_data import OwnData
from benchmarks.throughput import Complexity, Throughput
from benchmarks.tier import Tier
from pipelines.estimation.completed import Finished
from pipelines.estimation.lengths import Images, Length, length_at, num_images, trial_images
from pipelines.estimation.throughput import Speed, Speeds, known_speeds
from pipelines.grid import Grid, cells, tuned_cells
from pipelines.layout import Cell
from pipelines.params import (
    cell_config,
    cell_parts,
    impossible_reason,
    load_pair,
    load_parts,
    load_tier,
    load_yaml,
    trained_as,
)
from pipelines.tuning.settings import Tuning

Kind = Literal["backbones", "teachers", "masks", "trials", "students", "evaluation"]


@dataclass(frozen=True)
class Work:
    """The same work some times over, such as one cell's training with several seeds.

    Args:
        what: the method, ``mgd/tuned`` where a study chose its values, or which side is evaluated.
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
        all_cells: the grid's.
        impossible: (pair, method) -> why.
        to_run: cells that are possible and not done.
        tuned: cells, possible ones, that are trained once more with what stage ``tune`` finds.
    """

    grid: Grid
    tier: Tier
    pairs: dict[str, Pair]
    all_cells: list[Cell]
    impossible: dict[tuple[str, str], str]
    finished: Finished
    to_run: list[Cell]
    tuned: list[Cell]
    work: list[Work]
    weights: list[WeightFile]

    @property
    def cached(self) -> list[Cell]:
        """Cells that are possible and done."""
        return [
            cell for cell in self.all_cells if cell in self.finished.cells and (cell.pair, cell.method) not in self.impossible
        ]

    @property
    def studies(self) -> list[tuple[str, str]]:
        """Pair and method of each study."""
        return list(dict.fromkeys((cell.pair, cell.method) for cell in self.tuned))

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
    tuned = [cell for cell in tuned_cells(grid) if (cell.pair, cell.method) not in impossible]
    work: list[Work] = _backbones(tier, used, finished, speeds)
    for name, pair in used.items():
        images = num_images(tier, pair, Path("data") / grid.tier / "manifest.json")
        needs = _Needs(name, pair, grid, tier, images, finished, speeds)
        work += needs.teacher()
        for method in grid.rows[name]:
            again = [cell for cell in tuned if (cell.pair, cell.method) == (name, method)]
            work += needs.method(
                method,
                published=sum((cell.pair, cell.method) == (name, method) for cell in to_run),
                tuned=len(set(again) - finished.tuned),
                is_searched=bool(again) and (name, method) not in finished.studies,
            )
    weights = _weights(used, tier, grid.own, complexity, downloads)
    return Plan(grid, tier, pairs, every, impossible, finished, to_run, tuned, work, weights)


def _backbones(tier: Tier, pairs: dict[str, Pair], finished: Finished, speeds: Speeds) -> list[Work]:
    """Trainings of backbones, where the tier has them."""
    if tier.pretraining is None or tier.model is None:
        return []
    from pipelines.engine.backbones import backbones_of  # noqa: PLC0415 (seconds)

    wanted = tier.pretraining
    length = Length(
        wanted.epochs * (wanted.scenes.train // wanted.batch_size), wanted.batch_size, wanted.batch_size, wanted.epochs
    )
    return [
        Work("backbones", name, "backbone", 1, length, length.images, speeds.backbone(name))
        for name in backbones_of(pairs, tier.model)
        if name not in finished.backbones
    ]


def trains_teacher(pair: Pair, tier: Tier, own: OwnData | None) -> bool:
    """Whether the teacher is trained here, rather than fetched or named with a user's own data."""
    if tier.data == "own":
        return own is None or own.teacher is None
    return tier.model is not None or pair.teacher.checkpoint is None


@dataclass(frozen=True)
class _Needs:
    """What one pair still needs, by its name; ``images`` is None where their number is not known."""

    name: str
    pair: Pair
    grid: Grid
    tier: Tier
    images: Images | None
    finished: Finished
    speeds: Speeds

    def teacher(self) -> list[Work]:
        """Its training, where there is one, and its evaluation."""
        if self.name in self.finished.teachers:
            return []
        if not trains_teacher(self.pair, self.tier, self.grid.own):
            return [self._evaluation("teacher", "teacher", 1, self.images and self.images.test)]
        length, speed = (
            self.images and length_at(self.tier, self.pair, "teacher", {}, self.images),
            self.speeds.teacher(self.name),
        )
        return [
            self._training("teachers", "teacher", 1, length, speed),
            self._evaluation("teacher", "teacher", 1, self._seen(length, speed)),
        ]

    def method(self, method: str, *, published: int, tuned: int, is_searched: bool) -> list[Work]:
        """A prior, students as published, a search, and students with what it finds: ``published`` and ``tuned`` seeds."""
        if not (published or tuned or is_searched):
            return []
        speed, changes = self.speeds.student(self.name, method), cell_config(method, self.name, self.pair, self.grid.tier)
        times = trained_as(cell_parts(method, self.name, self.pair, self.grid.tier)[0]).length_times
        length = self.images and length_at(self.tier, self.pair, "student", changes, self.images, share=times)
        seen = self._seen(length, speed)
        work = self._prior(method)
        if published:
            work += [
                self._training("students", method, published, length, speed),
                self._evaluation(method, "student", published, seen),
            ]
        if is_searched:
            work += self._trials(method, changes, speed)
        if tuned:
            what = f"{method}/tuned"
            work += [self._training("students", what, tuned, length, speed), self._evaluation(what, "student", tuned, seen)]
        return work

    def _prior(self, method: str) -> list[Work]:
        iterations = _prior_iterations(method, self.name, self.pair, self.grid.tier)
        if not iterations or (self.name, method) in self.finished.priors:
            return []
        batch = self.tier.schedule.lengths(self.pair.head).batch_size if self.tier.schedule else self.pair.batch_size
        return [self._training("masks", method, 1, Length(iterations, batch, batch, 0), self.speeds.prior(self.name, method))]

    def _trials(self, method: str, changes: dict[str, Any], speed: Speed | None) -> list[Work]:
        """All trials that a study may have, none of them pruned, and what they are measured on."""
        tuning = cast("Tuning", self.grid.tuning)
        parted = self.images and trial_images(self.tier, self.pair, self.images)
        length = parted and length_at(self.tier, self.pair, "student", changes, parted, share=tuning.share)
        return [
            self._training("trials", method, tuning.trials, length, speed),
            self._evaluation(f"{method}/trials", "student", tuning.trials, parted and tuning.reports * parted.tune),
        ]

    def _training(self, kind: Kind, what: str, times: int, length: Length | None, speed: Speed | None) -> Work:
        return Work(kind, self.name, what, times, length, length.images if length else None, speed)

    def _evaluation(self, what: str, side: str, times: int, seen: int | None) -> Work:
        return Work("evaluation", self.name, what, times, None, seen, self.speeds.forward(self.name, side))

    def _seen(self, length: Length | None, speed: Speed | None) -> int | None:
        """Images that are predicted on: the test split, and validation where the training's time is without it."""
        if self.images is None or length is None:
            return None
        return self.images.test + (0 if speed and speed.whole else length.validations * self.images.tune)


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
