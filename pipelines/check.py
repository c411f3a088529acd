"""Stage ``check``: everything that the grid names is read and checked before anything runs.

For each method it writes what a training depends on, so that DVC reruns a method's cells when its own code
or values change, and no other's; and in the same way what trainings and evaluations take of the tier and the grid.
As ``params`` of every stage the latter would fill dvc.lock, which DVC reads and writes whole around each stage.
"""

import argparse
import inspect
import json
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.pair import Pair
from benchmarks.published import Registry
from benchmarks.tier import Tier
from pipelines import cli
from pipelines.comparable import check_comparable
from pipelines.engine.provenance import sources_sha256
from pipelines.params import (
    Grid,
    Part,
    cell_config,
    cells,
    impossible_reason,
    load_grid,
    load_pair,
    load_parts,
    load_tier,
    load_yaml,
    method_sources,
)
from pipelines.tuning.space import ranges_of, search_space


def check_recipe(part: Part) -> None:
    """Compare a recipe with the code that it names.

    Raises:
        ValueError: the code is missing, or a hyper-parameter stands in one and not in the other.
    """
    name, recipe = part.name, part.recipe
    if not Path(f"methods/{part.code}.py").is_file():
        raise ValueError(
            f"methods/{name}.yaml: there is no methods/{part.code}.py beside it; write it, or name the module under 'code:'"
        )
    method = part.method
    parts = [("hparams", recipe.hparams, method)]
    if (recipe.prior is None) != (method.prior is None):
        raise ValueError(f"methods/{name}.yaml: 'prior' must stand there exactly if {part.code}.py has a prior")
    if recipe.prior is not None:
        parts.append(("prior.hparams", recipe.prior.hparams, method.prior))
    problems = []
    for where, given, code in parts:
        signature = inspect.signature(code.__init__).parameters
        expected = {key for key, value in signature.items() if value.kind is inspect.Parameter.KEYWORD_ONLY}
        problems += [f"{where}.{key} is missing" for key in sorted(expected - given.keys())]
        problems += [f"{where}.{key} is no parameter of {part.code}.py" for key in sorted(given.keys() - expected)]
    problems += [f"reduced.{key} is not among hparams" for key in sorted(recipe.reduced.keys() - recipe.hparams.keys())]
    problems += [f"tunable.{key} is not among hparams" for key in sorted(recipe.tunable.keys() - recipe.hparams.keys())]
    for number, override in enumerate(recipe.overrides):
        problems += [
            f"overrides.{number}.{kind}.{key} is not among hparams"
            for kind, named in (("hparams", override.hparams), ("reduced", override.reduced))
            for key in sorted(named.keys() - recipe.hparams.keys())
        ]
        other = override.combined_with
        if other is not None and (other in (name, "none") or not Path(f"methods/{other}.yaml").is_file()):
            known = ", ".join(sorted(path.stem for path in Path("methods").glob("*.yaml") if path.stem not in (name, "none")))
            problems.append(
                f"overrides.{number}.combined_with is {other!r}, which it cannot be combined with; there are: {known}"
            )
    if problems:
        raise ValueError(f"methods/{name}.yaml: {'; '.join(problems)}")


def check_config(pair_name: str, config: str) -> None:
    """ValueError where no installed package has a pair's config; a package that is not installed has no say."""
    package, _, name = config.partition("::")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / ".mim/configs"
    if not (folder / name).is_file():
        near = get_close_matches(name, [str(path.relative_to(folder)) for path in folder.glob("*/*.py")], n=1)
        meant = f"; did you mean {package}::{near[0]}?" if near else ""
        raise ValueError(f"benchmarks/pairs/{pair_name}.yaml: there is no config {config} in the installed {package}{meant}")


def check_all(grid: Grid) -> None:
    """Check everything that the grid names; ValueError with the first file's problems."""
    load_tier(grid.tier)
    parts = {part.name: part for name in grid.methods for part in load_parts(name)}
    pairs = {name: load_pair(name) for name in grid.pairs}
    for part in parts.values():
        check_recipe(part)
    for pair_name, pair in pairs.items():
        check_repeat(pair_name, pair, load_tier(grid.tier))
        for side in (pair.teacher, pair.student):
            check_config(pair_name, side.config)
        for name in grid.methods:
            if not impossible_reason(pair_name, pair, name, grid.tier) and name not in grid.leave_out.get(pair_name, []):
                cell_config(name, pair_name, pair, grid.tier)
    if load_tier(grid.tier).data == "published":
        figures = load_yaml(Path("benchmarks/published.yaml"), Registry).root
        check_comparable(figures, grid.pairs, grid.methods)
    check_backbones(grid, pairs)
    check_tuning(grid)


def check_repeat(name: str, pair: Pair, tier: Tier) -> None:
    """ValueError where a pair that repeats another is not the same but for its teacher's seed, or has the very same teacher."""
    if pair.repeats is None:
        return
    but = {"title", "teacher_seed", "repeats"}
    first = load_pair(pair.repeats)
    differing = [key for key in type(pair).model_fields if key not in but and getattr(first, key) != getattr(pair, key)]
    if differing:
        raise ValueError(
            f"benchmarks/pairs/{name}.yaml: repeats {pair.repeats}, and differs from it in {', '.join(differing)}; make them equal"
        )
    if first.teacher_seed == pair.teacher_seed:
        raise ValueError(
            f"benchmarks/pairs/{name}.yaml: repeats {pair.repeats} with the same teacher_seed {pair.teacher_seed}; give another"
        )
    if tier.model is None and pair.teacher.checkpoint is not None:
        raise ValueError(
            f"params.yaml: {name} repeats {pair.repeats} with a second teacher, and at this tier the teacher is fetched: the two would be one; "
            "leave the pair out"
        )


def check_backbones(grid: Grid, pairs: dict[str, Pair]) -> dict[str, dict[str, Any]]:
    """The grid's backbones as they are at its tier, by name; empty for one that no pair starts from, or that the tier does not train.

    Raises:
        ValueError: the grid names too few, or the tier does not say what replaces one.
    """
    tier = load_tier(grid.tier)
    if tier.pretraining is None or tier.model is None:
        return {name: {} for name in grid.backbones}
    from pipelines.engine.backbones import backbones_of  # noqa: PLC0415 (seconds)

    try:
        needed = backbones_of(pairs, tier.model)
    except ValueError as error:
        raise ValueError(f"benchmarks/tiers/{grid.tier}.yaml: {error}") from error
    if lacking := [name for name in needed if name not in grid.backbones]:
        raise ValueError(f"params.yaml: backbones lacks {lacking[0]}, which {needed[lacking[0]][1]} starts from; add it")
    # One that no pair starts from is not trained.
    return {name: needed[name][0].as_json() if name in needed else {} for name in grid.backbones}


def conversions(grid: Grid) -> list[str]:
    """Values of recipes as converted at a tier with reduced models, a line each."""
    lines: dict[str, list[str]] = {}
    for pair_name in grid.pairs:
        pair = load_pair(pair_name)
        for method in grid.methods:
            if method in grid.leave_out.get(pair_name, []) or impossible_reason(pair_name, pair, method, grid.tier):
                continue
            for part in load_parts(method):
                for _, reason in part.conversions(pair_name, pair.head, grid.tier).values():
                    lines.setdefault(f"{part.name}: {reason}", []).append(pair_name)
    return [f"{line} ({', '.join(dict.fromkeys(pairs))})" for line, pairs in lines.items()]


def tuned_cells(grid: Grid) -> list[tuple[str, str]]:
    """Pair and method of all that is to be tuned and can be."""
    return [
        (pair, method)
        for pair in (grid.tuning.pairs if grid.tuning else [])
        for method in (grid.tuning.methods if grid.tuning else [])
        if method not in grid.leave_out.get(pair, []) and not impossible_reason(pair, load_pair(pair), method, grid.tier)
    ]


def check_tuning(grid: Grid) -> None:
    """Check what stage ``tune`` is asked for against the grid and the recipes; ValueError where they do not fit."""
    tuning = grid.tuning
    if tuning is None or not tuning.pairs or not tuning.methods:
        return
    for axis in ("pairs", "methods"):
        if unknown := [name for name in getattr(tuning, axis) if name not in getattr(grid, axis)]:
            raise ValueError(
                f"params.yaml: tuning.{axis} names {', '.join(unknown)}, which the grid's {axis} do not; take it out, or add it there"
            )
    if stray := [name for name in tuning.space if name not in tuning.methods]:
        raise ValueError(f"params.yaml: tuning.space names {', '.join(stray)}, which tuning.methods does not; add it there")
    if tuning.seed in [*grid.seeds, *grid.baseline_seeds]:
        raise ValueError(
            f"params.yaml: tuning.seed {tuning.seed} is one of the grid's seeds; take another: a tuned row must not be "
            "measured with the seed that its weights were chosen by"
        )
    for pair, method in tuned_cells(grid):
        search_space(tuning, method, pair, load_pair(pair), grid.tier)


def decisive(method_name: str, grid: Grid) -> dict[str, Any]:
    """Digests of a method's code, its values without prose and other tiers' overrides, and where it is left out."""
    scale = "published" if load_tier(grid.tier).model is None else "reduced"
    parts = [
        {
            "name": part.name,
            "code_sha256": sources_sha256(method_sources(part.code)),
            "hparams": part.recipe.hparams,
            "inherits": part.recipe.inherits,
            "config": part.recipe.config,
            "prior": part.recipe.prior and part.recipe.prior.model_dump(),
            "overrides": [
                override.model_dump(exclude={"why"}, exclude_none=True)
                for override in part.recipe.overrides
                if override.scale in (None, scale) and part.applicable(override)
            ],
            "reduced": {key: how.model_dump(exclude_none=True) for key, how in part.recipe.reduced.items()}
            if scale == "reduced"
            else {},
            "teacher": part.recipe.teacher,
        }
        for part in load_parts(method_name)
    ]
    return {"parts": parts, "left_out": [pair for pair, names in grid.leave_out.items() if method_name in names]}


def searched(method_name: str, grid: Grid) -> dict[str, Any]:
    """What stage ``tune`` searches for a method: not among its decisive values, for no other training depends on it."""
    ranges = ranges_of(grid.tuning, method_name) if grid.tuning else {}
    return {name: bounds.model_dump(mode="json", exclude_none=True) for name, bounds in ranges.items()}


def settings(grid: Grid) -> dict[str, dict[str, Any]]:
    """What trainings and evaluations depend on besides their files, by kind of stage."""
    whole = load_tier(grid.tier)
    tier, own = whole.model_dump(mode="json"), grid.own and grid.own.model_dump(mode="json")
    return {
        "pretraining": {"pretraining": tier["pretraining"]},
        "training": {
            "tier": {key: tier[key] for key in ("data", "model", "schedule")} | {"is_pretrained": whole.pretraining is not None},
            "own": own,
            "batch_size": grid.batch_size,
        },
        "tuning": {
            "tuning": grid.tuning and grid.tuning.model_dump(mode="json", exclude={"pairs", "methods", "space", "workers"})
        },
        "evaluation": {"tier": {key: tier[key] for key in ("data", "model", "area_px2")}, "own": own},
    }


def write_json(folder: Path, contents: dict[str, dict[str, Any]]) -> None:
    """Write each content to a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        folder.joinpath(f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    """Check; write a file that is always the same, as its being there is the message, and one a method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, required=True)
    parser.add_argument("--spaces", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--backbones", type=Path, required=True)
    args = parser.parse_args()
    grid = load_grid()
    check_all(grid)
    print(f"[check] tier {grid.tier}: {len(cells(grid))} cells, all files in order", flush=True)
    for line in conversions(grid):
        print(f"[check] reduced models: {line}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("the grid's files are in order\n")
    write_json(args.recipes, {name: decisive(name, grid) for name in grid.methods})
    write_json(args.spaces, {name: searched(name, grid) for name in (grid.tuning.methods if grid.tuning else [])})
    write_json(args.settings, settings(grid))
    write_json(args.backbones, check_backbones(grid, {name: load_pair(name) for name in grid.pairs}))


if __name__ == "__main__":
    cli.run(main)
