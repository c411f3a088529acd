"""Stage ``prepare``: the tier's data set, and the manifest on which all other stages depend."""

import argparse
from pathlib import Path

from benchmarks.scenes import write_scenes
from pipelines import cli
from pipelines.engine.workdir import check_writable
from pipelines.params import load_tier


def main() -> None:
    """Generate the scenes of a scaled tier."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    spec = load_tier(args.tier).scenes
    if spec is None:
        raise ValueError(
            f"tier '{args.tier}' uses published data sets, which this version does not fetch yet; choose tier mini or smoke"
        )
    check_writable(args.out.parent)
    print(f"[prepare] drawing {spec.train} + {spec.tune} + {spec.test} scenes of {spec.image_px} px", flush=True)
    digest = write_scenes(spec, args.out)
    print(f"[prepare] {args.out}: digest {digest[:12]}", flush=True)


if __name__ == "__main__":
    cli.run(main)
