"""Settings and code that a stage depends on besides what other stages make: resolved to values, a file each.

Stage ``check`` writes the files and DVC compares them, so a stage runs again exactly when something that decides its result has
changed: not for another method's recipe, another pair, a seed more, a remark or a docstring.  A stage makes sure at its start
that the files still say what params.yaml, the recipes and the code say (:func:`confirm`).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.dataset import datasets
from benchmarks.metrics import METRICS
from benchmarks.own import stamp
from benchmarks.pair import Model, Pair
from benchmarks.tier import ModelScale, Tier
from pipelines import layout
from pipelines.code_digest import code_of
from pipelines.grid import Grid
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.recipes import auxiliary_of, cell_config, cell_parts, load_parts
from pipelines.stage_list import backbones_needed, data_sets, stages
from pipelines.tuning.space import ranges_of

_TRAINING = ("pipelines.engine.compose", "pipelines.engine.training")
_SIZES = {"roi": "faster_rcnn", "solo_grids": "solo", "segmenter": "segmenter"}  # of a tier's model: the head type that has them
_DETECTION = "pipelines.engine.heads"  # imported by every training, used by those of detectors


def prepare(grid: Grid) -> dict[str, Any]:
    """Return the settings of the data sets and their digests, but for files that are elsewhere."""
    tier = load_tier(grid.tier)
    return {
        "data": tier.data,
        "scenes": tier.scenes and tier.scenes.model_dump(mode="json"),
        "own": grid.own and grid.own.model_dump(mode="json"),
        "sets": data_sets(grid),
        **(_own_files(grid, tier) if tier.data == "own" else {"tasks": []}),
        "code": code_of(["benchmarks.own_check" if tier.data == "own" else "benchmarks.synthetic"]),
    }


def _own_files(grid: Grid, tier: Tier) -> dict[str, Any]:
    """Return what pairs need of a user's data, and the state of the files, which are checked again when they change."""
    pairs = {name: pair for name in grid.pairs if (pair := load_pair(name)).not_run is None}
    return {
        "tasks": sorted({pair.task for pair in pairs.values()}),
        "configs": sorted({side.config for pair in pairs.values() for side in (pair.teacher, pair.student)}),
        "batches": batches(grid, tier),
        "files": grid.own and stamp(grid.own),
    }


def batches(grid: Grid, tier: Tier) -> dict[str, int]:
    """Return the batch size of each pair of the grid that can run."""
    pairs = {name: pair for name in grid.pairs if (pair := load_pair(name)).not_run is None}
    return {
        name: tier.schedule.lengths(pair.head).batch_size if tier.schedule else grid.batch_size or pair.batch_size
        for name, pair in pairs.items()
    }


def pretrain(grid: Grid, backbone: str) -> dict[str, Any]:
    """Return the settings and code of a pre-trained backbone."""
    tier, needed = load_tier(grid.tier), backbones_needed(grid, grid.pairs)
    if backbone not in needed:
        raise ValueError(
            f"no pair of the grid starts from backbone {backbone} at tier {grid.tier}; there are: {', '.join(needed) or 'none'}"
        )
    return {
        "backbone": needed[backbone],
        "pretraining": tier.pretraining and tier.pretraining.model_dump(mode="json"),
        "code": code_of([*_TRAINING, "pipelines.stages.pretrain"], without=[_DETECTION]),
    }


def teachers(grid: Grid, pair_name: str) -> dict[str, Any]:
    """Return the settings and code of a pair's teacher and of the weights that its students start from."""
    pair = load_pair(pair_name)
    checkpoint, tier = pair.teacher.checkpoint, load_tier(grid.tier)
    is_fetched = (checkpoint and tier.data == "published" and tier.model is None) or (
        tier.data == "own" and grid.own and grid.own.teacher
    )
    # Only a fetched teacher is judged before anything is trained on it.
    unused = [*_unused(pair), *([] if is_fetched else ["pipelines.engine.evaluation"])]
    return {
        **_setting(grid, pair),
        "teacher_seed": pair.teacher_seed,
        "checkpoint": checkpoint and {"url": checkpoint.url, "sha256": checkpoint.sha256},
        "stated": pair.teacher.stated,
        "code": code_of([*_TRAINING, "pipelines.stages.teachers"], without=unused),
    }


def masks(grid: Grid, pair_name: str, method: str) -> dict[str, Any]:
    """Return the settings and code of a method's auxiliary module on a pair."""
    pair, part = load_pair(pair_name), auxiliary_of(method)
    if part is None or part.recipe.prior is None:
        raise ValueError(f"{method} has no auxiliary module; params.yaml's grid and grid.yaml do not agree")
    unused = [*_unused(pair), *([] if pair_name in grid.tokens else ["pipelines.released.tokens"])]
    return {
        **_setting(grid, pair),
        **_tokens(grid, pair_name, part.name),
        "name": part.name,
        "hparams": part.recipe.prior.hparams,
        "training": part.auxiliary_training(pair_name, pair.head, grid.tier).model_dump(mode="json"),
        "code": code_of([*_TRAINING, "pipelines.stages.masks", f"methods.{part.code}"], without=unused),
    }


def _tokens(grid: Grid, pair_name: str, method: str) -> dict[str, Any]:
    """Return the file that is taken over in place of learning, by its digest where that is known; nothing where there is none."""
    if (given := grid.tokens.get(pair_name)) is None:
        return {}
    from pipelines.released.tokens import named  # noqa: PLC0415 (torch: seconds, for those who ask for it)

    return {"tokens": named(given, pair_name, method)}


def distill(grid: Grid, pair_name: str, method: str) -> dict[str, Any]:
    """Return the settings and code of a student under a method, but for its seed."""
    pair = load_pair(pair_name)
    parts, _ = cell_parts(method, pair_name, pair, grid.tier)
    modules = [f"methods.{part.code}" for part in parts]
    return {
        **_setting(grid, pair),
        "parts": [part.as_dict() for part in parts],
        "config": cell_config(method, pair_name, pair, grid.tier),
        "code": code_of([*_TRAINING, "pipelines.stages.distill", *modules], without=_unused(pair)),
    }


def tune(grid: Grid, pair_name: str, method: str) -> dict[str, Any]:
    """Return the settings, search space and code of a study."""
    tuning = grid.tuning
    if tuning is None:
        raise ValueError("params.yaml: says nothing under 'tuning:'; see README, Tuning")
    modules = [f"methods.{part.code}" for part in load_parts(method)]
    code = code_of([*_TRAINING, "pipelines.tuning.trial", *modules], without=_unused(load_pair(pair_name)))
    return {
        **distill(grid, pair_name, method),
        "tuning": tuning.model_dump(mode="json", exclude={"rows", "space", "workers"}),
        "space": {name: bounds.model_dump(mode="json", exclude_none=True) for name, bounds in ranges_of(tuning, method).items()},
        "code": code,
    }


def evaluate(grid: Grid, pair_name: str) -> dict[str, Any]:
    """Return the settings and code of the evaluation of a pair's models."""
    pair, tier = load_pair(pair_name), load_tier(grid.tier)
    setting = _setting(grid, pair)
    for of_training in ("gpus_per_run", "precision", "speed"):
        del setting[of_training]
    kept = {"data": tier.data, "model": setting["tier"]["model"], "area_px2": list(tier.area_px2)}
    return {
        **setting,
        "tier": kept,
        "code": code_of(["pipelines.stages.evaluate"], without=_unused(pair)),
    }


def released(grid: Grid, student: str) -> dict[str, Any]:
    """Return the settings and code of the evaluation of a released student."""
    from pipelines.released.registry import student_named  # noqa: PLC0415 (half a second, for those who ask for it)

    one, entry = student_named(student)
    pair_name, method = entry.place
    if (tier := load_tier(grid.tier)).data != "published" or tier.model is not None:
        raise ValueError(
            f"params.yaml: released: {student} is of published size and data, and tier {grid.tier} has others; use tier paper"
        )
    if pair_name is None or method is None:
        raise ValueError(f"params.yaml: released: {student} is the student of no row of this suite; remove it")
    pair = load_pair(pair_name)
    return {
        **evaluate(grid, pair_name),
        "config": cell_config(method, pair_name, pair, grid.tier),
        "student": one.model_dump(mode="json", include={"reported", "weights", "log"}),
        "code": code_of(["pipelines.stages.released"], without=_unused(pair)),
    }


def _setting(grid: Grid, pair: Pair) -> dict[str, Any]:
    """Return the values of pair, tier and grid that reach the pair's configs; no prose."""
    tier = load_tier(grid.tier)
    schedule = tier.schedule and tier.schedule.model_dump(mode="json", exclude={"heads"}) | tier.schedule.lengths(
        pair.head
    ).model_dump(exclude={"heads"})
    of_pair = pair.model_dump(
        include={"task", "dataset", "metric", "head", "epochs", "iterations", "gpus", "images_per_gpu", "reported"}
    )
    return {
        "dataset": datasets()[pair.dataset].for_configs() if tier.data == "published" else None,
        "metric": METRICS[pair.metric].as_json(),
        "pair": {**of_pair, "modules": pair.modules, "teacher": _model(pair.teacher), "student": _model(pair.student)},
        "tier": {
            "data": tier.data,
            "model": tier.model and _scale(pair, tier.model),
            "schedule": schedule,
            "is_pretrained": tier.pretraining is not None,
        },
        "own": grid.own and grid.own.model_dump(mode="json", exclude={"root"}),
        "batch_size": grid.batch_size,
        "gpus_per_run": grid.gpus_per_run,
        "precision": grid.precision,
        "speed": grid.speed.at(tier.data).model_dump(),
    }


def _scale(pair: Pair, scale: ModelScale) -> dict[str, Any]:
    """Return the sizes of a tier's reduced models that the pair has: of its two backbones, and of its head."""
    from pipelines.engine.backbones import published_side  # noqa: PLC0415 (half a second)
    from pipelines.engine.scaling import published_name  # noqa: PLC0415 (as above)

    names = {published_name(published_side(pair, side).model.backbone) for side in ("teacher", "student")}
    unused = {key for key, head in _SIZES.items() if head != pair.head}
    whole = scale.model_dump(mode="json", exclude=unused)
    return {**whole, "backbones": {name: value for name, value in whole["backbones"].items() if name in names}}


def _model(model: Model) -> dict[str, Any]:
    start = model.initialisation
    return {"config": model.config, "changes": model.changes, "initialisation": start and start.sha256}


def _unused(pair: Pair) -> list[str]:
    return [_DETECTION] if pair.task == "segmentation" else []


_OF: dict[str, Callable[..., dict[str, Any]]] = {
    layout.PRETRAIN: pretrain,
    layout.TEACHERS: teachers,
    layout.MASKS: masks,
    layout.TUNE: tune,
    layout.DISTILL: distill,
    layout.EVALUATE: evaluate,
    layout.RELEASED: released,
}


def contents(grid: Grid) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every file that the grid's stages depend on, and its content."""
    wanted = stages(grid)
    yield layout.RESOLVED / f"{layout.PREPARE}.json", prepare(grid)
    for stage in (layout.PRETRAIN, layout.TEACHERS, layout.RELEASED):
        for key in wanted[stage]:
            yield layout.resolved(stage, key), _OF[stage](grid, key)
    for pair in wanted[layout.TEACHERS]:
        yield layout.resolved(layout.EVALUATE, pair), evaluate(grid, pair)
    for stage in (layout.MASKS, layout.TUNE, layout.DISTILL):
        for pair, method in dict.fromkeys((row["pair"], row["method"]) for row in wanted[stage].values()):
            yield layout.resolved(stage, f"{pair}/{method}"), _OF[stage](grid, pair, method)


def as_text(content: dict[str, Any]) -> str:
    """Return a file's text."""
    return json.dumps(content, indent=1) + "\n"


def confirm(stage: str, *key: str) -> dict[str, Any]:
    """Return the settings and code that stage ``check`` resolved for a stage, compared with those of now.

    Args:
        stage: name.
        key: of the stage: backbone, pair, or pair and method.

    Raises:
        ValueError: the file is missing, or something has changed; it says what.
    """
    path = layout.resolved(stage, "/".join(key))
    if not path.is_file():
        raise ValueError(f"{path} is not there: stage check has not seen {stage} {'/'.join(key)}; run dvc repro check")
    found, now = json.loads(path.read_text()), json.loads(as_text(_OF[stage](load_grid(), *key)))
    if changed := list(_differences(found, now)):
        raise ValueError(
            f"{', '.join(changed[:3])}{f' and {len(changed) - 3} more' if len(changed) > 3 else ''} changed since stage check "  # noqa: PLR2004 (named are the first three)
            f"wrote {path}; run dvc repro check, or make repro"
        )
    return dict(now)


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif before != now:
        yield where
