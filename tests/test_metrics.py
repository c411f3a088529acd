"""A metric is one record and one function: both reach pairs, configs, evaluation, curves and rows."""

import json

import pytest
from pydantic import ValidationError

from benchmarks.metrics import METRICS, Metric
from benchmarks.pair import Pair
from pipelines.engine import evaluation, metrics
from pipelines.engine.compose import compose_test, compose_training
from pipelines.engine.data_configs import data_source
from pipelines.engine.setting import Setting
from pipelines.params import load_pair, load_tier
from pipelines.resolved import _setting
from reports.stats.rows import RowRecords
from tests.boards import made_up, result
from tests.conftest import ROOT

PAIR = "gfl_r101_r50"
PRECISION = Metric(
    name="box precision", tasks=("detection",), key="precision", computed_by="precision", validation=("val_precision",),
    evaluator={"type": "BoxPrecision", "ann_file": "{truth}"}, writes={"outfile_prefix": "{predictions}"},
)  # fmt: skip


def precision(made):
    """Ratio of the boxes whose image has an object of their class, in points."""
    truth = {(one["image_id"], one["category_id"]) for one in json.loads(made.truth.read_text())["annotations"]}
    boxes = json.loads(made.path.with_suffix(".bbox.json").read_text())
    right = sum((box["image_id"], box["category_id"]) in truth for box in boxes)
    return {"scores": {"precision": 100 * right / len(boxes)}}


@pytest.fixture
def pair(monkeypatch):
    """A pair that is judged by a metric that the suite has not."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(METRICS, PRECISION.name, PRECISION)
    monkeypatch.setattr(metrics, "precision", precision, raising=False)
    return Pair.model_validate({**load_pair(PAIR).model_dump(), "metric": PRECISION.name})


def test_a_record_reaches_the_evaluators_of_validation_and_test(pair, tmp_path):
    """MMLab's evaluator is the record's, with the annotations of the split and the place of predictions filled in."""
    at = Setting(pair, load_tier("mini"), data_source(pair, load_tier("mini"), tmp_path))
    validation = compose_training(at, "student", seed=0).val_evaluator
    test = compose_test(at, "student", tmp_path / "w.pth", tmp_path / "predictions").test_evaluator

    assert validation == {"type": "BoxPrecision", "ann_file": str(tmp_path / "tune.json")}
    assert test == {
        "type": "BoxPrecision", "ann_file": str(tmp_path / "test.json"), "format_only": True,
        "outfile_prefix": str(tmp_path / "predictions"),
    }  # fmt: skip


def test_a_record_names_the_function_that_computes_it(pair, tmp_path, monkeypatch):
    """Three of four boxes are of a class that their image has: 75 points, in metrics.json under the metric's name."""
    tier = load_tier("mini")
    truth = [{"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 3}]
    boxes = [{"image_id": image, "category_id": category} for image, category in ((1, 1), (1, 1), (2, 3), (2, 1))]
    (tmp_path / "test.json").write_text(json.dumps({"annotations": truth}))
    (tmp_path / "w.pth").write_text("weights")

    class Runner:
        """MMEngine's, but for images and models."""

        @classmethod
        def from_cfg(cls, config):
            """Keep where predictions go."""
            cls.test_dataloader = type("Loader", (), {"dataset": [None, None]})
            cls.path = config.test_evaluator.outfile_prefix
            return cls()

        def register_hook(self, hook):
            """Take it."""

        def test(self):
            """Write predictions."""
            (tmp_path / "predictions.bbox.json").write_text(json.dumps(boxes))
            return {}

    monkeypatch.setattr(evaluation, "CheckedRunner", Runner)
    setting = Setting(pair, tier, data_source(pair, tier, tmp_path))
    found = evaluation.measure(setting, "student", tmp_path / "w.pth", tmp_path)

    assert (found.metric, found.score, found.scores) == ("box precision", 75.0, {"precision": 75.0})
    assert found.flat()["precision"] == found.shown()["precision"] == 75.0


def test_a_record_reaches_curves_and_rows(pair):
    """The row has the score by the record's key, and the validation by its key in the curve."""
    curve = [{"iteration": 10.0, "loss": 1.0}, {"iteration": 10.0, "val_precision": 40.0}]
    cells = {"none": RowRecords([result(PRECISION.name, 50.0, curve=curve)])}
    row = made_up(metric=PRECISION.name, cells=cells).rows[0]

    assert row.seeds[0].metrics["precision"] == row.mean == 50.0
    assert row.seeds[0].curve.val_score == [(10, 40.0)]


def test_a_cell_depends_on_its_metric_alone(pair, monkeypatch):
    """The resolved settings hold the pair's own record: another metric leaves them as they are."""
    from pipelines.params import load_grid  # noqa: PLC0415

    grid = load_grid()
    before = _setting(grid, load_pair(PAIR))
    monkeypatch.delitem(METRICS, PRECISION.name)

    assert _setting(grid, load_pair(PAIR)) == before
    assert before["metric"]["computed_by"] == "box_scores"


def test_unknown_metrics_and_those_of_another_task_are_refused(monkeypatch):
    """One line, before anything is trained."""
    monkeypatch.chdir(ROOT)
    content = load_pair(PAIR).model_dump()

    with pytest.raises(ValidationError, match="Input should be 'box AP', 'mask AP', 'box AP50', 'mIoU' or 'top-1'"):
        Pair.model_validate({**content, "metric": "AP"})
    with pytest.raises(ValidationError, match="metric mIoU is of task segmentation, and the pair's is detection"):
        Pair.model_validate({**content, "metric": "mIoU"})


def test_every_function_that_a_record_names_is_there():
    """All but metrics of reported results alone."""
    assert all(callable(getattr(metrics, one.computed_by)) for one in METRICS.values() if one.evaluator)
