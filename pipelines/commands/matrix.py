"""Verb ``matrix``: every pair with every method, two iterations each, in one table.

Through the composition, distiller, data pipelines and metrics of the stages, without DVC and MLflow around them.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.synthetic import write_scenes
from benchmarks.whole_file import write_whole
from pipelines.commands.names import all_methods, all_pairs
from pipelines.measurement.smoke import TIER, CellResult, as_table, cells_file, subset
from pipelines.params import load_pair, load_tier
from pipelines.recipes import impossible_reason
from pipelines.runner.processes import Child, ProcessEnd

_AT_A_TIME = 2
_POLL_S = 0.1


def is_supported(pair_name: str, method: str) -> bool:
    """Return True for a cell that can run at this tier; False where a file is wrong, which its pair's process reports."""
    try:
        return impossible_reason(pair_name, load_pair(pair_name), method, TIER) is None
    except ValueError:
        return False


def matrix(
    *, pairs: list[str] | None = None, methods: list[str] | None = None, one_in: int = 1, out: Path = Path("work/smoke")
) -> None:
    """Run every pair with every method, two iterations each, and print one table.

    Each pair is one process: it trains the pair's teacher, then for every method its auxiliary module and its student,
    and evaluates the student. Exit code 1 where a cell fails; the table says why.

    Args:
        pairs: names of pairs; all if not given.
        methods: names of methods; all if not given.
        one_in: run one cell in so many, spread over all pairs and methods.
        out: folder of data, weights and table.md.
    """
    if one_in < 1:
        raise ValueError(f"--one-in is {one_in}; give 1 or more")
    begun, columns = time.monotonic(), methods or all_methods()
    scenes = load_tier(TIER).scenes
    assert scenes is not None, "the tier's data are synthetic"  # noqa: S101 (a file of the project itself)
    write_scenes(scenes, out / "data")
    results = run_all(subset(pairs or all_pairs(), columns, one_in=one_in, runs=is_supported), out)
    table = as_table(results, columns)
    write_whole(out / "table.md", table)
    num_ran, num_failed = sum(one.ran for one in results), sum(one.failed for one in results)
    print(
        f"{table}\n{num_ran} ran, {len(results) - num_ran - num_failed} unsupported, {num_failed} failed, in "
        f"{time.monotonic() - begun:.0f} s; the table is in {out / 'table.md'}",
        flush=True,
    )
    if num_failed:
        sys.exit(1)


def run_all(chosen: Mapping[str, Sequence[str]], out: Path) -> list[CellResult]:
    """Run every pair in a subprocess of its own, two at a time."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the fork server starts
    waiting, running, found = list(chosen), dict[str, Child](), dict[str, list[CellResult]]()
    try:
        while waiting or running:
            while waiting and len(running) < _AT_A_TIME:
                pair = waiting.pop(0)
                (out / pair).mkdir(parents=True, exist_ok=True)
                cells_file(out, pair).write_text("")
                running[pair] = Child(
                    "pipelines.engine.smoke_cells:run_pair",
                    pair,
                    chosen[pair],
                    out,
                    log=out / pair / "log.txt",
                    trace=out / pair / "traceback.txt",
                )
            for pair, child in list(running.items()):
                if (end := child.poll(_POLL_S)) is None:
                    continue
                del running[pair]
                found[pair] = _results(pair, chosen[pair], end, out)
                num_ran, num_failed = sum(one.ran for one in found[pair]), sum(one.failed for one in found[pair])
                print(f"[smoke] {pair}: {num_ran} ran, {num_failed} failed", flush=True)
    except BaseException:
        for child in running.values():
            child.kill()
        raise
    return [result for pair in chosen for result in found[pair]]


def _results(pair: str, methods: Sequence[str], end: ProcessEnd, out: Path) -> list[CellResult]:
    """Results of a pair's process; where it failed, the cells that it did not reach have failed with it."""
    found = [CellResult(**json.loads(line)) for line in cells_file(out, pair).read_text().splitlines()]
    missing = [name for name in methods if name not in {result.method for result in found}]
    return found + [CellResult(pair, name, f"failed: {end.problem or 'no result'}") for name in missing]
