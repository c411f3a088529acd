"""Verb ``export``: a trained model for use outside of this project."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digest import file_sha256
from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.commands.names import known
from pipelines.commands.terminal import Switch
from pipelines.layout import Cell
from pipelines.params import load_grid, load_pair, load_tier
from pipelines.recipes import impossible_reason, load_parts
from pipelines.reporting.records import read_record
from pipelines.stage_list import cells, tuned_cells
from reports.schemas.run import Metrics, Run

if TYPE_CHECKING:
    from pipelines.engine.setting import Side

EXPORTS = layout.WORK / "export"
CARD = "README.md"
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Trained:
    """A finished model and its records."""

    key: str
    tier: str
    side: "Side"
    weights: Path
    run: Run
    metrics: Metrics


def export(cell: str, /, *, tier: str | None = None, out: Path | None = None, no_onnx: Switch = False) -> None:
    """Write a student alone, as a checkpoint and config of plain MMDetection or MMSegmentation, and as ONNX.

    The folder has config.py and student.pth, which load without this project, the ONNX graphs, and a README.md with the
    code that loads them. The graphs' outputs are compared with PyTorch's on test images, and their score on the test split
    with the recorded one: `./kd export gfl_r101_r50/crosskd/seed0`.

    Args:
        cell: such as gfl_r101_r50/mgd/seed0 or gfl_r101_r50/mgd/tuned/seed0; gfl_r101_r50/teacher for the pair's teacher.
        tier: of the cell; that of params.yaml if not given.
        out: folder to write to; work/export/TIER-CELL, with dashes, if not given.
        no_onnx: checkpoint and config alone.
    """
    trained = read_trained(cell, tier or load_grid().tier)
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent and not no_onnx:
        raise ValueError(f"{', '.join(absent)} is not installed; pip install {' '.join(absent)}, or add --no-onnx")
    folder = out or EXPORTS / f"{trained.tier}-{trained.key.replace('/', '-')}"
    if folder.resolve().is_relative_to(layout.RUNS.resolve()):
        raise ValueError(f"--out {folder}: results of stages are there; name another folder")
    from pipelines.engine.weights import read_weights  # noqa: PLC0415 (seconds)
    from pipelines.engine.workdir import check_writable  # noqa: PLC0415 (as above)

    state = read_weights(trained.weights, str(trained.run.weights_sha256))
    check_writable(folder)
    (folder / CARD).unlink(missing_ok=True)  # of an earlier export, whose graphs may not stay
    _write(trained, state, folder, with_onnx=not no_onnx)


def read_trained(key: str, tier: str) -> Trained:
    """Return a finished model and its records; ValueError where the name is unknown, or it has not run at the tier."""
    known("--tier", [tier], load_tier)
    name, _, rest = key.partition("/")
    is_teacher = rest == layout.TEACHER
    method = "none" if is_teacher else Cell.parse(key).method
    known("./kd export", [name], load_pair)
    known("./kd export", [method], load_parts)
    if reason := impossible_reason(name, load_pair(name), method, tier):
        raise ValueError(f"{method} cannot run on {name}: {reason}")
    folder = layout.runs(tier) / key
    if absent := [folder / name for name in (layout.RUN, layout.METRICS) if not (folder / name).is_file()]:
        raise ValueError(f"{key} has not run at tier {tier}: {absent[0]} is not there; {_remedy(key, tier)}")
    run, metrics = read_record(folder / layout.RUN, Run), read_record(folder / layout.METRICS, Metrics)
    if run.weights_sha256 != metrics.weights_sha256:
        raise ValueError(f"{folder / layout.METRICS}: is of other weights than {layout.RUN}; {_remedy(key, tier)}")
    weights = folder / (layout.WEIGHTS if is_teacher else layout.STUDENT_WEIGHTS)
    return Trained(key, tier, "teacher" if is_teacher else "student", weights, run, metrics)


def _remedy(key: str, tier: str) -> str:
    """Return how to run a cell or teacher, in words."""
    grid = load_grid()
    wanted = {cell.key for cell in [*cells(grid), *tuned_cells(grid)]} | {f"{pair}/{layout.TEACHER}" for pair in grid.rows}
    if tier != grid.tier or key not in wanted:
        return f"name it in params.yaml, with tier: {tier}, then ./kd run"
    return f"dvc repro evaluate@{key}"


def _write(trained: Trained, state: Any, folder: Path, *, with_onnx: bool) -> None:
    """Write the files and the card; say what was written."""
    from pipelines.engine.mmlab import prepare_process  # noqa: PLC0415 (seconds)
    from pipelines.engine.plain import CONFIG, plain_config, preprocessing, write_model  # noqa: PLC0415 (seconds)
    from pipelines.engine.setting import open_setting, verified_data  # noqa: PLC0415 (seconds)
    from reports.formats.export_card import Export, export_card  # noqa: PLC0415 (seconds)

    run, data = trained.run, layout.data(trained.tier)
    score = trained.metrics.score
    setting = open_setting(trained.tier, run.pair, data)
    prepare_process()
    config = plain_config(setting, trained.side, run.config_changes)
    origin = {
        "pair": run.pair, "method": run.row, "seed": run.seed, "tier": trained.tier, "side": trained.side,
        "metric": trained.metrics.metric, "score": score, "weights_sha256": run.weights_sha256,
        "config_sha256": run.config_sha256, "commit": run.git and run.git.commit,
    }  # fmt: skip
    checkpoint = folder / f"{trained.side}.pth"
    model = write_model(config, state, origin, checkpoint)
    print(f"[export] {folder}: {CONFIG}, {checkpoint.name}", flush=True)
    found = Export(reason="not requested (--no-onnx)")
    if with_onnx:
        from pipelines.engine.onnx_check import export_onnx  # noqa: PLC0415 (seconds)

        verified_data(setting, data)
        found = export_onnx(model, setting, trained.side, folder, score)
    card = export_card(
        found, origin, key=trained.key, title=setting.pair.title, task=setting.pair.task, data=setting.origin.name,
        sha256=file_sha256(checkpoint), **preprocessing(config),
    )  # fmt: skip
    write_whole(folder / CARD, card)
    for graph in found.graphs:
        print(f"[export] {folder}: {graph.file}, outputs within {graph.difference:.1e} of PyTorch's", flush=True)
    if found.score is not None:
        print(f"[export] {trained.metrics.metric} by onnxruntime {found.score:.2f}, recorded {score:.2f}", flush=True)
    if found.reason:
        print(f"[export] {'score by onnxruntime' if found.graphs else 'no ONNX'}: {found.reason}", flush=True)
