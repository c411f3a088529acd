"""The leaderboard of pairs that are judged by different metrics, from records made up here."""

import pytest
from PIL import Image

from pipelines.report import read_result
from reports.board import PublishedFigure, leaderboard, table
from reports.figures import leaderboard_png
from reports.record import Ap, Cost, Data, Metrics, Run, Segmentation
from reports.tables import by_seed, markdown, overview

COST = Cost(wall_s=120, train_s=90, images_per_s=30.4, num_images=100, peak_memory_mib=900, resumed_after_iteration=0)


def result(metric, score, method="none", seed=0, data="d", **run):
    """A finished training whose score in the metric is given; its other figures differ from it."""
    others = {"AP50": 91.0, "AP75": 92.0, "APs": None, "APm": 93.0, "APl": 94.0}
    kinds = {
        "box AP": {"box": Ap(AP=score, **others)},
        "box AP50": {"box": Ap(AP=1.0, **{**others, "AP50": score})},
        "mask AP": {"box": Ap(AP=2.0, **others), "mask": Ap(AP=score, **others)},
        "mIoU": {"seg": Segmentation(mIoU=score, mAcc=95.0, aAcc=96.0)},
    }
    identity = {"tier": "mini", "pair": "pair", "method": method, "seed": seed, "weights_sha256": "0"}
    record = {"stage": "distill", "status": "done", "cost": COST, "data": Data(name="scenes", digest=data), **identity, **run}
    return Run(**record), Metrics(num_images=1, weights_sha256="0", metric=metric, score=score, **kinds[metric])


def made_up(metric, title="A pair", teacher=None):
    """A table of control and MGD, two seeds each: means 11 and 14, the teacher at 20."""
    scores = {"none": (10.0, 12.0), "mgd": (13.0, 15.0)}
    return table(
        "pair", title, {"none": "none (control)", "mgd": "MGD", "cwd": "CWD"},
        task="-", metric=metric, dataset="Cityscapes" if metric == "mIoU" else "COCO", teacher_name="teacher",
        teacher=teacher or result(metric, 20.0, None),
        results={name: [result(metric, score, name, seed) for seed, score in enumerate(of)] for name, of in scores.items()},
        published={"mgd": [PublishedFigure(value=v, gain=g, teacher=43.0, source="a paper") for v, g in ((41.0, 3.6), (40.25, 2.0))]},
    )  # fmt: skip


@pytest.mark.parametrize("metric", ["box AP", "box AP50", "mask AP", "mIoU"])
def test_rows_are_judged_by_the_pairs_metric(metric):
    """Whatever it is: 14 is 3 over 11, of the 9 that the teacher leads by."""
    found = made_up(metric)
    row = found.rows[1]

    assert found.teacher.score == 20.0
    assert [seed.score for seed in row.seeds] == [13.0, 15.0]
    assert (row.mean, row.gain, row.gap_closed) == (14.0, 3.0, pytest.approx(1 / 3))
    assert row.gain_low < row.gain < row.gain_high
    assert found.rows[2].status == "not run"


@pytest.mark.parametrize(
    ("metric", "name", "columns"),
    [
        ("box AP", "AP", "AP | AP50 | AP75 | APs | APm | APl"),
        ("box AP50", "AP50", "AP | AP50 | AP75 | APs | APm | APl"),
        ("mask AP", "mask AP", "mask AP | mask AP50 | mask AP75 | mask APs | mask APm | mask APl | box AP"),
        ("mIoU", "mIoU", "mIoU | mAcc | aAcc"),
    ],
)
def test_tables_name_the_metric(metric, name, columns):
    """In the head of the main table, with the teacher, and as columns of single trainings."""
    found = made_up(metric)
    board = leaderboard("mini", "small", [found], [])
    main, single = overview(board).splitlines(), by_seed(found).splitlines()

    assert main[0] == f"**A pair** (teacher 20.0 {name})"
    assert main[2].startswith(f"| method | {name}, mean ± sd | n |")
    assert f"| published {name} | published gain |" in main[2]
    assert main[5].startswith("| MGD | 14.0 ± 1.4 | 2 | +3.0 [")
    assert main[5].endswith("| 33 % | 1.5 | 900 | 41.0, 40.25 | +3.6, +2.0 |")
    assert single[0] == f"| method | seed | {columns} | images/s | commit | MLflow run |"
    assert {line.count("|") for line in main[2:]} == {10}
    assert {line.count("|") for line in single} == {single[0].count("|")}
    assert single[3].startswith("| none (control) | 0 | ")


def test_a_table_of_masks_without_boxes():
    """SOLO: no column of boxes."""
    metrics = result("mask AP", 5.0)[1].model_copy(update={"box": None})

    assert list(metrics.shown()) == ["mask AP", "mask AP50", "mask AP75", "mask APs", "mask APm", "mask APl"]


def test_report_says_on_what_data_and_from_where():
    """Which published data sets are meant, a fetched teacher's file, what a method's authors changed, digests by data set."""
    fetched = result("mIoU", 20.0, None, cost=None, origin="deeplab.pth", stage="teacher")
    runs = [
        result("box AP", 1.0, data="one")[0],
        result("box AP", 1.0, data="two")[0],
        result("mIoU", 1.0)[0].model_copy(update={"data": Data(name="cityscapes", digest="three")}),
    ]
    tables = [made_up("box AP"), made_up("mIoU", teacher=fetched)]
    changed = tables[0].rows[1].model_copy(update={"config_changes": {"optim_wrapper.optimizer.lr": 0.02}})
    tables[0] = tables[0].model_copy(update={"rows": [tables[0].rows[0], changed]})
    text = markdown(leaderboard("mini", "small", tables, runs))

    assert "These are not COCO or Cityscapes figures." in text
    assert "Teacher here: **20.0 AP** (one training of 1.5 min)." in text
    assert "Teacher here: **20.0 mIoU** (weights of `deeplab.pth`)." in text
    assert "| teacher |  | 20.0 | 95.0 | 96.0 |  |  | `none` |" in text
    assert "- MGD: none; in the student's config `optim_wrapper.optimizer.lr = 0.02`\n" in text
    assert "- Data digest, cityscapes: `three`.\n- Data digest, scenes: `runs disagree`.\n" in text


@pytest.mark.parametrize(("num_pairs", "width"), [(1, 1), (2, 1), (3, 2)])
def test_picture_has_a_column_or_two(num_pairs, width, tmp_path):
    """Seven inches a column at 150 dots an inch; made again, the same bytes."""
    tables = [
        made_up(metric, "A rather long title of a pair of models " * 2) for metric in ("box AP", "mask AP", "mIoU")[:num_pairs]
    ]
    board = leaderboard("mini", "small", tables, [])
    leaderboard_png(board, tmp_path / "first.png")
    leaderboard_png(board, tmp_path / "second.png")

    assert Image.open(tmp_path / "first.png").width == width * 7 * 150
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_picture_without_any_result(tmp_path):
    """A pair of which nothing has run yet, not even the teacher."""
    nothing = table(
        "pair", "A pair", {"none": "none (control)"}, task="-", metric="mIoU", dataset="COCO",
        teacher_name="teacher", teacher=None, results={}, published={},
    )  # fmt: skip
    leaderboard_png(leaderboard("mini", "small", [nothing], []), tmp_path / "board.png")

    assert Image.open(tmp_path / "board.png").width == 7 * 150


def test_records_of_an_earlier_version_are_one_line(tmp_path):
    """A metrics.json from before scores had names."""
    run, metrics = result("box AP", 1.0)
    (tmp_path / "run.json").write_text(run.model_dump_json())
    old = metrics.model_dump_json(include={"num_images", "weights_sha256", "box", "per_class"})
    (tmp_path / "metrics.json").write_text(old.replace("{", '{"schema_version": 1, ', 1))

    with pytest.raises(ValueError, match=r"metrics\.json: schema_version: .*; run its stage again") as caught:
        read_result(tmp_path)
    assert "\n" not in str(caught.value)
