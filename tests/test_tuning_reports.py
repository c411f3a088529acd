"""Tuned rows and the searches behind them, in statistics, words, charts and every form of the report."""

import csv
import re

import matplotlib as mpl
import pytest
from pydantic import ValidationError
from scipy import stats

from reports.formats import wording
from reports.formats.csv_files import runs_csv, write_csv
from reports.formats.html import page
from reports.formats.markdown import markdown, results
from reports.formats.model_card import model_card
from reports.formats.pdf import prepare, write_pdf
from reports.formats.studies import account, division, searched, searches, tried
from reports.plots import scores, style, training, tuning
from reports.plots.figures import draw
from reports.plots.tuning import draw_study
from reports.schemas.leaderboard import Leaderboard
from reports.schemas.study import SearchRange
from reports.stats.assembly import leaderboard
from reports.stats.comparison import changes
from reports.stats.rows import RowRecords
from tests.boards import COST, board, figure, made_up, result, study, trial, tuned_table

pytestmark = pytest.mark.slow


def tuned_board(*tables, **values):
    """A leaderboard with the study of :func:`tests.boards.study`."""
    return board(*(tables or [tuned_table()]), studies=values.pop("studies", [study()]), **values)


def row_of(found, method="mgd/tuned"):
    """A board's row by its id."""
    return next(row for table in found.tables for row in table.rows if row.id == method)


def search_of(found):
    """Its first search."""
    return searches(found.tables[0], found)[0]


def axes_of(drawn):
    """All axes of the one figure of a chart."""
    (one,) = drawn
    return one.figure.findobj(mpl.axes.Axes)


def points(axis, marker):
    """Coordinates of the marks of a kind."""
    return [
        tuple(map(float, point))
        for line in axis.lines
        if line.get_marker() == marker
        for point in zip(line.get_xdata(), line.get_ydata(), strict=True)
    ]


def test_what_tuning_adds_by_hand():
    """17 and 18 tuned over 13 and 15: 3.5 more, Welch's interval as scipy has it; 6.5 over the control's 11."""
    row = row_of(tuned_board())
    test = stats.ttest_ind([17.0, 18.0], [13.0, 15.0], equal_var=False)
    interval = test.confidence_interval(0.95)

    assert (row.mean, row.gain, row.tuning.gain) == (17.5, 6.5, 3.5)
    assert (row.tuning.gain_low, row.tuning.gain_high) == pytest.approx((interval.low, interval.high))
    assert row.tuning.gain_p == pytest.approx(test.pvalue)
    assert (row.method, row.slug, row.parts, row.reported) == ("mgd", "mgd-tuned", ["mgd"], [])


def test_a_study_in_figures():
    """Two complete, one pruned at 40 of 100 iterations, one failed; the lost one counts for time alone."""
    tuning = row_of(tuned_board()).tuning

    assert (tuning.num_complete, tuning.num_pruned, tuning.num_failed) == (2, 1, 1)
    assert (tuning.best_score, tuning.recipe_score, tuning.is_recipe) == (11.0, 9.0, False)
    assert tuning.minutes == 31.0
    assert tuning.saved_fraction == pytest.approx(60 / 300)


def test_one_seed_has_a_gain_and_no_interval():
    """Nor a test that would count."""
    found = tuned_board(tuned_table(scores=(17.0,)))

    assert (row_of(found).tuning.gain, row_of(found).tuning.gain_low) == (3.0, None)
    assert found.num_tests == 1  # MGD's own, two seeds a side
    assert "by tuning, not tested (one seed)." in division(search_of(found), found)


def test_gains_of_tuning_join_holms_family():
    """MGD's gain, the tuned row's and what tuning added are three; the second smallest p counts twice, or as the smallest."""
    scores = {"none": (10.0, 10.4, 10.2), "mgd": (14.0, 14.4, 14.3)}
    found = tuned_board(tuned_table(scores=(14.8, 15.0, 15.3), cells={
        method: RowRecords([result("box AP", score, method, seed) for seed, score in enumerate(of)]) for method, of in scores.items()
    }))  # fmt: skip
    own, tuned = row_of(found, "mgd"), row_of(found)
    adjusted = {own.gain_p: own.gain_p_holm, tuned.gain_p: tuned.gain_p_holm, tuned.tuning.gain_p: tuned.tuning.gain_p_holm}
    expected, floor = {}, 0.0
    for times, p in zip((3, 2, 1), sorted(adjusted), strict=True):
        expected[p] = floor = max(floor, min(1.0, times * p))

    assert found.num_tests == 3
    assert adjusted == pytest.approx(expected)
    assert "and whether tuning adds to it" in wording.question(found)


def test_at_full_size_a_tuned_row_has_no_verdict():
    """Published figures are the other row's; what tuning added is told without joining their tests."""
    from tests.test_reports import MARGIN  # noqa: PLC0415

    scores = {"none": (40.1, 40.2), "mgd": (43.6, 43.7)}
    table = tuned_table(scores=(43.9, 44.0), reported={"mgd": [figure(43.7, 3.5)]}, margin=MARGIN, cells={
        method: RowRecords([result("box AP", score, method, seed) for seed, score in enumerate(of)]) for method, of in scores.items()
    })  # fmt: skip
    found = tuned_board(table, paper_scale=True, margins=[MARGIN])

    assert found.num_tests == 4
    assert wording.verdict(row_of(found), found) == "tuned: no reported result"
    assert row_of(found).tuning.gain_p_holm is None
    assert "after Holm" not in division(search_of(found), found)


def test_how_much_is_the_method_and_how_much_is_tuning():
    """In a sentence with both intervals, and one on what was tried and by which split it was chosen."""
    found = tuned_board()
    own, tuned, search = row_of(found, "mgd"), row_of(found), search_of(found)

    assert division(search, found) == (
        f"MGD: +3.0 [{own.gain_low:+.1f}, {own.gain_high:+.1f}] AP over the baseline by the method with the recipe's values, and "
        f"+3.5 [{tuned.tuning.gain_low:+.1f}, {tuned.tuning.gain_high:+.1f}] by tuning, not significant "
        f"(p {tuned.tuning.gain_p:.2f}, after Holm {tuned.tuning.gain_p_holm:.2f})."
    )
    assert account(search) == (
        "Search by TPE: 4 trials of 25 % of a cell's schedule (2 complete, 1 pruned, 1 failed, 1 lost), 31.0 min of training, "
        "20 % of the iterations saved by pruning (median). Selected on the validation split: trial 2 with 11.0 AP there, the recipe's "
        "values 9.0; the best of several on the split that selected it is optimistic."
    )


def test_a_search_that_found_nothing_better_says_so():
    """And one in which no trial came to its end."""
    recipe = study(trials=[trial(0, score=9.0, is_recipe=True), trial(1, score=8.0)], best=0, front=[0])
    none = study(trials=[trial(0, "failed", reason="not finite")], best=None, front=[])
    for of, words in (
        (recipe, "None was better than the recipe's values on the validation split: 9.0 AP there."),
        (none, "No trial was"),
    ):
        found = tuned_board(tuned_table(of=of), studies=[of])

        assert words in account(search_of(found))


@pytest.mark.parametrize(
    ("alpha", "scale", "words"),
    [
        # A twentieth of two decades: 0.1 to 0.126, and 7.94 to 10; linear, 0.1 to 0.595 and 9.505 to 10.
        (0.125, "log", "alpha is at the lower bound of its search range: values beyond were not tried."),
        (0.127, "log", None), (7.9, "log", None), (0.6, "linear", None), (9.5, "linear", None),
        (8.0, "log", "alpha is at the upper bound of its search range"),
        (0.59, "linear", "alpha is at the lower bound of its search range"),
    ],
)  # fmt: skip
def test_a_value_at_the_end_of_its_range_is_named(alpha, scale, words):
    """The best may lie beyond."""
    of = study(
        trials=[trial(0, score=9.0, is_recipe=True), trial(1, score=11.0, alpha=alpha)], best=1, front=[1],
        space={"alpha": SearchRange(low=0.1, high=10.0, scale=scale), "kind": SearchRange(choices=["l1", "l2"])},
    )  # fmt: skip
    said = account(search_of(tuned_board(tuned_table(of=of), studies=[of])))

    assert words in said if words else "lies close" not in said


def test_a_clear_gain_by_tuning_is_called_one():
    """Above zero, or below."""
    for values, word in (((30.0, 30.1), "above"), ((1.0, 1.1), "below")):
        cells = {"mgd": RowRecords([result("box AP", score, "mgd", seed) for seed, score in enumerate((14.0, 14.1))])}
        found = tuned_board(tuned_table(scores=values, cells=cells))

        assert f"by tuning, significantly {word} zero (p " in division(search_of(found), found)


def test_ranges_and_trials_in_words():
    """The ranges, the recipe's values and the selected ones; a pruned trial is drawn at the step that it reached."""
    assert [(one.name, one.space, one.recipe, one.best, one.importance) for one in searched(study())] == [
        ("alpha", "0.1 to 10, log", "1", "0.5", "75 %"), ("kind", "one of l1, l2", "l1", "l1", "25 %"),
    ]  # fmt: skip
    assert [(one.state, one.score, one.reason) for one in tried(study())] == [
        ("complete, recipe's values", "9.0", ""), ("pruned", "3.0 at 40", ""), ("complete, selected", "11.0", ""),
        ("failed", "", "loss_mgd is not finite"), ("lost", "", "its worker was killed"),
    ]  # fmt: skip


def test_minutes_with_prior_and_search():
    """1.5 a seed; once for all 31 of the search, and 1.5 of the prior where the method has one."""
    prior = result("box AP", 1.0, "mgd").run
    cells = tuned_table().rows[2]
    with_prior = made_up(cells={"mgd/tuned": RowRecords([result("box AP", 17.0, "mgd")], auxiliary=prior, study=study())})

    assert wording.minutes(cells) == "1.5 + 31.0"
    assert wording.minutes(with_prior.rows[2]) == "1.5 + 32.5"
    assert "a tuned row's search" in wording.one_time_costs(tuned_board())
    assert "search" not in wording.one_time_costs(board())


def test_the_boards_time_and_energy_have_the_trials():
    """Ninety seconds of one run and 1860 of the study; energy only where every trial that trained knows its own."""
    run = result("box AP", 1.0, cost=COST.model_copy(update={"energy_kj": 2.0})).run
    measured = study(trials=[one.model_copy(update={"energy_kj": 1.0}) for one in study().trials])

    assert leaderboard("mini", "small", [], [run], studies=[study()]).train_s == 1950.0
    assert leaderboard("mini", "small", [], [run], studies=[study()]).energy_kj is None
    assert leaderboard("mini", "small", [], [run], studies=[measured]).energy_kj == 7.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"best": 1}, r"best and front .*\b1\b"),
        ({"front": [7]}, r"best and front .*\b7\b"),
        ({"objectives": ["score", "train_s"]}, "trial 0 .*objective"),
    ],
)
def test_a_study_that_contradicts_itself(change, message):
    """Is none."""
    with pytest.raises(ValidationError, match=message):
        study(**change)


def test_markdown_has_the_study():
    """The tuned row behind its own, blank where reported results would be; ranges below."""
    text = markdown(tuned_board())
    main = results(tuned_board().tables[0], tuned_board()).splitlines()

    assert [line.split(" | ")[0] for line in main[2:]] == ["| none (control)", "| MGD, tuned", "| MGD", "| CWD"]
    assert main[3].endswith("|  |  | 1.5 + 31.0 | 900 | 30 |")
    assert "\n### Tuning\n\nMGD: +3.0 [" in text
    assert "\n| `alpha` | 0.1 to 10, log | 1 | 0.5 | 75 % |\n" in text


def test_page_has_the_study(tmp_path):
    """Every trial; no id holds a slash, and each is there once."""
    text = page([tuned_board()], tmp_path)
    ids = re.findall(r'id="([^"]+)"', text)

    assert "row-pair-mgd-tuned" in ids
    assert not [one for one in ids if "/" in one]
    assert len(set(ids)) == len(ids)
    assert text.count("<h3>The search</h3>") == 1
    for words in ("All 5 trials", "3.0 at 40", "loss_mgd is not finite", "0.1 to 10, log", "by tuning, not significant"):
        assert words in text


def test_pdf_has_the_study(tmp_path):
    """Its words, as typst reads them; and it is set."""
    from tests.test_pdf import pages, squeezed  # noqa: PLC0415

    found = tuned_board()
    write_pdf(found, tmp_path, tmp_path / "report.pdf")
    text = "".join(pages((tmp_path / "report.pdf").read_bytes()))

    for words in (
        "Search by TPE",
        "Selected on the validation split",
        "by tuning, not significant",
    ):
        assert squeezed(words) in text, words
    assert prepare(found, tmp_path, tmp_path).is_file()


def test_csv_has_variant_and_tuning(tmp_path):
    """Empty for rows that were not tuned."""
    write_csv(tuned_board(), tmp_path / "rows.csv")
    runs_csv(tuned_board(), tmp_path / "runs.csv")
    rows = {(row["method"], row["tuned"]): row for row in csv.DictReader((tmp_path / "rows.csv").open())}
    trainings = list(csv.DictReader((tmp_path / "runs.csv").open()))

    assert rows["mgd", "False"]["tuning_gain"] == ""
    tuned = rows["mgd", "True"]
    assert (tuned["tuning_gain"], tuned["tuning_minutes"], tuned["tuning_num_pruned"]) == ("3.5", "31.0", "1")
    assert [one["seed"] for one in trainings if (one["method"], one["tuned"]) == ("mgd", "True")] == ["0", "1"]


def test_a_tuned_students_card():
    """A name that a repository may have, and a word on where its values come from."""
    from huggingface_hub import ModelCard  # noqa: PLC0415
    from huggingface_hub.utils import validate_repo_id  # noqa: PLC0415

    found = tuned_board()
    row = row_of(found)
    card = ModelCard(model_card(found, found.tables[0], row, row.seeds[0]))
    joined = ModelCard(model_card(found, found.tables[0], row.model_copy(update={"method": "crosskd+pkd"}), row.seeds[0]))

    validate_repo_id(joined.data.model_name)
    assert card.data.model_name == "pair-mgd-tuned-seed0-mini"
    assert card.data.tags == ["knowledge-distillation", "mgd", "tuned", "pair"]
    assert "of a search of 4 trials, 31.0 min of training, that selected on the validation split" in " ".join(card.text.split())


def test_comparison_knows_tuned_rows():
    """By their own title."""
    moved = {change.what: change.difference for change in changes(tuned_board(), tuned_board(tuned_table(scores=(18.0, 19.0))))}

    assert (moved["MGD"], moved["MGD, tuned"]) == (0.0, 1.0)


def test_a_tuned_row_without_a_result(tmp_path):
    """The study is told, and that there is nothing to add yet."""
    table = tuned_table(scores=())
    found = tuned_board(table)
    text = markdown(found)

    assert row_of(found).status == "not run"
    assert division(search_of(found), found) == ""
    assert "MGD: the tuned row has no result yet." in text
    assert "All 5 trials" in page([found], tmp_path)
    assert list(scores.tuning(found)) == []


def test_without_a_study_nothing_is_said_of_tuning(tmp_path):
    """Not in any form; no chart is drawn."""
    found = board()
    text = markdown(found) + page([found], tmp_path)

    assert "The search" not in text
    assert "Tuning" not in text
    assert "tuning adds" not in text
    for chart in (
        scores.tuning,
        tuning.history,
        tuning.slices,
        tuning.importance,
        tuning.front,
    ):
        assert list(chart(found)) == []


def test_a_leaderboard_with_studies_comes_back():
    """As it was."""
    found = tuned_board()

    assert Leaderboard.model_validate_json(found.model_dump_json()) == found


def test_a_couple_has_one_colour():
    """And marker; the tuned one is filled by half. Other methods look as they would without it."""
    alone, both = style.looks(board()), style.looks(tuned_board())
    own, tuned = both["mgd"], both["mgd/tuned"]

    assert list(both) == ["none", "mgd", "mgd/tuned", "cwd"]
    assert (own.colour, own.marker) == (tuned.colour, tuned.marker)
    assert (own.tuned, tuned.tuned) == (False, True)
    assert own.line != tuned.line
    assert {method: both[method] for method in alone} == alone


def test_both_parts_of_a_gain_are_drawn():
    """Three by the method, 3.5 by tuning, each with its interval."""
    found = tuned_board()
    (axis,) = axes_of(scores.tuning(found))
    tuning = row_of(found).tuning

    assert [point[0] for point in points(axis, "s")] == [3.0, 3.5]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["MGD: method", "tuning"]
    drawn = [tuple(line.get_xdata()) for line in axis.lines if list(line.get_ydata()) == [1, 1]]
    assert drawn == [(max(tuning.gain_low, axis.get_xlim()[0]), min(tuning.gain_high, axis.get_xlim()[1]))]


def test_time_of_the_search_is_in_the_costs():
    """1.5 minutes are the control's; 31 of the search for two seeds make it 17."""
    axes = axes_of(training.cost(tuned_board()))
    open_marks = [line.get_xdata()[0] for line in axes[0].lines if line.get_markerfacecolor() == "white"]

    assert open_marks == [pytest.approx((1.5 + 31 / 2) / 1.5)]


def test_history_of_a_search():
    """Complete trials where they ended, the pruned one where it stood, the failed one at the foot, the lost one nowhere."""
    (axis,) = axes_of(tuning.history(tuned_board()))
    steps = next(line for line in axis.lines if line.get_drawstyle() == "steps-post")
    recipe = next(line for line in axis.lines if line.get_linestyle() == "--")

    assert points(axis, "o") == [(0, 9), (2, 11)]
    assert points(axis, "x") == [(1, 3)]
    assert points(axis, "*") == [(2, 11)]
    assert [x for x, _ in points(axis, "v")] == [3]
    assert (list(steps.get_xdata()), list(steps.get_ydata())) == ([0, 2, 4], [9, 11, 11])
    assert list(recipe.get_ydata()) == [9, 9]


def test_slices_of_a_search():
    """A panel a hyper-parameter: logarithmic where the search was, names where it chose; the recipe's value marked."""
    alpha, kind = axes_of(tuning.slices(tuned_board()))

    assert (alpha.get_xscale(), kind.get_xscale()) == ("log", "linear")
    assert (points(alpha, "o"), points(alpha, "x"), points(alpha, "*")) == ([(1, 9), (0.5, 11)], [(8, 3)], [(0.5, 11)])
    assert alpha.get_xlim() == pytest.approx((0.1 / 100**0.05, 10 * 100**0.05))
    assert points(kind, "x") == [(0, 3)]
    assert [text.get_text() for text in kind.get_xticklabels()] == ["l1", "l2"]
    assert [list(line.get_xdata()) for line in alpha.lines if line.get_linestyle() == "--"] == [[1, 1]]


def test_importance_of_hyper_parameters():
    """Bars from the greatest; nothing where too few trials tell."""
    (axis,) = axes_of(tuning.importance(tuned_board()))

    assert [patch.get_width() for patch in axis.patches] == [25.0, 75.0]
    assert list(tuning.importance(tuned_board(studies=[study(importance=None)]))) == []


def two_objectives():
    """Three trials, of which the second is worse and slower than the first."""
    trials = [
        trial(number, values=[score, seconds], score=score)
        for number, score, seconds in ((0, 9.0, 60.0), (1, 8.0, 90.0), (2, 11.0, 120.0))
    ]
    return study(trials=trials, objectives=["score", "train_s"], best=2, front=[0, 2], pruner="none")


def test_front_of_two_objectives():
    """All trials in minutes and points, the front joined; none for a single objective."""
    (axis,) = axes_of(tuning.front(tuned_board(studies=[two_objectives()])))
    (joined,) = (line for line in axis.lines if line.get_linestyle() == "-")

    assert points(axis, "o") == [(1, 9), (1.5, 8), (2, 11)]
    assert list(zip(joined.get_xdata(), joined.get_ydata(), strict=True)) == [(1, 9), (2, 11)]
    assert list(tuning.front(tuned_board())) == []


def test_a_studys_own_files(tmp_path):
    """As far as there is something to show; the same bytes again, whatever the user has set."""
    files = draw_study(two_objectives(), tmp_path / "one")
    with mpl.rc_context({"font.size": 20}):
        again = draw_study(two_objectives(), tmp_path / "two")

    assert [path.name for path in files] == ["history.svg", "slices.svg", "importance.svg", "front.svg"]
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
    assert [path.name for path in draw_study(study(importance=None), tmp_path / "few")] == ["history.svg", "slices.svg"]
    assert draw_study(study(trials=[], best=None, front=[], importance=None), tmp_path / "none") == []


def test_figures_of_the_report(tmp_path):
    """Their names, in order; no folder comes of a slash."""
    records = draw(tuned_board(), {}, tmp_path, prefix="")

    assert [record.name for record in records] == [
        "scores", "forest", "gap", "tuning", "size", "cost", "history", "slices-pair-mgd", "importance",
    ]  # fmt: skip
    assert all(path.is_file() for path in tmp_path.iterdir())


def test_many_searches_stay_readable():
    """Twelve studies of seven hyper-parameters with long names: 17 cm wide, no taller than a page, no ink beyond the edge."""
    names = [f"a_rather_long_name_{k}" for k in range(7)]
    trials = [one.model_copy(update={"hparams": dict.fromkeys(names, 0.5)}) for one in study().trials]
    pairs = [f"pair{k}" for k in range(12)]
    many = [
        study(
            pair=pair, trials=trials, space={name: SearchRange(low=1e-7, high=10, scale="log") for name in names},
            recipe_hparams=dict.fromkeys(names, 1.0), importance=dict.fromkeys(names, 1 / 7),
        )
        for pair in pairs
    ]  # fmt: skip
    title = "Cascade Mask R-CNN ResNeXt-101 64x4d DCN to Mask R-CNN ResNet-50 FPN"
    found = tuned_board(*(tuned_table(name=pair, title=title) for pair in pairs), studies=many)
    with style.styled():
        for chart in (scores.tuning, tuning.history, tuning.slices, tuning.importance):
            for drawn in chart(found):
                drawn.figure.draw_without_rendering()
                ink = drawn.figure.get_tightbbox()

                assert drawn.figure.get_figwidth() == 6.7
                assert drawn.figure.get_figheight() <= 10
                assert min(ink.x0, ink.y0) > -0.01
                assert ink.x1 < 6.71
                assert ink.y1 < drawn.figure.get_figheight() + 0.01
