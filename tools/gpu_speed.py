"""Training steps at paper size on one GPU: images/s, memory, the step against its floor, and against mmrazor's own classes.

    python -m tools.gpu_speed --minutes 12 --json reports/measurements/gpu_speed.json

Random weights, random images of the published size, the published images per GPU.  A row is a method on its main pair in a number
format with settings of ``speed``.  A step's floor is the student's own step, the forward pass of the teacher that the method needs, the
method's loss, and the optimizer's step, each measured by turns with the whole.  Where mmrazor has the method (PKD, CWD, MGD), its
classes, on the same models and batch, take turns with ours in float32, as its authors ran them.
Rows are in the order of their weight, and what time is too short for is named.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from benchmarks.digest import file_sha256
from pipelines.engine.compose import compose_cell
from pipelines.engine.dummy_batches import dummy_batch
from pipelines.engine.measured_steps import Steps, built, make_teacher, prepare_model, published_steps, set_size
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.precision import set_matmul
from pipelines.engine.provenance import environment
from pipelines.engine.published import published_config
from pipelines.engine.setting import Distillation, Weights
from pipelines.grid import Precision, Speed
from pipelines.measurement.records import published_size
from pipelines.params import load_pair
from pipelines.recipes import cell_config, cell_parts
from tests.conftest import total
from tools.step_cost import leaves

USUAL = Speed()
FASTEST = Speed(channels_last=True, fused_optimizer=True)
COMPILED = Speed(channels_last=True, fused_optimizer=True, compile=True)
# Of the main table: every method on its main pair, first in float32 and in the fastest format without compilation.
MAIN = {
    "none": "gfl_r101_r50", "crosskd": "gfl_r101_r50", "mgd": "retinanet_x101_r50", "maskd": "retinanet_x101_r50",
    "pkd": "retinanet_x101_r50", "cwd": "gfl_r101_r50", "defeat": "faster_rcnn_r101_r50_voc", "fgd": "retinanet_x101_r50",
    "fgfi": "faster_rcnn_r101_r50_voc", "fitnet": "gfl_r101_r50", "ld": "gfl_r101_r50", "mgd_seg": "pspnet_r101_pspnet_r18",
    "maskd_seg": "deeplabv3_r101_deeplabv3_r18", "kd": "deeplabv3_r101_deeplabv3_r18",
}  # fmt: skip
MMRAZOR = {
    "pkd": "mmrazor::distill/mmdet/pkd/pkd_fpn_retina_x101_retina_r50_2x_coco.py",
    "mgd": "mmrazor::distill/mmdet/mgd/mgd_fpn_retina_x101_retina_r50_2x_coco.py",
    "cwd": "mmrazor::distill/mmdet/cwd/cwd_cls_head_gfl_r101_fpn_gfl_r50_fpn_1x_coco.py",
}


@dataclass(frozen=True)
class Wanted:
    """A row: a method on a pair in a number format with settings of speed."""

    method: str
    pair: str
    precision: Precision
    speed: Speed = USUAL

    @property
    def form(self) -> str:
        """Number format and settings in words."""
        return ", ".join([self.precision, *(name for name, is_on in self.speed.model_dump().items() if is_on)])


def wanted(methods: list[str]) -> Iterator[Wanted]:
    """Yield all rows, those of most weight first."""
    for precision, speed in (("fp32", USUAL), ("bf16", FASTEST)):
        yield from (Wanted(name, MAIN[name], precision, speed) for name in methods)  # type: ignore[arg-type]
    yield from (Wanted(name, MAIN[name], "bf16", COMPILED) for name in methods)
    for precision, speed in (("tf32", USUAL), ("bf16", USUAL), ("fp16", FASTEST), ("fp32", FASTEST)):
        yield from (Wanted(name, MAIN[name], precision, speed) for name in methods[:3])  # type: ignore[arg-type]


class Clock:
    """Seconds by name, of functions that are called by turns; the device has finished before and after each."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._finish = torch.cuda.synchronize if device == "cuda" else lambda: None

    def __call__(self, name: str, function: Callable[[], Any]) -> Any:
        """Call a function and note how long it takes."""
        self._finish()
        begun = time.perf_counter()
        result = function()
        self._finish()
        self.seconds.setdefault(name, []).append(time.perf_counter() - begun)
        return result

    def median_s(self, name: str, without: int) -> float:
        """Median of the turns behind the first ones."""
        return statistics.median(self.seconds[name][without:])


class Cell:
    """A model with its optimizer and one batch on a device."""

    def __init__(self, one: Wanted, teacher: Path, steps: Steps) -> None:
        pair = load_pair(one.pair)
        parts, _ = cell_parts(one.method, one.pair, pair, "paper")
        cell = Distillation(parts, Weights(teacher, file_sha256(teacher)), None, cell_config(one.method, one.pair, pair, "paper"))
        config = compose_cell(published_steps(one.pair, steps), cell, seed=0)
        set_size(config.model, steps.size)
        config.optim_wrapper.optimizer.lr = 0.0  # every turn measures the same
        self.model = built(config).to(steps.device).train()
        prepare_model(self.model, steps.precision, steps.speed)
        self.data = dummy_batch(config, steps.size, steps.batch)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            self.wrapper = build_optim_wrapper(self.model, config.optim_wrapper)

    def step(self) -> None:
        """Take a training step."""
        self.model.train_step(self.data, self.wrapper)

    def parts(self, clock: Clock) -> None:
        """Take its parts one by one."""
        model, wrapper = self.model, self.wrapper

        def forward(function: Callable[..., Any]) -> Any:
            with wrapper.optim_context(model):
                return function(batch["inputs"], batch["data_samples"])

        batch = clock("preprocessing", lambda: model.data_preprocessor(self.data, True))  # noqa: FBT003 (training)
        clock("student", lambda: wrapper.backward(total(forward(partial(model.student, mode="loss")))))
        clock("optimizer", lambda: (wrapper.step(), wrapper.zero_grad()))
        if model.distiller.needs:
            _, recorded = forward(model.run_student)
            features = clock("teacher", lambda: forward(lambda inputs, _: model.run_teacher(inputs)))

            def own_loss() -> None:
                losses = forward(lambda inputs, samples: model.distil(inputs, samples, recorded, features))
                torch.autograd.grad(total(losses), leaves(model, recorded), allow_unused=True)

            clock("own loss", own_loss)
            model.distiller.clear()


class MmrazorCell:
    """The same method by mmrazor's classes, as its installed config wires them, on the models of a pair."""

    def __init__(self, ours: Cell, one: Wanted, steps: Steps) -> None:
        config = published_config(MMRAZOR[one.method])
        setting = published_steps(one.pair, steps)
        cell = compose_cell(
            setting, Distillation(cell_parts("none", one.pair, setting.pair, "paper")[0], Weights(Path(), "")), seed=0
        )
        model = config.model
        student, frozen = ConfigDict(cell.model.student, _scope_="mmdet"), ConfigDict(cell.model.teacher, _scope_="mmdet")
        cell.model = ConfigDict(
            {key: value for key, value in model.items() if key not in ("architecture", "teacher", "_delete_")}
        )
        cell.model.update(architecture=student, teacher=frozen, teacher_ckpt=None)
        with DefaultScope.overwrite_default_scope("mmrazor"):
            self.model = built(cell).to(steps.device)
        self.model.train()  # which returns nothing
        with DefaultScope.overwrite_default_scope("mmdet"):
            cell.optim_wrapper.optimizer.lr = 0.0
            self.wrapper = build_optim_wrapper(self.model, cell.optim_wrapper)
        self.data = ours.data

    def step(self) -> None:
        """Take a training step."""
        self.model.train_step(self.data, self.wrapper)


def measure(one: Wanted, teacher: Path, steps: Steps, turns: int, warmup: int) -> dict[str, Any]:
    """Return a row's measurements."""
    set_matmul(one.precision)
    is_gpu = steps.device == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    cell, clock = Cell(one, teacher, steps), Clock(steps.device)
    for _ in range(warmup + turns):
        clock("step", cell.step)
    row: dict[str, Any] = {
        "pair": one.pair, "method": one.method, "form": one.form, "images": steps.batch, "size": list(steps.size),
        "peak_mib": round(torch.cuda.max_memory_allocated() / 2**20) if is_gpu else None,
    }  # fmt: skip
    for _ in range(warmup + turns):
        cell.parts(clock)
        clock("step beside its parts", cell.step)
    names = [name for name in clock.seconds if not name.startswith("step")]
    floors = [sum(clock.seconds[name][turn] for name in names) for turn in range(warmup, warmup + turns)]
    beside = clock.seconds["step beside its parts"][warmup:]
    row |= {
        "step_ms": round(1000 * clock.median_s("step", warmup), 2),
        "images_per_s": round(steps.batch / clock.median_s("step", warmup), 2),
        "floor_ms": round(1000 * statistics.median(floors), 2),
        "over_floor": round(statistics.median(whole / floor for whole, floor in zip(beside, floors, strict=True)), 3),
        **{f"{name.replace(' ', '_')}_ms": round(1000 * clock.median_s(name, warmup), 2) for name in names},
    }
    if one.method in MMRAZOR and one.form == "fp32":
        theirs, by_turns = MmrazorCell(cell, one, steps), Clock(steps.device)
        for _ in range(warmup + turns):
            by_turns("ours", cell.step)
            by_turns("mmrazor", theirs.step)
        pairs = zip(by_turns.seconds["mmrazor"][warmup:], by_turns.seconds["ours"][warmup:], strict=True)
        row["mmrazor_ms"] = round(1000 * by_turns.median_s("mmrazor", warmup), 2)
        row["times_mmrazor"] = round(statistics.median(theirs_s / ours_s for theirs_s, ours_s in pairs), 3)
    return row


def as_table(rows: list[dict[str, Any]]) -> str:
    """Table in Markdown; the factor is over the same method's row in fp32."""
    base = {row["method"]: row["images_per_s"] for row in rows if row.get("form") == "fp32" and "images_per_s" in row}
    lines = ["| method | pair | form | images/s | x fp32 | MiB | step ms | over floor | x mmrazor |", "|---" * 9 + "|"]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['method']} | {row['pair']} | {row['form']} | failed: {row['failed']} | | | | | |")
            continue
        factor = f"{row['images_per_s'] / base[row['method']]:.2f}" if row["method"] in base else ""
        cells = [
            row["images_per_s"],
            factor,
            row["peak_mib"] or "",
            row["step_ms"],
            row["over_floor"],
            row.get("times_mmrazor", ""),
        ]
        lines.append(f"| {row['method']} | {row['pair']} | {row['form']} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Print a line per row, then the table; write JSON where requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", metavar="method", help=f"of: {', '.join(MAIN)}; all by default")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--size", help="height x width; as published if not given")
    parser.add_argument("--images", type=int, help="per step; as published on one GPU if not given")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    prepare_process()
    until, rows, left = time.monotonic() + 60 * args.minutes, [], []
    with tempfile.TemporaryDirectory() as folder:
        for one in wanted(args.methods or list(MAIN)):
            if (args.device == "cpu" and one.precision in ("tf32", "fp16")) or time.monotonic() > until:
                left.append(f"{one.method} {one.form}")
                continue
            teacher = Path(folder) / f"{one.pair}.pth"
            if not teacher.exists():
                make_teacher(one.pair, teacher)
            size = tuple(map(int, args.size.split("x"))) if args.size else published_size(one.pair)
            images = args.images or load_pair(one.pair).images_per_gpu
            steps = Steps(size, images, args.turns, args.warmup, one.precision, args.device, one.speed)
            try:
                row = measure(one, teacher, steps, args.turns, args.warmup)
            except Exception as error:  # noqa: BLE001 (a row that fails is a row)
                row = {
                    "pair": one.pair,
                    "method": one.method,
                    "form": one.form,
                    "failed": f"{type(error).__name__}: {error}"[:300],
                }
            gc.collect()
            if args.device == "cuda":
                torch.cuda.empty_cache()
            rows.append(row)
            print(json.dumps(row), flush=True)
            if args.json:
                about = {
                    "command": "python -m tools.gpu_speed",
                    "environment": environment().model_dump(),
                    "left": left,
                    "rows": rows,
                }
                args.json.write_text(json.dumps(about, indent=2) + "\n")
    print(as_table(rows))
    if left:
        print(f"left out: {'; '.join(left)}")


if __name__ == "__main__":
    main()
