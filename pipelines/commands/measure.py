"""Verb ``measure``: training steps of the published models on dummy images, one subprocess per measurement."""

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from benchmarks.throughput import Throughput
from benchmarks.whole_file import write_whole
from pipelines.commands.names import all_methods, all_pairs, known
from pipelines.commands.terminal import Switch
from pipelines.grid import Precision, Speed
from pipelines.measurement.records import (
    RAN,
    TIER,
    UNSUPPORTED,
    Measured,
    add_record,
    as_record,
    as_table,
    published_size,
    summary,
)
from pipelines.params import load_pair, load_yaml
from pipelines.recipes import impossible_reason, load_parts
from pipelines.runner.processes import call

if TYPE_CHECKING:
    from pipelines.engine.measured_steps import Steps

TEACHER = "teacher"  # among the methods, the teacher's own run
TRACES = Path("work/measure")


@dataclass(frozen=True)
class Request:
    """Requested measurements: ``size`` is None for the published ones, ``batch`` for the published images of one GPU."""

    pairs: Sequence[str]
    methods: Sequence[str]
    size: tuple[int, int] | None
    batch: int | None
    iterations: int
    warmup: int
    precision: Precision
    speed: Speed
    device: str
    memory_gib: float


def measure(
    *,
    pairs: list[str] | None = None,
    methods: list[str] | None = None,
    size: str | None = None,
    batch: int | None = None,
    iterations: int = 200,
    warmup: int = 20,
    precision: Precision = "fp32",
    channels_last: Switch = False,
    compile: Switch = False,  # noqa: A002 (the option's name)
    fused_optimizer: Switch = False,
    device: Literal["cuda", "cpu"] | None = None,
    memory_gib: float = 20,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    table: Path | None = None,
) -> None:
    """Measure training steps of the published models on dummy images: time, memory, losses.

    Weights are random, no data are read and nothing is downloaded. A measurement that fails is a row of the table;
    exit code 1 where one failed for another reason than missing memory.
    On a CPU, to see that the models build and train: `./kd measure --size 128x256 --batch 2 --iterations 1 --warmup 0`.
    On a GPU, throughput for verb estimate: `./kd measure --json benchmarks/throughput.json`.

    Args:
        pairs: names of pairs; all if not given.
        methods: names of methods, or teacher for its own run; all if not given.
        size: height x width of the images in pixels, such as 800x1344; as published if not given.
        batch: batch size; the published images of one GPU if not given.
        iterations: measured training steps.
        warmup: training steps before those.
        precision: number format of training.
        channels_last: memory layout of the networks.
        compile: backbone and neck by torch.compile.
        fused_optimizer: one kernel per step of the optimizer.
        device: where to measure; a GPU, if there is one, if not given.
        memory_gib: resident memory above which a measurement is ended.
        json_file: file to add the throughput to, such as benchmarks/throughput.json.
        table: file to write a table in Markdown to.
    """
    request = _checked(Request(
        pairs or all_pairs(), methods or [TEACHER, *all_methods()], _size(size), batch, iterations, warmup, precision,
        Speed(channels_last=channels_last, compile=compile, fused_optimizer=fused_optimizer), device or "", memory_gib,
    ), json_file, table)  # fmt: skip
    if request.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # peaks are then the process's, not a GPU's
    from pipelines.engine.provenance import environment  # noqa: PLC0415 (seconds, in torch, which reads the variable)

    command = shlex.join(["./kd", *sys.argv[1:]])
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        for one in (one for pair in request.pairs for one in measure_pair(pair, request, Path(folder))):
            measured.append(one)
            print(f"[measure] {one.pair} {one.method}: {summary(one)}", flush=True)
            if json_file and one.seen:
                add_record(json_file, as_record(one, command))
            if table:
                write_whole(table, as_table(measured, command, environment().model_dump()))
    num_ran, num_failed = sum(one.seen is not None for one in measured), sum(one.failed for one in measured)
    print(f"[measure] {len(measured)} measurements: {num_ran} ran, {num_failed} failed; tracebacks are in {TRACES}", flush=True)
    if num_failed:
        sys.exit(1)


def _checked(request: Request, json_file: Path | None, table: Path | None) -> Request:
    """Return the request with every name once and its device; ValueError where an option is wrong."""
    pairs = known("--pairs", request.pairs, load_pair)
    methods = known("--methods", request.methods, lambda name: name == TEACHER or load_parts(name))
    for option, value, least in (
        ("--batch", request.batch, 1), ("--iterations", request.iterations, 1), ("--warmup", request.warmup, 0)
    ):  # fmt: skip
        if value is not None and value < least:
            raise ValueError(f"{option} is {value}; give a number of {least} or more")
    if not request.memory_gib > 0:
        raise ValueError(f"--memory-gib is {request.memory_gib}; give a number above 0")
    device = _device(request.device)
    if request.precision in ("fp16", "tf32") and device == "cpu":
        raise ValueError(f"--precision {request.precision} is for a GPU; choose fp32 or bf16 on a CPU")
    _check_files(json_file, table)
    if json_file or request.size is None:
        for name in pairs:
            if load_pair(name).not_run is None:
                published_size(name)
    return replace(request, pairs=pairs, methods=methods, device=device)


def _check_files(json_file: Path | None, table: Path | None) -> None:
    for option, file in (("--json", json_file), ("--table", table)):
        if file and not file.parent.is_dir():
            raise ValueError(f"{option} {file}: there is no folder {file.parent}; make it first")
    if json_file and json_file.exists():
        load_yaml(json_file, Throughput)


def _size(requested: str | None) -> tuple[int, int] | None:
    """Height and width in pixels, or None for the published ones."""
    if requested is None:
        return None
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", requested)
    if not found:
        raise ValueError(f"--size is '{requested}'; give height and width in pixels, such as 800x1344")
    return int(found[1]), int(found[2])


def _device(requested: str) -> str:
    if requested == "cpu":
        return requested
    import torch  # noqa: PLC0415 (seconds)

    if requested == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch sees no GPU here; leave it out, or install torch for your GPU")
    return "cuda" if torch.cuda.is_available() else "cpu"


def measure_pair(name: str, request: Request, folder: Path) -> Iterator[Measured]:
    """Yield the rows of one pair: unsupported methods, the teacher, auxiliary modules, students."""
    from pipelines.engine import measured_steps  # noqa: PLC0415 (seconds)

    pair = load_pair(name)
    reasons = {method: impossible_reason(name, pair, method, TIER) for method in request.methods if method != TEACHER}
    reasons |= {TEACHER: pair.not_run} if TEACHER in request.methods else {}
    yield from (Measured(name, method, f"{UNSUPPORTED}{reason}") for method, reason in reasons.items() if reason)
    possible = [method for method in request.methods if not reasons[method]]
    if not possible:
        return
    steps, teacher = _steps(name, request), folder / f"{name}.pth"

    def attempt(method: str, function: Callable[..., Any], *arguments: Any) -> Measured:
        trace = TRACES / f"{name}.{method.replace(' ', '_')}.txt"
        end = call(
            f"{function.__module__}:{function.__qualname__}", *arguments, memory_gib=request.memory_gib, trace=trace,
            method="spawn" if request.device == "cuda" else "forkserver",  # CUDA does not survive a fork
        )  # fmt: skip
        if end.problem:
            return Measured(name, method, f"{'out of memory' if end.is_out_of_memory else 'failed'}: {end.problem}", steps)
        return Measured(name, method, RAN, steps, end.result)

    made = attempt(TEACHER, measured_steps.make_teacher, name, teacher)
    if made.status != RAN:
        yield from (Measured(name, method, f"{made.status} (while the teacher was made)", steps) for method in possible)
        return
    for method in possible:
        if method == TEACHER:
            yield attempt(TEACHER, measured_steps.train_teacher, name, steps)
            continue
        module = folder / f"{name}.{method}.pth" if any(part.recipe.prior for part in load_parts(method)) else None
        if module:
            trained = attempt(f"{method} prior", measured_steps.learn_prior, name, method, steps, teacher, module)
            yield trained
            if trained.status != RAN:
                yield Measured(name, method, f"{trained.status} (while its auxiliary module was trained)", steps)
                continue
        yield attempt(method, measured_steps.train_student, name, method, steps, teacher, module)
    for file in folder.glob(f"{name}.*"):
        file.unlink()


def _steps(name: str, request: Request) -> "Steps":
    from pipelines.engine.measured_steps import Steps  # noqa: PLC0415 (seconds)

    batch = request.batch or load_pair(name).images_per_gpu
    size = request.size or published_size(name)
    return Steps(size, batch, request.iterations, request.warmup, request.precision, request.device, request.speed)
