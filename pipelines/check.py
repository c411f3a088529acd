"""Stage ``check``: everything that the grid names is read and checked before anything runs.

For each method it writes what a training depends on, so that DVC reruns a method's cells when its own code
or values change, and no other's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pipelines import cli
from pipelines.engine.provenance import sources_sha256
from pipelines.params import Grid, cells, check_all, load_grid, load_parts, method_sources


def decisive(method_name: str, grid: Grid) -> dict[str, Any]:
    """Digests of a method's code, its values without prose and other tiers' overrides, and where it is left out."""
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
                if override.tier in (None, grid.tier)
            ],
        }
        for part in load_parts(method_name)
    ]
    return {"parts": parts, "left_out": [pair for pair, names in grid.leave_out.items() if method_name in names]}


def main() -> None:
    """Check; write a file that is always the same, as its being there is the message, and one a method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", type=Path, required=True)
    args = parser.parse_args()
    grid = load_grid()
    check_all(grid)
    print(f"[check] tier {grid.tier}: {len(cells(grid))} cells, all files in order", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("the grid's files are in order\n")
    args.recipes.mkdir(parents=True, exist_ok=True)
    for name in grid.methods:
        args.recipes.joinpath(f"{name}.json").write_text(json.dumps(decisive(name, grid), indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
