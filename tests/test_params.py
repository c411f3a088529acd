"""Bad input gets one line: what, where, what to do."""

import re
from dataclasses import replace

import pytest
import torch
import yaml

from benchmarks.reported import Registry
from methods.recipe import Override
from pipelines import layout
from pipelines.commands.run import _is_readable
from pipelines.layout import Cell
from pipelines.params import load_grid, load_pair, load_tier, load_yaml
from pipelines.recipes import impossible_reason, load_parts
from pipelines.resolved import confirm
from pipelines.stage_list import seeds_of
from pipelines.stages.check import check_all, check_recipe
from tests.conftest import METHODS, PAIR, ROOT, committed, edit_yaml, read, renew, run_here, run_stage, tuning


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": "huge"}, r".*tier 'huge'.*mini, .*own, .*paper, .*smoke"),
        ({"grid": {"gfl": ["none"]}}, r".*pair 'gfl'.* atss_r101_r50, .*gfl_r101_r50, .*solo_r101_r50"),
        ({"grid": {PAIR: ["none", "mdg"]}}, r".*method 'mdg'.*maskd, .*mgd, .*none"),
        ({"grid": {PAIR: ["none", "mgd+mdg"]}}, r".*method 'mdg'"),
        ({"grid": {PAIR: ["mgd+mgd"]}}, r"method 'mgd\+mgd' "),
        ({"grid": {PAIR: ["none+mgd"]}}, r"method 'none\+mgd' "),
        ({"grid": {PAIR: ["maskd+maskd_seg"]}}, r"method 'maskd\+maskd_seg' "),
        ({"grid": {PAIR: ["mgd@2"]}}, r"grid\.gfl_r101_r50\.0: .* 'mgd@2'"),
        ({"grid": {}}, r"grid: must not be empty"),
        ({"grid": {PAIR: []}}, r"grid\.gfl_r101_r50: must not be empty"),
        ({"grid": [PAIR]}, r"grid: must be keys with values, got a list"),
        ({"grid": {PAIR: ["none", "mgd", "mgd"]}}, r"grid\.gfl_r101_r50 .*'mgd'"),
        ({"tuning": tuning(grid={PAIR: ["mgd", "mgd"]})}, r"tuning\.grid\.gfl_r101_r50 .*'mgd'"),
        ({"tuning": tuning(grid={PAIR: []})}, r"tuning\.grid\.gfl_r101_r50: must not be empty"),
        ({"tuning": tuning(grid={PAIR: ["pkd"]})},
         r"tuning\.grid .*pkd .*gfl_r101_r50"),
        ({"tuning": tuning(grid={"atss_r101_r50": ["mgd"]})}, r"tuning\.grid .*mgd .*atss_r101_r50"),
        ({"seeds": ["a"]}, r"seeds\.0: .*'a'"),
        ({"seeds": 0}, r"seeds: .* 0"),
        ({"seeds": -1}, r"seeds: .* -1"),
        ({"seeds": True}, r"seeds: .* true"),
        ({"seeds": []}, r"seeds: must not be empty"),
        ({"seeds": [True]}, r"seeds\.0: .* true"),
        ({"seeds": [0, 0]}, r"seeds .* 0 "),
        ({"baseline_seeds": 0}, r"baseline_seeds: .* 0"),
        ({"baseline_seeds": [0, 1, 1]}, r"baseline_seeds .* 1 "),
        ({"seeds": 3, "baseline_seeds": 2}, r"baseline_seeds .* 2\b"),
        ({"seeds": [7], "baseline_seeds": [8, 9]}, r"baseline_seeds .* 7\b"),
        ({"pairs": [PAIR], "methods": ["none"]}, r".*key 'pairs'.*key 'methods'"),
        ({"sedes": [0]}, r".*key 'sedes'"),
    ],
)  # fmt: skip
def test_grid(project, change, message):
    """The stage that comes first says it in one line and exits with 2, before anything is made."""
    edit_yaml(project / "params.yaml", **change)
    done = run_here(project, "pipelines.stages.check")

    assert done.returncode == 2
    assert re.fullmatch(rf"error: params\.yaml: (?:the file: .*\b)?{message}.*\n", done.stderr), done.stderr
    assert not (project / "runs").exists()


@pytest.mark.slow
def test_dvc_repro_stops_at_the_same_line(project):
    """A plain ``dvc repro`` meets the line too and starts nothing."""
    edit_yaml(project / "params.yaml", grid={PAIR: ["none", "mdg"]})
    done = run_stage(project, "dvc", "repro")

    assert done.returncode != 0
    assert re.search(r"^error: params\.yaml: .*'mdg'", done.stderr, re.MULTILINE), done.stderr
    assert not (project / "data").exists()


@pytest.mark.slow
def test_grid_yaml_that_lags_behind_is_refused(project):
    """Params.yaml edited, or grid.yaml edited or gone: the first stage names the command that renews it, and that command does."""
    stages, written = project / "grid.yaml", (project / "grid.yaml").read_text()
    edit_yaml(project / "params.yaml", seeds=2)
    after_params = run_here(project, "pipelines.stages.check")
    stages.unlink()
    gone = run_here(project, "pipelines.stages.check")
    renew(project)
    renewed = stages.read_text()
    stages.write_text(renewed.replace("    gfl_r101_r50/mgd/seed1: ", "    gfl_r101_r50/mgd/seed2: ", 1))
    by_hand = run_here(project, "pipelines.stages.check")

    for refused in (after_params, gone, by_hand):
        assert refused.returncode == 2
        assert re.fullmatch(r"error: grid\.yaml: .*python -m pipelines\.stages\.check --renew.*\n", refused.stderr)
    assert not (project / "runs").exists()
    assert written.count("seed1") == 0
    assert renewed.count("/seed1: ") == 2 * len(METHODS)  # each trained and evaluated
    renew(project)
    assert stages.read_text() == renewed
    assert run_here(project, "pipelines.stages.check").returncode == 0


@pytest.mark.slow
def test_dvc_repro_stops_at_stages_that_lag_behind(project):
    """A plain ``dvc repro`` after params.yaml was edited starts nothing of the grid before."""
    edit_yaml(project / "params.yaml", seeds=2)
    done = run_stage(project, "dvc", "repro")

    assert done.returncode != 0
    assert re.search(r"^error: grid\.yaml: .*python -m pipelines\.stages\.check --renew", done.stderr, re.MULTILINE), done.stderr
    assert not (project / "data").exists()


def test_a_wrong_grid_renews_nothing(project):
    """Its line is the check's own, and grid.yaml stays as it was."""
    before = (project / "grid.yaml").read_text()
    edit_yaml(project / "params.yaml", grid={PAIR: ["none", "mdg"]})
    done = run_stage(project, "pipelines.stages.check", "--renew")

    assert (done.returncode, (project / "grid.yaml").read_text()) == (2, before)
    assert re.match(r"error: params\.yaml: .*'mdg'", done.stderr), done.stderr


def test_a_number_of_seeds_and_a_list(tmp_path):
    """Five are those from 0 to 4; the baseline has those of the grid where it has no own, none of them twice where it has."""

    def seeds(**changes):
        edit_yaml(tmp_path / "params.yaml", **changes)
        grid = load_grid(tmp_path / "params.yaml")
        return {method: seeds_of(grid, PAIR, method) for method in ("none", "mgd")}

    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"tier": "smoke", "grid": {PAIR: ["none", "mgd"]}}))
    assert seeds(seeds=5) == {"none": [0, 1, 2, 3, 4], "mgd": [0, 1, 2, 3, 4]}
    assert seeds(baseline_seeds=7) == {"none": [0, 1, 2, 3, 4, 5, 6], "mgd": [0, 1, 2, 3, 4]}
    assert seeds(seeds=[4, 2], baseline_seeds=[2, 9, 4]) == {"none": [2, 9, 4], "mgd": [4, 2]}
    assert seeds_of(load_grid(tmp_path / "params.yaml"), f"{PAIR}_teacher1", "none") == [4, 2]


@pytest.mark.parametrize(
    "key",
    ["", PAIR, f"{PAIR}/mgd", f"{PAIR}/mgd/seed", f"{PAIR}/mgd/seed-1", f"{PAIR}/mgd/seedx", f"{PAIR}/mgd/0", f"{PAIR}//seed0",
     "/mgd/seed0", f"{PAIR}/seed0", f"{PAIR}/mgd/tuned", f"{PAIR}/mgd/tune/seed0", f"{PAIR}/mgd/tuned/more/seed0"],
)  # fmt: skip
def test_a_malformed_cell(key):
    """One line says how cells are named."""
    with pytest.raises(ValueError, match=f"^'{re.escape(key)}' .*pair/method/seed0.*pair/method/tuned/seed0"):
        Cell.parse(key)


@pytest.mark.parametrize("cell", [Cell(PAIR, "mgd", 0), Cell(PAIR, "crosskd+pkd", 17), Cell(PAIR, "mgd", 3, tuned=True)])
def test_a_cell_is_its_key(cell):
    """Writing and reading a key are inverse."""
    assert Cell.parse(cell.key) == cell


def test_a_cell_that_is_none_is_refused_by_its_stage(project):
    """Malformed, unknown, impossible, or not one that the check has seen: one line each, and nothing is made."""
    said = {
        key: run_here(project, "pipelines.stages.distill", "--tier", "smoke", "--cell", key)
        for key in ("mgd", "gfl/mgd/seed0", f"{PAIR}/mgd_seg/seed0", f"{PAIR}/mgd/seed0")
    }

    assert {done.returncode for done in said.values()} == {2}
    lines = [done.stderr for done in said.values()]
    words = (
        "'mgd' .*pair/method/seed0", r"params\.yaml: .*'gfl'", f"mgd_seg .*{PAIR}: .*'logits'",
        rf"runs/resolved/distill/{PAIR}/mgd\.json .*dvc repro check",
    )  # fmt: skip
    for line, expected in zip(lines, words, strict=True):
        assert re.fullmatch(f"error: {expected}.*\n", line), line
    assert not (project / "runs").exists()


def test_all_problems_of_a_file_at_once(tmp_path):
    """A missing, a misspelt and a wrong key are one message."""
    path = tmp_path / "tier.yaml"
    content = yaml.safe_load((ROOT / "benchmarks/tiers/smoke.yaml").read_text())
    del content["title"]
    content["scenes"]["nois"] = content["scenes"].pop("noise")
    content["schedule"]["batch_size"] = 0
    path.write_text(yaml.safe_dump(content))

    from benchmarks.tier import Tier  # noqa: PLC0415

    with pytest.raises(ValueError, match="title") as caught:
        load_yaml(path, Tier)
    for part in ("key 'title' is missing", "unknown key 'scenes.nois'", "key 'scenes.noise' is missing", "schedule.batch_size"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1\n", ""])
def test_a_file_that_is_no_mapping(tmp_path, text):
    """Broken YAML, a list and an empty file name the file."""
    path = tmp_path / "params.yaml"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"params\.yaml"):
        load_grid(path)


def test_role_that_the_pair_does_not_have(monkeypatch):
    """A reason from the pair, or else from its family of heads; a role that nobody knows is an error."""
    pair = load_pair("gfl_r101_r50")
    lacking = pair.model_copy(update={"lacks": {"neck": "a pair without a neck"}})

    def reason(pair, method):
        return impossible_reason("gfl_r101_r50", pair, method, "mini")

    assert re.search("'neck': a pair without a neck", reason(lacking, "mgd"))
    assert re.search("'neck': a pair without a neck", reason(lacking, "fgd+mgd_seg"))
    assert re.search("'logits': .", reason(pair, "mgd_seg+fitnet"))
    assert re.search("'anchors': .", reason(load_pair("fcos_r101_r50"), "fgfi"))
    assert reason(pair, "mgd") is None
    assert reason(lacking, "none") is None
    monkeypatch.setattr(load_parts("mgd")[0].method, "roles", lambda _: ("neck", "queries"))
    with pytest.raises(
        ValueError,
        match=r"mgd .*'queries'.*gfl_r101_r50\.yaml .*neck, predictions.*benchmarks/pair\.py",
    ):
        reason(pair, "mgd")


PAIR_FILE = "benchmarks/pairs/gfl_r101_r50.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "gfll"}, r"head: .*'gfl', 'retinanet', .*'classifier'.* 'gfll'"),
        ({"haed": "gfl"}, r".*key 'haed'.*"),
        ({"taps": {"nek": "neck"}}, r"the file: .* nek; .* anchors, .*neck, .*"),
        ({"student": {"name": "GFL", "config": "mmdet::gfl/gfl_r50_fpn_1x_coc.py"}},
         r".*mmdet::gfl/gfl_r50_fpn_1x_coc\.py .*mmdet::gfl/gfl_r50_fpn_1x_coco\.py.*"),
        ({"student": {"name": "GFL", "config": "mmseg::gfl/nothing_like_it.py"}}, r".*mmseg::gfl/nothing_like_it\.py .*"),
        ({"student": {"name": "GFL", "config": "gfl_r50_fpn_1x_coco"}}, r"student\.config: .*'gfl_r50_fpn_1x_coco'"),
        ({"student": {"name": "GFL", "config": "mmdet::gfl/gfl_r50_fpn_1x_coco.py", "changes": {"model.neck.out_channels": 8}}},
         r"student: .*changes .*why_changed.*"),
    ],
)  # fmt: skip
def test_pair_file(project, change, message):
    """An error in a pair's file is a line of the first stage that names the file."""
    edit_yaml(project / PAIR_FILE, **change)
    done = run_here(project, "pipelines.stages.check")

    assert done.returncode == 2
    assert re.fullmatch(rf"error: {PAIR_FILE}: {message}\n", done.stderr), done.stderr
    assert not (project / "runs").exists()


def test_recipe_against_code():
    """A hyper-parameter too few, one too many, and one that a tier invents."""
    (part,) = load_parts("mgd")

    def changed(**update):
        return replace(part, recipe=part.recipe.model_copy(update=update))

    with pytest.raises(ValueError, match=r"^methods/mgd\.yaml: .*hparams\.share_masked .*hparams\.beta .*mgd\.py"):
        check_recipe(changed(hparams={"alpha": 1.0, "beta": 2.0, "num_levels": 0}))
    with pytest.raises(ValueError, match=r"^methods/mgd\.yaml: overrides\.0\.hparams\.gamma "):
        check_recipe(changed(overrides=[Override(scale="reduced", hparams={"gamma": 1.0}, why="-")]))
    with pytest.raises(ValueError, match=r"^methods/mgd\.yaml: .*methods/mdg\.py"):
        check_recipe(changed(code="mdg"))
    for other in ("crossdk", "mgd", "none"):
        with pytest.raises(ValueError, match=rf"^methods/mgd\.yaml: overrides\.0\.combined_with .*'{other}'.* crosskd, "):
            check_recipe(changed(overrides=[Override(combined_with=other, why="-")]))


def test_two_recipes_of_one_method_are_not_combined():
    """Their losses would have the same names."""
    with pytest.raises(ValueError, match=r"'ld\+ld_vlr'.*methods/ld\.py"):
        load_parts("ld+ld_vlr")


def test_committed_files_are_in_order(tmp_path):
    """The default grid passes, every tier and pair loads, and the registry names known pairs."""
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    check_all(load_grid(tmp_path / "params.yaml"))
    for folder, load in (("tiers", load_tier), ("pairs", load_pair)):
        for path in (ROOT / "benchmarks" / folder).glob("*.yaml"):
            load(path.stem)
    registry = load_yaml(ROOT / "benchmarks/reported.yaml", Registry)

    assert all((ROOT / f"benchmarks/pairs/{figure.pair}.yaml").exists() for figure in registry.root if figure.pair)


@pytest.mark.slow
def test_settings_change_with_what_they_decide(project):
    """Another schedule is another training and no other evaluation; other sizes of objects the other way round."""

    def settings():
        done = run_here(project, "pipelines.stages.check")
        assert done.returncode == 0, done.stderr
        resolved = project / "runs/resolved"
        return {
            "training": (resolved / f"distill/{PAIR}/mgd.json").read_bytes(),
            "evaluation": (resolved / f"evaluate/{PAIR}.json").read_bytes(),
        }

    tier = project / "benchmarks/tiers/smoke.yaml"
    first, content = settings(), yaml.safe_load(tier.read_text())
    content["area_px2"][1] += 1
    tier.write_text(yaml.safe_dump(content, sort_keys=False))
    sizes = settings()
    content["schedule"]["student_epochs"] += 1
    tier.write_text(yaml.safe_dump(content, sort_keys=False))
    schedule = settings()

    assert (sizes["training"] == first["training"], sizes["evaluation"] == first["evaluation"]) == (True, False)
    assert (schedule["training"] == sizes["training"], schedule["evaluation"] == sizes["evaluation"]) == (False, True)


@pytest.mark.slow
def test_a_stage_refuses_what_changed_since_the_check(project, monkeypatch):
    """A weight edited afterwards: the method's own stage names it and what to run, other stages do not mind; a title is no change."""
    assert run_here(project, "pipelines.stages.check").returncode == 0
    monkeypatch.chdir(project)
    recipe = project / "methods/mgd.yaml"
    content = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**content, "title": "as called today"}, sort_keys=False))
    before = confirm("distill", PAIR, "mgd")
    content["hparams"]["share_masked"] /= 2
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))
    where = layout.resolved("distill", f"{PAIR}/mgd")

    assert before == read(where)
    with pytest.raises(ValueError, match=rf"^parts .*{where}.*dvc repro check"):
        confirm("distill", PAIR, "mgd")
    done = run_here(project, "pipelines.stages.distill", "--tier", "smoke", "--cell", f"{PAIR}/mgd/seed0")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: parts .*{where}.*dvc repro check.*\n", done.stderr), done.stderr
    confirm("distill", PAIR, "none")
    confirm("teachers", PAIR)
    with pytest.raises(ValueError, match=r"mgd_seg\.json .*dvc repro check"):
        confirm("distill", PAIR, "mgd_seg")


def test_a_batch_too_small_for_a_pooled_norm(project, monkeypatch):
    """PSPNet and DeepLabV3 pool an image to one value; what torch then refuses is refused here: one image per norm."""
    monkeypatch.chdir(project)
    edit_yaml(project / "params.yaml", grid={"pspnet_r101_pspnet_r18": ["none"]}, tuning=None)
    tier = project / "benchmarks/tiers/smoke.yaml"
    edit_yaml(tier, schedule={**yaml.safe_load(tier.read_text())["schedule"], "batch_size": 1})
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.BatchNorm2d(2)(torch.ones(1, 2, 1, 1))

    with pytest.raises(ValueError, match=r"pspnet_r101_pspnet_r18 has 1 image per batch norm, and its PSPHead pools"):
        check_all(load_grid())


@pytest.mark.parametrize("text", ["", "stages:\n  distill: {a/none/seed0: {pair", "- 1\n", "stages:\n"])
def test_a_cut_grid_file_is_no_list_of_stages(tmp_path, capsys, text):
    """It is derived again, by one line; a whole one is left alone."""
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    cut = _is_readable(path)
    said = capsys.readouterr().out
    path.write_text("stages: {distill: {}}\n")

    assert not cut
    assert said.count("\n") == 1
    assert "cut off or damaged" in said
    assert _is_readable(path)
    assert capsys.readouterr().out == ""
