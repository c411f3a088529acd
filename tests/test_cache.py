"""Stages that an edit makes stale: their dependencies before and after it, in a copy of the project at tier mini."""

import ast
import re
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines import layout, resolved
from pipelines.code_digest import code_of
from pipelines.params import load_grid
from pipelines.stage_list import stages, stages_text
from tests.conftest import ROOT, edit_yaml

GFL, FRCNN, PSPNET = "gfl_r101_r50", "faster_rcnn_r101_r50", "pspnet_r101_pspnet_r18"
GRID = {GFL: ["none", "mgd", "crosskd", "crosskd+pkd"], FRCNN: ["none", "mgd", "maskd"], PSPNET: ["none", "mgd_seg"]}
CODE = sorted(
    str(path.relative_to(ROOT)) for package in ("pipelines", "methods", "benchmarks") for path in (ROOT / package).rglob("*.py")
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy with a small grid; it is the working directory."""
    for name in ("benchmarks", "methods", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    tuning = yaml.safe_load(Path("params.yaml").read_text())["tuning"] | {"grid": {GFL: ["mgd"]}}
    edit_yaml(Path("params.yaml"), tier="mini", grid=GRID, seeds=2, baseline_seeds=[], tuning=tuning)
    return tmp_path


def written():
    """Every file that a stage depends on: ``distill/gfl_r101_r50/mgd`` -> its text."""
    found = resolved.contents(load_grid())
    return {str(path.relative_to(layout.RESOLVED).with_suffix("")): resolved.as_text(content) for path, content in found}


def changed(edit, *arguments):
    """Files that are new or different after an edit; none may be gone."""
    before = written()
    edit(*arguments)
    after = written()
    assert before.keys() <= after.keys()
    return {key for key, text in after.items() if before.get(key) != text}


def replace(path, old, new):
    """Edit a file; the old text must be there."""
    text = Path(path).read_text()
    assert old in text, f"{path} has no {old}"
    Path(path).write_text(text.replace(old, new, 1))


def set_grid(**changes):
    """Change rows of the grid."""
    edit_yaml(Path("params.yaml"), grid={**GRID, **changes})


@pytest.mark.slow
def test_one_more_method_on_one_pair(project):
    """Its own file is new, and stages are added; none is gone or another."""
    before = set(stages_text(load_grid()).splitlines())

    assert changed(lambda: set_grid(**{GFL: ["fitnet", *GRID[GFL]]})) == {f"distill/{GFL}/fitnet"}
    added = set(stages_text(load_grid()).splitlines()) - before
    assert before <= set(stages_text(load_grid()).splitlines())
    assert {line.strip().split(":")[0] for line in added} == {f"{GFL}/fitnet/seed0", f"{GFL}/fitnet/seed1"}


@pytest.mark.slow
def test_one_more_pair(project):
    """Also one that starts from another backbone: what all others start from stays."""
    new = "retinanet_r50_r18"
    keys = {f"teachers/{new}", f"evaluate/{new}", f"distill/{new}/none", "pretrain/resnet18"}
    before = set(stages_text(load_grid()).splitlines())

    assert changed(lambda: edit_yaml(Path("params.yaml"), grid={new: ["none"], **GRID})) == keys
    assert before <= set(stages_text(load_grid()).splitlines())


def test_one_more_data_set(project):
    """At the paper tier a pair of VOC: the data of the others are no others, though stage prepare runs again."""
    edit_yaml(Path("params.yaml"), tier="paper", grid={GFL: ["none"]}, tuning=None)
    new = "faster_rcnn_r101_r50_voc"

    assert changed(lambda: edit_yaml(Path("params.yaml"), grid={GFL: ["none"], new: ["none"]})) == {
        "prepare", f"teachers/{new}", f"evaluate/{new}", f"distill/{new}/none",
    }  # fmt: skip
    assert stages(load_grid())["teachers"][GFL]["data"] == "coco"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"seeds": 3}, {"seeds": [5, 0, 1]}, {"baseline_seeds": 4}, {"grid": dict(reversed(GRID.items()))}]
)
def test_seeds_and_the_grids_order_are_no_settings(project, change):
    """Stages are added or reordered; what they depend on is the same."""
    before = set(stages_text(load_grid()).splitlines())

    assert changed(lambda: edit_yaml(Path("params.yaml"), **change)) == set()
    assert before <= set(stages_text(load_grid()).splitlines())


def reworded(text):
    """The same program with other words: a remark on top, docstrings changed, the layout as ``ast`` prints it."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body[0].value.value = "Said in other words."
    return f"# A remark.\n{ast.unparse(tree)}\n"


@pytest.mark.slow
def test_no_word_of_the_code_makes_anything_stale(project):
    """Remarks, docstrings and line breaks of every module; all files at once."""

    def edit():
        for path in map(Path, CODE):
            text = path.read_text()
            path.write_text(reworded(text))
            assert text.count("\n") < 3 or path.read_text() != text

    assert changed(edit) == set()


@pytest.mark.slow
def test_another_method_edited(project):
    """Its own cells and those of what imports it, on every pair; a study, too."""
    of_mgd = {f"distill/{GFL}/mgd", f"tune/{GFL}/mgd", f"distill/{FRCNN}/mgd", f"distill/{PSPNET}/mgd_seg"}

    assert changed(replace, "methods/mgd.py", "errors).sum()", "errors).sum() * 1.0") == of_mgd
    assert changed(replace, "methods/pkd.py", "def ", "unused = 1\n\n\ndef ") == {f"distill/{GFL}/crosskd+pkd"}
    assert changed(replace, "methods/fgd.py", "def ", "unused = 1\n\n\ndef ") == set()


@pytest.mark.slow
def test_a_default_of_a_recipe(project):
    """The method's rows, where no override hides it; words of the recipe: none."""
    edit = re.sub(r"(?m)^title: .*$", "title: Another", Path("methods/mgd.yaml").read_text())

    assert changed(Path("methods/mgd.yaml").write_text, edit) == set()
    # On the two-stage detector an override has a value of its own.
    assert changed(replace, "methods/mgd.yaml", "2.0e-5", "3.0e-5") == {f"distill/{GFL}/mgd", f"tune/{GFL}/mgd"}


def of(*pairs, but=("evaluate",)):
    """All stages of pairs but those."""
    keys = {key for key in written() if any(f"/{pair}" in key for pair in pairs)}
    return {key for key in keys if key.split("/")[0] not in but}


@pytest.mark.slow
def test_the_schedule_of_a_head_type(project):
    """Lengths of one head type are those of its pairs; the common ones are those of all others."""
    path = Path("benchmarks/tiers/mini.yaml")
    tier = yaml.safe_load(path.read_text())
    assert set(tier["schedule"]["heads"]) >= {"faster_rcnn"}

    def set_epochs(schedule):
        schedule["student_epochs"] += 1
        path.write_text(yaml.safe_dump(tier, sort_keys=False))

    assert changed(set_epochs, tier["schedule"]["heads"]["faster_rcnn"]) == of(FRCNN)
    common = [
        pair
        for pair, head in ((GFL, "gfl"), (FRCNN, "faster_rcnn"), (PSPNET, "segmenter"))
        if head not in tier["schedule"]["heads"]
    ]
    assert changed(set_epochs, tier["schedule"]) == of(*common)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "stages_of"),
    [
        ("pipelines/engine/metrics.py", ["evaluate"]),
        ("pipelines/engine/visualizations.py", ["evaluate"]),
        ("pipelines/stages/teachers.py", ["teachers"]),
        ("pipelines/stages/masks.py", ["masks"]),
        ("pipelines/engine/auxiliary.py", ["masks"]),
        ("pipelines/engine/classifier.py", ["pretrain"]),
        ("pipelines/engine/trial_schedule.py", ["tune"]),
        ("pipelines/engine/hooks.py", ["pretrain", "teachers", "masks", "tune", "distill"]),
        ("pipelines/engine/workdir.py", []),
        ("pipelines/engine/distiller.py", ["pretrain", "teachers", "masks", "tune", "distill", "evaluate"]),
        ("pipelines/engine/tracking.py", []),
        ("pipelines/runner/record.py", []),
        ("pipelines/estimation/workload.py", []),
    ],
)
def test_a_module_is_that_of_the_stages_that_use_it(project, path, stages_of):
    """On all pairs alike."""
    text = Path(path).read_text()
    found = changed(Path(path).write_text, f"{text}\n\nunused = 1\n")

    assert found == {key for key in written() if key.split("/")[0] in stages_of}


@pytest.mark.slow
def test_heads_of_detectors_are_no_part_of_a_segmenter(project):
    """A segmenter does not depend on the code that distills between detection heads."""
    found = changed(replace, "pipelines/engine/heads.py", "\ndef ", "\nunused = 1\n\n\ndef ")

    assert not {key for key in found if PSPNET in key}
    assert of(GFL, FRCNN, but=()) <= found


@pytest.mark.slow
def test_what_is_left_out_of_the_code_is_known_by_name(project):
    """Every module of the engine decides some stage, or is named with its reason in pipelines/code_digest.py; a misspelt name would hide."""
    from pipelines import code_digest  # noqa: PLC0415

    used = {name for text in written().values() for name in yaml.safe_load(text).get("code", {})}
    engine = {path.removesuffix(".py").replace("/", ".") for path in CODE if path.startswith("pipelines/engine/")}
    unused = engine - used - {"pipelines.engine.__init__"} - code_digest._WITHOUT_EFFECT
    # Reached by modules that are named there alone, or by no stage.
    assert unused == {
        "pipelines.engine.archives", "pipelines.engine.dummy_batches", "pipelines.engine.measured_steps", "pipelines.engine.onnx_check",
            "pipelines.engine.onnx_graphs", "pipelines.engine.onnx_run", "pipelines.engine.plain",
        "pipelines.engine.preload", "pipelines.engine.published_schedule", "pipelines.engine.smoke_cells",
        "pipelines.engine.tracking_board", "pipelines.engine.tracking_records", "pipelines.engine.tracking_store", "pipelines.engine.transfer",
    }  # fmt: skip
    assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in code_digest._WITHOUT_EFFECT)


def test_a_digest_follows_the_program(tmp_path, monkeypatch):
    """Values, names, decorators and imports count; so does text that is no docstring."""
    monkeypatch.chdir(tmp_path)
    Path("methods").mkdir()
    path = Path("methods/one.py")
    program = (
        '"""Doc."""\nimport math\n\n\ndef area(r: float = 1.0) -> float:\n    """Doc."""\n    return math.pi * r**2  # why\n'
    )

    def digest(text):
        path.write_text(text)
        return code_of(["methods.one"])["methods.one"]

    first = digest(program)
    assert digest(program.replace("Doc.", "Other.").replace("  # why", "").replace("\n\n\n", "\n")) == first
    edits = [
        ("1.0", "2.0"),
        ("r**2", "r**3"),
        ("float:", "int:"),
        ("import math", "import cmath as math"),
        ("def area", "@staticmethod\ndef area"),
    ]
    others = {digest(program.replace(old, new)) for old, new in edits} | {digest(program + '"text"\n')}
    assert len(others | {first}) == 7


def test_what_a_module_imports_is_followed(tmp_path, monkeypatch):
    """Inside functions and through packages, too; nobody else's modules."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "methods/a.py": "import torch\nfrom methods import b\n",
        "methods/b.py": "def f():\n    from methods.c import g\n    return g\n",
        "methods/c.py": "from pipelines.engine import d\nimport methods.e as e\n",
        "methods/e.py": "",
        "pipelines/engine/d.py": "from pipelines.errors import run\n",
        "pipelines/errors.py": "",
        "methods/f.py": "",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)

    assert list(code_of(["methods.a"])) == ["methods.a", "methods.b", "methods.c", "methods.e", "pipelines.engine.d"]
    assert list(code_of(["methods.a"], without=["methods.c"])) == ["methods.a", "methods.b"]
    Path("methods/c.py").write_text("def (\n")
    with pytest.raises(ValueError, match=r"methods/c\.py: line 1 is not Python"):
        code_of(["methods.a"])
