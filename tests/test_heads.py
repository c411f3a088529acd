"""The handles on MMDetection's heads against the heads themselves, on small whole detectors."""

import copy

import pytest
import torch

from methods.contract import Proposals
from pipelines.engine import heads
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.published import published_config

CONFIGS = {
    "gfl": "mmdet::gfl/gfl_r50_fpn_1x_coco.py",
    "retinanet": "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
    "atss": "mmdet::atss/atss_r50_fpn_1x_coco.py",
    "fcos": "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "faster_rcnn": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade": "mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
}
FAMILIES = ("gfl", "retinanet", "atss", "fcos")
POSITIONS = (0, 1, 2, 3, 4)
NUM_CLASSES = 3
WIDTH = 16
CLASS_CONV = {"gfl": "gfl_cls", "retinanet": "retina_cls", "atss": "atss_cls", "fcos": "conv_cls"}
BOX_CONV = {"gfl": "gfl_reg", "retinanet": "retina_reg", "atss": "atss_reg", "fcos": "conv_reg"}


def detector(name, seed, **head):
    """A published detector made small, with fixed random weights and unequal scales of its levels."""
    from mmengine.registry import MODELS, DefaultScope  # noqa: PLC0415

    prepare_process()
    config = published_config(CONFIGS[name]).model
    config.backbone.update(depth=18, base_channels=8, init_cfg=None)
    config.neck.update(in_channels=[8, 16, 32, 64], out_channels=WIDTH)
    if name in FAMILIES:
        config.bbox_head.update(num_classes=NUM_CLASSES, in_channels=WIDTH, feat_channels=WIDTH, **head)
        if name != "retinanet":
            config.bbox_head.norm_cfg = {"type": "GN", "num_groups": 4, "requires_grad": True}
    else:
        config.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
        config.roi_head.bbox_roi_extractor.out_channels = WIDTH
        stages = config.roi_head.bbox_head if name == "cascade" else [config.roi_head.bbox_head]
        for stage in stages:
            stage.update(num_classes=NUM_CLASSES, in_channels=WIDTH, fc_out_channels=24)
        config.train_cfg.rpn_proposal.max_per_img = 200
        samplers = config.train_cfg.rcnn if name == "cascade" else [config.train_cfg.rcnn]
        for part in samplers:
            part.sampler.num = 48
    torch.manual_seed(seed)
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
    for number, scale in enumerate(getattr(getattr(model, "bbox_head", None), "scales", ())):
        scale.scale.data.fill_(1 + 0.1 * number)
    return model


def frozen(model):
    """As a teacher is."""
    return model.eval().requires_grad_(requires_grad=False)


def batch(*, objects=True, dtype=torch.float32):
    """Two images of 64 x 96, the second without objects and padded below row 40, as MMDetection's loader gives them."""
    from mmdet.structures import DetDataSample  # noqa: PLC0415
    from mmengine.structures import InstanceData  # noqa: PLC0415

    boxes = [[8.0, 8.0, 40.0, 44.0], [30.0, 5.0, 90.0, 60.0], [50.0, 50.0, 62.0, 63.0]] if objects else []
    samples = []
    for number, height in enumerate((64, 40)):
        sample = DetDataSample(
            metainfo={
                "img_shape": (height, 96),
                "ori_shape": (height, 96),
                "batch_input_shape": (64, 96),
                "pad_shape": (height, 96),
            }
        )
        kept = boxes if number == 0 else []
        sample.gt_instances = InstanceData(bboxes=torch.tensor(kept).view(-1, 4), labels=torch.arange(len(kept)) % NUM_CLASSES)
        samples.append(sample)
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)).to(dtype), samples


def generator(seed=0):
    """A seeded generator."""
    return torch.Generator().manual_seed(seed)


def tapped(model, family, roles, position, inputs, samples):
    """Losses and handles of a student."""
    torch.manual_seed(3)  # of a two-stage detector's samplers
    with heads.HeadRecorder(model, family, roles, position) as tap:
        losses = model(inputs, samples, mode="loss")
    return losses, tap.handles()


def teacher_dense(model, family, position, inputs):
    """The dense handle on a frozen teacher, and its neck's output."""
    with torch.no_grad():
        features = model.extract_feat(inputs)
    dense, roi = heads.teacher_handles(model, family, ("dense_head",), position, features, [], generator())
    assert roi is None
    return dense, features


def rows(maps, width):
    """Outputs (N, P, width) written down location by location: levels, rows, columns, anchors."""
    images = []
    for image in range(len(maps[0])):
        found = []
        for level in maps:
            _, channels, height, across = level.shape
            for y in range(height):
                for x in range(across):
                    found += [level[image, anchor * width : (anchor + 1) * width, y, x] for anchor in range(channels // width)]
        images.append(torch.stack(found))
    return torch.stack(images)


def bits(losses):
    """All losses as one list of tensors."""
    return [part for value in losses.values() for part in (value if isinstance(value, list) else [value])]


def state_of(model):
    """Everything that stands in the model's modules, but their tensors."""
    return {
        (path, key): repr(value) if isinstance(value, bool) else id(value)
        for path, module in model.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_")
    } | {(path, "hooks"): len(m._forward_hooks) + len(m._forward_pre_hooks) for path, m in model.named_modules()}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_prediction_is_the_heads_own(family, position):
    """At every position, location by location, all outputs that the head's own forward gives; without a graph."""
    model = frozen(detector(family, seed=1))
    inputs, _ = batch()
    dense, features = teacher_dense(model, family, position, inputs)
    outputs = model.bbox_head(features)
    prediction = dense.prediction

    assert torch.equal(prediction.class_logits_NPK, rows(outputs[0], NUM_CLASSES))
    if family == "gfl":
        assert torch.equal(prediction.side_logits_NP4B.flatten(2), rows(outputs[1], 4 * 17))
    else:
        assert prediction.side_logits_NP4B is None
    if family in {"atss", "fcos"}:
        assert torch.equal(prediction.centerness_NP, rows(outputs[2], 1).squeeze(-1))
    else:
        assert prediction.centerness_NP is None
    assert not prediction.class_logits_NPK.requires_grad
    assert not prediction.boxes_xyxy_NP4.requires_grad


@pytest.mark.parametrize(
    ("family", "head"), [*((family, {}) for family in FAMILIES), ("fcos", {"norm_on_bbox": True, "centerness_on_reg": True})]
)
def test_boxes_are_what_the_head_detects(family, head):
    """Unfiltered detections of MMDetection's own inference, sorted by score, clipped to the image as it clips."""
    model = frozen(detector(family, seed=1, **head))
    inputs, samples = batch()
    dense, features = teacher_dense(model, family, 3, inputs)
    config = copy.deepcopy(model.bbox_head.test_cfg)
    config.update(nms_pre=10**6, score_thr=-1.0, min_bbox_size=-1)
    metas = [sample.metainfo for sample in samples]
    expected = model.bbox_head.predict_by_feat(*model.bbox_head(features), batch_img_metas=metas, cfg=config, with_nms=False)
    for image, result in enumerate(expected):
        height, width = metas[image]["img_shape"]
        boxes = dense.prediction.boxes_xyxy_NP4[image].clone()
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        theirs = result.bboxes[result.labels == 0]  # every location counts once for each class

        assert len(boxes) == len(theirs)
        assert torch.allclose(boxes.sort(0).values, theirs.sort(0).values, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("head", [{"norm_on_bbox": True}, {"centerness_on_reg": True}])
def test_fcos_choices_are_followed(head):
    """Normalised distances come in pixels from a teacher, centerness from the branch that the head names."""
    model = frozen(detector("fcos", seed=1, **head))
    dense, features = teacher_dense(model, "fcos", 2, batch()[0])
    _, distances, centerness = model.bbox_head(features)
    points = torch.cat(model.bbox_head.prior_generator.grid_priors([level.shape[2:] for level in features], device="cpu"))
    distances = rows(distances, 4)
    expected = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)

    assert torch.equal(dense.prediction.boxes_xyxy_NP4, expected)
    assert torch.equal(dense.prediction.centerness_NP, rows(centerness, 1).squeeze(-1))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_tapping_changes_no_bit_and_leaves_nothing(family, position):
    """Losses and gradients of a tapped student are those of an untapped one, and its modules hold what they held."""
    inputs, samples = batch()
    plain, student = (detector(family, seed=2).train() for _ in range(2))
    before, expected = state_of(student), plain(inputs, samples, mode="loss")
    losses, (dense, roi) = tapped(student, family, ("dense_head",), position, inputs, samples)
    for found in (expected, losses):
        sum(part.sum() for part in bits(found)).backward()

    assert roi is None
    assert len(bits(losses)) == len(bits(expected)) > 0
    assert all(torch.equal(a, b) for a, b in zip(bits(losses), bits(expected), strict=True))
    for a, b in zip(student.parameters(), plain.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)
    assert state_of(student) == before
    copy.deepcopy(student)
    assert len(dense.towers) == 2


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_student_towers_are_its_own_features_before_the_activation(family, position):
    """The outputs of convolution and norm are kept, level by level; gradient flows through them."""
    student = detector(family, seed=2).train()
    inputs, samples = batch()
    _, (dense, _) = tapped(student, family, ("dense_head",), position, inputs, samples)
    features = student.extract_feat(inputs)
    for tower, convs in zip(dense.towers, (student.bbox_head.cls_convs, student.bbox_head.reg_convs), strict=True):
        assert len(tower) == len(features)
        for kept, feature in zip(tower, features, strict=True):
            expected = feature
            for number in range(position):
                expected = convs[number](expected if number == 0 else expected.relu(), activate=False)
            assert torch.equal(kept, expected)
            assert kept.requires_grad
            assert position == 0 or (kept < 0).any()


@pytest.mark.parametrize("role", ["predictions", "box_distributions"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_students_predictions_are_those_of_its_own_losses(family, role):
    """Equal to the bit to the head's outputs, with their gradient, and no convolution runs once more for them."""
    plain, student = (detector(family, seed=2).train() for _ in range(2))
    inputs, samples = batch()
    runs = {"plain": 0, "student": 0}
    for name, model in (("plain", plain), ("student", student)):
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(lambda *_, name=name: runs.update({name: runs[name] + 1}))
    plain(inputs, samples, mode="loss")
    _, (dense, _) = tapped(student, family, (role,), None, inputs, samples)
    prediction = dense.prediction
    boxes, centerness, sides = prediction.boxes_xyxy_NP4, prediction.centerness_NP, prediction.side_logits_NP4B
    counted = dict(runs)
    outputs = plain.bbox_head(plain.extract_feat(inputs))

    assert counted["student"] == counted["plain"]
    assert torch.equal(prediction.class_logits_NPK, rows(outputs[0], NUM_CLASSES))
    assert prediction.num_locations == tuple(level[0].numel() // NUM_CLASSES for level in outputs[0])
    assert (sides is not None) == (family == "gfl")
    assert sides is None or torch.equal(sides.flatten(2), rows(outputs[1], 4 * 17))
    assert (centerness is not None) == (family in {"atss", "fcos"})
    assert centerness is None or torch.equal(centerness, rows(outputs[2], 1).squeeze(-1))
    assert dense.targets.positive_NP.shape == prediction.class_logits_NPK.shape[:2] == boxes.shape[:2]
    (prediction.class_logits_NPK.sum() + boxes.sum()).backward()
    towers = [*student.bbox_head.cls_convs.parameters(), *student.bbox_head.reg_convs.parameters()]
    assert all(parameter.grad is not None for parameter in towers)


@pytest.mark.parametrize("objects", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_what_the_head_assigns(family, objects):
    """As get_targets gives them when asked once more, image by image."""
    student = detector(family, seed=2).train()
    inputs, samples = batch(objects=objects)
    _, (dense, _) = tapped(student, family, ("dense_head",), 3, inputs, samples)
    head, sizes = student.bbox_head, [level.shape[2:] for level in dense.towers[0]]
    truths, metas = [sample.gt_instances for sample in samples], [sample.metainfo for sample in samples]
    targets = dense.targets
    if family == "fcos":
        points = head.prior_generator.grid_priors(sizes, device="cpu")
        labels, distances = [], []
        for truth in truths:
            own = head.get_targets(points, [truth])
            labels.append(torch.cat(own[0]))
            distances.append(torch.cat(own[1]))
        labels, distances = torch.stack(labels), torch.stack(distances)
        weights = torch.ones(labels.shape)
        left, top, right, bottom = distances[labels < NUM_CLASSES].unbind(-1)
        centerness = (left.minimum(right) / left.maximum(right) * (top.minimum(bottom) / top.maximum(bottom))).sqrt().sum()
        assert targets.centerness_sum.item() == pytest.approx(max(centerness.item(), 1e-6), rel=1e-6)
        divisor = max(int((labels < NUM_CLASSES).sum()), 1)
    else:
        labels, weights, divisor = [], [], 0
        for truth, meta in zip(truths, metas, strict=True):
            own = head.get_targets(*head.get_anchors(sizes, [meta], device="cpu"), [truth], [meta])
            own = own[-5:]
            labels.append(torch.cat(own[0], dim=1)[0])
            weights.append(torch.cat(own[1], dim=1)[0])
            divisor += max(int((labels[-1] < NUM_CLASSES).sum()), 1)
        labels, weights = torch.stack(labels), torch.stack(weights)
        assert targets.centerness_sum is None
        # Rows below the second image's padding answer for nothing, of anchors whose centre is as low.
        assert (weights[1] == 0).any()

    assert torch.equal(targets.positive_NP, labels < NUM_CLASSES)
    assert targets.positive_NP[0].any() == objects
    assert not targets.positive_NP[1].any()
    assert torch.equal(targets.weight_NP, weights)
    assert targets.num_positives.item() == divisor


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_finish_is_differentiable_and_changes_nothing_that_it_is_given(family, position):
    """Gradient reaches both towers' levels, none the frozen teacher; the given tensors keep their values."""
    model = frozen(detector(family, seed=1))
    dense, _ = teacher_dense(model, family, position, batch()[0])
    given = tuple(tuple(torch.randn_like(level).requires_grad_() for level in tower) for tower in dense.towers)
    copies = [level.detach().clone() for tower in given for level in tower]
    finished = dense.finish(*given)
    (finished.class_logits_NPK.sum() + finished.boxes_xyxy_NP4.sum()).backward()

    assert all(
        torch.equal(level, other) for level, other in zip([level for tower in given for level in tower], copies, strict=True)
    )
    assert all(level.grad.abs().sum() > 0 for tower in given for level in tower)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_widened(family):
    """A student under autocast and a teacher's half features come as float32, with the gradient's way back."""
    student, teacher = detector(family, seed=2).train(), frozen(detector(family, seed=1))
    inputs, samples = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, (dense, _) = tapped(student, family, ("dense_head",), 3, inputs, samples)
        features = teacher.extract_feat(inputs)
    handle, _ = heads.teacher_handles(teacher, family, ("dense_head",), 3, features, samples, generator())

    assert all(level.dtype == torch.float32 and level.requires_grad for tower in dense.towers for level in tower)
    assert features[0].dtype == torch.bfloat16
    assert handle.prediction.class_logits_NPK.dtype == handle.prediction.boxes_xyxy_NP4.dtype == torch.float32


def test_nothing_is_attached_after_an_error():
    """A training step that fails in the middle leaves the student as it was."""
    student = detector("gfl", seed=2).train()
    before = state_of(student)
    with pytest.raises(TypeError), heads.HeadRecorder(student, "gfl", ("dense_head",), 3):
        student(batch()[0], None, mode="loss")

    assert state_of(student) == before


def test_no_role_taps_nothing():
    """Without a head's role nothing of any model is looked at."""
    with heads.HeadRecorder(torch.nn.Module(), "deeplab", ("neck",), None) as tap:
        pass

    assert tap.handles() == (None, None)
    assert heads.teacher_handles(torch.nn.Module(), "deeplab", ("neck",), None, (), [], generator()) == (None, None)


@pytest.mark.parametrize("position", [5, -1])
def test_a_position_beyond_the_tower_is_refused(position):
    """One line that says what there is."""
    model = detector("gfl", seed=1)
    with pytest.raises(ValueError, match=rf"position {position} .*\bgfl .*\b4 .*\b0 to 4"):
        heads.check_position(model, "gfl", position)
    for fine in (None, 0, 4):
        heads.check_position(model, "gfl", fine)


def two_stage(name="faster_rcnn", seed=1):
    """A frozen two-stage teacher, its RoI handle and its neck's output."""
    model = frozen(detector(name, seed=seed))
    inputs, samples = batch()
    with torch.no_grad():
        features = model.extract_feat(inputs)
    _, roi = heads.teacher_handles(model, "faster_rcnn", ("roi_head",), None, features, samples, generator(5))
    return model, roi, features


def test_tapping_a_two_stage_student_changes_no_bit_and_leaves_nothing():
    """The same sampled proposals, losses and modules."""
    inputs, samples = batch()
    plain, student = (detector("faster_rcnn", seed=2).train() for _ in range(2))
    before = state_of(student)
    torch.manual_seed(3)
    expected = plain(inputs, samples, mode="loss")
    losses, (dense, roi) = tapped(student, "faster_rcnn", ("roi_head",), None, inputs, samples)

    assert dense is None
    assert all(torch.equal(a, b) for a, b in zip(bits(losses), bits(expected), strict=True))
    assert state_of(student) == before
    assert roi.proposals.rois_R5.shape[1] == 5


def test_student_on_its_own_proposals_says_what_its_losses_saw():
    """Recorded, not computed twice: the very outputs whose cross-entropy the head reports; labels are those it learned from."""
    student = detector("faster_rcnn", seed=2).train()
    inputs, samples = batch()
    losses, (_, roi) = tapped(student, "faster_rcnn", ("roi_head",), None, inputs, samples)
    own = roi.predict(roi.proposals)
    entropy = torch.nn.functional.cross_entropy(own.class_logits_RK, roi.proposals.labels_R)

    assert roi.predict(roi.proposals).class_logits_RK is own.class_logits_RK
    assert entropy.item() == pytest.approx(losses["loss_cls"].item(), rel=1e-5)
    assert own.class_logits_RK.requires_grad
    assert own.box_deltas_RD.shape == (len(roi.proposals.rois_R5), 4 * NUM_CLASSES)
    assert (roi.proposals.labels_R < NUM_CLASSES).any()


def test_student_on_other_proposals_runs_its_head_anew():
    """The same boxes in another object give the same outputs, from the recorded neck's output, differentiably."""
    student = detector("faster_rcnn", seed=2).train()
    inputs, samples = batch()
    _, (_, roi) = tapped(student, "faster_rcnn", ("roi_head",), None, inputs, samples)
    own, again = roi.proposals, Proposals(roi.proposals.rois_R5.clone(), roi.proposals.labels_R)
    anew = roi.predict(again)

    assert anew.class_logits_RK is not roi.predict(own).class_logits_RK
    assert torch.equal(anew.class_logits_RK, roi.predict(own).class_logits_RK)
    anew.class_logits_RK.sum().backward()
    assert student.backbone.layer4[0].conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade"])
def test_teacher_on_given_proposals_equals_its_modules_by_hand(name):
    """RoI extractor, then box head (of a cascade the first), no graph."""
    model, roi, features = two_stage(name)
    rois = torch.tensor([[0.0, 4.0, 4.0, 40.0, 40.0], [1.0, 0.0, 0.0, 90.0, 60.0], [0.0, 10.0, 20.0, 15.0, 28.0]])
    extractor, head = model.roi_head.bbox_roi_extractor, model.roi_head.bbox_head
    if name == "cascade":
        extractor, head = extractor[0], head[0]
    logits, deltas = head(extractor(features[:4], rois))
    said = roi.predict(Proposals(rois, torch.zeros(3, dtype=torch.long)))

    assert torch.equal(said.class_logits_RK, logits)
    assert torch.equal(said.box_deltas_RD, deltas)
    assert not said.class_logits_RK.requires_grad


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade"])
def test_teacher_proposals_are_those_of_its_training(name):
    """The proposals that its own loss samples with the same seed, with labels, and no trace in the global random numbers."""
    model, roi, _ = two_stage(name)
    inputs, samples = batch()
    torch.manual_seed(9)
    before = torch.get_rng_state()
    proposals = roi.proposals

    assert torch.equal(torch.get_rng_state(), before)
    # Its own training step, with the sampler's stream as the generator seeds it; the RPN's own sampler draws nothing here.
    seed = int(torch.randint(2**62, (), generator=generator(5)))
    first = model.roi_head.bbox_head[0] if name == "cascade" else model.roi_head.bbox_head
    seen = []
    original, first.loss_and_target = first.loss_and_target, lambda **given: seen.append(given) or original(**given)
    rpn_loss, model.rpn_head.loss_by_feat = model.rpn_head.loss_by_feat, lambda *_: {}
    torch.manual_seed(seed)
    model(inputs, samples, mode="loss")
    del rpn_loss

    assert torch.equal(proposals.rois_R5, seen[0]["rois"])
    labels = torch.cat(
        [torch.cat([r.pos_gt_labels, r.neg_inds.new_full((len(r.neg_inds),), NUM_CLASSES)]) for r in seen[0]["sampling_results"]]
    )
    assert torch.equal(proposals.labels_R, labels)
    assert (labels < NUM_CLASSES).any()


def test_teacher_proposals_follow_the_generator():
    """Same seed, same proposals; another one, others."""
    model, _, features = two_stage()
    _, samples = batch()

    def proposals(seed):
        return heads.teacher_handles(model, "faster_rcnn", ("roi_head",), None, features, samples, generator(seed))[1].proposals

    assert torch.equal(proposals(1).rois_R5, proposals(1).rois_R5)
    assert not torch.equal(proposals(1).rois_R5, proposals(2).rois_R5)


def test_proposals_of_images_without_objects_are_background():
    """Finite, and nothing but background."""
    model, _, features = two_stage()
    _, samples = batch(objects=False)
    _, roi = heads.teacher_handles(model, "faster_rcnn", ("roi_head",), None, features, samples, generator())

    assert (roi.proposals.labels_R == NUM_CLASSES).all()
    assert roi.predict(roi.proposals).class_logits_RK.isfinite().all()


@pytest.mark.parametrize(
    ("name", "module", "count"), [("faster_rcnn", "rpn_head", 3), ("retinanet", "bbox_head", 9), ("gfl", "bbox_head", 1)]
)
def test_anchors_stand_where_the_heads_own_do(name, module, count):
    """Row by row and anchor by anchor, the centre of position (y, x) at stride times (x, y)."""
    head = detector(name, seed=0).get_submodule(module)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)] if name == "faster_rcnn" else [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    levels = heads.anchors(head, sizes, torch.device("cpu"))
    for level, size, flat, stride in zip(
        levels, sizes, head.prior_generator.grid_priors(sizes, device="cpu"), head.prior_generator.strides, strict=True
    ):
        assert level.shape == (*size, count, 4)
        assert torch.equal(level.flatten(0, 2), flat)
        centre = (level[size[0] - 1, size[1] - 1, :, :2] + level[size[0] - 1, size[1] - 1, :, 2:]) / 2
        first = (level[0, 0, :, :2] + level[0, 0, :, 2:]) / 2
        assert torch.allclose(
            centre - first, torch.tensor([(size[1] - 1) * stride[0], (size[0] - 1) * stride[1]], dtype=torch.float)
        )
