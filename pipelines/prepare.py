"""Stage ``prepare``: the tier's data set, and the manifest on which all other stages depend."""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.datasets import Checked, check_own, check_published, compare_with_earlier, data_root, write_manifest
from benchmarks.scenes import SceneSpec, write_scenes
from pipelines import cli
from pipelines.engine.workdir import check_writable
from pipelines.params import Grid, load_grid, load_pair, load_tier

Result = TypeVar("Result")


def main() -> None:
    """Generate the scenes of a scaled tier; check, and if asked for download, the data of another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--download", action="store_true", help="fetch what of COCO and PASCAL VOC is missing")
    args = parser.parse_args()
    tier = load_tier(args.tier)
    if args.download and tier.data != "published":
        raise ValueError(f"tier '{args.tier}' uses no published data set, so there is nothing to download; leave --download away")
    check_writable(args.out.parent)
    if tier.scenes is not None:
        _draw(tier.scenes, args.out)
        return
    grid = load_grid()
    sets = _own(grid) if tier.data == "own" else _published(grid, args.out, download=args.download)
    write_manifest(args.out, sets)
    for one in sets:
        counts = " + ".join(f"{num} {split}" for split, num in one.num_images.items())
        print(f"[prepare] {one.name}: {counts} images, digest {one.digest[:12]}", flush=True)


def _draw(spec: SceneSpec, out: Path) -> None:
    print(f"[prepare] drawing {spec.train} + {spec.tune} + {spec.test} scenes of {spec.image_px} px", flush=True)
    digest = write_scenes(spec, out)
    print(f"[prepare] {out}: digest {digest[:12]}", flush=True)


def _own(grid: Grid) -> list[Checked]:
    """The user's data, checked for every task of the grid."""
    if grid.own is None:
        raise ValueError("params.yaml: the tier's data are your own, and 'own:' does not say what they are; add it")
    tasks = sorted({pair.task for pair in map(load_pair, grid.pairs) if pair.not_run is None})
    print(f"[prepare] checking your data in {grid.own.folder}", flush=True)
    # One data set whatever the task: all checks must pass, and they give the same digest.
    return [check_own(grid.own, task) for task in tasks][:1]


def _published(grid: Grid, out: Path, *, download: bool) -> list[Checked]:
    """The published data sets that the grid's pairs need; whatever is missing of any is said in one line."""
    names = sorted({pair.dataset for pair in map(load_pair, grid.pairs) if pair.not_run is None})
    roots = dict(zip(names, _all(partial(data_root, name, grid.data) for name in names), strict=True))
    if download:
        from pipelines.engine.archives import complete  # noqa: PLC0415 (only those who download need it)

        for name, root in roots.items():
            complete(name, root)
    print(f"[prepare] checking {', '.join(f'{name} in {root}' for name, root in roots.items())}: about a minute", flush=True)
    sets = _all(partial(check_published, name, root) for name, root in roots.items())
    for one in sets:
        compare_with_earlier(out, one)
    return sets


def _all(calls: Iterable[Callable[[], Result]]) -> list[Result]:
    """The results of all calls, or the errors of all that fail."""
    results, errors = [], []
    for call in calls:
        try:
            results.append(call())
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; also: ".join(errors))
    return results


if __name__ == "__main__":
    cli.run(main)
