"""Run one composed config to its end, resuming where an earlier attempt was cut off."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

import pipelines.engine.auxiliary
import pipelines.engine.distiller  # noqa: F401  (both register a model)
from pipelines.engine.hooks import RecorderHook, ReseedHook, StoppedError
from pipelines.engine.provenance import gpu_energy_j, peak_memory_mib
from pipelines.engine.tracking import Tracker
from pipelines.engine.workdir import held, newest_checkpoint, noting_failure

WORK = Path("work")


@dataclass(frozen=True)
class Trained:
    """What a finished training leaves, beside its weights."""

    config_sha256: str
    curve: list[dict[str, float]]
    wall_s: float  # of this process; a resumed training's earlier part is not in it
    train_s: float  # in training iterations, earlier attempts included
    num_images: int
    images_per_s: float
    peak_memory_mib: float
    resumed_after_iteration: int
    energy_kj: float | None
    mlflow_run_id: str | None


def prepare_process() -> None:
    """Fix the number of threads (``OMP_NUM_THREADS``, 1 by default) and register MMLab's components.

    Small models do not scale over threads, and the number of threads changes the last digits.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    warnings.filterwarnings("ignore", module=r"mmdet|mmseg|mmengine|torch\.utils\.checkpoint")
    with quiet():
        for package in ("mmdet", "mmseg"):
            importlib.import_module(f"{package}.utils").register_all_modules(init_default_scope=False)


def config_sha256(config: Config, code: Mapping[str, str]) -> str:
    """Digest of all that decides a run: its resolved config, and the digests of its modules of code."""
    text = f"{config.pretty_text}\n{json.dumps(code, sort_keys=True)}\n{torch.__version__}\n{torch.get_num_threads()}"
    return hashlib.sha256(text.encode()).hexdigest()


def train(
    config: Config,
    *,
    name: str,
    label: str,
    code: Mapping[str, str],
    tracker_for: Callable[[str | None], Tracker],
    exports: Mapping[Path, Callable[[nn.Module], nn.Module]],
    hooks: Sequence[Hook] = (),
) -> Trained:
    """Train, and write the weights of what is picked from the model.

    Args:
        config: composed config; its work directory is set here.
        name: path of the work directory under ``work/``, above the configuration's own.
        label: what the lines of progress begin with.
        code: digest of each module that decides the result.
        tracker_for: opens the tracker, given the MLflow run id of an earlier attempt or None.
        exports: file for a state dict, written whole or not at all -> what part of the model it is of.
        hooks: further ones; they come after the recorder and may end the training with :class:`StoppedError`.

    Raises:
        ValueError: the work directory is held or not writable, the loss is not finite, weights do not fit.
    """
    digest = config_sha256(config, code)
    begun, energy_j = time.monotonic(), gpu_energy_j()
    with held(WORK / name / digest[:16]) as directory, noting_failure(WORK / name):
        config.work_dir = str(directory)
        checkpoint = newest_checkpoint(directory)
        config.resume, config.load_from = checkpoint is not None, checkpoint and str(checkpoint)
        Config(config.to_dict()).dump(directory / "config.py")  # laid out, to be read
        id_file = directory / "mlflow_run_id"
        tracker = tracker_for(id_file.read_text() if id_file.exists() else None)
        if tracker.run_id:
            id_file.write_text(tracker.run_id)
        tracker.start_system_metrics()
        tracker.artifact(directory / "config.py")
        recorder = RecorderHook(label, tracker)
        try:
            with quiet():
                runner = Runner.from_cfg(config)
            runner.register_hook(ReseedHook(config.randomness.seed), priority="VERY_HIGH")
            for hook in (recorder, *hooks):
                runner.register_hook(hook)
            with quiet_coco(), contextlib.suppress(StoppedError):
                runner.train()
        except KeyboardInterrupt:
            tracker.finish("KILLED")
            raise
        except BaseException:
            tracker.finish("FAILED")
            raise
        model = runner.model.module if hasattr(runner.model, "module") else runner.model
        # There is one where the pair's authors report their best epoch.
        if best := max(directory.glob("best_*.pth"), key=lambda file: file.stat().st_mtime, default=None):
            model.load_state_dict(torch.load(best, map_location="cpu", weights_only=False)["state_dict"])
        for out, export in exports.items():
            save_weights(export(model), out)
        trained = Trained(
            config_sha256=digest,
            curve=recorder.curve,
            wall_s=round(time.monotonic() - begun, 1),
            train_s=round(recorder.train_s, 1),
            num_images=recorder.num_images,
            images_per_s=round(recorder.num_images / max(recorder.train_s, 1e-9), 1),
            peak_memory_mib=round(peak_memory_mib()),
            resumed_after_iteration=recorder.first_iteration,
            energy_kj=_difference_kj(energy_j, gpu_energy_j()),
            mlflow_run_id=tracker.run_id,
        )
        tracker.metrics(
            {"wall_s": trained.wall_s, "images_per_s": trained.images_per_s, "peak_memory_mib": trained.peak_memory_mib},
            runner.iter,
        )
    return trained


def _difference_kj(before_j: float | None, after_j: float | None) -> float | None:
    return None if before_j is None or after_j is None else round((after_j - before_j) / 1000, 3)


def save_weights(model: nn.Module, out: Path) -> None:
    """Write a state dict, tensors on the CPU, so that the file is there whole or not at all."""
    state: dict[str, Tensor] = {key: value.detach().cpu() for key, value in model.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(out)


class _DropCocoChatter(io.TextIOBase):
    """Standard output without pycocotools' lines, which it prints at every index and evaluation."""

    _CHATTER = (
        "loading annotations",
        "Done (t=",
        "creating index",
        "index created",
        "Loading and preparing",
        "DONE (t=",
        "Running per image",
        "Evaluate annotation",
        "Accumulating evaluation",
        " Average",
    )

    def __init__(self, stream: Any) -> None:
        self._stream, self._line = stream, ""

    def write(self, text: str) -> int:
        self._line += text
        while "\n" in self._line:
            line, self._line = self._line.split("\n", 1)
            if line.strip() and not line.startswith(self._CHATTER):
                self._stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def quiet_coco() -> contextlib.AbstractContextManager[Any]:
    """Standard output without pycocotools' chatter."""
    return contextlib.redirect_stdout(_DropCocoChatter(sys.stdout))


def quiet() -> contextlib.AbstractContextManager[Any]:
    """No standard output while MMLab builds things."""
    return contextlib.redirect_stdout(io.StringIO())
