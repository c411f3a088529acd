"""Model cards: the block that the hub reads, limits and origin, and the picture of predictions."""

import numpy as np
import pytest
import yaml
from PIL import Image

from pipelines.params import load_grid, load_yaml
from pipelines.reporting.cards import CARD, PICTURE, student_origin, write_cards
from reports.formats.model_card import Origin, model_card
from reports.plots.card_picture import card_picture
from tests.boards import board, made_up
from tests.conftest import PAIR, ROOT

SCENES = Origin("GFL-R50 1x", "mmdet::gfl/gfl_r50_fpn_1x_coco.py", "the backbone resnet50", "scenes")
ORANGE, BLUE = (0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)  # Okabe and Ito's first two, of classes 0 and 1


def card(found, origin=SCENES, **more):
    """The block and the text of the card of MGD's first seed."""
    table = found.tables[0]
    _, block, text = model_card(found, table, table.rows[1], table.rows[1].seeds[0], origin, **more).split("---\n", 2)
    return yaml.safe_load(block), text


def segmented(**arrays):
    """Samples of one black image of 2 x 2 pixels with the classes background, one and two."""
    return {"image_0": np.zeros((2, 2, 3), np.uint8), "classes": np.array(["background", "one", "two"]), **arrays}


def test_the_block_at_reduced_scale():
    """Licence of the project's own data, task and metric; generated data have no name on the hub."""
    block, text = card(board())

    assert {key: block.get(key) for key in ("license", "pipeline_tag", "metrics", "datasets")} == {
        "license": "apache-2.0",
        "pipeline_tag": "object-detection",
        "metrics": ["box_AP"],
        "datasets": None,
    }
    assert "These are not COCO results" in text
    assert "CC BY 2.0" in text
    assert "columns headed" not in text


def test_the_block_at_paper_scale():
    """The data set by name, and no licence that the project could give; no word on scale."""
    block, text = card(board(paper_scale=True), Origin("R50", "mmdet::a/b.py", "resnet50-0676ba61.pth", "published"))

    assert (block["license"], block["datasets"]) == ("other", ["coco"])
    assert "Scale:" not in text
    assert "the terms of COCO and of the weights" in text
    assert "started from resnet50-0676ba61.pth" in text


def test_limits_of_one_run():
    """13 and 15: the next seed within 14 -+ 12.706 sqrt(2) sqrt(3/2), by the t quantile at one degree of freedom; three weakest classes."""
    found = board()
    table = found.tables[0]
    scores = {"one": 40.0, "two": 10.0, "three": None, "four": 30.0, "five": 20.0}
    seed = table.rows[1].seeds[0].model_copy(update={"per_class": scores})
    text = " ".join(model_card(found, table, table.rows[1], seed, SCENES).split())

    assert "the score of a further seed is expected between -8.0 and 36.0 (95 %)" in text
    assert "Weakest classes: two 10.0, five 20.0, four 30.0 AP." in text
    assert "base model: gfl-r50 1x, `mmdet::gfl/gfl_r50_fpn_1x_coco.py`, started from the backbone resnet50." in text.lower()


def test_one_seed_has_no_spread():
    """And the card says so."""
    _, text = card(board(made_up(scores={"none": (10.0,), "mgd": (13.0,)})))

    assert "the spread between seeds is not known from fewer than two" in text


def test_a_card_without_facts_or_picture():
    """No licence, no base model, no image."""
    block, text = card(board(), None)

    assert "license" not in block
    assert "Base model" not in text
    assert "![" not in text


def test_picture_of_regions():
    """65 % of the class's colour over 35 % of the grey image; background stays; truth above, prediction below."""
    truth = segmented(true_labels_0=np.array([[0, 1], [2, 1]], np.uint8))
    picture = card_picture(truth, {"labels_0": np.array([[1, 0], [1, 1]], np.uint8)})
    blue = tuple(int(0.65 * value) for value in BLUE)

    assert picture.size == (240, 240 + 6 + 240)
    assert [picture.getpixel(at) for at in ((60, 60), (180, 60), (60, 306), (180, 306))] == [(0, 0, 0), blue, blue, (0, 0, 0)]


def test_picture_of_boxes():
    """Higher-scoring of two predictions on an image with one object; edges at its sides, in its class's colour."""
    image = np.zeros((240, 240, 3), np.uint8)
    truth = {
        "image_0": image, "classes": np.array(["zero", "one"]),
        "true_boxes": np.array([[0, 10, 10, 100, 100]], np.float32), "true_box_labels": np.array([0]),
    }  # fmt: skip
    found = {
        "boxes": np.array([[0, 20, 20, 120, 120, 0.9], [0, 50, 50, 200, 200, 0.3]], np.float32),
        "box_labels": np.array([1, 0]),
    }
    picture = card_picture(truth, found)

    assert picture.getpixel((100, 60)) == ORANGE
    assert picture.getpixel((120, 246 + 60)) == BLUE
    assert ORANGE not in {picture.getpixel((x, 246 + 150)) for x in range(240)}


@pytest.mark.parametrize("missing", ["image_0", "true_labels_0", "labels_0"])
def test_no_picture_without_image_truth_or_prediction(missing):
    """As of methods that left no samples."""
    labels = np.ones((2, 2), np.uint8)
    truth, found = segmented(true_labels_0=labels), {"labels_0": labels}
    for arrays in (truth, found):
        arrays.pop(missing, None)

    assert card_picture(truth, found) is None


def test_cards_beside_weights(tmp_path, monkeypatch):
    """One per student, with its picture where there are samples; both go with the samples, and DVC does not see them."""
    monkeypatch.chdir(ROOT)
    found = board(made_up(name=PAIR))
    labels = np.ones((2, 2), np.uint8)
    student = tmp_path / PAIR / "mgd/seed1"
    for folder, arrays in ((tmp_path / PAIR / "teacher", segmented(true_labels_0=labels)), (student, {"labels_0": labels})):
        folder.mkdir(parents=True)
        np.savez(folder / "samples.npz", **arrays)
    write_cards(found, load_grid(), tmp_path)
    with Image.open(student / PICTURE) as picture:
        size = picture.size

    assert size == (240, 486)
    assert f"]({PICTURE})" in (student / CARD).read_text()
    assert f"]({PICTURE})" not in (tmp_path / PAIR / "mgd/seed0" / CARD).read_text()
    assert f"/runs/**/{PICTURE}" in (ROOT / ".dvcignore").read_text().splitlines()
    (student / "samples.npz").unlink()
    write_cards(found, load_grid(), tmp_path)
    assert not (student / PICTURE).exists()
    assert f"]({PICTURE})" not in (student / CARD).read_text()


@pytest.mark.parametrize(
    ("tier", "start"),
    [("mini", "the backbone resnet50, "), ("paper", "resnet50-0676ba61.pth"), ("smoke", "the backbone resnet50, ")],
)
def test_what_a_student_starts_from(monkeypatch, tier, start):
    """The file of the pair's record at paper scale, the backbone of stage pretrain at reduced scale."""
    from pipelines.grid import Grid  # noqa: PLC0415

    monkeypatch.chdir(ROOT)
    grid = load_yaml(ROOT / "params.yaml", Grid).model_copy(update={"tier": tier})
    origin = student_origin(grid, PAIR)

    assert (origin.model, origin.config) == ("GFL-R50 1x", "mmdet::gfl/gfl_r50_fpn_1x_coco.py")
    assert origin.start.startswith(start)
    assert origin.data == ("published" if tier == "paper" else "scenes")
