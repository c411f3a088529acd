"""One training step of every method on one pair per type of head, in forms that should agree, and how far they do.

    python -m tools.step_equality --out reports/measurements/step_equality.md

Tier smoke, random weights, dummy images, two per process.  Compared are, by the largest relative difference of a loss and by the norm of
all gradients' difference over their norm: a step of n processes with the same step in n groups of one process, and with the whole batch
in one piece; and one process's step in float32 with that in other number formats and layouts.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from pipelines.engine.mmlab import prepare_process
from pipelines.grid import Speed
from pipelines.params import load_pair
from pipelines.recipes import impossible_reason
from tests import ranks

PAIRS = (
    "gfl_r101_r50", "retinanet_r101_r50", "atss_r101_r50", "fcos_r101_r50", "faster_rcnn_r101_r50", "pspnet_r101_pspnet_r18",
)  # fmt: skip
MORE = ("retinanet_swint_r50", "reppoints_x101dcn_r50", "solo_r101_r50", "cascade_mask_x101dcn_mask_rcnn_r50")
METHODS = sorted(path.stem for path in Path("methods").glob("*.yaml"))
FEW = ("none", "crosskd", "maskd", "mgd", "defeat", "fgd", "mgd_seg")
COMPILED = (("gfl_r101_r50", "crosskd"), ("faster_rcnn_r101_r50", "mgd"), ("pspnet_r101_pspnet_r18", "mgd_seg"))
FORMS = {"bf16": {"precision": "bf16"}, "channels_last": {"speed": Speed(channels_last=True)}}


def cells(pairs: tuple[str, ...], methods: list[str]) -> list[tuple[str, str]]:
    """Return the pairs and methods that can run."""
    return [
        (pair, method)
        for pair in pairs
        for method in methods
        if impossible_reason(pair, load_pair(pair), method, "smoke") is None
    ]


def of_processes(number: int, folder: Path, methods: list[str]) -> Iterator[list[str]]:
    """Yield a row per cell: processes against groups, and against the whole batch."""
    wanted = cells(PAIRS, methods)
    steps = ranks.steps_of_ranks(wanted, folder, images=2 * number, number=number)
    for cell in wanted:
        in_groups, whole = (ranks.step(*cell, folder, images=2 * number, parts=parts) for parts in (number, 1))
        yield [*cell, str(number), *_said(ranks.difference(steps[cell], in_groups)), *_said(ranks.difference(steps[cell], whole))]


def of_forms(folder: Path) -> Iterator[list[str]]:
    """Yield a row per cell and form: against float32 in the usual layout."""
    for cell in cells((*PAIRS, *MORE), list(FEW)):
        plain = ranks.step(*cell, folder, images=4, parts=1)
        forms = FORMS | ({"compile": {"speed": Speed(compile=True)}} if cell in COMPILED else {})
        for name, form in forms.items():
            torch.compiler.reset()
            yield [*cell, name, *_said(ranks.difference(plain, ranks.step(*cell, folder, images=4, parts=1, **form)))]


def _said(differences: tuple[float, float]) -> list[str]:
    return [f"{value:.1e}" for value in differences]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["", *(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])]


def main() -> None:
    """Print the tables; write them where requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    prepare_process()
    with tempfile.TemporaryDirectory() as folder:
        divided = [row for number in (2, 4) for row in of_processes(number, Path(folder), args.methods or METHODS)]
        formed = list(of_forms(Path(folder)))
    lines = [
        "# Training steps that should agree", "",
        f"`python -m tools.step_equality`, torch {torch.__version__}, a CPU; {' '.join(__doc__.split('Tier smoke')[1].split())}".replace(
            "a CPU; ,", "a CPU: tier smoke,"
        ),
        *_table(["pair", "method", "processes", "groups: loss", "gradient", "whole: loss", "gradient"], divided),
        *_table(["pair", "method", "form", "loss", "gradient"], formed),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
