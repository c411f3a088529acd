"""Cells of verb ``matrix``: teacher, auxiliary modules and students of one pair, each trained two iterations and evaluated."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.digest import file_sha256
from pipelines import layout
from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.compose import compose_cell, compose_training
from pipelines.engine.evaluation import measure
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.setting import Distillation, Setting, Weights, open_setting
from pipelines.engine.training import train_unrecorded
from pipelines.engine.weights import save_weights
from pipelines.measurement.smoke import RAN, TIER, CellResult, cells_file
from pipelines.params import load_pair
from pipelines.recipes import cell_parts, impossible_reason, load_parts


def run_pair(name: str, methods: Sequence[str], out: Path) -> None:
    """Run the cells of one pair, and write each result to its file as soon as it is there."""
    with cells_file(out, name).open("a") as file:
        for result in _cells(name, methods, out):
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()


def _cells(name: str, methods: Sequence[str], out: Path) -> Iterator[CellResult]:
    """Train a pair's teacher, and run every supported method's cell."""
    pair = load_pair(name)
    reasons = {method: impossible_reason(name, pair, method, TIER) for method in methods}
    yield from (CellResult(name, method, reason) for method, reason in reasons.items() if reason)
    possible = [method for method, reason in reasons.items() if not reason]
    if not possible:
        return

    prepare_process()
    setting, folder = open_setting(TIER, name, out / "data"), out / name
    model, _ = train_unrecorded(compose_training(setting, "teacher", seed=0), folder / "teacher")
    save_weights(model, folder / "teacher.pth")
    teacher = Weights(folder / "teacher.pth", file_sha256(folder / "teacher.pth"))
    for method in possible:
        begun = time.monotonic()
        try:
            loss, score = _run_cell(setting, name, method, teacher, folder / method)
        except Exception as error:  # noqa: BLE001 (a row of the table, whatever it is)
            problem = " ".join(str(error).split()) or type(error).__name__
            yield CellResult(name, method, f"failed: {type(error).__name__}: {problem}")
        else:
            yield CellResult(name, method, RAN, loss, score, time.monotonic() - begun)


def _run_cell(setting: Setting, name: str, method: str, teacher: Weights, folder: Path) -> tuple[float, float | None]:
    prior, pair = None, setting.pair
    for part in load_parts(method):
        if part.recipe.prior is not None:
            training = part.auxiliary_training(name, pair.head, TIER)
            config = compose_auxiliary(
                setting, teacher, code=part.code, hparams=part.recipe.prior.hparams, training=training, seed=0
            )
            learner, _ = train_unrecorded(config, folder / "prior")
            save_weights(learner.auxiliary, folder / layout.AUXILIARY_WEIGHTS)
            prior = Weights(folder / layout.AUXILIARY_WEIGHTS, file_sha256(folder / layout.AUXILIARY_WEIGHTS))
    parts, _ = cell_parts(method, name, pair, TIER)
    model, loss = train_unrecorded(compose_cell(setting, Distillation(parts, teacher, prior), seed=0), folder / "student")
    save_weights(model.student, folder / layout.STUDENT_WEIGHTS)
    return loss, measure(setting, "student", folder / layout.STUDENT_WEIGHTS, folder / "test").score
