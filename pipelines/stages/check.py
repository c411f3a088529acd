"""Stage ``check``: everything that the grid names is read and checked before anything runs.

It writes what each stage depends on, resolved to values, a file each: see :mod:`pipelines.resolved`.
"""

import argparse
import shutil
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from benchmarks.pair import Pair
from benchmarks.reported import Registry
from benchmarks.tier import Tier
from pipelines import errors, layout
from pipelines.checking.models import check_names
from pipelines.checking.recipes import check_cell, check_recipe, check_search
from pipelines.checking.registry import check_registries
from pipelines.grid import Grid
from pipelines.params import load_grid, load_pair, load_tier, load_yaml
from pipelines.recipes import cell_config, impossible_reason, load_parts
from pipelines.released.registry import artefacts, student_named
from pipelines.reporting.comparability import check_comparable
from pipelines.resolved import as_text, contents
from pipelines.stage_list import backbones_needed, cells, check_stages, tuned_cells, write_stages
from pipelines.tuning.space import search_space


def check_config(pair_name: str, config: str) -> None:
    """ValueError where no installed package has a pair's config; a package that is not installed is skipped."""
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
    check_params(grid, load_tier(grid.tier))
    parts = {part.name: part for name in grid.methods for part in load_parts(name)}
    pairs = {name: load_pair(name) for name in grid.pairs}
    for part in parts.values():
        check_recipe(part)
    for pair_name, pair in pairs.items():
        check_repeat(pair_name, pair, load_tier(grid.tier))
        for side in (pair.teacher, pair.student):
            check_config(pair_name, side.config)
        for name in grid.rows[pair_name]:
            if not impossible_reason(pair_name, pair, name, grid.tier):
                check_cell(name, pair_name, pair, grid.tier)
                cell_config(name, pair_name, pair, grid.tier)
    figures = load_yaml(Path("benchmarks/reported.yaml"), Registry).root  # which the report reads at every tier
    if load_tier(grid.tier).data == "published":
        check_comparable(figures, grid.pairs, grid.methods)
    check_registries(figures, artefacts())
    for name in grid.released:
        student_named(name)
    check_names(grid)
    backbones_needed(grid, grid.pairs)
    check_batches(grid)
    check_tuning(grid)


def check_params(grid: Grid, tier: Tier) -> None:
    """ValueError where keys of params.yaml do not fit each other or the tier."""
    if tier.data == "own" and grid.own is None:
        raise ValueError(
            f"params.yaml: own: the data of tier {grid.tier} are your own, and 'own:' does not say what they are; add it (docs/own-data.md)"
        )
    if stray := [pair for pair in grid.tokens if pair not in grid.rows]:
        raise ValueError(f"params.yaml: tokens names {stray[0]}, which the grid does not; take it out, or add it there")


_LEAST_POOLED = 2  # images whose spread a norm behind a global pooling can take


def check_batches(grid: Grid) -> None:
    """ValueError where a batch cannot be divided evenly among the processes of a run, or is too small for a model's norms.

    Devices are looked at where a run starts.
    """
    schedule = load_tier(grid.tier).schedule
    if grid.gpus_per_run == 1 and grid.batch_size is None and not (schedule and schedule.least_batch < _LEAST_POOLED):
        return
    from pipelines.engine.division import division_of, has_synchronised_norms  # noqa: PLC0415 (seconds, in torch)
    from pipelines.engine.published import published_config  # noqa: PLC0415 (as above)
    from pipelines.engine.setting import bare_setting  # noqa: PLC0415 (as above)

    tier = load_tier(grid.tier)
    for name, pair in ((name, load_pair(name)) for name in grid.pairs):
        if pair.not_run is None:
            setting = bare_setting(pair, tier, grid.batch_size, processes=grid.gpus_per_run)
            model = published_config(pair.student.config).model
            whole = has_synchronised_norms(model) and tier.schedule is None
            division_of(setting.total_batch, setting, whole=has_synchronised_norms(model))
            images = setting.total_batch if whole else setting.total_batch // grid.gpus_per_run
            if pair.head == "segmenter" and images < _LEAST_POOLED:
                raise ValueError(
                    f"params.yaml: {name} has {images} image per batch norm, and its {model.decode_head.type} pools each image to one "
                    "value, which has no spread then; give batch_size 2 or more, or fewer gpus_per_run, or a tier with larger batches"
                )


def check_repeat(name: str, pair: Pair, tier: Tier) -> None:
    """ValueError where a pair that repeats another is not the same but for its teacher's seed, or has the very same teacher."""
    if pair.repeats is None:
        return
    but = {"title", "teacher_seed", "repeats"}
    if pair.repeats == name or not Path(f"benchmarks/pairs/{pair.repeats}.yaml").is_file():
        raise ValueError(f"benchmarks/pairs/{name}.yaml: repeats {pair.repeats}, which is no other pair; correct it")
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


def conversions(grid: Grid) -> list[str]:
    """Values of recipes as converted at a tier with reduced models, a line each."""
    lines: dict[str, list[str]] = {}
    for pair_name in grid.pairs:
        pair = load_pair(pair_name)
        for method in grid.rows[pair_name]:
            if impossible_reason(pair_name, pair, method, grid.tier):
                continue
            for part in load_parts(method):
                for _, reason in part.conversions(pair_name, pair.head, grid.tier).values():
                    lines.setdefault(f"{part.name}: {reason}", []).append(pair_name)
    return [f"{line} ({', '.join(dict.fromkeys(pairs))})" for line, pairs in lines.items()]


def check_tuning(grid: Grid) -> None:
    """Check the settings of stage ``tune`` against the grid and the recipes; ValueError where they do not fit."""
    tuning = grid.tuning
    if tuning is None or not tuning.rows:
        return
    for pair, methods in tuning.rows.items():
        if unknown := [name for name in methods if name not in grid.rows.get(pair, [])]:
            raise ValueError(
                f"params.yaml: tuning.grid names {', '.join(unknown)} on {pair}, which the grid does not; take it out, or add it there"
            )
    searched = {method for methods in tuning.rows.values() for method in methods}
    if stray := [name for name in tuning.space if name not in searched]:
        raise ValueError(f"params.yaml: tuning.space names {', '.join(stray)}, which tuning.grid does not; add it there")
    if tuning.seed in [*grid.seeds, *grid.baseline_seeds]:
        raise ValueError(
            f"params.yaml: tuning.seed {tuning.seed} is one of the grid's seeds; take another: a tuned row must not be "
            "measured with the seed that its weights were chosen by"
        )
    for pair, method in dict.fromkeys((cell.pair, cell.method) for cell in tuned_cells(grid)):
        if not impossible_reason(pair, load_pair(pair), method, grid.tier):
            check_search(method, search_space(tuning, method, pair, load_pair(pair), grid.tier)[0])


def write_resolved(grid: Grid) -> None:
    """Write what the grid's stages depend on, in place of what was there."""
    fresh = layout.RESOLVED.with_name(layout.RESOLVED.name + ".partial")
    shutil.rmtree(fresh, ignore_errors=True)
    for path, content in contents(grid):
        target = fresh / path.relative_to(layout.RESOLVED)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(as_text(content))
    shutil.rmtree(layout.RESOLVED, ignore_errors=True)
    fresh.rename(layout.RESOLVED)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renew", action="store_true", help="write grid.yaml from params.yaml, and nothing else")
    check(renew=parser.parse_args().renew)


def check(*, renew: bool) -> None:
    """Check; write what stages depend on, or only bring grid.yaml up to date."""
    grid = load_grid()
    check_all(grid)
    if renew:
        print(f"[check] {layout.GRID} {'is written anew' if write_stages(grid) else 'is up to date'}", flush=True)
        return
    check_stages(grid)
    print(f"[check] tier {grid.tier}: {len(cells(grid)) + len(tuned_cells(grid))} cells, all files in order", flush=True)
    for line in conversions(grid):
        print(f"[check] reduced models: {line}", flush=True)
    write_resolved(grid)


if __name__ == "__main__":
    errors.run(main)
