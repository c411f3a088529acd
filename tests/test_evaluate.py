"""Scores against MMDetection's, MMSegmentation's and cases done by hand; the stage's measuring from images to scores."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from benchmarks.synthetic import CLASSES, SceneSpec, write_scenes
from pipelines.engine import evaluation
from pipelines.engine.compose import compose_test, compose_training
from pipelines.engine.data_configs import data_source
from pipelines.engine.evaluation import measure
from pipelines.engine.metrics import coco_ap, segmentation_iou
from pipelines.engine.mmlab import prepare_process, quiet
from pipelines.engine.setting import Setting
from pipelines.engine.weights import save_weights
from pipelines.params import load_pair, load_tier
from reports.schemas.run import Ap, Metrics, Segmentation
from tests.conftest import ROOT, build

COCO_AREAS = (32**2, 96**2)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)
    prepare_process()


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Thirty scenes with digits of many sizes."""
    folder = tmp_path_factory.mktemp("scenes") / "data"
    write_scenes(SceneSpec(seed=1, image_px=128, digit_px=(24, 128), digits=(1, 5), noise=0, train=1, tune=1, test=30), folder)
    return folder


def guesses(truth):
    """Each object found twice, some pixels away, now and then as another digit; as COCO's results for both kinds."""
    rng = np.random.default_rng(0)
    for annotation in json.loads(truth.read_text())["annotations"]:
        mask = rle.decode(annotation["segmentation"])
        for _ in range(2):
            left, top, width, height = np.array(annotation["bbox"]) + rng.integers(-4, 5, 4)
            number = annotation["category_id"]
            moved = np.asfortranarray(np.roll(mask, rng.integers(-1, 2, 2), (0, 1)))
            yield {
                "image_id": annotation["image_id"],
                "category_id": number % 10 + 1 if rng.random() < 0.2 else number,
                "bbox": [float(v) for v in (left, top, max(1, width), max(1, height))],
                "segmentation": rle.encode(moved),
                "score": float(rng.random()),
            }


def mmdetections(truth, found, kind):
    """CocoMetric's results on the same."""
    from mmdet.evaluation.metrics import CocoMetric  # noqa: PLC0415 (seconds)

    with quiet():
        metric = CocoMetric(ann_file=str(truth), metric=kind, classwise=True)
        metric.dataset_meta = {"classes": CLASSES}
        for image in sorted({guess["image_id"] for guess in found}):
            of_image = [guess for guess in found if guess["image_id"] == image]
            boxes = np.array([guess["bbox"] for guess in of_image])
            scores = np.array([guess["score"] for guess in of_image])
            labels = np.array([guess["category_id"] - 1 for guess in of_image])
            prediction = {
                "img_id": image,
                "bboxes": np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
                "scores": scores,
                "labels": labels,
                "masks": [dict(guess["segmentation"]) for guess in of_image],
            }
            metric.results.append(({}, prediction))
        return metric.compute_metrics(metric.results)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ap_equals_mmdetections_metric(kind, scenes):
    """Our reading of COCOeval against CocoMetric's, at COCO's own areas, on shifted objects with scores."""
    found = list(guesses(scenes / "test.json"))
    theirs = mmdetections(scenes / "test.json", found, kind)
    # As MMDetection writes them: a box beside each mask, and the counts as text.
    results = [
        {**guess, "segmentation": {**guess["segmentation"], "counts": guess["segmentation"]["counts"].decode()}}
        for guess in found
    ]
    results = [{key: value for key, value in guess.items() if kind == "segm" or key != "segmentation"} for guess in results]

    ours, per_class = coco_ap(scenes / "test.json", results, COCO_AREAS, kind)

    names = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "APs": "mAP_s", "APm": "mAP_m", "APl": "mAP_l"}
    expected = {name: theirs[f"{kind}_{key}"] for name, key in names.items()}
    assert 5 < ours.AP < 95
    # They round to three digits of a share; no object of a size is -1 there.
    assert ours.model_dump() == {
        name: None if value == -1 else pytest.approx(100 * value, abs=0.06) for name, value in expected.items()
    }
    assert per_class["three"] == pytest.approx(100 * theirs["three_precision"], abs=0.06)


def one_object(path, area_px2, **extra):
    """Truth: a block of 50 x 20 pixels in an image of 64 x 64."""
    mask = np.zeros((64, 64), np.uint8, order="F")
    mask[10:30, 5:55] = 1
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 10, 50, 20], "area": area_px2, **extra}
    annotation["segmentation"] = {"size": [64, 64], "counts": rle.encode(mask)["counts"].decode()}
    images = [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}]
    categories = [{"id": 1, "name": "block"}, {"id": 2, "name": "ball"}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": [annotation]}))
    return mask


def test_ap_of_masks_by_hand(tmp_path):
    """39 of the block's 50 columns are an IoU of 0.78, past six of COCO's ten thresholds; its box is right at all of them."""
    mask = one_object(tmp_path / "truth.json", 1000)
    mask[:, 44:] = 0
    found = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [5, 10, 50, 20]}

    masks, per_class = coco_ap(tmp_path / "truth.json", [{**found, "segmentation": rle.encode(mask)}], (500, 2000), "segm")
    boxes, _ = coco_ap(tmp_path / "truth.json", [found], (500, 2000), "bbox")

    assert masks == Ap(AP=60.0, AP50=100.0, AP75=100.0, APs=None, APm=60.0, APl=None)
    assert per_class == {"block": 60.0, "ball": None}
    assert boxes.AP == 100.0


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ap_of_nothing(kind, tmp_path):
    """No detections at all is AP 0, not an error."""
    one_object(tmp_path / "truth.json", 1000, iscrowd=0)

    assert coco_ap(tmp_path / "truth.json", [], (500, 2000), kind)[0].AP == 0.0


def label_maps(folder, *pairs):
    """Files of true and predicted label maps."""
    found = []
    for index, maps in enumerate(pairs):
        paths = (folder / f"{index}_true.png", folder / f"{index}_found.png")
        for path, labels in zip(paths, maps, strict=True):
            Image.fromarray(np.asarray(labels, np.uint8)).save(path)
        found.append(paths)
    return found


def test_iou_by_hand(tmp_path):
    """Two images as one split; 255 does not count, a class that is only predicted has IoU 0, one that is nowhere none.

    Of a's 4 pixels 3 are found and 1 is called c; of b's 3 pixels 2 are found and 1 is called a:
    IoU of a is 3 / 5, of b 2 / 3, of c 0 / 1; accuracy 3 / 4 and 2 / 3; 5 of 7 pixels are right.
    """
    maps = label_maps(tmp_path, ([[0, 0, 255], [1, 1, 255]], [[0, 2, 0], [1, 1, 1]]), ([[0, 0, 1]], [[0, 0, 0]]))

    scores, per_class = segmentation_iou(maps, ("a", "b", "c", "d"))

    assert scores == Segmentation(
        mIoU=round(100 * (3 / 5 + 2 / 3) / 3, 4), mAcc=round(50 * (3 / 4 + 2 / 3), 4), aAcc=round(500 / 7, 4)
    )
    assert per_class == {"a": 60.0, "b": pytest.approx(200 / 3, abs=1e-4), "c": 0.0, "d": None}


def test_iou_equals_mmsegmentations(tmp_path):
    """Images of different sizes with ignored pixels; class 6 is only predicted, class 7 is nowhere."""
    from mmseg.evaluation import IoUMetric  # noqa: PLC0415 (seconds)

    rng = np.random.default_rng(0)
    cases = []
    for height, width in ((20, 30), (17, 5), (40, 40)):
        true = rng.integers(0, 6, (height, width))
        found = np.where(rng.random(true.shape) < 0.6, true, rng.integers(0, 7, true.shape))
        cases.append((np.where(rng.random(true.shape) < 0.1, 255, true), found))
    areas = [IoUMetric.intersect_and_union(torch.tensor(found), torch.tensor(true), 8, 255) for true, found in cases]
    theirs = IoUMetric.total_area_to_metrics(*(sum(of_images) for of_images in zip(*areas, strict=True)))

    scores, per_class = segmentation_iou(label_maps(tmp_path, *cases), [str(index) for index in range(8)])

    assert scores.mIoU == pytest.approx(100 * np.nanmean(theirs["IoU"]), abs=1e-3)
    assert scores.mAcc == pytest.approx(100 * np.nanmean(theirs["Acc"]), abs=1e-3)
    assert scores.aAcc == pytest.approx(100 * float(theirs["aAcc"]), abs=1e-3)
    assert per_class["7"] is None
    assert [per_class[str(i)] for i in range(7)] == pytest.approx(list(100 * theirs["IoU"][:7]), abs=1e-3)


def test_bad_label_maps_are_one_line(tmp_path):
    """Sizes that differ, labels without a class on either side, nothing predicted, nothing that counts."""

    def error(*pair):
        with pytest.raises(ValueError) as caught:
            segmentation_iou(label_maps(tmp_path, pair), ("a", "b"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    sizes = error([[0, 1]], [[0], [1]])
    assert re.match(rf"{tmp_path}/0_true\.png: .*\(1, 2\).* {tmp_path}/0_found\.png .*\(2, 1\)", sizes), sizes
    assert re.match(rf"{tmp_path}/0_true\.png: .*label 2\b.*\b2 classes", error([[0, 2]], [[0, 1]]))
    assert re.match(rf"{tmp_path}/0_found\.png: .*label 7\b", error([[0, 1]], [[0, 7]]))
    assert "no pixel" in error([[255, 255]], [[0, 1]])
    with pytest.raises(ValueError, match=r"prediction .*true\.png"):
        segmentation_iou([(Path("true.png"), tmp_path / "nowhere.png")], ("a", "b"))


def student(pair_name, folder):
    """A pair at tier smoke on scenes of its own, and a file of random weights of its student."""
    tier, pair = load_tier("smoke"), load_pair(pair_name)
    write_scenes(tier.scenes, folder / "data")
    setting = Setting(pair, tier, data_source(pair, tier, folder / "data"))
    torch.manual_seed(0)
    save_weights(build(compose_training(setting, "student", seed=0)), folder / "student.pth")
    return setting, folder / "student.pth"


def test_a_segmenter_is_measured_as_mmsegmentation_does(tmp_path):
    """From images to mIoU of a random segmenter: the label maps that it writes give what IoUMetric says in the test loop."""
    from mmengine.runner import Runner  # noqa: PLC0415 (seconds)

    setting, weights = student("deeplabv3_r101_deeplabv3_r18", tmp_path)
    config = compose_test(setting, "student", weights, tmp_path / "theirs")
    config.work_dir = str(tmp_path / "work")
    config.test_evaluator = {"type": "IoUMetric", "iou_metrics": ["mIoU"]}
    with quiet():
        theirs = Runner.from_cfg(config).test()

    ours = measure(setting, "student", weights, tmp_path / "ours")

    assert (ours.metric, ours.score, ours.num_images) == ("mIoU", ours.seg.mIoU, setting.tier.scenes.test)
    names = ("mIoU", "mAcc", "aAcc")
    assert ours.seg.model_dump(include=set(names)) == pytest.approx({name: theirs[name] for name in names}, abs=0.006)
    assert len(ours.per_class) == len(CLASSES) + 1
    assert ours.box is ours.mask is None


@pytest.mark.parametrize("pair_name", ["solo_r101_r50", "cascade_mask_x101dcn_mask_rcnn_r50"])
def test_instance_pairs_are_judged_by_masks(pair_name, tmp_path):
    """SOLO has no boxes to speak of; Mask R-CNN has both."""
    metrics = measure(*_order(student(pair_name, tmp_path)), tmp_path / "test")

    assert metrics.metric == "mask AP"
    assert metrics.score == metrics.mask.AP is not None
    assert (metrics.box is None) == (pair_name == "solo_r101_r50")
    assert set(metrics.per_class) == set(CLASSES)


def _order(setting_and_weights):
    setting, weights = setting_and_weights
    return setting, "student", weights


def test_voc_at_full_size_is_what_vocmetric_says(tmp_path, monkeypatch):
    """One of two objects is found, with a false alarm behind it: precision 1 up to recall 0.5, six of eleven points."""
    from mmdet.evaluation.metrics import VOCMetric  # noqa: PLC0415 (seconds)

    boxes, none = np.array([[0.0, 0, 9, 9], [20, 20, 39, 39]]), np.zeros((0, 4))
    truth = {"bboxes": boxes, "labels": np.zeros(2, int), "bboxes_ignore": none, "labels_ignore": np.zeros(0, int)}
    metric = VOCMetric(metric="mAP", eval_mode="11points")
    metric.dataset_meta = {"classes": ("block",), "dataset_type": "VOC2007"}
    metric.results = [(truth, [np.array([[0.0, 0, 9, 9, 0.9], [50, 50, 59, 59, 0.8]])])]
    with quiet():
        said = metric.evaluate(size=1)
    runner = SimpleNamespace(test=lambda: said, test_dataloader=SimpleNamespace(dataset=[None]), register_hook=lambda _: None)
    monkeypatch.setattr(evaluation.CheckedRunner, "from_cfg", lambda _: runner)
    setting, weights = student("faster_rcnn_r101_r50_voc", tmp_path)

    metrics = measure(setting, "student", weights, tmp_path / "test")

    assert metrics.score == metrics.box.AP50 == pytest.approx(600 / 11, abs=1e-3)
    assert metrics.box.AP is None


def test_figures_by_name():
    """Names that MLflow and tables show: plain for boxes, with 'mask' for masks."""
    ap = Ap(AP=1.0, AP50=2.0, AP75=3.0, APs=None, APm=4.0, APl=5.0)
    metrics = Metrics(num_images=1, weights_sha256="0", box=ap, mask=ap)

    assert list(metrics.flat()) == [
        f"{kind}{name}" for kind in ("", "mask ") for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")
    ]
