"""Stage ``teachers``: a pair's teacher, trained at a scaled tier."""

import argparse
from pathlib import Path

from pipelines import cli
from pipelines.engine.compose import compose_training
from pipelines.engine.stage import Job, run_training
from pipelines.engine.training import prepare_process
from pipelines.lifeline import die_with_dvc
from pipelines.params import load_grid, load_pair, load_tier

TEACHER_SEED = 0  # one teacher a pair: every cell of the pair learns from the same one


def main() -> None:
    """Train the teacher and write its weights and run.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    die_with_dvc()
    tier, pair, grid = load_tier(args.tier), load_pair(args.pair), load_grid()
    position = (grid.pairs.index(args.pair) + 1, len(grid.pairs)) if args.pair in grid.pairs else (1, 1)
    prepare_process()
    run_training(
        Job("teacher", args.tier, args.pair, None, TEACHER_SEED, position),
        compose_training(pair, "teacher", tier, args.data, seed=TEACHER_SEED),
        tier=tier,
        data=args.data,
        export=lambda model: model,
        weights=args.out / "weights.pth",
        record=args.out / "run.json",
    )


if __name__ == "__main__":
    cli.run(main)
