"""The schema of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict, field_validator, model_validator

from benchmarks.dataset import CheckableName
from benchmarks.own import OwnData
from benchmarks.schema import BatchSize, Frozen, Id, Seed, Text
from pipelines.tuning.params import Rows, TuningParams

ArtefactId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$", max_length=100)]
MOST_SEEDS, MOST_CELLS = 1000, 100_000
Seeds = list[Annotated[Seed, Strict()]]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class Speed(Frozen):
    """Settings that make training faster, and may change the last digits of its results."""

    channels_last: bool = Field(default=False, description="memory layout of the networks")
    compile: bool = Field(default=False, description="backbone and neck of student and teacher by torch.compile")
    fused_optimizer: bool = Field(default=False, description="one kernel per step of the optimizer")
    pinned_memory: bool = Field(default=False, description="batches are copied to the GPU while it works")
    cache_images: bool | None = Field(
        default=None, description="decoded images are kept in memory; null for synthetic data alone, which is small"
    )

    def at(self, data: str) -> "Speed":
        """Return the settings with what null stands for at a tier's data."""
        return self if self.cache_images is not None else self.model_copy(update={"cache_images": data == "scenes"})


class Grid(Frozen):
    """The contents of params.yaml."""

    model_config = ConfigDict(populate_by_name=True)

    tier: Id
    rows: Rows = Field(alias="grid", min_length=1, description="by pair, the methods to run")
    seeds: Seeds = Field(min_length=1, max_length=MOST_SEEDS, description="a number n stands for 0 to n - 1")
    baseline_seeds: Seeds = Field(
        default_factory=list,
        max_length=MOST_SEEDS,
        description="of the baseline, which all rows of a pair are compared with; those of the grid if empty",
    )
    data: dict[CheckableName, Text] = Field(
        default_factory=dict, description="folders of published data sets; the environment's KD_COCO etc. come first"
    )
    batch_size: BatchSize | None = Field(
        default=None, description="of a published schedule, where it is not the pair's; the learning rate follows"
    )
    gpus_per_run: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="processes that each run's batch is divided among, on a GPU each; on a core each without GPUs",
    )
    precision: Precision = Field(default="fp32", description="number format of training: losses are in float32 in all of them")
    speed: Speed = Field(default_factory=Speed)
    own: OwnData | None = Field(default=None, description="the data of a tier whose data is 'own'")
    released: list[ArtefactId] = Field(
        default_factory=list,
        description="students that their authors released, by name in benchmarks/artefacts.yaml, to evaluate",
    )
    tokens: dict[Id, Text] = Field(
        default_factory=dict,
        description="by pair, a file with what a method learns on the teacher, in place of learning it; 'released': its authors' file",
    )
    tuning: TuningParams | None = None

    @field_validator("seeds", "baseline_seeds", mode="before")
    @classmethod
    def _counted(cls, given: Any) -> Any:
        if isinstance(given, int) and not isinstance(given, bool):
            if not 1 <= given <= MOST_SEEDS:
                raise ValueError(f"a number of seeds is 1 to {MOST_SEEDS}; for this one seed write [{given}]; got {given}")
            return list(range(given))
        return given

    @model_validator(mode="after")
    def _each_once(self) -> "Grid":
        named: dict[str, list[Any]] = {"seeds": self.seeds, "baseline_seeds": self.baseline_seeds}
        named["released"] = self.released
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
        tuned = sum(map(len, self.tuning.rows.values())) if self.tuning else 0
        num = sum(map(len, self.rows.values())) * max(len(self.seeds), len(self.baseline_seeds)) + tuned * len(self.seeds)
        if num > MOST_CELLS:
            raise ValueError(f"asks for up to {num} cells; a grid has at most {MOST_CELLS}: name fewer methods or seeds")
        return self

    @property
    def pairs(self) -> list[str]:
        """Names, in their order."""
        return list(self.rows)

    @property
    def methods(self) -> list[str]:
        """Names that any pair has, each once, in the order of their first mention."""
        return list(dict.fromkeys(method for methods in self.rows.values() for method in methods))
