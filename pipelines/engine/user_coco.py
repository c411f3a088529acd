"""MMDetection's data set and evaluator on a user's annotation files, read as everything else reads them.

MMDetection itself needs fields that many tools do not write.
"""

from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import DATASETS, METRICS

from pipelines.engine.coco_index import fill


class _Index(COCO):  # type: ignore[misc]  # MMDetection has no types
    """MMDetection's index of a normalised file."""

    def __init__(self, annotation_file: str, *, masks: bool = False) -> None:
        super().__init__()
        fill(self, annotation_file, masks=masks)
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


@DATASETS.register_module()
class UserCocoDataset(CocoDataset):  # type: ignore[misc]
    """MMDetection's data set on a normalised file."""

    COCOAPI = _Index


@METRICS.register_module()
class UserCocoMetric(CocoMetric):  # type: ignore[misc]
    """MMDetection's evaluator on a normalised file.

    Args:
        ann_file: path of the file.
        more: arguments of MMDetection's evaluator.
    """

    def __init__(self, ann_file: str, **more: Any) -> None:
        super().__init__(ann_file=None, **more)
        self._coco_api = _Index(ann_file, masks="segm" in self.metrics)
