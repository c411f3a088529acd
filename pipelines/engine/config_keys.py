"""Changes of a published config, dotted key -> value: whether the config has such a key, and takes such a value.

MMEngine merges any key, so that a misspelt one would change nothing, or would be noticed by a constructor after the data are read.
"""

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

# Numbers of a schedule are not negative, and at most:
_SCHEDULE = ("optim_wrapper", "param_scheduler", "train_cfg")
_MOST = {"max_epochs": 9999, "max_iters": 2**22, "lr": 1000, "weight_decay": 1000}
_MOST_ELSEWHERE = 1e9
_TAKEN_OUT = ("constructor", "paramwise_cfg")  # of an optimizer's wrapper, by what builds it


def wrong_changes(config: Config, changes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with changes of a config, a clause for each wrong key."""
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        for key, value in changes.items():
            if problem := _wrong_key(config, key, value) or _wrong_number(key, value):
                yield f"{key}: {problem}"


def _wrong_key(config: Config, key: str, value: Any) -> str | None:
    node: Any = config._cfg_dict  # noqa: SLF001 (of which Config is a wrapper, and no mapping)
    *path, last = key.split(".")
    for number, name in enumerate(path):
        if not _has(node, name):
            return _absent(node, name, path[:number])
        node = node[int(name) if isinstance(node, (list, tuple)) else name]
    if _has(node, last):
        return _wrong_kind(node[int(last) if isinstance(node, (list, tuple)) else last], value)
    if isinstance(node, Mapping) and last in _parameters(node, path):
        return None
    return _absent(node, last, path)


def _has(node: Any, name: str) -> bool:
    if isinstance(node, (list, tuple)):
        return name.isdecimal() and int(name) < len(node)
    return isinstance(node, Mapping) and name in node


def _absent(node: Any, name: str, path: list[str]) -> str:
    where = ".".join(path) or "the published config"
    if isinstance(node, (list, tuple)):
        return f"{where} is a list of {len(node)}, which has no entry {name}"
    if not isinstance(node, Mapping):
        return f"{where} is a single value, without a key {name}"
    near = get_close_matches(name, [*map(str, node), *_parameters(node, path)], n=1)
    return f"{where} has no {name}" + (f"; did you mean {near[0]}?" if near else "")


def _parameters(node: Mapping[str, Any], path: list[str]) -> set[str]:
    """Names that what is built from a part of a config takes beside those that are there."""
    if not path:
        return {*inspect.signature(Runner.__init__).parameters, "find_unused_parameters"}
    if path[-1].endswith("_dataloader"):
        return {*inspect.signature(DataLoader.__init__).parameters}
    if "type" not in node:
        return set()
    found = set(_TAKEN_OUT if path == ["optim_wrapper"] else ())
    for kind in inspect.getmro(_class(node["type"])):
        found |= (
            {*inspect.signature(vars(kind)["__init__"]).parameters} if "__init__" in vars(kind) and kind is not object else set()
        )
    return found


def _scope() -> str:
    current = DefaultScope.get_current_instance()
    return str(current.scope_name) if current else ""


def _class(kind: Any) -> Any:
    if not isinstance(kind, str):
        return kind
    for root in vars(mmengine.registry).values():
        # The scope's own and then the root's, as where it is built.
        if isinstance(root, Registry) and (found := root.children.get(_scope(), root).get(kind)) is not None:
            return found
    return object


def _wrong_kind(present: Any, value: Any) -> str | None:
    """Compare kinds as far as they cannot be exchanged: text or a truth value is no number, and neither stands for lists or keys."""
    if value is None or present is None:
        return None
    if isinstance(present, bool):
        return (
            f"{value!r} is given for {present!r}; write true or false"
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            else None
        )
    for kind, words in ((int | float, "a number"), (dict, "keys with values"), (list | tuple, "a list")):
        if isinstance(present, kind):
            scalar = isinstance(value, (bool, str)) or (kind is dict and isinstance(value, (int, float)))
            return f"{value!r} is given for {present!r}, which is {words}" if scalar else None
    return None


def _wrong_number(key: str, value: Any) -> str | None:
    if isinstance(value, (Mapping, list)):
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        return next((problem for name, part in parts if (problem := _wrong_number(f"{key}.{name}", part))), None)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not key.startswith(_SCHEDULE):
        return None
    most = _MOST.get(key.rpartition(".")[2], _MOST_ELSEWHERE)
    return None if 0 <= value <= most else f"{value} is not within 0 to {most:g}"
