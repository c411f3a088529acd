"""Work that a grid still needs: training runs, studies and evaluations, per pair."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from benchmarks.pair import Pair
from benchmarks.tier import Tier
from pipelines import layout
from pipelines.estimation.completed import Completed
from pipelines.estimation.lengths import Images, Length, length_at, trial_images
from pipelines.estimation.throughput import Speed, Speeds
from pipelines.estimation.weights import trains_teacher
from pipelines.grid import Grid
from pipelines.recipes import cell_config, cell_parts, load_parts, trained_as
from pipelines.tuning.params import TuningParams

Kind = Literal["backbones", "teachers", "masks", "trials", "students", "evaluation"]


@dataclass(frozen=True)
class Work:
    """Work repeated some times, such as one cell's training run with several seeds.

    Args:
        what: the method, ``mgd/tuned`` with the values of a study, or the evaluated side.
        length: of a training run; None for an evaluation, and where the number of images is not known.
        images: that pass through the model, each time.
        speed: None where it is unknown.
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
        """Hours of all repetitions, on one GPU or core."""
        if self.images is None or self.speed is None:
            return None
        return self.times * self.images / self.speed.images_per_s / 3600


def backbone_runs(tier: Tier, pairs: dict[str, Pair], completed: Completed, speeds: Speeds) -> list[Work]:
    """Training runs of backbones, where the tier has them."""
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
        if name not in completed.backbones
    ]


@dataclass(frozen=True)
class Remaining:
    """Remaining work of one pair; ``images`` is None where their number is not known."""

    name: str
    pair: Pair
    grid: Grid
    tier: Tier
    images: Images | None
    completed: Completed
    speeds: Speeds

    def teacher(self) -> list[Work]:
        """Training run of the teacher, where there is one, and its evaluation."""
        if self.name in self.completed.teachers:
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
        """Auxiliary module, students as published, study, and students with what it selects: ``published`` and ``tuned`` seeds."""
        if not (published or tuned or is_searched):
            return []
        speed, changes = self.speeds.student(self.name, method), cell_config(method, self.name, self.pair, self.grid.tier)
        times = trained_as(cell_parts(method, self.name, self.pair, self.grid.tier)[0]).length_times
        length = self.images and length_at(self.tier, self.pair, "student", changes, self.images, fraction=times)
        seen = self._seen(length, speed)
        work = self._auxiliary(method)
        if published:
            work += [
                self._training("students", method, published, length, speed),
                self._evaluation(method, "student", published, seen),
            ]
        if is_searched:
            work += self._trials(method, changes, speed)
        if tuned:
            what = layout.tuned_row(method)
            work += [self._training("students", what, tuned, length, speed), self._evaluation(what, "student", tuned, seen)]
        return work

    def _auxiliary(self, method: str) -> list[Work]:
        iterations = _auxiliary_iterations(method, self.name, self.pair, self.grid.tier)
        if not iterations or (self.name, method) in self.completed.auxiliaries:
            return []
        batch = self.tier.schedule.lengths(self.pair.head).batch_size if self.tier.schedule else self.pair.batch_size
        return [self._training("masks", method, 1, Length(iterations, batch, batch, 0), self.speeds.auxiliary(self.name, method))]

    def _trials(self, method: str, changes: dict[str, Any], speed: Speed | None) -> list[Work]:
        """All trials that a study may have, none of them pruned, and their evaluations."""
        tuning = cast("TuningParams", self.grid.tuning)
        parted = self.images and trial_images(self.tier, self.pair, self.images)
        length = parted and length_at(self.tier, self.pair, "student", changes, parted, fraction=tuning.share)
        return [
            self._training("trials", method, tuning.trials, length, speed),
            self._evaluation(f"{method}/trials", "student", tuning.trials, parted and tuning.reports * parted.tune),
        ]

    def _training(self, kind: Kind, what: str, times: int, length: Length | None, speed: Speed | None) -> Work:
        return Work(kind, self.name, what, times, length, length.images if length else None, speed)

    def _evaluation(self, what: str, side: str, times: int, seen: int | None) -> Work:
        return Work("evaluation", self.name, what, times, None, seen, self.speeds.forward(self.name, side))

    def _seen(self, length: Length | None, speed: Speed | None) -> int | None:
        """Return the number of images predicted on: the test split, and validation where the run's time is without it."""
        if self.images is None or length is None:
            return None
        return self.images.test + (0 if speed and speed.whole else length.validations * self.images.tune)


def _auxiliary_iterations(method: str, pair_name: str, pair: Pair, tier_name: str) -> int:
    """Return the iterations of training the method's auxiliary module; 0 where it has none."""
    parts = (part for part in load_parts(method) if part.recipe.prior is not None)
    return next((part.auxiliary_training(pair_name, pair.head, tier_name).iterations for part in parts), 0)
