"""LD against loops over objects, anchors and sides, against MMDetection's LDHead on a whole detector, and by hand."""

import math

import pytest
import torch

from methods.ld import Method, valuable_region
from pipelines.engine import heads
from pipelines.recipes import load_parts
from tests.test_heads import batch, detector, frozen, generator, tapped
from tests.views import CASES, Case, assert_exact

MAIN, REGION = (load_parts(name)[0].recipe.hparams for name in ("ld", "ld_vlr"))
VARIANTS = {
    "main": MAIN,
    "with region": REGION,
    "other values": REGION | {"temperature": 3.0, "num_candidates": 2, "least_share": 0.1},
}


def build(hparams):
    """The method in double precision."""
    return Method({}, **hparams).double()


def naive_iou(first, second):
    """IoU of two boxes, and the overlap over the first one's area less their distance's share, in plain numbers."""
    (a, b, c, d), (e, f, g, h) = first, second
    shared = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    union = max((c - a) * (d - b) + (g - e) * (h - f) - shared, 1e-6)
    diagonal = max((max(c, g) - min(a, e)) ** 2 + (max(d, h) - min(b, f)) ** 2, 1e-6)
    apart = ((a + c - e - g) ** 2 + (b + d - f - h) ** 2) / 4
    return shared / union, shared / max((c - a) * (d - b), 1e-6) - apart / diagonal


def naive_region(levels, boxes, num_candidates, least_share):
    """Object by object: threshold from the nearest anchors of each level, then every anchor's closeness against it."""
    anchors = [anchor for level in levels for anchor in level]
    weights = [0.0] * len(anchors)
    for box in boxes:
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        candidates = []
        for level in levels:
            distances = [((a[0] + a[2]) / 2 - centre[0]) ** 2 + ((a[1] + a[3]) / 2 - centre[1]) ** 2 for a in level]
            order = sorted(range(len(level)), key=lambda k: distances[k])[:num_candidates]
            candidates += [naive_iou(level[k], box)[0] for k in order]
        mean = sum(candidates) / len(candidates)
        deviation = (
            math.sqrt(sum((value - mean) ** 2 for value in candidates) / (len(candidates) - 1))
            if len(candidates) > 1
            else math.nan
        )
        for k, anchor in enumerate(anchors):
            iou, closeness = naive_iou(anchor, box)
            if least_share * (mean + deviation) <= closeness < mean + deviation:
                weights[k] = max(weights[k], iou)
    return weights


def naive(method, student, teacher, batch):
    """Side by side of every location; the region image by image in plain numbers."""
    mine, other, targets = student.dense_head.prediction, teacher.dense_head.prediction, student.dense_head.targets
    ours, theirs, t = mine.side_logits_NP4B, other.side_logits_NP4B.detach(), method.temperature
    num_images, num_locations = targets.positive_NP.shape
    main = region = torch.zeros((), dtype=torch.float64)
    for n in range(num_images):
        weights = [0.0] * num_locations
        if method.region_weight:
            levels, usable, first = [], [], 0
            for level in batch.anchors_xyxy:
                rows = level.reshape(-1, 4).tolist()
                kept = [k for k in range(len(rows)) if targets.weight_NP[n, first + k] > 0]
                levels.append([rows[k] for k in kept])
                usable += [first + k for k in kept]
                first += len(rows)
            found = naive_region(levels, batch.boxes_xyxy[n].tolist(), method.num_candidates, method.least_share)
            for k, weight in zip(usable, found, strict=True):
                weights[k] = weight
        for p in range(num_locations):
            divergence = 0.0
            for side in range(4):
                q = (theirs[n, p, side] / t).softmax(0)
                divergence = divergence + t * t * (q * (q.log() - (ours[n, p, side] / t).log_softmax(0))).sum() / len(q)
            if targets.positive_NP[n, p]:
                main = main + mine.class_logits_NPK[n, p].detach().sigmoid().max() * divergence / 4
            region = region + weights[p] * divergence / 16
    images = method.images_per_gpu / num_images
    losses = {"loss_ld": method.main_weight * images * main}
    return losses | ({"loss_ld_region": method.region_weight * images * region} if method.region_weight else {})


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_naive_form(case, variant):
    """One anchor a location, as GFL has it; no gradient through the weights."""
    assert_exact(build(VARIANTS[variant]), naive, Case(**CASES[case], head="gfl"))


def test_region_by_hand():
    """One level, one object (0, 0, 4, 4), three anchors of its size moved by 0, 2 and 4 pixels.

    IoU 1, 1/3 and 0; the two nearest give the threshold 2/3 + sqrt(2)/3 = 1.138.  Overlap over the anchor's area less the
    distance: 1, 1/2 - 4/52 = 0.423 and -16/80.  At a lower end of 0.25 of the threshold (0.2845) the first two are inside,
    with a union below (1/3 - 4/52 = 0.256) only the first would be; at 0.4 (0.455) the first alone is.
    """
    anchors = torch.tensor([[0.0, 0, 4, 4], [2.0, 0, 6, 4], [4.0, 0, 8, 4]], dtype=torch.float64)
    box = torch.tensor([[0.0, 0, 4, 4]], dtype=torch.float64)

    assert valuable_region([anchors], box, 2, 0.25).tolist() == pytest.approx([1, 1 / 3, 0])
    assert valuable_region([anchors], box, 2, 0.4).tolist() == pytest.approx([1, 0, 0])
    assert valuable_region([anchors], box[:0], 2, 0.25).tolist() == [0, 0, 0]


def test_a_batch_keeps_its_meaning():
    """Images side by side: the mean of each alone, so that the weight does not grow with the batch."""
    case = Case(num_images=2, head="gfl")
    method = build(MAIN)
    whole = method(case.student, case.teacher, case.batch)["loss_ld"].item()
    ours, theirs = (view.dense_head.prediction for view in (case.student, case.teacher))
    targets, singles = case.student.dense_head.targets, []
    for image in range(2):
        t = (theirs.side_logits_NP4B[image] / 10).softmax(-1)
        kl = (t * (t.log() - (ours.side_logits_NP4B[image] / 10).log_softmax(-1))).mean(-1).sum(-1) * 100
        score = ours.class_logits_NPK[image].sigmoid().amax(-1)
        singles.append((0.25 * 3 * kl * score * targets.positive_NP[image]).sum().item() / 4)

    assert whole == pytest.approx(sum(singles) / 2, rel=1e-9)


def test_equal_to_mmdetections_ld_head():
    """The whole detector in double precision: its LDHead's loss, and the gradient on backbone and neck."""
    from mmengine.registry import MODELS, DefaultScope  # noqa: PLC0415

    from methods.contract import Batch, View  # noqa: PLC0415
    from pipelines.engine.mmlab import quiet  # noqa: PLC0415
    from pipelines.engine.published import published_config  # noqa: PLC0415

    inputs, samples = batch(dtype=torch.float64)
    student, teacher = detector("gfl", seed=2).double().train(), frozen(detector("gfl", seed=1).double())
    published = published_config("mmdet::gfl/gfl_r50_fpn_1x_coco.py").model
    config = published.bbox_head
    config.update(
        type="LDHead", num_classes=3, in_channels=16, feat_channels=16, norm_cfg={"type": "GN", "num_groups": 4},
        loss_ld={"type": "KnowledgeDistillationKLDivLoss", "loss_weight": 0.25, "T": 10},
        train_cfg=published.train_cfg, test_cfg=published.test_cfg,
    )  # fmt: skip
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        head = MODELS.build(config).double().train()
    head.load_state_dict(student.bbox_head.state_dict(), strict=False)
    with torch.no_grad():
        said = teacher.bbox_head(teacher.extract_feat(inputs))
    expected = sum(head.loss(student.extract_feat(inputs), said, samples)["loss_ld"])
    _, (dense, _) = tapped(student, "gfl", ("box_distributions",), None, inputs, samples)
    features = teacher.extract_feat(inputs)
    model, _ = heads.teacher_handles(teacher, "gfl", ("box_distributions",), None, features, samples, generator())
    method = build(MAIN | {"images_per_gpu": len(inputs)})
    found = method(View({}, dense), View({}, model), Batch(0, (), (), (64, 96), generator()))["loss_ld"]
    shared = [p for name, p in student.named_parameters() if p.requires_grad and not name.startswith("bbox_head")]
    ours, theirs = (torch.autograd.grad(loss, shared, allow_unused=True) for loss in (found, expected))

    # GFL's head casts its distributions to single precision.
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.item() > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or (mine - other).abs().max() <= 1e-4 * other.abs().max()
