"""Stage ``prepare``: the tier's data sets, their manifest, and the digest of each, on which all other stages depend."""

import argparse
import json
import shutil
from functools import partial
from pathlib import Path

from benchmarks.manifest import Checked, compare_with_earlier, write_manifest
from benchmarks.own_check import check_own, told
from benchmarks.own_splits import Needs
from benchmarks.published_data import check_published, data_root
from benchmarks.synthetic import SceneSpec, write_scenes
from benchmarks.tier import Tier
from benchmarks.whole_file import write_whole
from pipelines import errors, layout
from pipelines.engine.workdir import check_writable
from pipelines.errors import all_of
from pipelines.grid import Grid
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.resolved import batches
from pipelines.stage_list import data_sets


def main() -> None:
    """Generate the synthetic data of a reduced tier; check, and if requested download, the data of another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--download", action="store_true", help="fetch the missing files of COCO and PASCAL VOC")
    args = parser.parse_args()
    tier = load_tier(args.tier)
    if args.download and tier.data != "published":
        raise ValueError(f"tier '{args.tier}' uses no published data set, so there is nothing to download; leave --download away")
    out, digests = layout.data(args.tier), layout.digests(args.tier)
    check_writable(out.parent)
    if tier.scenes is not None:
        _write_digests(digests, {"scenes": _draw(tier.scenes, out)})
        return
    grid = load_grid()
    sets = _own(grid, tier) if tier.data == "own" else _published(grid, out, download=args.download)
    write_manifest(out, sets)
    _write_digests(digests, {one.name: one.digest for one in sets})
    for one in sets:
        counts = " + ".join(f"{num} {split}" for split, num in one.num_images.items())
        print(f"[prepare] {one.name}: {counts} images, digest {one.digest[:12]}", flush=True)


def _write_digests(folder: Path, digests: dict[str, str]) -> None:
    """Write a file per data set: a further data set leaves the stages of the others fresh."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, digest in digests.items():
        write_whole(folder / f"{name}.json", json.dumps({"digest": digest}) + "\n")


def _draw(spec: SceneSpec, out: Path) -> str:
    print(f"[prepare] drawing {spec.train} + {spec.tune} + {spec.test} synthetic images of {spec.image_px} px", flush=True)
    digest = write_scenes(spec, out)
    print(f"[prepare] {out}: digest {digest[:12]}", flush=True)
    return digest


def _own(grid: Grid, tier: Tier) -> list[Checked]:
    """Return the user's data, checked for all pairs of the grid."""
    if grid.own is None:
        raise ValueError("params.yaml: the tier's data are your own, and 'own:' does not say what they are; add it")
    print(f"[prepare] checking your data in {grid.own.folder}", flush=True)
    found = check_own(grid.own, _needs(grid, tier), layout.WORK / "own_images.json")
    unit = "object" if grid.own.format == "coco" else "pixel"
    for name, split in found.usable.items():
        print(f"[prepare] {told(name, split, unit)}", flush=True)
    return [found]


def _needs(grid: Grid, tier: Tier) -> Needs:
    """Return what the pairs of the grid need of a user's data: outlines where a model has a mask head, and whole batches."""
    from pipelines.engine.data_configs import needs_masks  # noqa: PLC0415 (seconds; generated data need it not)
    from pipelines.engine.published import published_config  # noqa: PLC0415 (as above)

    pairs = {name: pair for name in grid.pairs if (pair := load_pair(name)).not_run is None}
    configs = {side.config for pair in pairs.values() for side in (pair.teacher, pair.student)}
    return Needs(
        tuple(sorted({pair.task for pair in pairs.values()})),
        masks=any(needs_masks(published_config(config)) for config in sorted(configs)),
        batches=batches(grid, tier),
    )


def _published(grid: Grid, out: Path, *, download: bool) -> list[Checked]:
    """Return the published data sets that the grid's pairs need; one error names all that is missing."""
    names = data_sets(grid)
    roots = dict(zip(names, all_of(partial(data_root, name, grid.data) for name in names), strict=True))
    if download:
        from pipelines.engine.archives import complete  # noqa: PLC0415 (only those who download need it)

        for name, root in roots.items():
            complete(name, root)
    print(f"[prepare] checking {', '.join(f'{name} in {root}' for name, root in roots.items())}: about a minute", flush=True)
    sets = all_of(partial(check_published, name, root) for name, root in roots.items())
    for one in sets:
        compare_with_earlier(out, one)
    return sets


if __name__ == "__main__":
    errors.run(main)
