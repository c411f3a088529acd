"""Stage ``distill``: one cell of the grid, a student trained under a method with a seed.

A tuned cell's hyper-parameters are those that stage ``tune`` selected.
"""

import argparse
from pathlib import Path

from pipelines import errors, layout
from pipelines.engine.compose import compose_cell
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.ranks import first_says
from pipelines.engine.records import RunSpec
from pipelines.engine.setting import open_setting, recorded_distillation, verified_data
from pipelines.engine.training import run_training
from pipelines.layout import Cell
from pipelines.params import load_grid, load_pair
from pipelines.recipes import cell_parts, flat_hparams, impossible_reason, with_hparams
from pipelines.resolved import confirm
from pipelines.runner.launch import launch
from pipelines.stage_list import cells
from pipelines.tuning.best import read_best


def main() -> None:
    """Train the student and write its weights and run.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--cell", required=True, help="such as gfl_r101_r50/mgd/seed0, or gfl_r101_r50/mgd/tuned/seed0")
    parser.add_argument("--out", type=Path, help="folder; runs/TIER/CELL if not given")
    args = parser.parse_args()
    cell = Cell.parse(args.cell)
    pair = load_pair(cell.pair)
    if reason := impossible_reason(cell.pair, pair, cell.method, args.tier):
        raise ValueError(f"{cell.method} cannot run on {cell.pair}: {reason}")
    code = confirm(layout.DISTILL, cell.pair, cell.method)["code"]
    parts, origin = cell_parts(cell.method, cell.pair, pair, args.tier)
    if cell.tuned:
        best = read_best(layout.study(args.tier, cell.pair, cell.method) / layout.BEST)
        parts, origin = with_hparams(parts, best.hparams), best.origin
    data, out = layout.data(args.tier), args.out or layout.cell(args.tier, cell)
    setting = open_setting(args.tier, cell.pair, data)
    added = recorded_distillation(setting, args.tier, cell.pair, cell.method, parts)
    all_cells, by_recipe = cells(load_grid()), Cell(cell.pair, cell.method, cell.seed)
    config = compose_cell(setting, added, seed=cell.seed)
    if launch(layout.DISTILL, setting.processes):
        return
    prepare_process()
    run_training(
        RunSpec(
            "distill", args.tier, cell.pair, cell.method, cell.seed,
            (all_cells.index(by_recipe) + 1, len(all_cells)) if by_recipe in all_cells else (1, 1),
            hparams=flat_hparams(parts), hparams_origin=origin, config_changes=added.config, is_tuned=cell.tuned,
            initialisation_sha256=added.start.sha256 if added.start else None, teacher_sha256=added.teacher.sha256,
            auxiliary_sha256=added.auxiliary.sha256 if added.auxiliary else None, code=code,
        ),
        config, first_says(lambda: verified_data(setting, data)), export=lambda model: model.student,
        weights=out / layout.STUDENT_WEIGHTS, learned=out / layout.METHOD_WEIGHTS,
    )  # fmt: skip


if __name__ == "__main__":
    errors.run(main)
