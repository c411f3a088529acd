"""Checkpoints under ``work/``: written whole, verified before a run goes on from one, and never run.

torch compares no checksum of an archive that it reads, and MMEngine unpickles what torch refuses to read as plain values.
"""

import os
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from benchmarks.whole_file import replacing

_ASIDE = ".damaged"
_KEPT = ("epoch", "iter", "seed", "dataset_meta")  # of a checkpoint's meta; MMEngine would run a text under `config`
_REVISED = [(r"^module\.", "")]  # as MMEngine's own
_BEST, _LAST = "best_ckpt", "last_ckpt"


class DamagedError(ValueError):
    """A checkpoint cannot be trusted; the argument says why."""


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read tensors and plain values of a checkpoint of ours once the checksum of each member of the archive is right.

    Args:
        path: file that :class:`CheckedRunner` or :func:`torch.save` has written.
        device: for the tensors.

    Raises:
        DamagedError: a checksum is wrong, the archive is cut, or there is more in it than tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                if (member := archive.testzip()) is not None:
                    raise DamagedError(f"the checksum of {member} is wrong")
            file.seek(0)
            content = torch.load(file, map_location=device, weights_only=True)
    except (DamagedError, FileNotFoundError, MemoryError):
        raise
    except Exception as error:
        refused = re.search(r"GLOBAL \S+", str(error))
        raise DamagedError(
            f"it cannot be read as tensors and plain values ({refused.group() if refused else type(error).__name__}); nothing in it was run"
        ) from error
    if not isinstance(content, dict):
        raise DamagedError(f"it contains {type(content).__name__}")
    return content


class CheckedRunner(Runner):  # type: ignore[misc]
    """MMEngine's runner with checkpoints that are written whole, without logs of scalars, and read by :func:`read_checkpoint`."""

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = False, revise_keys: Any = _REVISED) -> Any:  # noqa: FBT001, FBT002 (MMEngine's)
        """Load weights; return the checkpoint."""
        checkpoint = read_checkpoint(Path(filename), map_location)
        if "meta" in checkpoint:
            checkpoint["meta"] = {key: value for key, value in checkpoint["meta"].items() if key in _KEPT}
        # A checkout may have been moved or copied: its best checkpoint is beside this one.
        known = checkpoint.get("message_hub", {}).get("runtime_info", {})
        for key in (_BEST, _LAST):
            if known.get(key):
                known[key] = str(Path(self.work_dir, Path(known[key]).name))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        _load_checkpoint_to_model(model, checkpoint, strict, revise_keys=revise_keys)
        self._has_loaded = True
        return checkpoint

    @master_only  # type: ignore[untyped-decorator]
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Write a checkpoint, and rename it once it is on the disk."""
        with replacing(Path(out_dir, filename), is_synced=True) as partial:
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; a checkpoint gets plain values, and none of the scalars for MMEngine's logs, which are unused."""
        if fn_name == "before_save_checkpoint":
            checkpoint = kwargs["checkpoint"]
            checkpoint["message_hub"]["log_scalars"] = OrderedDict()
            for part in (checkpoint["meta"], checkpoint["message_hub"]["runtime_info"]):
                part.update(_plain(part))
        super().call_hook(fn_name, **kwargs)


def _plain(value: Any) -> Any:
    """Return a value with numpy's numbers and arrays as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def newest_checkpoint(directory: Path) -> Path | None:
    """Return the newest checkpoint that a run can go on from; damaged ones are set aside, a line each.

    mmengine's ``last_checkpoint`` file is not used: it contains an absolute path.
    """
    files = [*directory.glob("epoch_*.pth"), *directory.glob("iter_*.pth")]
    best = {path.name for path in directory.glob("best_*.pth") if _read(path) is not None}
    for path in sorted(files, key=lambda file: int(file.stem.split("_")[1]), reverse=True):
        if (content := _read(path)) is None:
            continue
        if not _lacks_its_best(content, best):
            return path
        _set_aside(path, "the best checkpoint before it is damaged or lost")
    if files:
        begin_anew(directory)
    return None


def best_checkpoint(runner: Runner) -> Path | None:
    """Return the checkpoint of the best validation; None for a run that keeps none.

    Raises:
        ValueError: it is damaged or lost; the next start begins anew.
    """
    noted = runner.message_hub.runtime_info.get(_BEST)
    if noted is None:
        return None
    path = Path(runner.work_dir, Path(noted).name)
    if not path.is_file() or _read(path) is None:
        begin_anew(path.parent)
        raise ValueError(
            f"{os.path.relpath(path)}, the best checkpoint of the run, is damaged or lost; run it again: it begins anew"
        )
    return path


def begin_anew(directory: Path) -> None:
    """Set all checkpoints of a run aside."""
    for path in directory.glob("*.pth"):
        _set_aside(path)
    print(f"{os.path.relpath(directory)} has no checkpoint to go on from; the run begins anew", flush=True)


def _lacks_its_best(content: dict[str, Any], best: set[str]) -> bool:
    """Return True where the best checkpoint so far is gone and is not made again by validating first, as after a kill in between."""
    known = content["message_hub"]["runtime_info"]
    if known.get(_BEST) is None or Path(known[_BEST]).name in best or best:
        return False
    return any("loss" not in point and point["iteration"] == content["meta"]["iter"] for point in known.get("curve", []))


def _read(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint of a run; None where it was damaged, and is set aside."""
    try:
        content = read_checkpoint(path)
        parts = ["meta", "state_dict", "message_hub"]
        if not path.name.startswith("best_"):  # which is of weights alone
            parts.append("optimizer")
        if any(not isinstance(content.get(part), dict) for part in parts):
            raise DamagedError("parts of a checkpoint are missing")
    except DamagedError as error:
        _set_aside(path, str(error))
        return None
    return content


def _set_aside(path: Path, reason: str | None = None) -> None:
    path.replace(path.with_name(f"{path.name}{_ASIDE}"))
    if reason:
        print(f"{os.path.relpath(path)} is not used: {reason}; it is kept as {path.name}{_ASIDE}", flush=True)
