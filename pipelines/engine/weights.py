"""Weight files: verified before they are believed, and never run."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

PROBE_PX = 64  # side of the blank image that shows how many channels and levels a model's modules give


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def read_weights(path: str | Path, sha256: str) -> dict[str, Tensor]:
    """Read a state dict whose file has the digest, without running any code that is in it.

    Args:
        path: file written by ``torch.save``: a state dict, or a dict with one under ``state_dict``.
        sha256: the whole digest or its leading digits.

    Raises:
        ValueError: the file is missing, has another digest (as a truncated one has) or holds more than tensors.
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
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"weights {path} cannot be read as tensors alone: {str(error).splitlines()[0]}") from error
    state = content.get("state_dict", content)
    return dict(state)


def load_frozen(config: dict[str, Any], weights: str, sha256: str) -> BaseModel:
    """Build a model, load its weights strictly, freeze it and put it into evaluation mode.

    Raises:
        ValueError: the weights are not whole (see :func:`read_weights`) or of another architecture.
    """
    state = read_weights(weights, sha256)
    model = MODELS.build(config)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    wrong = sorted(
        key
        for key in expected.keys() | state.keys()
        if key not in expected or key not in state or expected[key] != state[key].shape
    )
    if wrong:
        raise ValueError(
            f"weights {weights} are of another architecture than {config['type']} here: {len(wrong)} tensors differ, "
            f"the first is {wrong[0]}; train or fetch the teacher of this pair and tier: dvc repro"
        )
    model.load_state_dict(state)
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
            self.__dict__["teacher"]._apply(fn, *args, **kwargs)  # noqa: SLF001
        return super()._apply(fn, *args, **kwargs)  # type: ignore[misc]
