"""Tokens that others learned on a teacher, taken in place of learning them here.

A file may hold the teacher beside the tokens, because the hook that learns them is a module of the whole detector
(hunto/MasKD at b5af34f, ``mmdetection/maskd_hook.py``); then it must be this pair's teacher to the last bit.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.artefacts import ReleasedTokens
from benchmarks.digest import file_sha256
from benchmarks.paths import user_path
from pipelines.engine.containers import extract
from pipelines.engine.state_dicts import State, with_versions
from pipelines.engine.weights import read_weights
from pipelines.released import files
from pipelines.released.registry import artefacts

RELEASED = "released"  # in place of a file: that of the method's authors


def tokens_of(pair: str, method: str) -> ReleasedTokens:
    """Return the tokens that the method's authors released for a pair's teacher; ValueError where there are none."""
    tokens = artefacts().tokens
    found = next((one for one in tokens.values() if pair in one.pairs and one.method == method), None)
    if found is None:
        there = ", ".join(f"{name} of {one.method}" for one in tokens.values() for name in one.pairs)
        raise ValueError(f"params.yaml: tokens.{pair}: nobody released what {method} learns on its teacher; there are: {there}")
    return found


def find(given: str, pair: str, method: str) -> tuple[Path, str]:
    """Return the file that params.yaml gives for a pair, and its sha256; ValueError where it cannot be had."""
    if given == RELEASED:
        return files.get(tokens_of(pair, method))
    path = user_path(given, f"params.yaml: tokens.{pair}")
    if not path.is_file():
        raise ValueError(
            f"params.yaml: tokens.{pair}: there is no file {given}; correct the path, or remove it to learn them here"
        )
    return path, file_sha256(path)


def named(given: str, pair: str, method: str) -> dict[str, Any]:
    """Return what a stage depends on: a released file's address, or the digest of a user's."""
    if given == RELEASED:
        return tokens_of(pair, method).model_dump(include={"address", "sha256"})
    return {"sha256": find(given, pair, method)[1]}


def read_tokens(path: Path, sha256: str, module: nn.Module, teacher: nn.Module, pair: str) -> tuple[State, str]:
    """Return the tokens in a file as the auxiliary module's state dict, and in words what is known of their teacher.

    Args:
        path: the file.
        sha256: that it has.
        module: the auxiliary module as it would be learned here.
        teacher: the pair's, with its weights.
        pair: name, for errors.

    Raises:
        ValueError: the file holds no such module, one of other shapes (both are named), or another teacher.
    """
    content = read_weights(path, sha256)
    try:
        tokens = extract(content, module, path)
    except ValueError as error:
        raise ValueError(f"params.yaml: tokens.{pair}: {error}") from error
    beside = OrderedDict((key, value) for key, value in content.items() if key.removeprefix(tokens.prefix) not in tokens.state)
    children = {name for name, _ in teacher.named_children()}
    if not any(word in children for key in beside for word in key.split(".")):
        return tokens.state, "the file does not hold the teacher that they were learned on, so only their shapes are compared"
    try:
        theirs = extract(with_versions(beside, getattr(content, "_metadata", None)), teacher, path).state
    except ValueError as error:
        raise ValueError(f"params.yaml: tokens.{pair}: they were learned on another teacher: {error}") from error
    ours = teacher.state_dict()
    other = [key for key, value in ours.items() if not torch.equal(value.cpu(), theirs[key])]
    if other:
        raise ValueError(
            f"params.yaml: tokens.{pair}: {path} was learned on another teacher: {len(other)} of {len(ours)} tensors differ from "
            f"this pair's, the first is {other[0]}; remove it, and the tokens are learned here"
        )
    return tokens.state, "the teacher in the file is this pair's, to the last bit"
