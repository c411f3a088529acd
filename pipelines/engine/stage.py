"""What the three training stages share: tracker, label, and the ``run.json`` that they end with."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from benchmarks.scenes import verify_scenes
from benchmarks.tier import Tier
from pipelines.engine.hooks import duration
from pipelines.engine.provenance import environment, git_state
from pipelines.engine.tracking import Tracker
from pipelines.engine.training import Trained, train
from pipelines.engine.weights import file_sha256
from pipelines.engine.workdir import check_writable
from reports.record import Run

_ENGINE = [
    Path("pipelines/engine") / f"{name}.py"
    for name in ("compose", "distiller", "heads", "hooks", "mmlab", "prior", "training", "weights")
]


@dataclass(frozen=True)
class Job:
    """One training as the stage sees it; ``position`` is its place among the stage's trainings."""

    stage: str
    tier: str
    pair: str
    method: str | None
    seed: int
    position: tuple[int, int] = (1, 1)
    hparams: dict[str, Any] = field(default_factory=dict)
    hparams_origin: str | None = None
    teacher_sha256: str | None = None
    prior_sha256: str | None = None
    code: tuple[Path, ...] = ()  # files of methods/ that decide the training

    @property
    def name(self) -> str:
        """``gfl_r101_r50/mgd/seed0``, or the stage's name where there is no method or seed."""
        parts = [self.pair, self.method or self.stage]
        return "/".join(parts if self.stage != "distill" else [*parts, f"seed{self.seed}"])

    @property
    def label(self) -> str:
        """How lines of progress begin."""
        return f"[{self.stage} {self.position[0]}/{self.position[1]} {self.name}]"


def run_training(
    job: Job,
    config: Config,
    *,
    tier: Tier,
    data: Path,
    export: Callable[[nn.Module], nn.Module],
    weights: Path,
    record: Path,
) -> Run:
    """Train, write weights and ``run.json``, and tell MLflow; see :func:`pipelines.engine.training.train`."""
    check_writable(weights.parent)
    data_name, data_digest = dataset_identity(tier, data)
    trackers: list[Tracker] = []

    def tracker_for(resume: str | None) -> Tracker:
        tracker = Tracker(f"kd-{job.tier}", f"{job.stage}/{job.name}", resume=resume)
        known = {"stage": job.stage, "tier": job.tier, "pair": job.pair, "method": job.method or "-", "seed": job.seed}
        tracker.params(known | {f"hparams.{key}": value for key, value in job.hparams.items()})
        state = git_state()
        tracker.tags({**known, "git_commit": state["commit"], "git_dirty": state["dirty"], "hparams_origin": job.hparams_origin})
        tracker.dataset(data_name, data_digest, str(data))
        trackers.append(tracker)
        return tracker

    # The data's digest is no part of the config but decides the result.
    config.data_digest = data_digest
    trained = train(
        config, name=f"{job.tier}/{job.name}", label=job.label, sources=[*_ENGINE, *job.code],
        tracker_for=tracker_for, export=export, out=weights,
    )  # fmt: skip
    run = Run(
        stage=job.stage, status="done", tier=job.tier, pair=job.pair, method=job.method, seed=job.seed,
        hparams=job.hparams, hparams_origin=job.hparams_origin, git=git_state(), environment=environment(),
        config_sha256=trained.config_sha256, data={"name": data_name, "digest": data_digest},
        teacher_sha256=job.teacher_sha256, prior_sha256=job.prior_sha256, weights_sha256=file_sha256(weights),
        cost=_cost(trained), curve=trained.curve, mlflow_run_id=trained.mlflow_run_id,
    )  # fmt: skip
    write_json(record, run.model_dump())
    curves = record.with_name("curve.json")
    write_json(curves, {"curve": trained.curve})
    trackers[-1].artifact(curves)
    trackers[-1].artifact(record)
    curves.unlink()
    trackers[-1].finish()
    print(f"{job.label} done in {duration(trained.wall_s)}, peak memory {trained.peak_memory_mib:.0f} MiB", flush=True)
    return run


def dataset_identity(tier: Tier, data: Path) -> tuple[str, str]:
    """Name and digest of the data set, every file of it checked; ValueError where one is missing or altered."""
    if tier.scenes is None:
        raise ValueError(
            "this tier trains on published data sets, which this version does not fetch yet; choose tier mini or smoke"
        )
    return "scenes", verify_scenes(data)


def _cost(trained: Trained) -> dict[str, Any]:
    values = asdict(trained)
    keys = ("wall_s", "train_s", "images_per_s", "num_images", "peak_memory_mib", "resumed_after_iteration")
    return {key: values[key] for key in keys}


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    partial.replace(path)
