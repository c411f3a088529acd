"""A pair at a tier on its data, and what a distillation adds to it: the arguments of all that is composed."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.manifest import identity
from benchmarks.pair import Pair
from benchmarks.synthetic import verify_scenes
from benchmarks.tier import Tier
from methods.recipe import ResolvedPart
from pipelines import layout
from pipelines.engine.data_configs import DataSource, data_source, is_of_test
from pipelines.grid import Precision, Speed
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.recipes import auxiliary_of, cell_config
from reports.schemas.run import Run

Side = Literal["teacher", "student"]


@dataclass(frozen=True)
class Weights:
    """A weight file and the sha256 that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Setting:
    """A pair at a tier, on its data.

    Args:
        pair: as published.
        tier: the scale.
        origin: where images and labels are read.
        batch_size: images per step at a published schedule, where it is not the pair's; the learning rate follows linearly.
        processes: that a run's batch is divided among.
        groups: parts of a batch whose losses are formed by themselves, where one process stands for several.
        precision: number format of training.
        speed: of training.
    """

    pair: Pair
    tier: Tier
    origin: DataSource
    batch_size: int | None = None
    processes: int = 1
    groups: int = 1
    precision: Precision = "fp32"
    speed: Speed = field(default_factory=Speed)

    @property
    def total_batch(self) -> int:
        """Images of a student's step, over all processes."""
        schedule = self.tier.schedule
        return schedule.lengths(self.pair.head).batch_size if schedule else self.batch_size or self.pair.batch_size

    def in_one_process(self) -> "Setting":
        """Return the setting for one process, whose steps are those of the several."""
        return replace(self, processes=1, groups=self.processes)


@dataclass(frozen=True)
class Distillation:
    """The additions of a cell to its student's own training.

    Args:
        parts: the combined methods.
        teacher: its weights.
        auxiliary: weights of the method's auxiliary module, if it has one.
        config: changes of the method's authors in the student's config, dotted key -> value.
        start: what the student's backbone starts from, None for random weights.
    """

    parts: list[ResolvedPart]
    teacher: Weights
    auxiliary: Weights | None = None
    config: dict[str, Any] = field(default_factory=dict)
    start: Weights | None = None


@dataclass(frozen=True)
class VerifiedData:
    """A data set whose files have been compared with its manifest: its name, digest and the manifest's folder."""

    name: str
    digest: str
    folder: Path


def open_setting(tier_name: str, pair_name: str, data: Path) -> Setting:
    """Return the setting that the command line names, with the folders of params.yaml.

    Args:
        tier_name: of the tier.
        pair_name: of the pair.
        data: folder of the tier's manifest.
    """
    tier, pair, grid = load_tier(tier_name), load_pair(pair_name), load_grid()
    origin = data_source(pair, tier, data, own=grid.own, roots=grid.data)
    speed = grid.speed.at(tier.data)
    return Setting(pair, tier, origin, grid.batch_size, processes=grid.gpus_per_run, precision=grid.precision, speed=speed)


def bare_setting(pair: Pair, tier: Tier, batch_size: int | None = None, **more: Any) -> Setting:
    """Return the setting of a pair on data that are never opened.

    Args:
        pair: as published.
        tier: the scale.
        batch_size: in place of the pair's.
        more: further fields.
    """
    return Setting(pair, tier, DataSource(pair.dataset, Path(), None, {}), batch_size, **more)


def read_run(folder: Path) -> Run:
    """Read a folder's run.json."""
    return Run.model_validate_json((folder / layout.RUN).read_text())


def recorded_distillation(setting: Setting, tier: str, pair: str, method: str, parts: list[ResolvedPart]) -> Distillation:
    """Return the distillation of a cell by the teacher, auxiliary module and initialisation that earlier stages recorded.

    Args:
        setting: the pair at the tier.
        tier: its name.
        pair: its name.
        method: name of the method.
        parts: of the method, with the values that the cell has.
    """
    folder, auxiliary = layout.teacher(tier, pair), None
    run = read_run(folder)
    if auxiliary_of(method):
        learned = layout.auxiliary(tier, pair, method)
        auxiliary = Weights(learned / layout.AUXILIARY_WEIGHTS, str(read_run(learned).weights_sha256))
    start = run.student_initialisation_sha256
    return Distillation(
        parts,
        Weights(folder / layout.WEIGHTS, str(run.weights_sha256)),
        auxiliary,
        cell_config(method, pair, setting.pair, tier),
        Weights(folder / layout.INITIALISATION, start) if start else None,
    )


def verified_data(setting: Setting, data: Path, without: Collection[str] = ()) -> VerifiedData:
    """Return the data set, after making sure that its files are still the same.

    Args:
        setting: the pair at its tier.
        data: folder of the data's manifest.
        without: splits whose files are neither opened nor missed.

    Raises:
        ValueError: a file is missing or altered since stage ``prepare``.
    """
    origin = setting.origin
    if origin.name == "scenes":
        return VerifiedData(origin.name, verify_scenes(data, without), data)
    name, digest = identity(data, origin.name, origin.root, is_of_test(origin) if "test" in without else None, without)
    return VerifiedData(name, digest, data)
