"""Rows, words, Markdown, CSV and cards, from records made up here."""

import csv

import pytest
import yaml

from reports.formats import wording
from reports.formats.csv_files import runs_csv, write_csv
from reports.formats.markdown import by_seed, markdown, overview, results
from reports.formats.model_card import model_card
from reports.schemas.leaderboard import MissingRun, RecipeSummary
from reports.schemas.reported import Margin
from reports.schemas.run import Data
from reports.stats.rows import RowRecords
from reports.stats.verdicts import half_digit
from tests.boards import COST, board, figure, made_up, result
from tools.readme import compact

MARGIN = Margin(dataset="COCO", metric="box AP", margin=0.3, planning_sd=0.15, why="a reason")


@pytest.mark.parametrize("metric", ["box AP", "box AP50", "mask AP", "mIoU"])
def test_rows_are_judged_by_the_pairs_metric(metric):
    """Whatever it is: 14 is 3 over 11, of the 9 that the teacher leads by."""
    found = made_up(metric)
    row = found.rows[1]

    assert found.teacher.score == 20.0
    assert [seed.score for seed in row.seeds] == [13.0, 15.0]
    assert (row.mean, row.gain, row.gap_closed) == (14.0, 3.0, pytest.approx(1 / 3))
    assert row.gain_low < row.gain < row.gain_high
    assert (row.gap_low, row.gap_high) == (None, None)  # of two seeds a side
    assert found.rows[2].status == "not run"


def test_curves_leave_the_methods_losses_out():
    """Losses that the baseline has, too, are the student's own; validation scores are those of the pair's metric."""
    points = [
        {"iteration": 1.0, "loss": 5.0, "loss_cls": 2.0, "loss_new": 3.0},
        {"iteration": 1.0, "val_mAP": 7.0, "val_mAP_50": 9.0},
    ]
    control = result("box AP", 10.0, curve=[{"iteration": 1.0, "loss": 2.5, "loss_cls": 2.5}])
    cells = {"none": RowRecords([control]), "mgd": RowRecords([result("box AP", 12.0, "mgd", curve=points)])}
    rows = made_up(cells=cells).rows

    assert rows[0].seeds[0].curve.own_loss == [(1, 2.5)]
    assert rows[1].seeds[0].curve.own_loss == [(1, 2.0)]
    assert rows[1].seeds[0].curve.val_score == [(1, 7.0)]

    # A segmenter logs its own losses under names that MMEngine adds up, so the control's curve has none but the sum.
    cells["none"] = RowRecords([result("box AP", 10.0, curve=[{"iteration": 1.0, "loss": 2.5}])])
    cells["mgd"] = RowRecords([result("box AP", 12.0, "mgd", curve=[{"iteration": 1.0, "loss": 5.0, "loss_new": 3.0}])])
    assert made_up(cells=cells).rows[1].seeds[0].curve.own_loss == [(1, 2.0)]


@pytest.mark.parametrize(
    ("metric", "name", "columns"),
    [
        ("box AP", "AP", "AP | AP50 | AP75 | APs | APm | APl | objects found | right class"),
        ("box AP50", "AP50", "AP | AP50 | AP75 | APs | APm | APl | objects found | right class"),
        (
            "mask AP",
            "mask AP",
            "mask AP | mask AP50 | mask AP75 | mask APs | mask APm | mask APl | objects found | right class | box AP",
        ),
        ("mIoU", "mIoU", "mIoU | mAcc | aAcc | foreground IoU"),
    ],
)
def test_tables_name_the_metric(metric, name, columns):
    """In the head of the main table, with the teacher, and as columns of single trainings."""
    found = made_up(metric)
    main, single = overview(board(found)).splitlines()[4:], by_seed(found).splitlines()

    reads = "foreground 61.2" if metric == "mIoU" else "97 % found, 65 % right"
    assert main[0] == f"**A pair** (teacher 20.0 {name}: {reads})"
    assert main[2].startswith(f"| method | verdict | {name}, mean ± sd | n |")
    assert main[2].endswith("| reported gain |")
    assert main[5].startswith(f"| MGD | not significant | 14.0 ± 1.4 | 2 | {reads} | +3.0 | [")
    assert main[5].endswith("| 33 % |  | +3.6, +2.0 |")
    assert single[0] == f"| method | seed | {columns} | images/s | commit | MLflow run |"
    assert len({line.count("|") for line in main[2:]}) == 1
    assert {line.count("|") for line in single} == {single[0].count("|")}
    assert single[3].startswith("| none (control) | 0 | ")


def test_readmes_table_is_the_same_from_another_machine():
    """Ten times slower with twice the memory: other columns of the report's table, and none of README's."""

    def made(**changes):
        cost, scores = COST.model_copy(update=changes), {"none": (10.0, 12.0), "mgd": (13.0, 15.0)}
        cells = {
            m: RowRecords([result("box AP", s, m, seed, cost=cost) for seed, s in enumerate(of)]) for m, of in scores.items()
        }
        return board(made_up(cells=cells, teacher=result("box AP", 20.0, None, cost=cost)))

    here, there = made(), made(wall_s=1200, train_s=900, images_per_s=3.04, peak_memory_mib=1800)

    assert "| +3.6, +2.0 | 1.5 | 900 | 30 |" in results(here.tables[0], here)
    assert "| +3.6, +2.0 | 15.0 | 1800 | 3 |" in results(there.tables[0], there)
    assert overview(here) == overview(there)
    assert compact(here) == compact(there)


def test_a_table_of_masks_without_boxes():
    """SOLO: no column of boxes."""
    metrics = result("mask AP", 5.0).metrics.model_copy(update={"box": None})

    assert list(metrics.shown()) == [
        "mask AP",
        "mask AP50",
        "mask AP75",
        "mask APs",
        "mask APm",
        "mask APl",
        "objects found",
        "right class",
    ]


def test_report_says_on_what_data_and_from_where():
    """The published data sets, a fetched teacher's file, the changes of a method's authors, digests by data set."""
    fetched = result("mIoU", 20.0, None, cost=None, origin="deeplab.pth")
    cityscapes = result("mIoU", 1.0).run.model_copy(update={"data": Data(name="cityscapes", digest="three")})
    runs = [result("box AP", 1.0, data="one").run, result("box AP", 1.0, data="two").run, cityscapes]
    tables = [made_up("box AP"), made_up("mIoU", teacher=fetched)]
    changed = tables[0].rows[1].model_copy(update={"config_changes": {"optim_wrapper.optimizer.lr": 0.02}})
    tables[0] = tables[0].model_copy(update={"rows": [tables[0].rows[0], changed]})
    text = markdown(board(*tables, runs=runs))

    assert "These are not COCO or Cityscapes results and say nothing about any reported one." in text
    assert "Teacher here: **20.0 AP** (one run of 1.5 min); 97 % found, 65 % right." in text
    assert "Teacher here: **20.0 mIoU** (weights of `deeplab.pth`); foreground 61.2." in text
    assert "| teacher |  | 20.0 | 95.0 | 96.0 | 61.2 |  |  | `none` |" in text
    assert "- MGD: none; in the student's config `optim_wrapper.optimizer.lr = 0.02`\n" in text
    assert "- Data digest, cityscapes: `three`.\n- Data digest, scenes: `runs disagree`.\n" in text


@pytest.mark.parametrize(
    ("mgd", "word"),
    [
        ((13.0, 15.0), "not significant"),  # +3 with errors of 1.4: p 0.17
        ((30.0, 30.1), "significant gain"),
        ((1.0, 1.1), "significant loss"),
        ((30.0,), "inconclusive: one seed"),
    ],
)
def test_at_a_scaled_tier_the_question_is_whether_there_is_a_gain(mgd, word):
    """No published figure is judged there, however near; an impossible or missing row says so."""
    found = board(
        made_up(
            scores={"none": (10.0, 10.1), "mgd": mgd} if len(mgd) == 2 and mgd[0] != 13.0 else {"none": (10.0, 12.0), "mgd": mgd}
        )
    )
    control, row, missing = found.tables[0].rows

    assert wording.verdict(row, found) == word
    assert wording.verdict(control, found) == "baseline"
    assert wording.verdict(missing, found) == "not run"
    assert [(one.score_verdict, one.gain_verdict) for one in row.reported] == [(None, None)] * 2
    assert "reproduced" not in markdown(found)


def test_many_gains_are_adjusted_together():
    """Two pairs, one gain clear and one hardly: Holm doubles the smaller p, and the other is no longer below 5 %."""
    hardly = {"none": (10.0, 10.4, 10.2), "mgd": (10.7, 11.1, 10.6)}
    clear = {"none": (10.0, 10.4, 10.2), "mgd": (19.7, 20.1, 19.6)}
    found = board(made_up(scores=clear), made_up(scores=hardly), made_up(scores={"none": (1.0, 3.0), "mgd": (1.5, 3.2)}))
    rows = [table.rows[1] for table in found.tables]

    assert found.num_tests == 3
    assert rows[0].gain_p_holm == pytest.approx(3 * rows[0].gain_p)
    assert 0.025 < rows[1].gain_p < 0.05 < rows[1].gain_p_holm == pytest.approx(2 * rows[1].gain_p)
    assert [wording.verdict(row, found) for row in rows] == [
        "significant gain",
        "gain not significant after correction",
        "not significant",
    ]
    assert "Of 3 such tests, 0.1 would" in wording.question(found) or "Of 3 such tests, 0.2 would" in wording.question(found)


def paper_scale(scores, *figures):
    """A leaderboard at full size whose MGD has published figures."""
    table = made_up(scores=scores, reported={"mgd": list(figures)}, margin=MARGIN)
    return board(table, paper_scale=True, margins=[MARGIN])


def test_at_full_size_each_source_has_its_verdict():
    """Five seeds at 43.7 +- 0.08: the figure beside is reproduced, one a point off is not, and the row says both."""
    scores = {"none": (40.1, 40.2, 40.3, 40.15, 40.25), "mgd": (43.6, 43.7, 43.8, 43.65, 43.75)}
    found = paper_scale(scores, figure(43.7, 3.5), figure(44.7, 4.5, "another-figure"))
    row = found.tables[0].rows[1]
    near, far = (wording.reading(one, found.tables[0]) for one in row.reported)

    assert [one.score_verdict.verdict for one in row.reported] == ["reproduced", "not reproduced"]
    assert wording.verdict(row, found) == "reproduced (1 of 2), not reproduced (1 of 2)"
    assert near[0].startswith(
        "score 43.7 AP: reproduced; ours differs by +0.00, 90 % interval -0.08 to +0.08, margin 0.3, also after Holm's adjustment (p 0.0"
    )
    assert far[1].startswith("gain +4.5 AP: not reproduced; ours differs by -1.00, ")
    assert found.num_tests == 8  # two figures, score and gain, two tests each
    assert wording.scale_warning(found) is None
    assert "0.3 AP on COCO: a reason" in markdown(found)


def test_one_seed_at_full_size_is_never_more_than_inconclusive():
    """However near; it says how many more would decide."""
    found = paper_scale({"none": (40.2,), "mgd": (43.7,)}, figure(43.7, 3.5))
    row = found.tables[0].rows[1]

    assert wording.verdict(row, found) == "inconclusive"
    assert wording.reading(row.reported[0], found.tables[0])[0].endswith("margin 0.3; 3 further seeds would decide it")


@pytest.mark.parametrize(("value", "half"), [(43.7, 0.05), (44.0, 0.05), (73.63, 0.005)])
def test_a_printed_digit_is_an_interval(value, half):
    """Half a unit of the last digit."""
    assert half_digit(value) == pytest.approx(half)


def test_what_did_not_run_is_said_and_why():
    """A failed seed beside a finished one, a method that failed altogether, one that cannot be."""
    failed = MissingRun(seed=1, status="failed", reason="loss_mgd is not finite")
    cells = {
        "mgd": RowRecords([result("box AP", 13.0, "mgd")], [failed]),
        "cwd": RowRecords((), [MissingRun(seed=0, status="unreadable", reason="x.json: wrong")]),
    }
    found = made_up(cells=cells)
    text = markdown(board(found, problems=["x.json: wrong"]))
    impossible = made_up(cells={"cwd": RowRecords(unsupported="has no neck")})

    assert found.rows[1].num_seeds == 1
    assert found.rows[2].status == "failed"
    assert "- MGD, seed 1: failed, loss_mgd is not finite.\n" in text
    assert "- CWD: failed, unreadable: x.json: wrong.\n" in text
    assert "> Could not be used: x.json: wrong\n" in text
    assert "- CWD: unsupported, has no neck.\n" in markdown(board(impossible))


def test_nothing_has_run_yet():
    """Not even a teacher: a report all the same."""
    nothing = made_up(scores={"none": ()}).model_copy(update={"teacher": None})

    assert "Teacher: not run." in markdown(board(nothing))
    assert wording.question(board(nothing)).startswith("Nothing can be tested yet")
    assert [row.status for row in nothing.rows] == ["not run"] * 3


def test_recipes_tell_where_they_deviate():
    """Paper, source, deviations and notes of each method, once."""
    recipe = RecipeSummary(title="MGD", paper="a paper", source="a repository", notes=["a note"], deviations=["feature: another"])
    text = markdown(board(recipes={"mgd": recipe}))

    assert "**MGD** (`mgd`): a paper; after a repository.\n\n- Deviation: feature: another\n- a note\n" in text


def test_csv_has_a_line_a_row_and_a_line_a_training(tmp_path):
    """Read back by csv's own reader: figures in full, several published ones in one cell."""
    found = board()
    write_csv(found, tmp_path / "rows.csv")
    runs_csv(found, tmp_path / "runs.csv")
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    trainings = list(csv.DictReader((tmp_path / "runs.csv").open()))

    assert [row["method"] for row in rows] == ["none", "mgd", "cwd"]
    assert (rows[1]["score"], rows[1]["gain"], rows[1]["reported"], rows[1]["reported_gain"]) == (
        "14.0",
        "3.0",
        "41.0;40.25",
        "3.6;2.0",
    )
    assert rows[1]["dataset"] == "small"
    assert [(one["method"], one["seed"], one["score"]) for one in trainings] == [
        ("teacher", "", "20.0"), ("none", "0", "10.0"), ("none", "1", "12.0"), ("mgd", "0", "13.0"), ("mgd", "1", "15.0"),
    ]  # fmt: skip


def test_model_card_is_one_that_the_hub_reads():
    """Its model-index, read back by huggingface_hub, has every figure; the text warns of the scale."""
    from huggingface_hub import ModelCard  # noqa: PLC0415

    found = board()
    table = found.tables[0]
    text = model_card(found, table, table.rows[1], table.rows[1].seeds[1])
    card = ModelCard(text)
    results = {one.metric_name: one.metric_value for one in card.data.eval_results}

    assert card.data.model_name == "pair-mgd-seed1-mini"
    assert results == {
        "AP": 15.0,
        "AP50": 91.0,
        "AP75": 92.0,
        "APm": 93.0,
        "APl": 94.0,
        "objects found": 97.0,
        "right class": 64.6,
    }
    assert {one.dataset_name for one in card.data.eval_results} == {"small"}
    assert "These are not COCO results" in card.text
    assert yaml.safe_load(text.split("---")[1])["tags"] == ["knowledge-distillation", "mgd", "pair"]
