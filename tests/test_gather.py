"""Records as they lie: complete, partial, and wrong in one file; each wrong file is a line, the rest is used."""

import json
import re
from dataclasses import replace

import pytest

from benchmarks.dataset import datasets
from pipelines.grid import Grid
from pipelines.params import load_yaml
from pipelines.reporting.collect import collect_leaderboard, margins
from pipelines.reporting.records import read_board
from pipelines.reporting.registry import reported_results
from pipelines.tuning.params import TuningParams
from reports.schemas.leaderboard import Leaderboard
from tests.boards import board, edit_json, result, study, write_result
from tests.conftest import ROOT

PAIR = "gfl_r101_r50"


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Runs of one pair: the teacher, and two seeds each of control and MGD; and the grid that asks for MasKD, too."""
    monkeypatch.chdir(ROOT)
    write_result(tmp_path / "runs" / PAIR / "teacher", result("box AP", 20.0, None, pair=PAIR))
    for method, scores in {"none": (10.0, 12.0), "mgd": (13.0, 15.0)}.items():
        for seed, score in enumerate(scores):
            found = result("box AP", score, method, seed, pair=PAIR)
            write_result(tmp_path / "runs" / PAIR / method / f"seed{seed}", found)
    grid = Grid(tier="mini", rows={PAIR: ["none", "mgd", "maskd"]}, seeds=[0, 1], tuning=None)
    return tmp_path, lambda: collect_leaderboard(grid, tmp_path / "runs", tmp_path / "work")


def test_what_is_there_is_used(records):
    """Means of what finished; what did not is named by seed; the command makes the row again."""
    found = records[1]()
    _, mgd, maskd = found.tables[0].rows

    assert found.problems == []
    assert (mgd.mean, mgd.gain, mgd.num_seeds) == (14.0, 3.0, 2)
    assert mgd.command == f"dvc repro evaluate@{PAIR}/mgd/seed0 evaluate@{PAIR}/mgd/seed1"
    assert (maskd.status, [(one.seed, one.status) for one in maskd.missing]) == ("not run", [(0, "not run"), (1, "not run")])
    assert found.margins == []


def test_failed_and_half_done_cells_are_shown(records):
    """A failure's note in the work directory; a training that has not been evaluated."""
    folder, make = records
    note = folder / "work" / PAIR / "maskd/seed0/failed.txt"
    note.parent.mkdir(parents=True)
    note.write_text("loss_maskd is not finite\n")
    (folder / "runs" / PAIR / "mgd/seed1/metrics.json").unlink()
    _, mgd, maskd = make().tables[0].rows

    assert (mgd.num_seeds, mgd.missing[0].status) == (1, "not evaluated")
    assert (maskd.status, maskd.reason) == ("failed", "failed: loss_maskd is not finite")

    (folder / "runs" / PAIR / "mgd/seed0/metrics.json").unlink()
    assert make().tables[0].rows[1].status == "not run"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("run.json", {"tier": None}, "tier: Field required"),
        ("run.json", {"tear": "mini"}, "tear: Extra inputs"),
        ("run.json", {"schema_version": 1}, "schema 1, and this version reads 3"),
        (
            "run.json",
            {"seed": 0},
            rf"mini, distill/{PAIR}/mgd/0,.* mini, distill/{PAIR}/mgd/1",
        ),
        (
            "run.json",
            {"method": "maskd"},
            rf"mini, distill/{PAIR}/maskd/1,.* mini, distill/{PAIR}/mgd/1",
        ),
        ("run.json", {"tier": "paper"}, " paper, "),
        ("metrics.json", {"weights_sha256": "1"}, "other weights"),
        ("metrics.json", {"score": None}, "has no score"),
        ("metrics.json", {"score": float("nan")}, "^.*: score: .*finite"),
        ("metrics.json", {"box": {"AP": float("nan")}}, r"box\.AP: .*finite"),
    ],
)
def test_a_wrong_file_is_one_line_and_the_rest_is_made(records, file, change, message):
    """It names the file; its cell is unreadable, the other seed's counts."""
    folder, make = records
    path = folder / "runs" / PAIR / "mgd/seed1" / file
    edit_json(path, **change)
    found = make()
    row = found.tables[0].rows[1]

    assert len(found.problems) == 1
    assert found.problems[0].startswith(str(path))
    assert re.search(message, found.problems[0]), found.problems[0]
    assert "\n" not in found.problems[0]
    assert (row.num_seeds, row.mean, row.missing[0].status) == (1, 13.0, "unreadable")


def test_a_wrong_teacher_is_one_line(records):
    """And the rows are there, without a gap to be closed."""
    folder, make = records
    (folder / "runs" / PAIR / "teacher/run.json").write_text("{")
    found = make()

    assert len(found.problems) == 1
    assert found.tables[0].teacher is None
    assert found.tables[0].rows[1].gap_closed is None
    assert found.tables[0].rows[1].gain == 3.0


@pytest.fixture
def tuned(records):
    """The same with MGD tuned: its study, and two trainings of 17 and 18; and the grid that asks for it."""
    folder, _ = records
    row = folder / "runs" / PAIR / "mgd/tuned"
    for seed, score in enumerate((17.0, 18.0)):
        write_result(row / f"seed{seed}", result("box AP", score, "mgd", seed, pair=PAIR, variant="tuned"))
    (row / "study.json").write_text(study(pair=PAIR).model_dump_json())
    tuning = TuningParams(rows={PAIR: ["mgd", "maskd"]}, trials=5, share=0.25, reports=5, seed=9)
    grid = Grid(tier="mini", rows={PAIR: ["none", "mgd", "maskd"]}, seeds=[0, 1], tuning=tuning)
    return folder, row, lambda: collect_leaderboard(grid, folder / "runs", folder / "work")


def test_a_tuned_row_stands_behind_its_own(tuned):
    """With its study's trials in the costs, and stages of its own; one that has not run says so."""
    found = tuned[2]()
    row = found.tables[0].rows[2]

    assert found.problems == []
    assert [(one.id, one.title) for one in found.tables[0].rows] == [
        ("none", "none (baseline)"), ("mgd", "MGD"), ("mgd/tuned", "MGD, tuned"), ("maskd", "MasKD"), ("maskd/tuned", "MasKD, tuned"),
    ]  # fmt: skip
    assert (row.mean, row.gain, row.tuning.gain, row.tuning.minutes) == (17.5, 6.5, 3.5, 31.0)
    assert row.command == f"dvc repro evaluate@{PAIR}/mgd/tuned/seed0 evaluate@{PAIR}/mgd/tuned/seed1"
    assert row.seeds[1].target == f"distill@{PAIR}/mgd/tuned/seed1"
    assert [one.method for one in found.studies] == ["mgd"]
    assert found.train_s == 7 * 90 + 1860
    assert (found.tables[0].rows[4].status, found.tables[0].rows[4].tuning) == ("not run", None)
    assert list(found.recipes) == ["none", "mgd", "maskd"]


def test_a_prior_that_two_rows_need_counts_once(tuned):
    """In the time of all, and in each row's own."""
    folder, _, make = tuned
    before = make().train_s
    for row, seed in (("maskd", 0), ("maskd/tuned", 0)):
        variant = "tuned" if row.endswith("tuned") else "published"
        found = result("box AP", 12.0, "maskd", seed, pair=PAIR, variant=variant)
        write_result(folder / "runs" / PAIR / row / "seed0", found)
    prior = found.run.model_copy(update={"stage": "masks", "variant": "published"})
    (folder / "runs" / PAIR / "maskd/prior").mkdir()
    (folder / "runs" / PAIR / "maskd/prior/run.json").write_text(prior.model_dump_json())
    found = make()

    assert found.train_s == before + 3 * 90
    assert [row.auxiliary_minutes for row in found.tables[0].rows[3:]] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": None}, "tier: Field required"),
        ({"schema_version": 2}, "schema 2, and this version reads 1"),
        ({"best": 1}, "best and front .* 1 "),
        ({"method": "maskd"}, f"mini, {PAIR}/maskd,.* mini, {PAIR}/mgd "),
        ({"importance": {"alpha": float("nan")}}, r"importance\.alpha: "),
    ],
)
def test_a_wrong_study_is_one_line_and_the_row_is_made(tuned, change, message):
    """Without what the search would tell."""
    _, row, make = tuned
    edit_json(row / "study.json", **change)
    found = make()

    assert len(found.problems) == 1
    assert found.problems[0].startswith(str(row / "study.json"))
    assert re.search(message, found.problems[0]), found.problems[0]
    assert "\n" not in found.problems[0]
    assert (found.studies, found.tables[0].rows[2].mean, found.tables[0].rows[2].tuning) == ([], 17.5, None)


def test_a_published_training_where_a_tuned_one_belongs(tuned):
    """Is not taken for it."""
    _, row, make = tuned
    edit_json(row / "seed0/run.json", variant="published")
    found = make()

    assert re.search(f"mini, distill/{PAIR}/mgd/0,.* mini, distill/{PAIR}/mgd/tuned/0", found.problems[0])
    assert found.tables[0].rows[2].num_seeds == 1


def test_tuned_rows_that_cannot_be_or_failed(tuned, monkeypatch):
    """A failed search is its trainings' reason; a method that cannot run cannot be tuned."""
    folder, row, make = tuned
    for seed in (0, 1):
        (row / f"seed{seed}/run.json").unlink()
    note = folder / "work" / PAIR / "mgd/tuning/failed.txt"
    note.parent.mkdir(parents=True)
    note.write_text("every trial failed: loss_mgd is not finite\n")
    found = make().tables[0].rows[2]

    assert (found.status, found.reason) == ("failed", "failed: its search: every trial failed: loss_mgd is not finite")

    monkeypatch.setattr("pipelines.reporting.runs.impossible_reason", lambda *asked: "no neck" if asked[2] == "mgd" else None)
    rows = make().tables[0].rows
    assert [(one.id, one.status) for one in rows[1:3]] == [("mgd", "unsupported"), ("mgd/tuned", "unsupported")]


def test_margins_are_declared_for_what_is_judged(monkeypatch):
    """COCO 0.3 AP, VOC 0.5 AP50, Cityscapes 0.5 mIoU, each with its reason."""
    monkeypatch.chdir(ROOT)

    declared = {key: margin.margin for key, margin in margins().items()}
    assert declared == {
        ("COCO", "box AP"): 0.3, ("COCO", "mask AP"): 0.3, ("VOC", "box AP50"): 0.5, ("Cityscapes", "mIoU"): 0.5,
    }  # fmt: skip
    assert all(len(margin.why) > 20 for margin in margins().values())


def test_two_margins_for_one_question(monkeypatch):
    """One line."""
    coco = datasets()["coco"]
    monkeypatch.setitem(datasets(), "coco", replace(coco, margins=coco.margins * 2))

    with pytest.raises(ValueError, match="a data set and metric have two margins"):
        margins()


def test_a_published_record_without_source_is_one_line(tmp_path):
    """The registry's own schema says so, with the file."""
    from benchmarks.reported import Registry  # noqa: PLC0415

    path = tmp_path / "reported.yaml"
    path.write_text("- {id: a-b, pair: p, what: teacher, metric: box AP, value: 1, read: verbatim}\n")

    with pytest.raises(ValueError, match=r"reported\.yaml: key '0\.source' is missing$"):
        load_yaml(path, Registry)


def test_what_a_source_repeats_is_shown_once(monkeypatch):
    """CrossKD's three sources for GFL's teacher are three; a figure without the suite's method is not shown."""
    from benchmarks.reported import Registry  # noqa: PLC0415

    monkeypatch.chdir(ROOT)
    figures = load_yaml(ROOT / "benchmarks/reported.yaml", Registry).root
    found = reported_results(figures, PAIR, "box AP")

    assert sorted(one.value for one in found["teacher"]) == [44.6, 44.7, 44.9]
    assert [(one.value, one.gain) for one in found["crosskd"]] == [(43.7, 3.5)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "Invalid JSON"),
        ('{"schema_version": 2}', "schema 2, and this version reads 8"),
    ],
)
def test_a_leaderboard_that_cannot_be_read(tmp_path, content, message):
    """One line with its name."""
    path = tmp_path / "leaderboard.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ValueError, match=message) as caught:
        read_board(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_leaderboard_comes_back_as_it_was(tmp_path):
    """Written as JSON and read again."""
    made = board()
    (tmp_path / "a.json").write_text(json.dumps(json.loads(made.model_dump_json())))

    assert read_board(tmp_path / "a.json") == Leaderboard.model_validate(made)
