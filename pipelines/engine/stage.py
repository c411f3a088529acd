"""What the training stages share: the setting, the tracker, the label, and the ``run.json`` that they end with."""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config
from mmengine.dist import get_world_size
from torch import nn

from benchmarks.published_data import identity
from benchmarks.synthetic import verify_scenes
from pipelines.engine.compose import Setting
from pipelines.engine.data_configs import is_of_test, source
from pipelines.engine.distiller import UnfitError
from pipelines.engine.hooks import duration
from pipelines.engine.provenance import environment, git_state
from pipelines.engine.tracking import Tracker
from pipelines.engine.training import Trained, train
from pipelines.engine.weights import file_sha256
from pipelines.engine.workdir import check_writable
from pipelines.params import load_grid, load_pair, load_tier
from reports.schemas.run import Run


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
    config_changes: dict[str, Any] = field(default_factory=dict)
    teacher_sha256: str | None = None
    prior_sha256: str | None = None
    initialisation_sha256: str | None = None
    student_initialisation_sha256: str | None = None
    variant: Literal["published", "tuned"] = "published"
    code: dict[str, str] = field(default_factory=dict)  # digest of each module that decides it

    @property
    def name(self) -> str:
        """``gfl_r101_r50/mgd/seed0``, or the stage's name where there is no method or seed; ``backbones/resnet50``."""
        if self.stage == "pretrain":
            return f"backbones/{self.pair}"
        parts = [self.pair, self.method or self.stage, *(["tuned"] if self.variant == "tuned" else [])]
        return "/".join(parts if self.stage != "distill" else [*parts, f"seed{self.seed}"])

    @property
    def label(self) -> str:
        """How lines of progress begin."""
        return f"[{self.stage} {self.position[0]}/{self.position[1]} {self.name}]"


def open_setting(tier_name: str, pair_name: str, data: Path) -> Setting:
    """A pair at a tier on its data, as the command line names them and params.yaml says where things lie."""
    tier, pair, grid = load_tier(tier_name), load_pair(pair_name), load_grid()
    return Setting(pair, tier, source(pair, tier, data, own=grid.own, roots=grid.data), grid.batch_size)


def run_training(
    job: Job,
    config: Config,
    *,
    setting: Setting,
    data: Path,
    export: Callable[[nn.Module], nn.Module],
    weights: Path,
    record: Path,
    learned: Path | None = None,
) -> Run:
    """Train on a pair's data; see :func:`train_and_record`.

    Args:
        job: what is trained.
        config: of the training.
        setting: the pair at its tier.
        data: folder of the data's manifest.
        export: the trained part of the model, whose state dict goes to ``weights``.
        weights: file.
        record: where ``run.json`` goes.
        learned: file for what a method learned beside its student.
    """
    check_writable(weights.parent)
    identified = dataset_identity(setting, data)
    if identified[0] == "own":
        _check_batch(config, data / "manifest.json")
    return train_and_record(job, config, identified, data, export=export, weights=weights, record=record, learned=learned)


def train_and_record(
    job: Job,
    config: Config,
    identified: tuple[str, str],
    data: Path,
    *,
    export: Callable[[nn.Module], nn.Module],
    weights: Path,
    record: Path,
    learned: Path | None = None,
    judge: Callable[[Trained], dict[str, Any]] = lambda _trained: {},
) -> Run:
    """Train, write weights and ``run.json``, and tell MLflow; see :func:`pipelines.engine.training.train`.

    Args:
        job: what is trained.
        config: of the training.
        identified: name and digest of the data set.
        data: where it lies, for MLflow.
        export: the trained part of the model, whose state dict goes to ``weights``.
        weights: file.
        record: where ``run.json`` goes.
        learned: file for what a method learned beside its student.
        judge: further fields of the record; a ValueError of it leaves none.
    """
    check_writable(weights.parent)
    data_name, data_digest = identified
    trackers: list[Tracker] = []

    def tracker_for(resume: str | None) -> Tracker:
        trackers.append(open_tracker(job, f"{job.stage}/{job.name}", (data_name, data_digest), data, resume))
        return trackers[-1]

    # The data's digest is no part of the config but decides the result.
    config.data_digest = data_digest
    exports = {weights: export}
    if learned is not None:
        exports[learned] = lambda model: model.distiller.method
    try:
        trained = train(
            config, name=f"{job.tier}/{job.name}", label=job.label, code=job.code,
            tracker_for=tracker_for, exports=exports,
        )  # fmt: skip
    except UnfitError as error:
        raise ValueError(f"benchmarks/pairs/{job.pair}.yaml under {job.method}: {error}") from error
    judged = judge(trained)
    run = Run(
        stage=job.stage, status="done", tier=job.tier, pair=job.pair, method=job.method, variant=job.variant, seed=job.seed,
        hparams=job.hparams, hparams_origin=job.hparams_origin, config_changes=job.config_changes, git=git_state(), environment=environment(),
        processes=get_world_size(), config_sha256=trained.config_sha256, data={"name": data_name, "digest": data_digest},
        initialisation_sha256=job.initialisation_sha256, student_initialisation_sha256=job.student_initialisation_sha256,
        teacher_sha256=job.teacher_sha256, prior_sha256=job.prior_sha256, weights_sha256=file_sha256(weights),
        method_sha256=file_sha256(learned) if learned else None, finished_at=now(), cost=_cost(trained), curve=trained.curve,
        mlflow_run_id=trained.mlflow_run_id, **judged,
    )  # fmt: skip
    write_json(record, run.model_dump())
    trackers[-1].tags({"config_sha256": run.config_sha256, "weights_sha256": run.weights_sha256})
    curves = record.with_name("curve.json")
    write_json(curves, {"curve": trained.curve})
    trackers[-1].artifact(curves)
    trackers[-1].artifact(record)
    curves.unlink()
    trackers[-1].finish()
    print(f"{job.label} done in {duration(trained.wall_s)}, peak memory {trained.peak_memory_mib:.0f} MiB", flush=True)
    return run


def open_tracker(
    job: Job, name: str, data: tuple[str, str], place: Path, resume: str | None, tags: dict[str, Any] | None = None
) -> Tracker:
    """A training's MLflow run with its parameters, tags and data set.

    Args:
        job: what is trained.
        name: of the run.
        data: name and digest of the data set.
        place: folder of its manifest.
        resume: id of the run of an earlier attempt.
        tags: further ones.
    """
    tracker = Tracker(f"kd-{job.tier}", name, resume=resume)
    known = {"stage": job.stage, "tier": job.tier, "pair": job.pair, "method": job.method or "-", "seed": job.seed}
    known |= {"variant": job.variant}
    tracker.params(known | {f"hparams.{key}": value for key, value in job.hparams.items()})
    state = git_state()
    tracker.tags({
        **known, "git_commit": state["commit"], "git_dirty": state["dirty"], "hparams_origin": job.hparams_origin, **(tags or {})
    })  # fmt: skip
    tracker.dataset(*data, str(place))
    return tracker


def _check_batch(config: Config, manifest: Path) -> None:
    """ValueError where a user's data make no whole batch: an epoch would be of no step."""
    found, wanted = json.loads(manifest.read_text())["sets"]["own"]["num_images"]["train"], config.train_dataloader.batch_size
    if found < wanted:
        raise ValueError(
            f"params.yaml: own.train has {found} images, fewer than a batch of {wanted}; add images, or lower "
            "batch_size in params.yaml, or in the tier's schedule where it has one"
        )


def record_fetched(
    job: Job, setting: Setting, data: Path, weights: Path, *, origin: str, metrics: dict[str, float | None]
) -> Run:
    """Write ``run.json`` of weights that were not trained here, and tell MLflow."""
    data_name, data_digest = dataset_identity(setting, data)
    tracker = Tracker(f"kd-{job.tier}", f"{job.stage}/{job.name}", resume=None)
    tracker.params({"stage": job.stage, "tier": job.tier, "pair": job.pair, "origin": origin})
    tracker.dataset(data_name, data_digest, str(data))
    tracker.metrics({f"test/{key}": value for key, value in metrics.items() if value is not None}, 0)
    run = Run(
        stage=job.stage, status="done", tier=job.tier, pair=job.pair, method=job.method, seed=job.seed, origin=origin,
        git=git_state(), environment=environment(), data={"name": data_name, "digest": data_digest},
        weights_sha256=file_sha256(weights), finished_at=now(), mlflow_run_id=tracker.run_id,
        student_initialisation_sha256=job.student_initialisation_sha256,
    )  # fmt: skip
    write_json(weights.with_name("run.json"), run.model_dump())
    tracker.tags({"weights_sha256": run.weights_sha256})
    tracker.finish()
    print(f"{job.label} {origin}: {metrics}", flush=True)
    return run


def dataset_identity(setting: Setting, data: Path, without: Collection[Literal["test"]] = ()) -> tuple[str, str]:
    """Name and digest of the data set, after making sure that its files are the same still.

    Args:
        setting: the pair at its tier.
        data: folder of the data's manifest.
        without: splits whose files are neither opened nor missed.

    Raises:
        ValueError: a file is missing or altered since stage ``prepare``.
    """
    origin = setting.origin
    if origin.name == "scenes":
        return origin.name, verify_scenes(data, without)
    return identity(data, origin.name, origin.root, is_of_test(origin) if "test" in without else None)


def _cost(trained: Trained) -> dict[str, Any]:
    values = asdict(trained)
    keys = ("wall_s", "train_s", "images_per_s", "num_images", "peak_memory_mib", "resumed_after_iteration", "energy_kj")
    return {key: values[key] for key in keys}


def now() -> str:
    """UTC to the second, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    partial.replace(path)
