"""Weight files: verified before they are used, and never run."""

import copy
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.digest import file_sha256
from benchmarks.whole_file import replacing
from pipelines.engine.containers import Extracted, extract
from pipelines.engine.state_dicts import State, load_whole, with_versions

PROBE_PX = 128  # side of the blank image that shows how many channels and levels a model's modules give

# Contents of published MMLab checkpoints beside tensors: scores, curves, slices of a schedule.
# Nothing of it is used, so a stand-in takes each one's place and the thing itself is never built or called.
_BESIDE_TENSORS = (
    "builtins.getattr",  # inside of HistoryBuffer, to name its methods
    "builtins.slice",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
)


class _Discarded:
    """Stands in for an object of a checkpoint that is not used: takes everything, keeps nothing."""

    def __init__(self, *_args: Any) -> None:
        """Keep nothing of what the object was made of."""

    def __setstate__(self, _state: Any) -> None:
        """Keep nothing of the object's state."""


NO_WEIGHTS = b"none\n"  # written by a stage in place of weights that do not exist


def read_weights(path: str | Path, sha256: str) -> State:
    """Read a state dict whose file has the digest, without running any code that is in it.

    Args:
        path: file written by ``torch.save``: a state dict, or a dict with one under ``state_dict`` or ``model``; or a safetensors file.
        sha256: the whole digest or its leading digits.

    Returns:
        The tensors, on the CPU; the versions of the modules that wrote them in its attribute ``_metadata``, where there are any.

    Raises:
        ValueError: the file is missing, has another digest (as a truncated one has) or contains more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights {path} are missing; run the stage that makes them: dvc repro")
    found = file_sha256(path)
    if not found.startswith(sha256):
        raise ValueError(
            f"weights {path} ({path.stat().st_size} bytes) have sha256 {found[:12]}..., recorded is {sha256[:12]}...: "
            "the file is truncated or another one; remove it and run dvc repro"
        )
    _refuse_web_page_or_piece(path)
    if _is_safetensors(path):
        try:
            return with_versions(OrderedDict(load_file(path)), None)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"weights {path} are damaged or cut off; copy or download them again") from error
    try:
        with torch.serialization.safe_globals([(_Discarded, name) for name in _BESIDE_TENSORS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError) as error:
        raise ValueError(f"weights {path} are damaged or cut off; download them again") from error
    except Exception as error:
        raise ValueError(
            f"weights {path} cannot be read as tensors alone ({_reason(error)}); nothing in the file was run; "
            "use a checkpoint that holds a plain state dict"
        ) from error
    return _state_dict(content, path)


def _is_safetensors(path: Path) -> bool:
    """Return True for a file that begins as safetensors do: the length of a JSON object, and the object."""
    with path.open("rb") as file:
        begin = file.read(9)
    return len(begin) == 9 and begin[8:] == b"{" and int.from_bytes(begin[:8], "little") < path.stat().st_size + 2**27  # noqa: PLR2004 (eight bytes of a length, then a brace: the format of safetensors)


def _refuse_web_page_or_piece(path: Path) -> None:
    """ValueError for a host's page in place of its file, and for the first part of an archive."""
    with path.open("rb") as file:
        begin = file.read(512).lstrip()
    if begin[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise ValueError(
            f"weights {path} are a web page, such as a login of the file's host; download the file itself by a browser"
        )
    if begin.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise ValueError(f"weights {path} are cut off: the end of the archive is missing; download them again")


def _reason(error: Exception) -> str:
    """Return torch's reason for refusing a file, without its advice to read the file unsafely."""
    refused = re.search(r"unsupported.*?(?=\. |\n|$)", str(error), re.IGNORECASE)
    return refused.group() if refused else f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()


def _state_dict(content: Any, path: Path) -> State:
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        named = [key for key, value in content.items() if isinstance(value, dict) and value and _is_tensors(value)]
        if len(named) > 1:
            raise ValueError(
                f"weights {path} hold several state dicts, {', '.join(map(str, named))}; keep the right one in the file alone"
            )
        content = content[named[0]] if named else content
    if not isinstance(content, dict) or not content:
        raise ValueError(f"weights {path} hold no state dict but {type(content).__name__}; use a checkpoint that holds one")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"weights {path} cannot be read as tensors alone: {key} is none; use a plain state dict")
    return with_versions(OrderedDict(content), getattr(content, "_metadata", None))


def _is_tensors(content: dict[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in content.values())


def convert_checkpoint(path: str | Path, sha256: str, model: nn.Module) -> Extracted:
    """Return what a published checkpoint holds of a model, as the state dict that the model, built with today's packages, would save.

    Undoes wrappers and the layouts of MMDetection 1 and 2 (:mod:`pipelines.engine.containers`, :mod:`pipelines.engine.state_dicts`).

    Args:
        path: the checkpoint.
        sha256: its whole digest or the leading digits.
        model: the whole model, or the backbone for an ImageNet file; it is left as it is.

    Raises:
        ValueError: the file is not the recorded one (see :func:`read_weights`), of another architecture or not finite; keys are named.
    """
    return extract(read_weights(path, sha256), model, path)


def rewrite_safely(source: Path, sha256: str, out: Path, *, backbone: nn.Module) -> str:
    """Write a downloaded ImageNet checkpoint again as nothing but tensors, all that a backbone has and under its own names.

    Args:
        source: the download.
        sha256: its whole digest or the leading digits.
        out: the file to write; it is there whole or not at all.
        backbone: what will load the file, built without it.

    Returns:
        The sha256 of ``out``.

    Raises:
        ValueError: the file is not the recorded one, cannot be read safely, or does not fit the backbone.
    """
    if getattr(backbone, "convert_weights", False):
        state = _from_swins_authors(read_weights(source, sha256), backbone, source)
    else:
        state = convert_checkpoint(source, sha256, backbone).state
    # A view would take the whole of its storage along.
    plain = {key: value.detach().cpu().clone() for key, value in state.items()}
    with replacing(out, is_synced=True) as partial:
        torch.save(plain, partial)
    return file_sha256(out)


def _from_swins_authors(state: State, backbone: nn.Module, source: Path) -> State:
    """Return the weights of Swin's authors as MMDetection's module saves them; their file has no norms behind the single levels."""
    from mmdet.models.backbones.swin import swin_converter  # noqa: PLC0415 (seconds, for one kind of backbone)

    converted = {key.removeprefix("backbone."): value for key, value in swin_converter(state).items()}
    named = {key: value for key, value in converted.items() if not key.startswith(("norm.", "head."))}
    own_norms = {key: value for key, value in backbone.state_dict().items() if re.match(r"norm\d", key)}
    whole = copy.deepcopy(backbone)
    load_whole(whole, with_versions(OrderedDict({**own_norms, **named}), None), source)
    return whole.state_dict()


def save_weights(model: nn.Module, out: Path) -> None:
    """Write a state dict, tensors on the CPU, so that the file is there whole or not at all."""
    save_state({key: value.detach().cpu() for key, value in model.state_dict().items()}, out)


def save_state(state: State, out: Path) -> None:
    """Write tensors by name, so that the file is there whole or not at all; on the disk before this returns."""
    with replacing(out, by=out.with_suffix(".partial"), is_synced=True) as partial:
        torch.save(state, partial)


def load_frozen(config: dict[str, Any], weights: str, sha256: str) -> BaseModel:
    """Build a model, load its weights whole, freeze it and put it into evaluation mode.

    Raises:
        ValueError: the weights are not whole (see :func:`read_weights`) or of another architecture.
    """
    state = read_weights(weights, sha256)
    model = MODELS.build(config)
    load_whole(model, state, weights)
    model.requires_grad_(requires_grad=False)
    return model.eval()


def untrained(config: dict[str, Any], seed: int) -> BaseModel:
    """Build a model with random weights of this seed, frozen and in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS.build(config)
        model.init_weights()
    model.requires_grad_(requires_grad=False)
    return model.eval()


class FrozenTeacher:
    """Mixin for a model that keeps ``self.teacher`` outside its module tree but on its device.

    The teacher is then in no checkpoint, no optimizer and no gradient synchronisation, and stays in
    evaluation mode (dropout included) whatever the trainer switches.
    """

    teacher: BaseModel

    def _keep_outside(self, teacher: BaseModel) -> None:
        self._modules.pop("teacher", None)  # type: ignore[attr-defined]
        self.__dict__["teacher"] = teacher

    def _apply(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Move the teacher wherever the model is moved."""
        if "teacher" in self.__dict__:
            self.__dict__["teacher"]._apply(fn, *args, **kwargs)  # noqa: SLF001 (torch's own way to move a module)
        return super()._apply(fn, *args, **kwargs)  # type: ignore[misc]
