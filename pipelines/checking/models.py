"""Names in files that must be in the models, checked once for the files as they are: what was in order is noted under work/."""

import hashlib
import json
from importlib.metadata import version
from typing import Any

from benchmarks.pair import Pair
from benchmarks.tier import Tier
from methods.contract import Position
from pipelines import layout
from pipelines.checking.recipes import kinds_of
from pipelines.code_digest import code_of
from pipelines.grid import Grid
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_config, impossible_reason, load_parts

_NOTED = layout.WORK / "models_checked.json"
_PACKAGES = ("torch", "onedl-mmengine", "onedl-mmdetection", "onedl-mmsegmentation")


def check_names(grid: Grid) -> None:
    """ValueError where a pair or a recipe of the grid names what its models or configs do not have."""
    tier, noted, fresh = load_tier(grid.tier), _noted(), []
    code = code_of(["pipelines.engine.compose", "pipelines.engine.heads"])
    code["packages"] = " ".join(version(name) for name in _PACKAGES)
    for name in grid.pairs:
        pair = load_pair(name)
        if pair.not_run is not None:
            continue
        named = _named(name, pair, grid.rows[name], grid.tier)
        digest = _digest(code, name, pair, tier, named)
        if digest in noted:
            continue
        from pipelines.engine.model_check import Named, check_models  # noqa: PLC0415 (seconds, for what was not checked before)

        check_models(name, pair, grid.tier, tier, [Named(**one) for one in named])
        fresh.append(digest)
    if fresh:
        _NOTED.parent.mkdir(parents=True, exist_ok=True)
        partial = _NOTED.with_suffix(".partial")
        partial.write_text(json.dumps(sorted({*noted, *fresh})))
        partial.replace(_NOTED)


def _named(pair_name: str, pair: Pair, methods: list[str], tier: str) -> list[dict[str, Any]]:
    """Return the fields of :class:`pipelines.engine.model_check.Named` for each recipe of a pair's methods."""
    found = []
    for method in methods:
        if impossible_reason(pair_name, pair, method, tier):
            continue
        applied = cell_config(method, pair_name, pair, tier)
        for part in load_parts(method):
            resolved, _ = part.resolve(pair_name, pair.head, tier)
            config = part.config_changes(pair_name, pair.head, tier)
            positions = {key: resolved.hparams[key] for key, kind in kinds_of(part.method).items() if kind == Position}
            found.append({
                "recipe": part.name, "inherits": tuple(resolved.inherits), "positions": positions, "config": config,
                "applied": bool(applied),
            })  # fmt: skip
    return found


def _digest(code: dict[str, str], name: str, pair: Pair, tier: Tier, named: list[dict[str, Any]]) -> str:
    decides = [code, name, pair.model_dump(), tier.model and tier.model.model_dump(), tier.pretraining is not None, named]
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def _noted() -> list[str]:
    try:
        found = json.loads(_NOTED.read_bytes())
    except (OSError, ValueError):
        return []
    return [str(one) for one in found] if isinstance(found, list) else []
