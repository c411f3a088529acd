"""MMDetection's RoI heads as a method sees them: proposals with their labels, and predictions on any proposals."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures.bbox import bbox2roi
from torch import nn

from methods.contract import Levels, Proposals, RoiPrediction


class RoiHandle:
    """The contract's ``RoiHead`` on a RoI head (a cascade's first stage), the neck's output, its proposals and its own prediction."""

    def __init__(self, roi_head: Any, levels: Levels, draw: Callable[[], Proposals], own: RoiPrediction | None = None) -> None:
        self._roi_head, self._levels, self._draw, self._own = roi_head, levels, draw, own

    @cached_property
    def proposals(self) -> Proposals:
        """The model's own proposals."""
        return self._draw()

    def predict(self, proposals: Proposals) -> RoiPrediction:
        """Return the head's prediction; on its own proposals the recorded one."""
        if self._own is not None and proposals is self.proposals:
            return self._own
        stage = [0] if isinstance(self._roi_head.bbox_head, nn.ModuleList) else []
        outputs = self._roi_head._bbox_forward(*stage, self._levels, proposals.rois_R5)  # noqa: SLF001 (predicts, and no more)
        return RoiPrediction(outputs["cls_score"], outputs["bbox_pred"])


@torch.no_grad()
def draw(model: Any, levels: Levels, samples: list[Any], generator: torch.Generator) -> Proposals:
    """Return a detector's proposals, assigned and sampled as in its own training; the generator seeds the draws."""
    parts: Iterator[Any] = (getattr(model.roi_head, name) for name in ("bbox_assigner", "bbox_sampler", "bbox_head", "train_cfg"))
    firsts: Iterator[Any] = (part[0] if isinstance(part, (list, nn.ModuleList)) else part for part in parts)  # of a cascade
    assigner, sampler, head, config = firsts
    objects, ignored, metas = unpack_gt_instances(samples)
    regions = model.rpn_head.predict_by_feat(*model.rpn_head(levels), batch_img_metas=metas, cfg=model.train_cfg.rpn_proposal)
    seed, sampled = int(torch.randint(2**62, (), generator=generator, device=generator.device)), []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the samplers draw on the CPU
        for image, region in enumerate(regions):
            region.priors = region.pop("bboxes")
            assigned = assigner.assign(region, objects[image], ignored[image])
            sampled.append(sampler.sample(assigned, region, objects[image], feats=[level[image][None] for level in levels]))
    return Proposals(bbox2roi([result.priors for result in sampled]), head.get_targets(sampled, config)[0])
