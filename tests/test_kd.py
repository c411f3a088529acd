"""KD against loops over locations, classes and pixels, against MMDetection's loss of that name, and by hand."""

import math

import pytest
import torch

from methods.contract import Batch, DensePrediction, DenseTargets, View
from methods.kd import Method
from pipelines.recipes import load_parts
from tests.views import CASES, Case, assert_exact

(PART,) = load_parts("kd")
DENSE, SEGMENTER = (PART.resolve("any", head, "paper")[0].hparams for head in ("gfl", "segmenter"))


def build(hparams, case):
    """The method in double precision."""
    return Method(case.channels, **hparams).double()


def row_kl(ours, theirs, temperature):
    """KL(teacher || student) of one row's softened softmax, times the temperature squared, class by class."""
    p = (theirs.detach() / temperature).exp() / (theirs.detach() / temperature).exp().sum()
    q = (ours / temperature).exp() / (ours / temperature).exp().sum()
    return temperature**2 * sum(p[k] * (p[k].log() - q[k].log()) for k in range(len(p)))


def naive(method, student, teacher, batch):
    """One row after the other."""
    if method.role == "logits":
        ours, theirs = student.features["logits"][0], teacher.features["logits"][0]
        pixels = [(n, y, x) for n in range(len(ours)) for y in range(ours.shape[2]) for x in range(ours.shape[3])]
        total = sum(row_kl(ours[n, :, y, x], theirs[n, :, y, x], method.temperature) for n, y, x in pixels) / len(pixels)
        return {"loss_kd": method.loss_weight * total}
    mine, other, targets = student.dense_head.prediction, teacher.dense_head.prediction, student.dense_head.targets
    total, first = torch.zeros((), dtype=torch.float64), 0
    for size in mine.num_locations:
        chosen = [
            (n, p) for n in range(len(targets.positive_NP)) for p in range(first, first + size) if targets.positive_NP[n, p]
        ]
        for n, p in chosen:
            logits = mine.class_logits_NPK[n, p]
            value = row_kl(logits, other.class_logits_NPK[n, p], method.temperature) * targets.weight_NP[n, p]
            total = total + value / (len(logits) if method.class_mean else 1) / len(chosen)
        first += size
    return {"loss_kd": method.loss_weight * total}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "hparams", [DENSE, SEGMENTER, DENSE | {"class_mean": False, "temperature": 1.0}], ids=["dense", "pixels", "sum"]
)
def test_losses_and_gradients_equal_the_naive_form(case, hparams):
    """Detectors at positive locations, segmenters at every pixel."""
    made = Case(**CASES[case])
    assert_exact(build(hparams, made), naive, made)


def test_equal_to_mmdetections_loss():
    """Level by level with its weights and divisor, as LD's head calls it."""
    from mmdet.models.losses import KnowledgeDistillationKLDivLoss  # noqa: PLC0415

    case = Case(num_images=3)
    loss, learner, model = KnowledgeDistillationKLDivLoss(loss_weight=10, T=2), case.student.dense_head, case.teacher.dense_head
    sizes, targets, expected = learner.prediction.num_locations, learner.targets, 0.0
    parts = (learner.prediction.class_logits_NPK, model.prediction.class_logits_NPK, targets.positive_NP, targets.weight_NP)
    for ours, theirs, positive, weight in zip(*(values.split(sizes, dim=1) for values in parts), strict=True):
        if positive.any():
            weights = weight[positive]
            expected += loss(ours[positive], theirs[positive], weight=weights, avg_factor=int(positive.sum())).item()
    found = build(DENSE, case)(case.student, case.teacher, case.batch)["loss_kd"].item()

    assert found == pytest.approx(expected, rel=1e-6)  # its divisor carries 1.2e-7 on top
    assert found > 0


def test_two_classes_by_hand():
    """One positive location of two: teacher (3/4, 1/4), student (1/2, 1/2); at T 1 the KL is 3/4 log(3/2) - 1/4 log 2."""

    class Head:
        def __init__(self, logits, targets=None):
            self.prediction, self.targets = DensePrediction(torch.tensor([logits]), (2,), lambda: None), targets

    targets = DenseTargets(torch.tensor([[1.0, 1.0]]), torch.tensor([[True, False]]), torch.tensor(1.0))
    student, teacher = Head([[0.0, 0.0], [5.0, 0.0]], targets), Head([[math.log(3.0), 0.0], [0.0, 9.0]])
    method = Method({}, loss_weight=2.0, temperature=1.0, role="predictions", class_mean=False)
    losses = method(View({}, student), View({}, teacher), Batch(0, (), (), (8, 8), torch.Generator()))

    assert losses["loss_kd"].item() == pytest.approx(2 * (0.75 * math.log(1.5) - 0.25 * math.log(2)), rel=1e-6)


def test_unknown_role_is_refused():
    """One line with what there is."""
    with pytest.raises(ValueError, match=r"^kd: .*'neck'.*predictions, logits"):
        Method({}, **(DENSE | {"role": "neck"}))
