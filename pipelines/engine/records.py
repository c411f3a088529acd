"""Records of runs: ``run.json``, written whole or not at all, and the MLflow run beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from benchmarks.digest import file_sha256
from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.engine.provenance import environment, git_state
from pipelines.engine.setting import VerifiedData
from pipelines.engine.tracking import Tracker
from pipelines.engine.tracking_names import ROW, built_on, source_tags
from reports.schemas.run import Data, Git, Run


@dataclass(frozen=True)
class RunSpec:
    """Identity and origins of one run, as its stage knows them.

    Args:
        stage: as run.json names it.
        tier: name.
        pair: name; of stage ``pretrain`` the backbone's.
        method: name; None for teachers and backbones.
        seed: of the run.
        ordinal: the k-th of the stage's n runs, as (k, n).
        code: digest of each module that decides the run.
    """

    stage: Literal["pretrain", "teacher", "masks", "distill", "tune"]
    tier: str
    pair: str
    method: str | None
    seed: int
    ordinal: tuple[int, int] = (1, 1)
    hparams: dict[str, Any] = field(default_factory=dict)
    hparams_origin: str | None = None
    config_changes: dict[str, Any] = field(default_factory=dict)
    teacher_sha256: str | None = None
    auxiliary_sha256: str | None = None
    initialisation_sha256: str | None = None
    student_initialisation_sha256: str | None = None
    is_tuned: bool = False
    code: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Path below the tier's folders: ``gfl_r101_r50/mgd/seed0``, ``gfl_r101_r50/teacher``, ``backbones/resnet50``."""
        if self.stage == "pretrain":
            return f"{layout.BACKBONES}/{self.pair}"
        if self.stage == "distill":
            return layout.Cell(self.pair, str(self.method), self.seed, self.is_tuned).key
        return f"{self.pair}/{self.method or self.stage}"

    @property
    def label(self) -> str:
        """Beginning of the run's lines of progress."""
        return f"[{self.stage} {self.ordinal[0]}/{self.ordinal[1]} {self.name}]"

    @property
    def variant(self) -> Literal["published", "tuned"]:
        """Origin of the hyper-parameters, as run.json names it."""
        return "tuned" if self.is_tuned else "published"

    def record(self, data: VerifiedData, weights: Path, tracker: Tracker, **more: Any) -> Run:
        """Return the finished run's record.

        Args:
            data: that was trained on.
            weights: file that the run wrote.
            tracker: of the run.
            more: further fields.
        """
        return Run(
            stage=self.stage, status="done", tier=self.tier, pair=self.pair, method=self.method, variant=self.variant, seed=self.seed,
            hparams=self.hparams, hparams_origin=self.hparams_origin, config_changes=self.config_changes, git=git_state(),
            environment=environment(), data=Data(name=data.name, digest=data.digest), initialisation_sha256=self.initialisation_sha256,
            student_initialisation_sha256=self.student_initialisation_sha256, teacher_sha256=self.teacher_sha256,
            prior_sha256=self.auxiliary_sha256, weights_sha256=file_sha256(weights),
            finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"), mlflow_run_id=tracker.run_id, **more,
        )  # fmt: skip


def open_tracker(
    spec: RunSpec, data: VerifiedData, resume: str | None, *, name: str | None = None, tags: dict[str, Any] | None = None,
    division: Mapping[str, Any] | None = None,
) -> Tracker:  # fmt: skip
    """Open a run's MLflow run with its parameters, tags and data set.

    Args:
        spec: of the run.
        data: that is trained on.
        resume: id of the MLflow run of an earlier attempt.
        name: of the MLflow run; stage and name of the run where None.
        tags: further ones.
        division: how the batch is divided, in what number format and how fast it is trained.
    """
    tracker = Tracker(f"kd-{spec.tier}", name or f"{spec.stage}/{spec.name}", resume=resume)
    tracker.params(run_params(spec) | division_params(division or {}))
    tracker.tags(run_tags(spec, git_state()) | (tags or {}))
    tracker.dataset(data.name, data.digest, str(data.folder))
    return tracker


def run_params(spec: RunSpec) -> dict[str, Any]:
    """Return a run's identity and hyper-parameters as parameters of MLflow."""
    known = {"stage": spec.stage, "tier": spec.tier, "pair": spec.pair, "method": spec.method or "-", "seed": spec.seed}
    return known | {"variant": spec.variant} | {f"hparams.{key}": value for key, value in spec.hparams.items()}


def run_tags(spec: RunSpec, git: Git | None) -> dict[str, Any]:
    """Return what MLflow has of a run beside its parameters: row, origins, source, and the runs that it builds on.

    Args:
        spec: of the run.
        git: state of the code; None where it is not recorded.
    """
    tags: dict[str, Any] = source_tags(spec.stage, git)
    tags |= {"hparams_origin": spec.hparams_origin} if spec.hparams_origin else {}
    if spec.stage == "distill":
        tags[ROW] = layout.Cell(spec.pair, str(spec.method), spec.seed, spec.is_tuned).row
    return tags | {f"{name}_run_id": run_id for name, run_id in built_on(spec.tier, spec.pair, spec.method, spec.stage).items()}


def division_params(division: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's fields on batch, processes, number format and speed as parameters of MLflow; unknown ones are left out."""
    found = {key: division.get(key) for key in ("processes", "batch_size", "images_per_gpu", "precision")}
    known = {key: value for key, value in found.items() if value is not None}
    return known | ({"speed": ", ".join(division["speed"]) or "none"} if "speed" in division else {})


def record_fetched(spec: RunSpec, data: VerifiedData, weights: Path, *, origin: str, metrics: dict[str, float | None]) -> None:
    """Write ``run.json`` of weights that were not trained here, and record them in MLflow."""
    tracker = Tracker(f"kd-{spec.tier}", f"{spec.stage}/{spec.name}", resume=None)
    tracker.params({"stage": spec.stage, "tier": spec.tier, "pair": spec.pair, "origin": origin})
    tracker.tags(run_tags(spec, git_state()))
    tracker.dataset(data.name, data.digest, str(data.folder))
    tracker.metrics({f"test/{key}": value for key, value in metrics.items() if value is not None}, 0)
    run = spec.record(data, weights, tracker, origin=origin)
    write_json(weights.with_name(layout.RUN), run.model_dump())
    tracker.tags({"weights_sha256": run.weights_sha256})
    tracker.finish()
    print(f"{spec.label} {origin}: {metrics}", flush=True)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all; on the disk before this returns."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n", is_synced=True)
