"""Objects found and named, on cases counted by hand."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pipelines.engine.metrics import reading, segmentation_iou

SIDE = 40


def truth(tmp_path, objects, crowds=()):
    """A COCO file: per object image, class and box xywh; masks fill the boxes."""
    annotations = [
        {
            "id": number, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3],
            "segmentation": rle(box), "iscrowd": int(number in crowds),
        }
        for number, (image, label, box) in enumerate(objects, 1)
    ]  # fmt: skip
    images = [{"id": image, "width": SIDE, "height": SIDE, "file_name": f"{image}.png"} for image in (1, 2, 3)]
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]})
    )
    return path


def rle(box):
    """A filled box, run-length encoded."""
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    left, top, width, height = box
    mask[top : top + height, left : left + width] = 1
    found = coco_mask.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


def said(image, label, score, box):
    """A detection of a box and its mask."""
    return {"image_id": image, "category_id": label, "score": score, "bbox": box, "segmentation": rle(box)}


BOX, NEAR, FAR = [10, 10, 10, 10], [10, 10, 10, 8], [10, 10, 10, 5]  # IoU with BOX: 0.8 and 0.5


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ([said(1, 1, 0.9, NEAR)], (50, 100)),
        ([said(1, 2, 0.9, NEAR)], (50, 0)),
        ([said(1, 2, 0.9, NEAR), said(1, 1, 0.3, BOX)], (50, 0)),  # the surer one counts, not the better placed
        ([said(1, 1, 0.9, NEAR), said(1, 2, 0.3, BOX)], (50, 100)),
        ([said(1, 1, 0.9, FAR)], (0, None)),  # above 0.5, not at it
        ([said(1, 2, 0.9, FAR), said(1, 1, 0.1, NEAR)], (50, 100)),
        ([said(3, 1, 0.9, BOX)], (0, None)),  # in another image
        ([said(2, 1, 0.9, BOX), said(1, 1, 0.9, BOX)], (100, 50)),
        ([], (0, None)),
    ],
)
def test_found_and_right(tmp_path, kind, detections, expected):
    """Two objects, one of class 1 in image 1 and one of class 2 in image 2."""
    result = reading(truth(tmp_path, [(1, 1, BOX), (2, 2, BOX)]), detections, kind)

    assert (result.found, result.right) == expected


def test_one_box_may_find_two_objects(tmp_path):
    """Objects that nearly cover each other: of one class each, one is named rightly."""
    result = reading(truth(tmp_path, [(1, 1, BOX), (1, 2, NEAR)]), [said(1, 1, 0.5, BOX)], "bbox")

    assert (result.found, result.right) == (100, 50)


def test_crowds_and_empty_images_do_not_count(tmp_path):
    """One object and a crowd that nothing finds; without any object there is nothing to say."""
    path = truth(tmp_path, [(1, 1, BOX), (2, 2, BOX)], crowds=(2,))

    assert reading(path, [said(1, 1, 0.5, BOX), said(3, 1, 0.9, BOX)], "bbox").found == 100
    assert reading(truth(tmp_path, [(2, 2, BOX)], crowds=(1,)), [said(2, 2, 0.5, BOX)], "bbox") is None


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([[0, 1], [2, 2]], 100.0),
        ([[0, 2], [1, 1]], 100.0),  # whatever the classes
        ([[1, 1], [2, 2]], 75.0),
        ([[0, 0], [2, 0]], 100 / 3),
        ([[0, 0], [0, 0]], 0.0),
    ],
)
def test_foreground(tmp_path, predicted, expected):
    """Three of four pixels are foreground; None where no class is background."""
    for name, values in (("truth", [[0, 1], [2, 2]]), ("predicted", predicted)):
        Image.fromarray(np.array(values, np.uint8)).save(tmp_path / f"{name}.png")
    maps = [(tmp_path / "truth.png", tmp_path / "predicted.png")]

    assert segmentation_iou(maps, ("background", "a", "b"))[0].foreground == pytest.approx(expected, abs=1e-3)
    assert segmentation_iou(maps, ("road", "a", "b"))[0].foreground is None
