"""The published models at full size, on made-up images: whether they train, how fast, in how much memory.

    python -m pipelines.commands.measure --size 128x256 --batch 2 --iterations 1 --warmup 0      # on a CPU: do they build and train?
    python -m pipelines.commands.measure --json benchmarks/throughput.json                       # on a GPU: speeds for pipelines.commands.estimate

Weights are random, no data are read and nothing is downloaded.  Each cell is a process of its own, and one that fails
is a row.  Exit code 1 where a cell failed for another reason than a want of memory.
"""

import argparse
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.throughput import Throughput
from pipelines import errors, layout
from pipelines.commands.names import all_methods, all_pairs, known
from pipelines.measurement.records import RAN, TIER, Outcome, add_record, as_record, as_table, in_short, published_size
from pipelines.params import load_pair, load_yaml
from pipelines.recipes import impossible_reason, load_parts

if TYPE_CHECKING:
    from pipelines.engine.measured_steps import Steps

TEACHER = "teacher"  # stands for the teacher's own training among the methods
GPUS = 8  # that the pairs' batches are published for
TRACES = layout.WORK / "bench"


def main() -> None:
    """Try all cells that are asked for, and write what was seen."""
    args = _parsed()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # peaks are then the process's, not a GPU's
    from pipelines.engine.provenance import environment  # noqa: PLC0415 (seconds)

    command = shlex.join(["python", "-m", "pipelines.commands.measure", *sys.argv[1:]])
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for outcome in (one for pair in args.pairs for one in try_pair(pair, args, Path(folder))):
            outcomes.append(outcome)
            print(f"[bench] {outcome.pair} {outcome.method}: {in_short(outcome)}", flush=True)
            if args.json and outcome.seen:
                add_record(args.json, as_record(outcome, command))
            if args.table:
                args.table.write_text(as_table(outcomes, command, environment().model_dump()))
    counts = [sum(outcome.seen is not None for outcome in outcomes), sum(outcome.failed for outcome in outcomes)]
    print(f"[bench] {len(outcomes)} cells: {counts[0]} ran, {counts[1]} failed; tracebacks are in {TRACES}", flush=True)
    if counts[1]:
        sys.exit(1)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", metavar="PAIR", help="(default: all)")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help=f"or '{TEACHER}', for its own training (default: all)")
    parser.add_argument("--size", metavar="HxW", help="of the images, in pixels (default: as published)")
    parser.add_argument("--batch", type=int, metavar="N", help=f"images a step (default: the published batch over {GPUS} GPUs)")
    parser.add_argument("--iterations", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=20, help="iterations before those (default: %(default)s)")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32", help="(default: %(default)s)")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="(default: a GPU where there is one)")
    parser.add_argument("--memory-gib", type=float, default=20, help="of a process, at most (default: %(default)s)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="add the speeds to this file, such as benchmarks/throughput.json"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="write a table in Markdown")
    args = parser.parse_args()
    args.pairs = known("--pairs", args.pairs or all_pairs(), load_pair)
    args.methods = known("--methods", args.methods or [TEACHER, *all_methods()], lambda name: name == TEACHER or load_parts(name))
    _check_numbers(args)
    args.size = _size(args.size)
    args.device = _device(args.device)
    if args.precision == "bf16" and args.device == "cpu":
        raise ValueError("--precision bf16 is for a GPU; leave it out on a CPU")
    for option, file in (("--json", args.json), ("--table", args.table)):
        if file and not file.parent.is_dir():
            raise ValueError(f"{option} {file}: there is no folder {file.parent}; make it first")
    if args.json and args.json.exists():
        load_yaml(args.json, Throughput)
    if args.json or args.size is None:
        for name in args.pairs:
            if load_pair(name).not_run is None:
                published_size(name)
    return args


def _check_numbers(args: argparse.Namespace) -> None:
    for option, value, least in (
        ("--batch", args.batch, 1), ("--iterations", args.iterations, 1), ("--warmup", args.warmup, 0)
    ):  # fmt: skip
        if value is not None and value < least:
            raise ValueError(f"{option} is {value}; give a number of {least} or more")
    if not args.memory_gib > 0:
        raise ValueError(f"--memory-gib is {args.memory_gib}; give a number above 0")


def _size(asked: str | None) -> tuple[int, int] | None:
    """Height and width, or None for the published ones."""
    if asked is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", asked)
    if not found:
        raise ValueError(f"--size is '{asked}'; give height and width in pixels, such as 800x1344")
    return int(found[1]), int(found[2])


def _device(asked: str | None) -> str:
    if asked == "cpu":
        return asked
    import torch  # noqa: PLC0415 (seconds)

    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; leave it out, or install torch for your GPU")
    return "cuda" if torch.cuda.is_available() else "cpu"


def try_pair(name: str, args: argparse.Namespace, folder: Path) -> Iterator[Outcome]:
    """The rows of one pair: what cannot be, the teacher, priors, students."""
    from pipelines.engine import measured_steps  # noqa: PLC0415 (seconds)
    from pipelines.measurement.isolated import run_apart  # noqa: PLC0415

    pair = load_pair(name)
    reasons = {method: impossible_reason(name, pair, method, TIER) for method in args.methods if method != TEACHER}
    reasons |= {TEACHER: pair.not_run} if TEACHER in args.methods else {}
    yield from (Outcome(name, method, f"impossible: {reason}") for method, reason in reasons.items() if reason)
    possible = [method for method in args.methods if not reasons[method]]
    if not possible:
        return
    steps, teacher = _steps(name, args), folder / f"{name}.pth"

    def attempt(method: str, work: Callable[..., Any], *arguments: Any) -> Outcome:
        trace = TRACES / f"{name}.{method.replace(' ', '_')}.txt"
        ended = run_apart(work, *arguments, memory_gib=args.memory_gib, trace=trace, on_gpu=args.device == "cuda")
        if ended.problem:
            return Outcome(name, method, f"{'out of memory' if ended.wants_memory else 'failed'}: {ended.problem}", steps)
        return Outcome(name, method, RAN, steps, ended.value)

    made = attempt(TEACHER, measured_steps.make_teacher, name, teacher)
    if made.said != RAN:
        yield from (Outcome(name, method, f"{made.said} (while the teacher was made)", steps) for method in possible)
        return
    for method in possible:
        if method == TEACHER:
            yield attempt(TEACHER, measured_steps.train_teacher, name, steps)
            continue
        prior = folder / f"{name}.{method}.pth" if any(part.recipe.prior for part in load_parts(method)) else None
        if prior:
            learned = attempt(f"{method} prior", measured_steps.learn_prior, name, method, steps, teacher, prior)
            yield learned
            if learned.said != RAN:
                yield Outcome(name, method, f"{learned.said} (while its prior was learned)", steps)
                continue
        yield attempt(method, measured_steps.train_student, name, method, steps, teacher, prior)
    for file in folder.glob(f"{name}.*"):
        file.unlink()


def _steps(name: str, args: argparse.Namespace) -> "Steps":
    from pipelines.engine.measured_steps import Steps  # noqa: PLC0415 (seconds)

    batch = args.batch or max(1, load_pair(name).batch_size // GPUS)
    return Steps(args.size or published_size(name), batch, args.iterations, args.warmup, args.precision, args.device)


if __name__ == "__main__":
    errors.run(main)
