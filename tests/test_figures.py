"""Figures of the report, from boards and samples made by hand."""

import re
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from methods.contract import Picture
from pipelines.engine.visualizations import map_arrays
from reports.plots import predictions, scores, style, subgroups, training, visualizations
from reports.plots.figures import draw
from reports.schemas.leaderboard import Curve, Leaderboard, Row, SeedResult, Table, TeacherResult
from reports.schemas.reported import ReportedResult
from reports.schemas.run import Cost, Environment, Git

pytestmark = pytest.mark.slow

COST = Cost(wall_s=120, train_s=90, images_per_s=30.4, num_images=100, peak_memory_mib=900, resumed_after_iteration=0)
CURVE = Curve(own_loss=[(100, 2.0), (200, 1.5), (300, 1.2)], val_score=[(150, 5.0), (300, 9.0)])
DIGESTS = {"weights_sha256": "0", "run_sha256": "0", "metrics_sha256": "0", "mlflow_run_id": None, "target": "stage"}
CHARTS = (
    scores.scores, scores.forest, scores.gap, subgroups.size, subgroups.classes,
    training.curves, training.cost,
)  # fmt: skip


def seed_result(seed, score, sizes=("APs", "APm", "APl"), classes=("cat", "dog")):
    """One training; AP by size is 1, 2 and 3 below its score, every class has the score."""
    return SeedResult(
        seed=seed, score=score, metrics={name: score - k for k, name in enumerate(sizes, start=1)},
        per_class=dict.fromkeys(classes, score), curve=CURVE, cost=COST, git=Git(commit="c", dirty=False),
        finished_at=None, config_sha256="0", **DIGESTS,
    )  # fmt: skip


def row(method, scores=(), status="done", gains=(), **values):
    """A method's row; published gains have scores that no test looks at."""
    published = [
        ReportedResult(id=f"{method}{g}", value=40 + g, gain=g, teacher=43.0, source="-", read="verbatim") for g in gains
    ]
    seeds = values.pop("seeds", [seed_result(k, score) for k, score in enumerate(scores)])
    return Row(
        method=method, title=values.pop("title", method.upper()), parts=[method], status=status, seeds=seeds,
        num_seeds=len(seeds), reported=published, **values,
    )  # fmt: skip


def control(scores=(10.0, 12.0), **values):
    """Mean 11, one minute."""
    return row("none", scores, **{"mean": 11.0, "minutes": 1.0, "title": "none (control)", **values})


def gaining(method="mgd", **values):
    """Mean 14, gain 3 in an interval from 1 to 5, a third of the way to a teacher at 20."""
    found = {"mean": 14.0, "gain": 3.0, "gain_low": 1.0, "gain_high": 5.0, "gap_closed": 1 / 3, "gap_low": 0.2, "gap_high": 0.4}
    return row(method, **{"scores": (13.0, 15.0), "minutes": 2.0, **found, **values})


def table(*rows, pair="pair", teacher=20.0, metric="box AP", title="A pair"):
    """A pair with its teacher."""
    trained = TeacherResult(
        name="teacher", score=teacher, metrics={}, per_class={}, curve=CURVE, cost=COST, origin=None, **DIGESTS
    ) if teacher else None  # fmt: skip
    return Table(
        pair=pair, title=title, task="detection", metric=metric, dataset="COCO", schedule="1x", teacher=trained,
        reported_teacher=[], rows=list(rows), reported_elsewhere={}, notes=[],
    )  # fmt: skip


def board(*tables, paper_scale=False):
    """A leaderboard of nothing but tables."""
    return Leaderboard(
        tier="paper" if paper_scale else "mini", tier_title="as published" if paper_scale else "small scenes", paper_scale=paper_scale,
        tables=list(tables), recipes={}, margins=[], num_tests=0, environment=None, data={}, commits=[], dirty=False,
        first_finished=None, last_finished=None, train_s=0.0, energy_kj=None, problems=[],
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _style():
    """As :func:`draw` sets it."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style.STYLE)
        yield


def only(chart, of):
    """The one figure that a chart draws."""
    (drawn,) = chart(of)
    return drawn


def texts(figure):
    """All words of a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def marks(axis, marker):
    """X of all marks of a kind."""
    return [x for line in axis.lines if line.get_marker() == marker for x in line.get_xdata()]


def save(path: Path, **arrays) -> Path:
    """A samples.npz; names as in the file, with a double underscore for its slash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name.replace("__", "/"): np.asarray(values) for name, values in arrays.items()})
    return path


def pictured(name, columns, common, maps, *, translucent=False):
    """Arrays of a method's picture as stage ``evaluate`` writes them; ``maps`` column by column, each with all its levels."""
    each = len(maps) // len(columns)
    levels = {title: tuple(torch.as_tensor(m) for m in maps[k * each : (k + 1) * each]) for k, title in enumerate(columns)}
    picture = Picture(f"the {name} seen", f"strength of the {name}", levels, tuple(common), translucent)
    return map_arrays({name: picture})


@pytest.fixture
def samples(tmp_path):
    """A detection pair's teacher, control, MasKD, MGD, and a cell that did not run: two images of 8 x 8 pixels."""
    images = {f"image_{n}": np.full((8, 8, 3), 50 + 100 * n, np.uint8) for n in range(2)}
    names = {"paths": ["0.png", "1.png"], "classes": ["cat", "dog"]}
    seen = {**names, "boxes": np.array([[0, 1, 1, 6, 6, 0.9], [0, 2, 2, 5, 5, 0.4]], np.float32), "box_labels": [1, 0]}
    truth = {"true_boxes": np.array([[0, 1, 1, 7, 7]], np.float32), "true_box_labels": [1]}
    rng = np.random.default_rng(0)
    tokens = [f"token {number}" for number in range(1, 9)]
    mask = pictured("masks", tokens, tokens, [rng.random((2, 4, 4)) for _ in range(16)], translucent=True)
    titles = ["student,\nmasked", "student,\nrestored", "teacher"]
    features = pictured("features", titles, titles[1:], [rng.random((2, 4, 4)) for _ in range(3)])
    covered = {"covered": np.ones((2, 2), np.float32)}
    return {
        "teacher": save(tmp_path / "t" / "samples.npz", **images, **seen, **truth),
        "none": save(tmp_path / "n" / "samples.npz", **seen),
        "maskd": save(tmp_path / "k" / "samples.npz", **seen, **mask, **covered),
        "mgd": save(tmp_path / "g" / "samples.npz", **seen, **features, **covered),
        "cwd": save(tmp_path / "c" / "samples.npz"),
    }


@pytest.fixture
def pair():
    """The pair that the visualizations belong to."""
    return table(control(), gaining("maskd", title="MasKD"), gaining("mgd"), row("cwd", status="unsupported", reason="no maps"))


def test_all_figures_in_the_order_of_the_report(pair, samples, tmp_path):
    """Charts are vectors, pictures are pixels; records name the files, each under the prefix."""
    folder = tmp_path / "new" / "figures"
    records = draw(board(pair), {"pair": samples}, folder, prefix="figures/")

    assert [record.name for record in records] == [
        "scores", "forest", "gap", "size", "classes", "curves", "cost", "masks-maskd-pair", "features-mgd-pair",
        "detections-pair",
    ]  # fmt: skip
    assert [record.file for record in records[:2]] == ["figures/scores.svg", "figures/forest.svg"]
    assert records[-1].file == "figures/detections-pair.png"
    assert {record.file.removeprefix("figures/") for record in records} == {path.name for path in folder.iterdir()}
    for record in records:
        assert "Tier mini" not in record.caption  # said once, above, and inside the charts
        assert "split" in record.caption
        assert record.title
        if record.file.endswith("png"):
            assert Image.open(folder / Path(record.file).name).width == round(6.7 * 120)


def test_the_same_input_gives_the_same_bytes(pair, samples, tmp_path):
    """Whatever the user has set for matplotlib."""
    draw(board(pair), {"pair": samples}, tmp_path / "one", prefix="")
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "none", "svg.hashsalt": None, "savefig.dpi": 30}):
        draw(board(pair), {"pair": samples}, tmp_path / "two", prefix="")
        assert mpl.rcParams["font.size"] == 20

    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        assert b"<dc:date>" not in path.read_bytes()


def test_figures_of_an_earlier_drawing_go(pair, tmp_path):
    """Those that are not drawn any more; what is no figure stays."""
    draw(board(pair), {}, tmp_path, prefix="")
    (tmp_path / "note.txt").write_text("mine")
    records = draw(board(table(control(), teacher=None)), {}, tmp_path, prefix="")

    assert [record.name for record in records] == ["scores", "size", "curves"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.svg", "note.txt", "scores.svg", "size.svg"]


def test_nothing_has_run(tmp_path):
    """No figure at all, though figures were published."""
    waiting = table(row("none", status="not run"), row("mgd", status="not run", gains=(2.0,)), teacher=None)

    assert draw(board(), {}, tmp_path, prefix="") == []
    assert draw(board(waiting), {"pair": {}}, tmp_path, prefix="") == []
    assert list(tmp_path.iterdir()) == []


def test_a_pair_that_has_not_run_beside_one_that_has(tmp_path):
    """Says so where it has a panel; the method that cannot be says that."""
    waiting = table(row("none", status="not run"), row("cwd", status="unsupported"), pair="other", teacher=None)
    both = board(table(control(), gaining()), waiting)
    words = texts(only(scores.scores, both).figure)

    assert words.count("not run") == 2  # teacher and control
    assert words.count("unsupported") == 1
    assert texts(only(scores.forest, both).figure).count("unsupported") == 1
    assert len(draw(both, {}, tmp_path, prefix="")) == 7


def test_scores_say_mean_and_gain():
    """Two seeds of 13 and 15 over a control at 11, a teacher at 20."""
    drawn = only(scores.scores, board(table(control(), gaining())))
    axis = drawn.figure.findobj(mpl.axes.Axes)[0]

    assert {"14.0  +3.0", "11.0", "20.0", "AP, points", "MGD"} <= set(texts(drawn.figure))
    assert marks(axis, "s") == [13.0, 15.0]
    assert "Tier mini: small scenes; not COCO results. n = 2 runs per method and pair." in texts(drawn.figure)


def test_published_gains_have_an_axis_of_their_own_but_at_full_size():
    """At a scaled tier no diamond stands on our axis, and the shaded one says what it is."""
    pair = table(control(), gaining(gains=(2.6, 2.2)))
    scaled, full = (only(scores.forest, board(pair, paper_scale=full)) for full in (False, True))
    ours, theirs = scaled.figure.findobj(mpl.axes.Axes)
    (common,) = full.figure.findobj(mpl.axes.Axes)

    assert (marks(ours, "D"), marks(theirs, "D")) == ([], [2.6, 2.2])
    assert theirs.get_xlabel() == "reported,\npaper scale"
    assert "not to be compared with ours" in scaled.caption
    assert marks(common, "D") == [2.6, 2.2]
    assert marks(common, "s") == [3.0]
    assert "not COCO" not in full.caption


def test_a_wide_interval_ends_in_an_arrow_head():
    """It must not press all other gains into a dot: from -500 to 5 the axis still shows 3 well apart from zero."""
    (axis, _) = only(
        scores.forest, board(table(control(), gaining(gain_low=-500.0), gaining("pkd", gain=4.0)))
    ).figure.findobj(mpl.axes.Axes)  # fmt: skip
    left, right = axis.get_xlim()

    assert right - left < 20
    assert marks(axis, "<") == [left]
    assert marks(axis, ">") == []


def test_gain_without_interval_and_row_without_control():
    """One seed: a mark alone; no control: said in words."""
    pair = table(control(scores=(11.0,)), gaining(scores=(14.0,), gain_low=None, gain_high=None), row("pkd", (9.0,), mean=9.0))
    figure = only(scores.forest, board(pair)).figure
    axis = figure.findobj(mpl.axes.Axes)[0]

    assert marks(axis, "s") == [3.0]
    assert "no baseline to compare with" in texts(figure)
    assert not [line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]


def test_gap_is_a_share_of_the_way_to_the_teacher():
    """A third; the teacher's line at 100 %."""
    axis = only(scores.gap, board(table(control(), gaining()))).figure.findobj(mpl.axes.Axes)[0]
    low, high = next(line.get_xdata() for line in axis.lines if list(line.get_ydata()) == [0, 0])

    assert marks(axis, "s") == [pytest.approx(100 / 3)]
    assert (low, high) == (20.0, 40.0)
    assert min(axis.get_xlim()) < 0
    assert max(axis.get_xlim()) > 100


@pytest.mark.parametrize(("metric", "prefix"), [("box AP", ""), ("box AP50", ""), ("mask AP", "mask ")])
def test_sizes_are_those_of_what_the_pair_is_judged_by(metric, prefix):
    """Mask AP takes the masks' sizes; a mean of 1 for small objects, below 14, and so on."""
    seeds = [
        seed_result(k, score, sizes=[f"{prefix}{name}" for name in ("APs", "APm", "APl")]) for k, score in enumerate((13.0, 15.0))
    ]
    axis = only(subgroups.size, board(table(gaining(seeds=seeds), metric=metric))).figure.findobj(mpl.axes.Axes)[0]
    means = [line.get_ydata()[0] for line in axis.lines if line.get_markerfacecolor() != "none"]

    assert means == [13.0, 12.0, 11.0]
    assert axis.get_ylabel() == f"{prefix}AP, points"


def test_pairs_without_sizes_have_no_figure_of_them():
    """Label maps have no objects, VOC no sizes."""
    bare = seed_result(0, 13.0, sizes=())
    unknown = bare.model_copy(update={"metrics": {"APs": None, "APm": None, "APl": None}})

    assert list(subgroups.size(board(table(gaining(seeds=[bare]), metric="mIoU")))) == []
    assert list(subgroups.size(board(table(gaining(seeds=[unknown]))))) == []


def test_gain_on_every_class():
    """14 over 11 in figures; a class without objects hatched."""
    seeds = [seed_result(0, 14.0).model_copy(update={"per_class": {"cat": 14.0, "dog": None}})]
    base = [seed_result(0, 11.0).model_copy(update={"per_class": {"cat": 11.0, "dog": None}})]
    figure = only(subgroups.classes, board(table(control(seeds=base), gaining(seeds=seeds)))).figure

    assert {"cat", "dog", "+3.0", "MGD"} <= set(texts(figure))
    assert [bool(patch.get_hatch()) for patch in figure.findobj(mpl.axes.Axes)[0].patches if isinstance(patch, Rectangle)] == [
        False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(("num", "bands", "numbered"), [(10, 1, True), (20, 2, True), (80, 2, False)])
def test_many_classes_stand_in_bands(num, bands, numbered):
    """20 in two lines with figures, COCO's 80 in two without; the method's name before each."""
    names = [f"class {k}" for k in range(num)]
    rows = (row(m, seeds=[seed_result(0, s, classes=names)]) for m, s in (("none", 11.0), ("mgd", 14.0)))
    words = texts(only(subgroups.classes, board(table(*rows))).figure)

    assert set(names) <= set(words)
    assert words.count("MGD") == bands
    assert words.count("+3.0") == (num if numbered else 0)


def test_a_diagram_for_every_method():
    """Validation scores of two seeds over the baseline's in grey; the one diagram has the method's title."""
    (axis,) = only(training.curves, board(table(control(), gaining()))).figure.findobj(mpl.axes.Axes)

    assert [line.get_color() for line in axis.lines[:2]] == ["#B0B0B0"] * 2
    assert len(axis.lines) == 4
    assert list(axis.lines[0].get_xdata()) == [150, 300]
    assert axis.get_title(loc="left") == "MGD"


def test_a_cpus_time_is_no_chart():
    """Runs beside each other share its cores."""
    on_cpu = Environment(python="3.11", platform="Linux", device="CPU x86_64", num_cpus=2, threads=1, packages={}, mmlab={})

    assert list(training.cost(board(table(control(), gaining())).model_copy(update={"environment": on_cpu}))) == []


@pytest.mark.parametrize(
    ("boxes", "labels", "expected"),
    [
        ([[0, 0, 0, 10, 10, 0.9], [0, 20, 20, 30, 30, 0.7]], [1, 0], -0.008),  # both right: less a hundredth of 0.8
        ([[0, 0, 0, 10, 10, 0.9], [0, 20, 20, 30, 30, 0.7]], [1, 1], 0.5 - 0.009),  # the second of another class
        (
            [[0, 0, 0, 10, 10, 0.9], [0, 0, 0, 10, 10, 0.8], [0, 20, 20, 30, 30, 0.7]],
            [1, 1, 0],
            0.5 - 0.009,
        ),  # the third is not looked at
        ([[0, 6, 0, 16, 10, 0.9]], [1], 1.0),  # IoU 40 / 160
        ([[1, 0, 0, 10, 10, 0.9]], [1], 1.0),  # on another image
    ],
)
def test_error_of_boxes_by_hand(boxes, labels, expected):
    """Two objects of classes 1 and 0."""
    truth = {"true_boxes": np.array([[0, 0, 0, 10, 10], [0, 20, 20, 30, 30.0]]), "true_box_labels": np.array([1, 0])}

    assert predictions.error(
        "boxes", 0, {"boxes": np.array(boxes, float), "box_labels": np.array(labels)}, truth
    ) == pytest.approx(expected)


def test_error_of_regions_by_hand():
    """One of three labelled pixels is of another class; 255 does not count."""
    found = {"labels_0": np.array([[0, 1], [1, 1]])}

    assert predictions.error("regions", 0, found, {"true_labels_0": np.array([[0, 0], [1, 255]])}) == pytest.approx(1 / 3)


def test_samples_of_other_images_are_not_shown(tmp_path):
    """A model that was evaluated before the teacher's images were chosen is excluded."""
    files = {
        "teacher": save(tmp_path / "t.npz", paths=["a", "b"]),
        "none": save(tmp_path / "n.npz", paths=["a", "b"]),
        "mgd": save(tmp_path / "m.npz", paths=["a", "c"]),
    }

    assert list(visualizations.read_samples(files)) == ["teacher", "none"]


def test_images_in_the_middle_and_at_the_end(tmp_path):
    """Five images of which the baseline gets 0 to 4 of four objects wrong, in another order: those with two and four are shown."""
    wrong = [3, 0, 4, 2, 1]
    true = [(n, 20 * k, 0, 20 * k + 10, 10) for n in range(5) for k in range(4)]
    said = [(*box, 0.5) for box in true]
    found = [int(k < wrong[n]) for n in range(5) for k in range(4)]
    shared = {"paths": ["a"], "classes": ["cat", "dog"], "boxes": np.array(said)}
    images = {f"image_{n}": np.full((8, 80, 3), n, np.uint8) for n in range(5)}
    files = {
        "teacher": save(tmp_path / "t.npz", **images, **shared, true_boxes=np.array(true, float), true_box_labels=[0] * 20, box_labels=[0] * 20),
        "none": save(tmp_path / "n.npz", **shared, box_labels=found),
    }  # fmt: skip
    (drawn,) = predictions.found(table(control()), visualizations.read_samples(files))
    shown = [int(axis.images[0].get_array()[0, 0, 0]) for axis in drawn.figure.axes if axis.get_title() == "truth"]

    assert shown == [3, 2]


def test_cost_with_and_without_the_prior():
    """Two minutes are twice the control's one; a prior of one minute for two seeds makes it 2.5."""
    axis = only(training.cost, board(table(control(), gaining(auxiliary_minutes=1.0)))).figure.findobj(mpl.axes.Axes)[0]
    found = {line.get_xdata()[0]: line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "s"}

    assert found == {2.0: "#0072B2", 2.5: "white"}


def test_a_method_looks_the_same_everywhere():
    """In whichever pair it comes first; no two of twenty look the same, none like the control."""
    methods = [f"m{k}" for k in range(20)]
    looks = style.looks(board(table(*(row(m) for m in ("none", *methods))), table(row("m5"), row("none"), pair="other")))

    assert list(looks) == ["none", *methods]
    assert len({(look.colour, look.marker) for look in looks.values()}) == 21
    assert [look.marker for look in looks.values()].count("D") == 0  # the published


def eight_pairs():
    """With long titles and many methods, numbers of seeds that differ, and published gains."""
    methods = ["maskd", "mgd", "crosskd", "pkd", "crosskd+pkd", "fitnet"]
    rows = [
        control(), row("cwd", status="unsupported"),
        *(gaining(m, title=f"Method {m} (segmentation)"[:21], gains=(1.5,), auxiliary_minutes=0.5) for m in methods),
        gaining("fgd", scores=(14.0,), gain_low=-90.0),
    ]  # fmt: skip
    title = "Cascade Mask R-CNN ResNeXt-101 64x4d DCN to Mask R-CNN ResNet-50 FPN"
    return board(*(table(*rows, pair=f"pair{k}", title=title) for k in range(8)))


@pytest.mark.parametrize("chart", CHARTS)
def test_many_pairs_stay_readable(chart):
    """17 cm wide, no taller than a page, no type below 8 pt, and no word beyond the edge."""
    drawn = list(chart(eight_pairs()))
    titles = [text for one in drawn for text in texts(one.figure) if "Cascade" in text]

    assert len(titles) == 8
    assert len({one.name for one in drawn}) == len(drawn)
    for one in drawn:
        figure = one.figure
        assert figure.get_figwidth() == 6.7
        assert figure.get_figheight() <= 10
        figure.draw_without_rendering()
        all_ink = figure.get_tightbbox()  # inches
        assert min(all_ink.x0, all_ink.y0) > -0.01
        assert all_ink.x1 < figure.get_figwidth() + 0.02
        assert all_ink.y1 < figure.get_figheight() + 0.01
        assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8


def test_masks_show_their_levels_and_range(pair, samples):
    """Two levels of two images; six of eight tokens, said so."""
    drawn, _ = visualizations.maps(pair, visualizations.read_samples(samples))
    words = texts(drawn.figure)

    assert words.count("token 6") == 1
    assert "token 7" not in words
    assert sum("level 2\n4 x 4\n" in word for word in words) == 2
    assert "MasKD" in drawn.title
    assert "6 of 8 columns" in drawn.caption
    assert len(drawn.figure.axes) == 2 + 2 * 2 * (6 + 1) + 1  # images, maps with their words, bar


def test_a_map_is_laid_only_over_what_it_covers(pair, tmp_path):
    """Half its height is padding: an image of 8 rows lies under a map that would reach to row 16."""
    image = np.zeros((8, 8, 3), np.uint8)
    files = {
        "teacher": save(tmp_path / "t.npz", image_0=image),
        "maskd": save(
            tmp_path / "m.npz", covered=np.array([[0.5, 1.0]]), **pictured("masks", ["a"], ["a"], [np.ones((1, 4, 2))], translucent=True)
        ),
    }  # fmt: skip
    (drawn,) = visualizations.maps(pair, visualizations.read_samples(files))
    over = next(axis for axis in drawn.figure.axes if len(axis.images) == 2)

    assert list(over.images[1].get_extent()) == [-0.5, 7.5, 15.5, -0.5]
    assert over.get_ylim() == (7.5, -0.5)


def test_restored_and_teacher_share_their_colours(pair, samples):
    """The masked student has its own."""
    _, drawn = visualizations.maps(pair, visualizations.read_samples(samples))
    limits = {
        axis.get_title(): axis.images[0].get_clim()
        for axis in drawn.figure.axes
        if axis.get_title().startswith(("stud", "teach"))
    }

    assert limits["student,\nrestored"] == limits["teacher"] != limits["student,\nmasked"]


def test_a_picture_of_any_name_is_drawn(pair, tmp_path):
    """Two methods' pictures of one name are both drawn; a column that shares no scale has its own limits."""
    files = {"teacher": save(tmp_path / "t.npz", image_0=np.zeros((8, 8, 3), np.uint8))}
    for number, method in enumerate(("maskd", "mgd"), start=1):
        maps = [np.full((1, 4, 4), number), np.linspace(0, 1, 16).reshape(1, 4, 4)]
        files[method] = save(tmp_path / f"{method}.npz", covered=np.ones((1, 2)), **pictured("glow", ["a", "b"], ["b"], maps))
    drawn = list(visualizations.maps(pair, visualizations.read_samples(files)))

    assert [one.name for one in drawn] == ["glow-maskd-pair", "glow-mgd-pair"]
    assert any("a: 1 to 1" in word and "others: 0 to 1" in word for word in texts(drawn[0].figure))
    assert "the glow seen" in drawn[0].caption
    assert "strength of the glow" in " ".join(texts(drawn[0].figure))


def test_boxes_with_names_and_scores(pair, samples):
    """The surest for the one object; the truth's have no score; a cell that did not run, no picture."""
    (drawn,) = predictions.found(pair, visualizations.read_samples(samples))
    words = texts(drawn.figure)

    assert [words.count(title) for title in ("truth", "teacher", "none (control)", "MasKD", "CWD")] == [2, 2, 2, 2, 0]
    assert (words.count("dog .90"), words.count("cat .40")) == (4, 0)
    assert words.count("dog") == 2  # the truth's, and in the legend
    assert words.count("cat") == 0


def test_label_maps_in_their_classes_colours(tmp_path):
    """Class 1 over half an image of grey 100: 35 % grey and 65 % sky blue (86, 180, 233); background stays grey."""
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 4:] = 1
    names = {"paths": ["0.png"], "classes": ["background", "road"]}
    files = {
        "teacher": save(
            tmp_path / "t.npz", image_0=np.full((8, 8, 3), 100, np.uint8), true_labels_0=labels, labels_0=labels, **names
        )
    }
    pair = table(control(), metric="mIoU")
    (drawn,) = predictions.found(pair, visualizations.read_samples(files))
    shown = drawn.figure.axes[0].images[0].get_array()

    assert list(shown[0, 0] * 255) == pytest.approx([100, 100, 100])
    assert list(shown[0, 7] * 255) == pytest.approx([0.35 * 100 + 0.65 * c for c in (86, 180, 233)])
    assert texts(drawn.figure).count("road") == 3  # truth, teacher, legend


def test_instances_by_number(tmp_path):
    """Truth as boxes; a model that found nothing on an image shows the image alone."""
    found = np.zeros((8, 8), np.uint8)
    found[:4] = 1
    shared = {"paths": ["0.png"], "classes": ["cat", "dog"]}
    truth = {"true_boxes": np.array([[0, 1, 1, 7, 7]], np.float32), "true_box_labels": [1]}
    files = {
        "teacher": save(tmp_path / "t.npz", image_0=np.full((8, 8, 3), 100, np.uint8), labels_0=found, **shared, **truth),
        "none": save(tmp_path / "n.npz", **shared),
    }
    pair = table(control(), metric="mask AP")
    (drawn,) = predictions.found(pair, visualizations.read_samples(files))
    truth_axis, teacher, none = drawn.figure.axes[:3]

    assert [text.get_text() for text in truth_axis.texts] == ["dog"]
    assert not np.allclose(teacher.images[0].get_array()[0, 0], teacher.images[0].get_array()[7, 7])
    assert np.array_equal(none.images[0].get_array(), np.full((8, 8, 3), 100))


def test_samples_that_cannot_be_read_are_named(pair, samples, tmp_path):
    """A cut file costs its own pictures; without the teacher's images there are none."""
    cut = tmp_path / "cut.npz"
    cut.write_bytes(samples["maskd"].read_bytes()[:100])
    with pytest.warns(UserWarning, match=re.escape(str(cut))):
        records = draw(board(pair), {"pair": {**samples, "maskd": cut}}, tmp_path / "a", prefix="")

    assert [record.name for record in records][-2:] == ["features-mgd-pair", "detections-pair"]
    del samples["teacher"]
    assert draw(board(pair), {"pair": samples}, tmp_path / "b", prefix="")[-1].name == "cost"


def test_a_forest_of_zeros_has_an_extent():
    """Students that find nothing all gain 0.0, without an interval: no word of matplotlib's, and zero is inside."""
    zeros = row("mgd", (0.0,), mean=0.0, gain=0.0, minutes=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = only(scores.forest, board(table(control((0.0,), mean=0.0), zeros)))
    left, right = drawn.figure.findobj(mpl.axes.Axes)[0].get_xlim()

    assert left < 0 < right
