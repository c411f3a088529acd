"""Metrics that pairs are judged by and results are reported in: one record each.

All are in points from 0 to 100, higher is better, and reports print one decimal.
A new metric is a record in :data:`METRICS` and, unless a function there computes it already, one in ``pipelines/engine/metrics.py``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

Task = Literal["detection", "instance", "segmentation", "classification"]


@dataclass(frozen=True)
class Metric:
    """A metric, and all that the suite has to know of it.

    Args:
        name: in files of pairs and in ``reported.yaml``.
        tasks: of the pairs that may be judged by it.
        key: name of the score among those of ``metrics.json`` (:meth:`reports.schemas.run.Metrics.flat`).
        computed_by: the function of ``pipelines/engine/metrics.py``; "" for a metric of reported results alone.
        validation: keys of a training curve's point that may have it, the first that is there counts.
        evaluator: MMLab's evaluator for validation; "{truth}" is replaced by the annotations.
        writes: options by which that evaluator writes predictions; "{predictions}" is replaced by their path without its ending.
        save_best: MMEngine's rule for the best weights of a schedule whose authors report those.
        shows: predictions that visualizations show.
    """

    name: str
    tasks: tuple[Task, ...]
    key: str
    computed_by: str = ""
    validation: tuple[str, ...] = ()
    evaluator: Mapping[str, Any] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    save_best: str = "auto"
    shows: Literal["boxes", "masks", "label maps"] = "boxes"

    @property
    def curve_key(self) -> str:
        """Key of the score in a point of a run's curve; "" for a metric without validation."""
        return self.validation[0] if self.validation else ""

    def validator(self, truth: str) -> dict[str, Any]:
        """MMLab's evaluator on a split whose annotations are at ``truth``."""
        return {key: truth if value == "{truth}" else value for key, value in self.evaluator.items()}

    def writer(self, truth: str, predictions: str) -> dict[str, Any]:
        """MMLab's evaluator that writes predictions and computes nothing."""
        written = {key: predictions if value == "{predictions}" else value for key, value in self.writes.items()}
        return {**self.validator(truth), "format_only": True, **written}

    def as_json(self) -> dict[str, Any]:
        """Fields as YAML's types."""
        return asdict(self)


_COCO_FILES = {"outfile_prefix": "{predictions}"}


def _coco(*kinds: str) -> dict[str, Any]:
    return {"type": "CocoMetric", "ann_file": "{truth}", "metric": list(kinds) if len(kinds) > 1 else kinds[0]}


_RECORDS = (
    Metric(
        name="box AP", tasks=("detection", "instance"), key="AP", computed_by="box_scores", validation=("val_mAP",),
        evaluator=_coco("bbox"), writes=_COCO_FILES,
    ),
    Metric(
        name="mask AP", tasks=("instance",), key="mask AP", computed_by="mask_scores", validation=("val_segm_mAP",),
        evaluator=_coco("bbox", "segm"), writes=_COCO_FILES, shows="masks",
    ),
    # VOC's own evaluator says mAP where COCO's code says mAP_50.
    Metric(
        name="box AP50", tasks=("detection", "instance"), key="AP50", computed_by="box_scores",
        validation=("val_mAP_50", "val_mAP"), evaluator=_coco("bbox"), writes=_COCO_FILES,
    ),
    Metric(
        name="mIoU", tasks=("segmentation",), key="mIoU", computed_by="label_map_scores", validation=("val_mIoU",),
        evaluator={"type": "IoUMetric", "iou_metrics": ["mIoU"]}, writes={"output_dir": "{predictions}"}, save_best="mIoU",
        shows="label maps",
    ),
    Metric(name="top-1", tasks=("classification",), key="top-1"),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _RECORDS}


def known_metric(name: str) -> str:
    """Return the name of a metric; a pydantic error for any other text."""
    if name not in METRICS:
        *first, last = (f"'{metric}'" for metric in METRICS)
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": f"{', '.join(first)} or {last}"})
    return name


MetricName = Annotated[str, AfterValidator(known_metric)]
