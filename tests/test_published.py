"""The registry of published figures: its schema, what its records say of each other, and that none is ever changed."""

import re
import shutil
from itertools import combinations

import pytest
from pydantic import ValidationError

from benchmarks.reported import Registry, RegistryEntry, digest
from pipelines.params import load_pair, load_yaml
from pipelines.reporting.registry import reported_results
from tests.conftest import ROOT, run_stage

UNCLAIMED = {"retinanet_r50_r18"}  # CrossKD ships its config; no source that could be read states a figure
# One checkpoint was never published, and nobody states a RetinaNet of ResNet-152.
NO_TEACHER_STATED = {"solo_r101_r50", "retinanet_r152_r50"}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Pair files are named from the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def figures():
    """All records."""
    return load_yaml(ROOT / "benchmarks/reported.yaml", Registry).root


def figure(**changes):
    """A record in order, changed."""
    record = {
        "id": "a-b",
        "pair": "p",
        "what": "method",
        "method": "mgd",
        "metric": "box AP",
        "value": 41.0,
        "baseline": 38.0,
        "source": "table 1",
        "read": "verbatim",
        "comparable": True,
    }
    return {key: value for key, value in {**record, **changes}.items() if value != "-"}


def of(figures, pair, what, metric):
    """Values of a pair's teachers or controls."""
    return {f.value for f in figures if (f.pair, f.what, f.metric) == (pair, what, metric)}


# The schema


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 410.0}, "less than or equal to 100"),
        ({"value": -1.0}, "greater than 0"),
        ({"metric": "AP"}, "Input should be 'box AP'"),
        ({"source": ""}, "should match pattern"),
        ({"id": "A B"}, "should match pattern"),
        ({"pair": None}, "pair or"),
        ({"setting": "two detectors"}, "pair or"),
        ({"other_method": "MGD"}, "method or other_method"),
        ({"method": "-"}, "method or other_method"),
        ({"method": "none"}, "is what a control has"),
        ({"what": "control"}, "is what a control has"),
        ({"what": "teacher"}, "a teacher has no method"),
        ({"gain": 3.0, "baseline": "-"}, "a gain needs a baseline"),
        ({"derived": "value"}, "what is derived needs a gain"),
        ({"variant": {"heads": "two"}}, "Extra inputs"),
        ({"details": {"AP90": 1.0}}, "Extra inputs"),
        ({"comparable": "-"}, "comparable exactly"),
        ({"pair": None, "setting": "two detectors"}, "comparable exactly"),
        ({"differs": [{"kind": "teacher", "why": "another one"}]}, "what is comparable differs in nothing"),
        ({"comparable": False}, "what is not says in what"),
        ({"comparable": False, "differs": [{"kind": "mood", "why": "it was monday"}]}, "Input should be 'teacher'"),
        ({"settings": {"teacher": "R101"}}, "should match pattern"),
        ({"beside": {"method": "fgd"}}, "Field required"),
    ],
)
def test_a_wrong_record_is_refused(changes, message):
    """Each says what is wrong."""
    RegistryEntry.model_validate(figure())

    with pytest.raises(ValidationError, match=message):
        RegistryEntry.model_validate(figure(**changes))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"id": "a-b"}, "ids given twice: a-b"),
        ({"disagrees_with": ["a-d"]}, "unknown ids: a-d"),
        ({"disagrees_with": []}, "a-b .*a-c"),
        ({"pair": "q"}, "their pair differs"),
        ({"metric": "mask AP"}, "their metric differs"),
        ({"method": "fgd"}, "their method differs"),
        ({"value": 41.0}, "they say the same"),
    ],
)
def test_wrong_rivals_are_refused(second, message):
    """Rivals exist, name each other, speak of the same and say something else."""
    first = figure(disagrees_with=["a-c"])
    other = figure(**{"id": "a-c", "value": 40.0, "disagrees_with": ["a-b"], **second})

    with pytest.raises(ValidationError, match=message):
        Registry.model_validate([first, other])


def test_a_result_shown_elsewhere_keeps_its_rivals():
    """A record for one method that is shown beside another may disagree with either."""
    moved = figure(id="a-c", value=40.0, disagrees_with=["a-b", "a-d"], beside={"method": "fgd", "why": "found out later"})
    both = [
        figure(disagrees_with=["a-c"]),
        moved,
        figure(id="a-d", method="fgd", disagrees_with=["a-c"]),
        figure(id="a-e", method="cwd", value=39.0),
    ]

    assert [f.shown_method for f in Registry.model_validate(both).root] == ["mgd", "fgd", "fgd", "cwd"]


# The records


def test_every_pair_exists_and_has_figures(figures):
    """Both ways: no figure of an unknown pair, no pair without a figure; what is reported on a pair that is repeated is on the first."""
    assert {f.place[0] for f in figures if f.place[0]} == {
        path.stem for path in (ROOT / "benchmarks/pairs").glob("*.yaml") if load_pair(path.stem).repeats is None
    }


def test_every_method_exists(figures):
    """Each part of a combination has its recipe, also where a result is shown beside another row."""
    recipes = {path.stem for path in (ROOT / "methods").glob("*.yaml")}

    assert {part for f in figures if f.place[1] for part in f.place[1].split("+")} - recipes == set()


def test_gains_add_up(figures):
    """Value less baseline is the gain that the source prints."""
    stated = {f.id: f.gain for f in figures if f.gain is not None}

    assert {name: round(f.value - f.baseline, 6) for f in figures if (name := f.id) in stated} == stated
    assert {"gfl-crosskd", "frcnn-maskd-text", "mask-rcnn-swin-to-fcos-pkd-abstract"} <= stated.keys()


def test_baselines_and_teachers_are_figures_themselves(figures):
    """The student's and teacher's results in a method's record are records of a baseline or a teacher too."""
    claims = [f for f in figures if f.pair and f.what == "method"]
    lone = [f.id for f in claims if f.baseline and f.baseline not in of(figures, f.pair, "control", f.metric)]
    lone += [f.id for f in claims if f.teacher and f.teacher not in of(figures, f.pair, "teacher", f.metric)]

    assert lone == []


def test_no_orphans(figures):
    """A pair that has a control or a teacher has a claim, and the other way round."""
    pairs = {f.place[0] for f in figures if f.place[0]}
    having = {what: {f.place[0] for f in figures if f.what == what} for what in ("teacher", "control", "method")}

    assert pairs - having["method"] == UNCLAIMED
    assert pairs - having["control"] == set()
    assert pairs - having["teacher"] == NO_TEACHER_STATED


def _told_apart(one, other):
    return any(a is not None and b is not None and a != b for a, b in zip(dict(one).values(), dict(other).values(), strict=True))


def test_contradictions_are_named(figures):
    """Two figures of the same method on the same pair that nothing in their variants tells apart are rivals."""
    unnamed = [
        (one.id, other.id)
        for one, other in combinations([f for f in figures if f.place[0]], 2)
        if (one.place, one.what, one.metric, one.shown_method) == (other.place, other.what, other.metric, other.shown_method)
        and (one.value, one.baseline) != (other.value, other.baseline)
        and not _told_apart(one.variant, other.variant)
        and other.id not in one.disagrees_with
    ]

    assert unnamed == []


def test_what_is_known_to_disagree(figures):
    """By hand: MasKD's three figures, the teacher of GFL at 44.7 or 44.9, the abstract of MGD and its README."""
    rivals = {f.id: set(f.disagrees_with) for f in figures}

    assert rivals["frcnn-maskd-2022"] == {"frcnn-maskd-2023", "frcnn-maskd-paper", "frcnn-maskd-text"}
    assert {"gfl-teacher-crosskd", "gfl-teacher-frs"} <= rivals["gfl-teacher-mmdet"]
    assert rivals["pspnet-deeplabv3-r18-mgd-abstract"] == {"pspnet-deeplabv3-r18-mgd-readme"}
    assert rivals["fcos-upgraded-fgd-readme"] == {"fcos-upgraded-fgd-user"}


def test_pairs_state_a_published_teacher(figures):
    """A pair file's teacher is in the registry, under the pair's metric."""
    for path in (ROOT / "benchmarks/pairs").glob("*.yaml"):
        pair = load_pair(path.stem)
        name = pair.repeats or path.stem
        stated = of(figures, name, "teacher", pair.metric)

        assert pair.teacher.stated is None or pair.teacher.stated in stated, path.name
        assert any(f.place[0] == name and f.metric == pair.metric for f in figures), path.name


# Append only


def versions():
    """(number of records, digest) of each version in the change log, the first one first."""
    text = (ROOT / "benchmarks/REPORTED_CHANGES.md").read_text()
    return [
        (int(count), sha) for count, sha in re.findall(r"^\| \d+ \| [\d-]+ \| (\d+) \| `([0-9a-f]{64})` \|$", text, re.MULTILINE)
    ]


def test_no_version_was_changed(figures):
    """The first records still claim what they did when each version was made, and the last version has them all."""
    known = versions()

    assert [count for count, _ in known] == sorted({count for count, _ in known})
    assert known[-1][0] == len(figures), (
        f"add to PUBLISHED_CHANGES.md: | <version> | <date> | {len(figures)} | `{digest(figures)}` |"
    )
    for count, sha in known:
        assert digest(figures[:count]) == sha, f"one of the first {count} records was changed, moved or removed: append instead"


@pytest.mark.parametrize(
    "update", [{"value": 43.8}, {"baseline": None}, {"source": "elsewhere"}, {"id": "gfl-other"}, {"read": "second-hand"}]
)
def test_the_digest_sees_an_edit(figures, update):
    """The digest covers the results and their sources; notes and conflicting reports may be completed."""
    first, *others = figures[:3]

    assert digest([first.model_copy(update=update), *others]) != digest([first, *others])
    assert digest(others) != digest([first, *others]) != digest([*others, first])
    assert digest([first.model_copy(update={"note": "n", "disagrees_with": ["a-b"]}), *others]) == digest([first, *others])


# What reads it


def test_claims_of_a_pair():
    """Every figure of the pair with the rival's value; others are not there."""
    done = run_stage(ROOT, "pipelines", "results", "faster_rcnn_r101_r50")
    text = " ".join(re.sub(r"[│┃]", " ", done.stdout).split())

    assert done.returncode == 0, done.stderr
    for part in (
        "maskd",
        "hunto/MasKD README of 2022-05-29/30",
        "40.6 (frcnn-maskd-2022)",
        "+2.6",
        "second-hand",
        "Global Knowledge",
    ):
        assert part in text
    assert "crosskd" not in text


def test_claims_without_a_pair():
    """All pairs with the number of their figures, and what belongs to none."""
    done = run_stage(ROOT, "pipelines", "results")

    assert re.search(r"│ solo_r101_r50 +│ 3 +│ 0 +│ 1 +│ 2 +│ fgd, mgd +│", done.stdout), done.stderr
    assert "belong to none of the suite's pairs" in done.stdout


def test_claims_of_an_unknown_pair(tmp_path):
    """One line that names the known ones."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    done = run_stage(tmp_path, "pipelines", "results", "gfl", PYTHONPATH=str(ROOT))

    assert done.returncode == 2
    assert re.fullmatch(r"error: unknown pair 'gfl'; there are: .*gfl_r101_r50, .*solo_r101_r50\n", done.stderr)


def test_a_report_shows_what_is_published():
    """Neither what users report, nor another metric, nor methods that the suite has not, nor a repeated figure."""
    records = [
        figure(),
        figure(id="a-again", source="quoted"),
        figure(id="a-other-baseline", baseline=37.0),
        figure(id="a-user", value=30.0, kind="user_reproduction"),
        figure(id="a-mask", value=35.0, metric="mask AP"),
        figure(id="a-elsewhere", value=36.0, pair="q"),
        figure(id="a-theirs", value=37.0, method="-", other_method="FRS", comparable="-"),
        figure(id="a-teacher", value=44.0, what="teacher", method="-", baseline="-", comparable="-"),
    ]
    found = reported_results([RegistryEntry.model_validate(record) for record in records], "p", "box AP")

    assert {name: [(f.value, f.gain) for f in entries] for name, entries in found.items()} == {
        "mgd": [(41.0, 3.0), (41.0, 4.0)],
        "teacher": [(44.0, None)],
    }
