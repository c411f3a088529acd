"""Evaluation of a student or teacher on the test split."""

import shutil
from pathlib import Path
from typing import Any

from benchmarks.digest import file_sha256
from benchmarks.metrics import METRICS
from pipelines.engine import metrics
from pipelines.engine.checkpoints import CheckedRunner
from pipelines.engine.compose import compose_test
from pipelines.engine.mmlab import quiet
from pipelines.engine.named_files import NamedFilesHook
from pipelines.engine.setting import Setting, Side
from reports.schemas.run import Metrics


def measure(setting: Setting, side: Side, weights: Path, folder: Path, changes: dict[str, Any] | None = None) -> Metrics:
    """Predict on the test split and compare with the truth.

    Args:
        setting: the pair at a tier, on its data.
        side: ``teacher`` or ``student``.
        weights: state dict of that side, written by this project: it is loaded without further checks.
        folder: where predictions go; those of an earlier measurement there are removed.
        changes: changes of the student's method in its config.

    Raises:
        ValueError: the test split has nothing to be found, or predictions and truth do not fit.
    """
    pair, predictions = setting.pair, folder / "predictions"
    shutil.rmtree(predictions, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    config = compose_test(setting, side, weights, predictions, changes)
    config.work_dir = str(folder)
    with quiet():
        runner = CheckedRunner.from_cfg(config)
        runner.register_hook(NamedFilesHook())
        said = runner.test()
    dataset = runner.test_dataloader.dataset
    metric = METRICS[pair.metric]
    made = metrics.Predictions(
        dataset, setting.origin.truth(), predictions, setting.tier.area_px2, said, has_boxes=pair.head != "solo"
    )
    found = getattr(metrics, metric.computed_by)(made)
    record = Metrics(num_images=len(dataset), weights_sha256=file_sha256(weights), metric=metric.name, **found)
    score = record.flat()[metric.key]
    if score is None:
        raise ValueError(f"{setting.origin.truth()}: has no object, so there is no {metric.name} on it; annotate the test images")
    return record.model_copy(update={"score": score})
