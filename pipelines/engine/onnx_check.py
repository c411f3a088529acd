"""ONNX graphs of an exported model, and their score on the test split through MMDetection's or MMSegmentation's post-processing."""

import tempfile
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from benchmarks.metrics import METRICS
from pipelines.engine import metrics
from pipelines.engine.checkpoints import CheckedRunner
from pipelines.engine.compose import compose_test
from pipelines.engine.mmlab import quiet
from pipelines.engine.onnx_graphs import graphs, write
from pipelines.engine.onnx_run import NotExported, attach
from pipelines.engine.plain import CONFIG
from pipelines.engine.setting import Setting, Side
from reports.formats.export_card import Export
from reports.schemas.run import Metrics

_SCORE_TOLERANCE = 0.05  # points
_IMAGES = 8  # of the test split, that outputs are compared on


def export_onnx(model: Any, setting: Setting, side: Side, folder: Path, recorded: float | None) -> Export:
    """Write a model's ONNX graphs beside its exported config and checkpoint, and check them on the test split.

    Args:
        model: in evaluation mode, on the CPU.
        setting: the pair at a tier, on its data.
        side: ``teacher`` or ``student``.
        folder: of the exported config and checkpoint.
        recorded: the score in metrics.json.

    Raises:
        ValueError: outputs differ from torch's, or the score from the recorded one; the graphs are removed.
    """
    for stale in folder.glob("*.onnx"):
        stale.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        predictions = Path(scratch) / "predictions"
        test = compose_test(setting, side, folder / f"{side}.pth", predictions)
        test.model, test.work_dir = Config.fromfile(folder / CONFIG).model, scratch
        # By it MMEngine finds its visualizer again; its own names differ by the second only.
        test.experiment_name = f"{folder}-{time.monotonic_ns()}"
        with quiet():
            runner = CheckedRunner.from_cfg(test)
            dataset = runner.test_dataloader.dataset
        images = [pseudo_collate([dataset[index]]) for index in range(min(_IMAGES, len(dataset)))]
        images_NCHW = [model.data_preprocessor(image, training=False)["inputs"] for image in images]
        try:
            cards = tuple(write(graph, folder / side) for graph in graphs(model, images_NCHW))
        except NotExported as reason:
            for part in folder.glob("*.onnx"):
                part.unlink()
            return Export(reason=str(reason))
        attach(runner.model, folder / side)
        try:
            score = _score(setting, runner, predictions)
        except NotExported as reason:
            return Export(cards, len(images), reason=str(reason))
    if recorded is None or not abs(score - recorded) <= _SCORE_TOLERANCE:
        for graph in cards:
            (folder / graph.file).unlink()
        raise ValueError(f"{folder}: the ONNX graphs score {score:.2f}, metrics.json says {recorded}, so they are removed")
    return Export(cards, len(images), score)


def _score(setting: Setting, runner: CheckedRunner, predictions: Path) -> float:
    """Predict on the test split by a runner's model; return the score."""
    pair = setting.pair
    with quiet():
        said = runner.test()
    dataset, metric = runner.test_dataloader.dataset, METRICS[pair.metric]
    made = metrics.Predictions(
        dataset, setting.origin.truth(), predictions, setting.tier.area_px2, said, has_boxes=pair.head != "solo"
    )
    found = getattr(metrics, metric.computed_by)(made)
    score = Metrics(num_images=len(dataset), weights_sha256="", metric=metric.name, **found).flat()[metric.key]
    if score is None:
        raise ValueError(f"{setting.origin.truth()}: has no object, so there is no {metric.name} on it; annotate the test images")
    return score
