"""Time and memory of every method's loss, forward and backward, beside the reference implementation in its test.

    python -m tools.speed [method ...] [--json reports/measurements/speed.json]

Sizes are those of an 800x1344 image: P3-P7 (P2-P6 for methods of two-stage detectors), batch 2, 256
channels, 50 boxes per image.  Both implementations run in one process, by turns, on the same tensors; the ratio of
each turn is one value, the median of the turns is shown.  Peak memory is that allocated
on top of the inputs.  The convolutions that adapt the student's levels are the same in both: the
first line of a method is without them, the second (``+ convolutions``) with them.
"""

import argparse
import copy
import importlib
import json
import os
import statistics
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from pipelines.recipes import load_parts
from tests.views import MAP_ROLES, Case

ONE_STAGE = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
TWO_STAGE = ((200, 336), (100, 168), (50, 84), (25, 42), (13, 21))
LOGITS = ((64, 128),)  # a 512x1024 crop at stride 8
# Which detector each method is measured on: the one whose size its authors stress.
SETTINGS = {
    "maskd": ("retinanet", ONE_STAGE),
    "mgd": ("retinanet", ONE_STAGE),
    "crosskd": ("gfl", ONE_STAGE),
    "pkd": ("retinanet", ONE_STAGE),
    "fitnet": ("retinanet", ONE_STAGE),
    "cwd": ("retinanet", ONE_STAGE),
    "fgd": ("retinanet", ONE_STAGE),
    "defeat": ("faster_rcnn", TWO_STAGE),
    "fgfi": ("faster_rcnn", TWO_STAGE),
    "maskd_seg": ("none", LOGITS),
}
_HEAD_TERMS = {"maskd": {"box_loss": "none"}}  # MasKD's head term is another loss, of no size
_ADAPT = ("align", "adapt", "neck_adapt")
# Where the authors' form computes gradients that ours does not, for parameters whose learning rate is 0.
_TRAINED_BY_AUTHORS = {"maskd": "mask_modules"}


def setting(name: str) -> tuple[torch.nn.Module, Case]:
    """Build the method, and student, teacher and batch at paper scale with the needed maps alone."""
    head, sizes = SETTINGS[name]
    part = load_parts(name)[0]
    hparams = part.resolve("any", head, "paper")[0].hparams | _HEAD_TERMS.get(name, {})
    roles = part.method.roles(hparams)
    channels = 19 if sizes is LOGITS else 256
    case = Case(
        sizes=sizes,
        neck=(channels, channels),
        num_boxes=50,
        dtype=torch.float32,
        image_hw=(800, 1344),
        tower_channels=channels if "dense_head" in roles else 1,
        num_classes=19 if sizes is LOGITS else 80,
        finest_stride=4 if sizes is TWO_STAGE else 8,
        roles=tuple(roles),
    )
    torch.manual_seed(0)
    return part.method({role: case.channels[role] for role in MAP_ROLES if role in roles}, **hparams), case


def step(loss, method, case: Case) -> float:
    """One forward and backward pass; the total."""
    leaves = [*case.student_leaves([*MAP_ROLES, "dense_head"]), *(p for p in method.parameters() if p.requires_grad)]
    total = sum(loss(method, case.student, case.teacher, case.batch).values())
    torch.autograd.grad(total, leaves, allow_unused=True)
    return float(total.detach())


def peak_mib(run) -> float:
    """Most bytes that were handed out at a time while something ran, from the allocator's own events."""
    run()  # what is allocated once and kept
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    held = peak = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def without_convolutions(method: torch.nn.Module) -> torch.nn.Module | None:
    """Return the method with identities for its adaptation; None where it has none."""
    bare, found = copy.deepcopy(method), False
    for name in _ADAPT:
        if any(isinstance(module, torch.nn.Conv2d) for part in getattr(bare, name, ()) for module in part.modules()):
            found = True
            setattr(bare, name, torch.nn.ModuleList(torch.nn.Identity() for _ in getattr(bare, name)))
    return bare if found else None


def measure(name: str, label: str, method: torch.nn.Module, case: Case, turns: int) -> dict[str, float | str]:
    """Seconds and MiB of both implementations and their ratios (reference over ours)."""
    naive, as_authors = importlib.import_module(f"tests.test_{name}").naive, copy.deepcopy(method)
    if name in _TRAINED_BY_AUTHORS:
        getattr(as_authors, _TRAINED_BY_AUTHORS[name]).requires_grad_(requires_grad=True)

    def ours(method, student, teacher, batch):
        return method(student, teacher, batch)

    forms = {"ours": lambda: step(ours, method, case), "naive": lambda: step(naive, as_authors, case)}
    state = case.batch.generator.get_state()
    values, seconds = {}, {form: [] for form in forms}
    for turn in range(turns + 1):
        for form, run in forms.items():
            case.batch.generator.set_state(state)
            begun = time.perf_counter()
            values[form] = run()
            if turn:  # the first warms up
                seconds[form].append(time.perf_counter() - begun)
    # In single precision sums of 10^7 terms differ in the last digits; the tests compare in double.
    assert abs(values["ours"] - values["naive"]) <= 1e-3 * abs(values["naive"]), (name, values)
    mib = {form: peak_mib(run) for form, run in forms.items()}
    ratios = [slow / fast for slow, fast in zip(seconds["naive"], seconds["ours"], strict=True)]
    return {
        "method": label,
        "ours_s": round(statistics.median(seconds["ours"]), 4),
        "naive_s": round(statistics.median(seconds["naive"]), 4),
        "times_faster": round(statistics.median(ratios), 2),
        "ours_mib": round(mib["ours"], 1),
        "naive_mib": round(mib["naive"], 1),
        "memory_share": round(mib["ours"] / mib["naive"], 3),
    }


def measure_masks(name: str, turns: int) -> dict[str, float | str]:
    """Measure the masks alone of a method that marks objects: 2 images of 50 boxes, all levels."""
    method, case = setting(name)
    masks = importlib.import_module(f"tests.test_{name}").masks_alone
    seconds: dict[str, list[float]] = {}
    for turn in range(20 * turns + 1):
        for form, run in masks(method, case.student, case.batch).items():
            begun = time.perf_counter()
            run()
            if turn:
                seconds.setdefault(form, []).append(time.perf_counter() - begun)
    ratios = [slow / fast for slow, fast in zip(seconds["naive"], seconds["ours"], strict=True)]
    middle = {form: round(statistics.median(values), 5) for form, values in seconds.items()}
    return {
        "method": f"{name}, masks alone",
        "ours_s": middle["ours"],
        "naive_s": middle["naive"],
        "times_faster": round(statistics.median(ratios), 2),
    }


def main() -> None:
    """Print a line per method; write JSON where requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", metavar="method", default=[], help=f"of: {', '.join(SETTINGS)}; all by default")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        "| method | ours s | reference s | times faster | ours MiB | reference MiB | memory ratio |\n|---|---|---|---|---|---|---|"
    )
    rows = []

    def show(row: dict[str, float | str]) -> None:
        rows.append(row)
        print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)

    for name in args.methods or SETTINGS:
        method, case = setting(name)
        bare = without_convolutions(method)
        if bare is not None:
            show(measure(name, name, bare, case, args.turns))
        show(measure(name, name if bare is None else f"{name} + convolutions", method, case, args.turns))
        if name in ("defeat", "fgfi"):
            show(measure_masks(name, args.turns))
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "threads": args.threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
