"""Training of one composed config to its end, resumed where an earlier attempt was cut off, and its record."""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from torch import nn

import pipelines.engine.distiller  # noqa: F401 (registers the model of a cell, and the step of several groups)
from benchmarks.digest import file_sha256
from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.durations import duration
from pipelines.engine import ranks
from pipelines.engine.checkpoints import CheckedRunner, best_checkpoint, newest_checkpoint, read_checkpoint
from pipelines.engine.distiller import UnfitError
from pipelines.engine.division import Division
from pipelines.engine.hooks import LossWatchHook, RecorderHook, ReseedHook, StoppedError
from pipelines.engine.mmlab import quiet, quiet_coco
from pipelines.engine.named_files import NamedFilesHook
from pipelines.engine.precision import set_matmul
from pipelines.engine.provenance import gpu_energy_j, peak_memory_mib
from pipelines.engine.records import RunSpec, open_tracker, write_json
from pipelines.engine.setting import VerifiedData
from pipelines.engine.tracking import Tracker
from pipelines.engine.weights import save_weights
from pipelines.engine.workdir import check_writable, held, noting_failure
from pipelines.errors import place
from reports.schemas.run import Cost

Export = Callable[[Any], nn.Module]


@dataclass(frozen=True)
class Trained:
    """Results of a finished training beside its weights."""

    config_sha256: str
    curve: list[dict[str, float]]
    cost: Cost
    tracker: Tracker


def run_training(
    spec: RunSpec,
    config: Config,
    data: VerifiedData,
    *,
    export: Export,
    weights: Path,
    learned: Path | None = None,
    judge: Callable[[Trained], dict[str, Any]] = lambda _trained: {},
) -> None:
    """Train, write weights and beside them ``run.json``, and record both in MLflow.

    Args:
        spec: of the run.
        config: of the run.
        data: that is trained on.
        export: the trained part of the model, whose state dict goes to ``weights``.
        weights: file.
        learned: file for the method's own parameters, which it learned beside its student.
        judge: further fields of the record; a ValueError of it leaves none.

    Raises:
        ValueError: see :func:`train`; or a folder cannot be written, or the pair does not fit the method.
    """
    check_writable(weights.parent)
    if data.name == "own":
        _check_batch(config, data.folder / layout.MANIFEST)
    # The data's digest is no part of the config but decides the result.
    config.data_digest = data.digest
    exports = {weights: export}
    if learned is not None:
        exports[learned] = lambda model: model.distiller.method
    try:
        trained = train(
            config, name=f"{spec.tier}/{spec.name}", label=spec.label, code=spec.code,
            tracker_for=lambda resume: open_tracker(spec, data, resume, division=divided(config)), exports=exports,
        )  # fmt: skip
    except UnfitError as error:
        raise ValueError(f"benchmarks/pairs/{spec.pair}.yaml under {spec.method}: {error}") from error
    if not ranks.is_first():
        return
    judged, tracker, record = judge(trained), trained.tracker, weights.with_name(layout.RUN)
    run = spec.record(
        data, weights, tracker, **divided(config), config_sha256=trained.config_sha256, cost=trained.cost, curve=trained.curve,
        method_sha256=file_sha256(learned) if learned else None, **judged,
    )  # fmt: skip
    write_json(record, run.model_dump())
    tracker.tags({"config_sha256": run.config_sha256, "weights_sha256": run.weights_sha256})
    curve = record.with_name("curve.json")
    write_json(curve, {"curve": trained.curve})
    tracker.artifact(curve)
    tracker.artifact(record)
    curve.unlink()
    tracker.finish()
    print(f"{spec.label} done in {duration(trained.cost.wall_s)}, peak memory {trained.cost.peak_memory_mib:.0f} MiB", flush=True)


def divided(config: Config) -> dict[str, Any]:
    """Return how a run's batch is divided, and in what number format and how fast it is trained, for its record."""
    division = Division(**config.division) if "division" in config else Division(config.train_dataloader.batch_size)
    speed = [name for name, is_on in config.get("speed", {}).items() if is_on]
    return {
        "processes": division.processes, "batch_size": division.batch_size, "images_per_gpu": division.images_per_group,
        "precision": config.get("precision", "fp32"), "speed": speed,
    }  # fmt: skip


def _check_batch(config: Config, manifest: Path) -> None:
    """ValueError where a user's data make no whole batch: an epoch would have no step."""
    known, wanted = json.loads(manifest.read_text())["sets"]["own"], config.train_dataloader.batch_size * ranks.number()
    found = known["usable"]["train"]["images"]
    if found < wanted:
        raise ValueError(
            f"params.yaml: own.train has {found} images with something to learn, fewer than a batch of {wanted}; add images, or lower "
            "batch_size in params.yaml, or in the tier's schedule where it has one"
        )


def config_sha256(config: Config, code: Mapping[str, str]) -> str:
    """Return the digest of all that decides a run: its resolved config, and the digests of its modules of code."""
    text = f"{config.pretty_text}\n{json.dumps(code, sort_keys=True)}\n{torch.__version__}\n{torch.get_num_threads()}"
    return hashlib.sha256(text.encode()).hexdigest()


def train(
    config: Config,
    *,
    name: str,
    label: str,
    code: Mapping[str, str],
    tracker_for: Callable[[str | None], Tracker],
    exports: Mapping[Path, Export],
    hooks: Sequence[Hook] = (),
) -> Trained:
    """Train, and write the weights of the exported parts of the model.

    Args:
        config: composed config; its work directory is set here.
        name: path of the work directory under ``work/``, above the configuration's own.
        label: beginning of the lines of progress.
        code: digest of each module that decides the result.
        tracker_for: opens the tracker, given the MLflow run id of an earlier attempt or None.
        exports: file for a state dict, written whole or not at all -> the part of the model that it is of.
        hooks: further ones; they come after the recorder and may end the run with :class:`StoppedError`.

    Raises:
        ValueError: the work directory is held or not writable, the loss is not finite, weights do not fit.
    """
    digest, is_first = config_sha256(config, code), ranks.is_first()
    begun, energy_j = time.monotonic(), gpu_energy_j()
    directory = layout.WORK / name / digest[:16]
    with held(directory) if is_first else contextlib.nullcontext(), noting_failure(layout.WORK / name, clears=is_first):
        config.work_dir = str(directory)
        # The others wait here for the first, which holds the directory.
        checkpoint = ranks.first_says(lambda: newest_checkpoint(directory))
        config.resume, config.load_from = checkpoint is not None, checkpoint and str(checkpoint)
        id_file = directory / "mlflow_run_id"
        tracker = tracker_for(id_file.read_text() if is_first and id_file.exists() else None)
        if is_first:
            Config(config.to_dict()).dump(directory / "config.py")  # laid out, to be read
            tracker.artifact(directory / "config.py")
        if tracker.run_id:
            write_whole(id_file, tracker.run_id)
        tracker.start_system_metrics()
        set_matmul(config.get("precision", "fp32"))
        if ranks.number() > 1:
            _distribute(config)
        recorder = RecorderHook(label, tracker)
        try:
            with quiet():
                runner = CheckedRunner.from_cfg(config)
            runner.register_hook(ReseedHook(config.randomness.seed), priority="VERY_HIGH")
            for hook in (recorder, NamedFilesHook(), *hooks):
                runner.register_hook(hook)
            with quiet_coco(), contextlib.suppress(StoppedError):
                runner.train()
        except KeyboardInterrupt:
            tracker.finish("KILLED")
            raise
        except BaseException as error:
            place(error, f"{label.strip('[]')} after iteration {recorder.iteration}")
            tracker.finish("FAILED")
            raise
        model = runner.model.module if hasattr(runner.model, "module") else runner.model
        # There is one where the pair's authors report their best epoch.
        if is_first and (best := best_checkpoint(runner)):
            model.load_state_dict(read_checkpoint(best)["state_dict"])
        for out, export in exports.items() if is_first else ():
            save_weights(export(model), out)
        # Every rank has its own device.
        used = ranks.all_say((peak_memory_mib(), _difference_kj(energy_j, gpu_energy_j())))
        energies_kj = [energy_kj for _, energy_kj in used if energy_kj is not None]
        cost = Cost(
            wall_s=round(time.monotonic() - begun, 1),
            train_s=round(recorder.train_s, 1),
            num_images=recorder.num_images,
            images_per_s=round(recorder.num_images / max(recorder.train_s, 1e-9), 1),
            peak_memory_mib=round(max(peak_mib for peak_mib, _ in used)),
            resumed_after_iteration=recorder.first_iteration,
            energy_kj=round(sum(energies_kj), 3) if energies_kj else None,
        )
        tracker.metrics(
            {"wall_s": cost.wall_s, "images_per_s": cost.images_per_s, "peak_memory_mib": cost.peak_memory_mib}, runner.iter
        )
    return Trained(digest, recorder.curve, cost, tracker)


def _distribute(config: Config) -> None:
    """Have MMEngine train on all ranks, each on its device; their group is there already, which it could not make on CPUs."""
    device_ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    config.launcher = "pytorch"
    config.model_wrapper_cfg = ConfigDict(type="MMDistributedDataParallel", device_ids=device_ids, broadcast_buffers=False)


def train_unrecorded(config: Config, folder: Path) -> tuple[Any, float]:
    """Train a config to its end without checkpoints, validation or record; return the model and its last loss.

    Raises:
        ValueError: a loss is not finite.
    """
    config.work_dir, config.experiment_name = str(folder), f"{folder}-{time.monotonic_ns()}"
    config.default_hooks.checkpoint = None
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    watch = LossWatchHook()
    with quiet():
        runner = CheckedRunner.from_cfg(config)
        runner.register_hook(watch)
        runner.train()
    return runner.model, watch.loss


def _difference_kj(before_j: float | None, after_j: float | None) -> float | None:
    return None if before_j is None or after_j is None else round((after_j - before_j) / 1000, 3)
