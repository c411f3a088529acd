"""Names in files that must be in the models: hook points, inherited modules, config keys, positions in a head.

Models are built without memory for their weights (PyTorch's meta device), a tenth of a second each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from benchmarks.pair import Pair
from benchmarks.tier import Tier
from pipelines.engine import heads
from pipelines.engine.backbones import published_side
from pipelines.engine.compose import base_config
from pipelines.engine.config_keys import wrong_changes
from pipelines.engine.mmlab import build_model, register_components
from pipelines.engine.published import published_config
from pipelines.engine.setting import Side, bare_setting

SIDES: tuple[Side, ...] = ("teacher", "student")


@dataclass(frozen=True)
class Named:
    """Names of a recipe on a pair.

    Args:
        recipe: name of its file.
        inherits: modules that the student takes over from the teacher.
        positions: tower convolutions by hyper-parameter.
        config: changes of the student's config, dotted key -> value.
        applied: whether they are made at the tier.
    """

    recipe: str
    inherits: tuple[str, ...]
    positions: Mapping[str, int]
    config: Mapping[str, Any]
    applied: bool


def check_models(pair_name: str, pair: Pair, tier_name: str, tier: Tier, recipes: list[Named]) -> None:
    """ValueError, with all that one pair's models do not have, where a file names what is not in them."""
    register_components()
    where = f"benchmarks/pairs/{pair_name}.yaml"
    problems = [
        f"{where}: {side}.changes.{problem}"
        for side in SIDES
        for problem in wrong_changes(published_config(getattr(pair, side).config), getattr(pair, side).changes)
    ]
    of_student = None if problems else published_side(pair, "student")
    problems += [
        f"methods/{one.recipe}.yaml: config.{problem} (on {pair_name})"
        for one in recipes
        if of_student is not None
        for problem in wrong_changes(of_student, one.config)
    ]
    if not problems:
        files = where if tier.model is None else f"benchmarks/tiers/{tier_name}.yaml with {where}"
        models = {side: _built(pair, tier, side, {}, f"{files}: the {side} cannot be built") for side in SIDES}
        problems += [problem for side in SIDES for problem in lost_hook_points(pair_name, pair, side, models[side])]
        problems += [problem for one in recipes for problem in _of_recipe(one, pair_name, pair, models)]
        for one in recipes:
            if one.applied and one.config:
                said = f"methods/{one.recipe}.yaml: config: the student of {pair_name} cannot be built with it"
                _built(pair, tier, "student", dict(one.config), said)
    if problems:
        raise ValueError("; also: ".join(dict.fromkeys(problems)))


def _built(pair: Pair, tier: Tier, side: Side, changes: dict[str, Any], said: str) -> nn.Module:
    try:
        config = base_config(bare_setting(pair, tier), side, changes)
        try:
            with torch.device("meta"):
                return build_model(config)
        except RuntimeError:  # Swin reads a number from a tensor
            return build_model(config)
    except Exception as error:  # whatever a constructor says to what a file names
        words = " ".join(str(error).split())[:300]
        raise ValueError(f"{said} ({type(error).__name__}: {words}); correct the file") from error


def lost_hook_points(pair_name: str, pair: Pair, side: Side, model: nn.Module) -> Iterator[str]:
    """Yield a sentence where paths of the pair are no modules of its teacher or student."""
    modules = {path for path, _ in model.named_modules()}
    if lost := {role: path for role, path in pair.modules.items() if path not in modules}:
        yield (
            f"benchmarks/pairs/{pair_name}.yaml: the {side} has no module {', '.join(lost.values())} for "
            f"{', '.join(lost)}; correct it under 'taps:', or say under 'lacks:' why there is none"
        )


def _of_recipe(one: Named, pair_name: str, pair: Pair, models: Mapping[Side, nn.Module]) -> Iterator[str]:
    for side in SIDES:
        modules = {path for path, _ in models[side].named_modules() if path}
        for path in one.inherits:
            if path not in modules:
                known = ", ".join(sorted(path for path in modules if "." not in path))
                yield f"methods/{one.recipe}.yaml: inherits {path}, which the {side} of {pair_name} does not have; it has: {known}"
    if pair.head not in heads.DENSE:
        return
    for key, position in one.positions.items():
        for side in SIDES:
            try:
                heads.check_position(cast("Any", models[side]), pair.head, position)
            except ValueError as error:
                yield f"methods/{one.recipe}.yaml: {key}: {error}"
