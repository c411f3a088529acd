"""Reported results against the suite's own settings: which may be judged, and that the registry does not contradict them."""

import re

import pytest

from benchmarks.reported import Registry, RegistryEntry, Settings
from pipelines.grid import Grid
from pipelines.params import load_pair, load_yaml
from pipelines.reporting.comparability import check_comparable, contradictions, settings_here, split_differs
from pipelines.reporting.registry import reported_results
from pipelines.stages.check import check_all
from reports.formats.wording import orientation, reading
from reports.schemas.reported import Margin
from reports.stats.verdicts import judged
from tests.boards import made_up
from tests.conftest import ROOT, committed, edit_yaml, renew, run_here

MARGIN = Margin(dataset="COCO", metric="box AP", margin=0.3, planning_sd=0.15, why="a test's")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Pair files are named from the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def figures():
    """All records by id."""
    return {figure.id: figure for figure in load_yaml(ROOT / "benchmarks/reported.yaml", Registry).root}


def here(pair, method, **changes):
    """The suite's settings."""
    return settings_here(pair, load_pair(pair), method, **changes)


def test_no_result_that_is_marked_comparable_contradicts_its_recipe_or_pair(figures):
    """Over the whole registry; each states at least its length and batch, and a method's more."""
    comparable = [figure for figure in figures.values() if figure.comparable]
    check_comparable(comparable, [f.place[0] for f in comparable], [f.place[1] for f in comparable])

    assert len(comparable) > 30
    for figure in comparable:
        assert figure.settings.batch_size
        assert figure.settings.epochs or figure.settings.iterations
        assert figure.what == "control" or (figure.settings.hparams and figure.settings.inherits is not None), figure.id


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("retina-x101-maskd-2023", {"teacher"}),
        ("gfl-fitnet-ld", {"code base", "schedule"}),
        ("gfl-ld-main-ld", {"schedule"}),
        ("deeplabv3-r18-cwd-cirkd", {"teacher", "data", "method"}),
        ("deeplabv3-r18-control-cirkd", {"data", "code base"}),
        ("frcnn-voc-control-bn-clip-lr002-readme", {"schedule"}),
        ("frcnn-unnamed-1x-defeat-abstract", {"teacher", "method"}),
        ("atss-crosskd-readme", {"world size"}),
        ("imagenet-mgd-readme", {"not run"}),
        ("gfl-crosskd", set()),
        ("retina-x101-mgd-readme", set()),
        ("pspnet-r18-mgd-readme", set()),
    ],
)
def test_what_is_known_by_hand(figures, name, kinds):
    """Cases of the registry that a reader of the sources can check."""
    assert {difference.kind for difference in figures[name].differs} == kinds


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("pspnet-r18-mgd-readme", ("pspnet_r101_pspnet_r18", "mgd_seg_feature")),
        ("pspnet-r18-mgd-paper", ("pspnet_r101_pspnet_r18", "mgd_seg")),
        ("frcnn-voc-fgfi-w1-readme", ("faster_rcnn_r101_r50_voc", "fgfi")),
        ("frcnn-voc-fgfi-w2-readme", ("faster_rcnn_r101_r50_voc", "fgfi_weight2")),
        ("frcnn-unnamed-1x-defeat-abstract", ("faster_rcnn_r152_r50", "defeat")),
        ("retina-unnamed-1x-defeat-abstract", ("retinanet_r152_r50", "defeat")),
        ("gfl-ld-full-ld", ("gfl_r101_r50", "kd+ld_vlr")),
        ("gfl-ld-main-mmdet", ("gfl_r101_r50", "ld")),
    ],
)
def test_results_stand_beside_the_recipe_that_they_fit(figures, name, place):
    """Also where that was found out after they had been recorded."""
    assert figures[name].place == place


def test_contradictions_by_hand():
    """Each stated setting that differs is named once with both values; what is not stated is not compared."""
    stated = Settings(
        teacher="0123456789", epochs=12, batch_size=6, hparams={"alpha": 1.0, "tau": 2.0}, inherits=["neck"], config={"lr": 0.01}
    )
    same = Settings(
        teacher="01234567", epochs=12, batch_size=6, hparams={"alpha": 1.0, "tau": 2.0}, inherits=["neck"], config={"lr": 0.01}
    )
    other = Settings(
        teacher="01234569", iterations=9, batch_size=16, hparams={"alpha": 1.0, "tau": 3.0}, inherits=[], config={"lr": 0.02}
    )

    assert contradictions(stated, same) == contradictions(Settings(), other) == []
    assert contradictions(stated, other) == [
        "teacher 0123456789, here 01234569", "epochs 12, here None", "batch_size 6, here 16", "inherits neck, here nothing",
        "tau 2.0, here 3.0", "lr 0.01, here 0.02",
    ]  # fmt: skip


def test_images_per_gpu_count_where_a_loss_depends_on_them(figures):
    """CrossKD's of 2 on a GPU is not that of 16 formed together, and is in groups of two; MGD's is either way."""
    crosskd, mgd = figures["retina-r101-crosskd-readme"].settings, figures["retina-x101-mgd-readme"].settings
    whole, divided = (here("retinanet_r101_r50", "crosskd", images_per_gpu=number) for number in (16, 2))

    assert re.match(r"world size: 2 .*\b16\b.*crosskd", split_differs(crosskd, whole, "crosskd"))
    assert split_differs(crosskd, divided, "crosskd") is None
    assert split_differs(mgd, here("retinanet_x101_r50", "mgd"), "mgd") is None


def test_a_user_s_batch_is_another_setting(figures):
    """LD's authors ran 6 images per step."""
    stated = figures["gfl-ld-main-ld"].settings

    assert contradictions(stated, here("gfl_r101_r50", "ld")) == ["batch_size 6, here 16"]
    assert contradictions(stated, here("gfl_r101_r50", "ld", batch_size=6)) == []


def test_a_contradiction_is_one_line_before_anything_trains(project):
    """An edited recipe, at the tier whose results are judged; at a scaled tier nothing is."""
    edit_yaml(project / "params.yaml", tier="paper", grid={"retinanet_x101_r50": ["none", "mgd"]}, seeds=1)
    recipe = project / "methods/mgd.yaml"
    recipe.write_text(recipe.read_text().replace("alpha: 2.0e-5", "alpha: 3.0e-5"))
    done = run_here(project, "pipelines.stages.check")
    edit_yaml(project / "params.yaml", tier="mini")

    assert done.returncode == 2
    words = (
        r"error: benchmarks/reported\.yaml: retina-x101-mgd-readme .*mgd .*retinanet_x101_r50: alpha 2e-05, here 3e-05; "
        r".*'comparable: false' .*'differs'.*\n"
    )
    assert re.fullmatch(words, done.stderr), done.stderr
    assert not (project / "runs").exists()
    renew(project)
    assert run_here(project, "pipelines.stages.check").returncode == 0


def test_the_committed_registry_passes_the_check_of_every_pair(monkeypatch):
    """As ``check`` runs it, at full size."""
    monkeypatch.setenv("KD_COCO", "/data")
    methods = ["none", "crosskd+pkd", "fgfi"]
    check_all(Grid(tier="paper", rows={"gfl_r101_r50": methods, "faster_rcnn_r101_r50_voc": methods}, seeds=[0]))


def record(**changes):
    """A result of 41.0 over 38.0."""
    base = {
        "id": "a-b", "pair": "p", "what": "method", "method": "mgd", "metric": "box AP", "value": 41.0, "baseline": 38.0,
        "source": "table 1", "read": "verbatim", "comparable": True,
    }  # fmt: skip
    return RegistryEntry.model_validate({**base, **changes})


OTHER = {"comparable": False, "differs": [{"kind": "teacher", "why": "the 3x one"}]}


def shown(*records):
    """As a row has them."""
    return reported_results(records, "p", "box AP")["mgd"]


def test_only_comparable_results_are_judged():
    """Scores that would reproduce either: the other one stays for orientation, with its reason."""
    same, other = shown(record(), record(id="a-c", value=41.1, **OTHER))
    scores, control = [41.0, 41.05, 40.95], [38.0, 38.05, 37.95]
    first, second = (judged(figure, scores, control, MARGIN) for figure in (same, other))

    assert first.score_verdict.verdict == first.gain_verdict.verdict == "reproduced"
    assert second == other
    assert second.score_verdict is second.gain_verdict is None
    assert orientation(second) == "for orientation, not judged: teacher: the 3x one"
    assert reading(second, made_up()) == [f"score 41.1 AP {orientation(second)}"]


def test_a_gain_over_another_baseline_is_not_judged():
    """The score is; the sentence says why the gain is not."""
    (figure,) = shown(record(gain_differs="printed over the plain head"))
    found = judged(figure, [41.0, 41.05, 40.95], [38.0, 38.05], MARGIN)

    assert found.score_verdict.verdict == "reproduced"
    assert found.gain_verdict is None
    assert reading(found, made_up())[0] == "gain not judged: printed over the plain head"


def test_of_a_repeated_result_the_comparable_source_is_shown():
    """Whichever comes first."""
    for records in ((record(id="a-c", **OTHER), record()), (record(), record(id="a-c", **OTHER))):
        (figure,) = shown(*records)

        assert (figure.id, figure.differs) == ("a-b", [])


def test_the_protocol_page_counts_what_is_comparable(figures):
    """All results on a pair and method of the suite, and those that are comparable, all of them with the images per GPU that runs have."""
    rows = [figure for figure in figures.values() if figure.comparable is not None]
    comparable = [figure for figure in rows if figure.comparable]

    assert not [f.id for f in comparable if split_differs(f.settings, here(*f.place), str(f.place[1]))], "groups are as published"
    assert f"Of {len(rows)} reported results on the suite's pairs and methods {len(comparable)} are comparable " in committed(
        "docs/protocol.md"
    )
