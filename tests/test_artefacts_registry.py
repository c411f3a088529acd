"""``artefacts.yaml`` against the registry, the pairs and the installed packages; nothing is downloaded."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mmdet
import mmseg
import pytest
import yaml

from benchmarks.artefacts import Artefacts
from benchmarks.reported import Registry
from methods.recipe import Recipe
from pipelines.params import load_pair, load_yaml
from tests.conftest import ROOT

OPENMMLAB = {"download.openmmlab.com", "mmassets.onedl.ai"}
PACKAGES = {"open-mmlab/mmdetection": mmdet, "open-mmlab/mmsegmentation": mmseg}
# The methods' rows in the tables of the papers' own repositories.
ROWS = {
    "MasKD": [
        "frcnn-maskd-2023", "retina-r101-maskd-2023", "fcos-upgraded-maskd-2023", "cmr-frcnn-maskd-2023", "retina-x101-maskd-2023",
        "reppoints-maskd-2023", "deeplabv3-r18-maskd-readme", "deeplabv3-r18-scratch-maskd-readme", "deeplabv3-mbv2-maskd-readme",
        "deeplabv3-pspnet-r18-maskd-readme",
    ],
    "MGD": ["retina-x101-mgd-readme", "solo-mgd-readme", "pspnet-deeplabv3-r18-mgd-readme", "imagenet-mgd-readme"],
    "CrossKD": [
        "gfl-crosskd", "gfl-crosskd-pkd", "retina-r101-crosskd-readme", "retina-r101-crosskd-pkd-readme", "fcos-crosskd-readme",
        "fcos-crosskd-pkd-readme", "atss-crosskd-readme", "atss-crosskd-pkd-readme", "retina-swint-crosskd-readme",
    ],
    "DeFeat": [
        "frcnn-unnamed-1x-defeat-abstract", "retina-unnamed-1x-defeat-abstract", "frcnn-voc-fgfi-w1-readme",
        "frcnn-voc-fgfi-w2-readme", "frcnn-voc-fgfi-w2-again-readme",
    ],
}  # fmt: skip
# Digests of the teachers that the masks were learned on, from the configs of hunto/MasKD at b5af34f.
TEACHERS = {
    "maskd-frcnn-r101": "1d2dac9c", "maskd-retina-r101": "5560aee8", "maskd-cmr-x101": "bdb5126a", "maskd-fcos-r101": "511424d6",
    "maskd-reppoints-x101": "f87da1ea",
}  # fmt: skip


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Pair files are named from the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def artefacts():
    """All that was released."""
    return load_yaml(ROOT / "benchmarks/artefacts.yaml", Artefacts)


@pytest.fixture(scope="module")
def figures():
    """Reported results, by id."""
    return {figure.id: figure for figure in load_yaml(ROOT / "benchmarks/reported.yaml", Registry).root}


def files(artefacts):
    """Weights, logs and masks, and the name of what each belongs to."""
    students = [(name, one) for name, student in artefacts.students.items() for one in (student.weights, student.log) if one]
    return students + list(artefacts.tokens.items())


def test_reported_results_exist(artefacts, figures):
    """Every id is in the registry; a student's are all of methods or all of baselines, never of teachers."""
    for name, student in artefacts.students.items():
        assert set(student.reported) <= figures.keys(), name
        assert figures[student.reported[0]].value > 0, name
        assert {figures[one].what for one in student.reported} in ({"method"}, {"control"}), name


def test_several_results_of_a_student_agree(artefacts, figures):
    """One model has one score in a metric, give or take the rounding of its two sources."""
    for name, student in artefacts.students.items():
        for metric in {figures[one].metric for one in student.reported}:
            values = [figures[one].value for one in student.reported if figures[one].metric == metric]

            assert max(values) - min(values) <= 0.1 + 1e-9, name


@pytest.mark.parametrize("method", ROWS)
def test_every_row_has_an_entry(method, artefacts):
    """Each row of a method's tables has its artefacts or the reason why there are none."""
    assert [row for row in ROWS[method] if artefacts.of(row) is None] == []


def test_figures_of_two_tables_do_not_share_weights(artefacts):
    """A checkpoint belongs to one student."""
    addresses = [student.weights.address for student in artefacts.students.values() if student.weights]

    assert sorted(set(addresses)) == sorted(addresses)


def test_file_names(artefacts):
    """The publisher's name where an address has one, else that of the entry."""
    for name, one in files(artefacts):
        published = unquote(urlsplit(one.address).path).rsplit("/", 1)[-1]

        assert one.file == published if one.host is None else one.file in {f"{name}.pth", f"{name}.log"}


def test_digests_are_in_the_names(artefacts):
    """OpenMMLab names checkpoints by their digest's first digits; nobody else states one."""
    for name, student in artefacts.students.items():
        if student.weights is not None:
            found = re.search(r"-([0-9a-f]{8})\.pth$", student.weights.file)
            stated = found[1] if urlsplit(student.weights.address).netloc in OPENMMLAB else None

            assert stated == student.weights.sha256, name
    assert {one.sha256 for _, one in files(artefacts) if not one.file.endswith(".pth")} == {None}
    assert {one.sha256 for one in artefacts.tokens.values()} == {None}


def test_masks_are_of_the_pairs_teachers(artefacts):
    """All pairs with the teacher that the masks were learned on; a note names the pair's where the checkpoint is another one."""
    digests = {path.stem: load_pair(path.stem).teacher.checkpoint for path in (ROOT / "benchmarks/pairs").glob("*.yaml")}
    digests = {pair: checkpoint.sha256 for pair, checkpoint in digests.items() if checkpoint is not None}
    for name, tokens in artefacts.tokens.items():
        assert load_yaml(ROOT / f"methods/{tokens.method}.yaml", Recipe).prior is not None
        if name in TEACHERS:
            assert {pair for pair, digest in digests.items() if digest == TEACHERS[name]} == set(tokens.pairs), name
        else:
            assert all(f"({digests[pair]}" in tokens.note for pair in tokens.pairs), name


def controls(artefacts, figures):
    """Students of the model zoos."""
    zoos = [student for student in artefacts.students.values() if (student.config or "").split(" ")[0] in PACKAGES]
    return [student for student in zoos if figures[student.reported[0]].what == "control"]


def test_baselines_are_the_installed_zoos(artefacts, figures):
    """Addresses and scores in the metafiles beside the installed configs."""
    found = controls(artefacts, figures)
    for student in found:
        repository, config = student.config.split(" ")[:2]
        folder = Path(PACKAGES[repository].__file__).parent / ".mim" / Path(config).parent
        (metafile,) = folder.glob("metafile.y*ml")
        (model,) = [one for one in yaml.safe_load(metafile.read_text())["Models"] if one["Config"] == config]
        results = model["Results"] if isinstance(model["Results"], list) else [model["Results"]]

        assert model["Weights"] == student.weights.address
        assert model.get("Training log", student.log.address) == student.log.address
        for figure in map(figures.get, student.reported):
            assert results[0]["Metrics"][figure.metric] == figure.value, figure.id
    assert len(found) == 8
