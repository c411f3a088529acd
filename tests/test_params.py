"""Bad input gets one line: what, where, what to do."""

import re
from dataclasses import replace

import pytest
import yaml

from benchmarks.published import Registry
from methods.recipe import Override
from pipelines.check import check_all, check_recipe
from pipelines.params import impossible_reason, load_grid, load_pair, load_parts, load_tier, load_yaml
from tests.conftest import CHECK, ROOT, committed, edit_yaml, run_stage


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": "huge"}, r"unknown tier 'huge'; benchmarks/tiers/ has: .*mini, .*own, .*paper, .*smoke"),
        ({"pairs": ["gfl"]}, r"unknown pair 'gfl'; benchmarks/pairs/ has: atss_r101_r50, .*gfl_r101_r50, .*solo_r101_r50"),
        ({"methods": ["none", "mdg"]}, r"unknown method 'mdg'; methods/ has: .*maskd, .*mgd, .*none"),
        ({"methods": ["none", "mgd+mdg"]}, r"unknown method 'mdg'"),
        ({"methods": ["mgd+mgd"]}, r"method 'mgd\+mgd' joins a method to itself"),
        ({"methods": ["none+mgd"]}, r"method 'none\+mgd' joins the control, which is no distillation"),
        ({"methods": ["maskd+maskd_seg"]}, r"joins two methods that learn a prior; only one can"),
        ({"methods": ["mgd@2"]}, r"methods\.0: String should match pattern .* got 'mgd@2'"),
        ({"seeds": ["a"]}, r"params.yaml: seeds\.0: Input should be a valid integer, got 'a'"),
        ({"seeds": 3}, r"params.yaml: seeds: Input should be a valid list, got 3"),
        ({"seeds": [0, 0]}, r"seeds names 0 more than once: two cells would be the same; remove one"),
        ({"leave_out": {"gfl": ["mgd"]}}, r"leave_out names pair 'gfl', which the grid does not have; remove it there"),
        (
            {"methods": ["none"], "leave_out": {"gfl_r101_r50": ["cwd"]}},
            r"leave_out names method 'cwd', which the grid does not have",
        ),
        ({"leave_out": {"gfl_r101_r50": ["none"]}}, r"leave_out names the control 'none'; without it"),
        ({"sedes": [0]}, r"params.yaml: unknown key 'sedes' \(misspelt\?\)"),
    ],
)
def test_grid(project, change, message):
    """The stage that comes first says it in one line and exits with 2, before anything is made."""
    edit_yaml(project / "params.yaml", **change)
    done = run_stage(project, "pipelines.check", *CHECK)

    assert done.returncode == 2
    assert re.fullmatch(r"error: .*" + message + r".*\n", done.stderr)
    assert not (project / "runs").exists()


def test_dvc_repro_stops_at_the_same_line(project):
    """A plain ``dvc repro`` meets the line too and starts nothing."""
    edit_yaml(project / "params.yaml", methods=["none", "mdg"])
    done = run_stage(project, "dvc", "repro")

    assert done.returncode != 0
    assert "error: params.yaml: unknown method 'mdg'" in done.stderr
    assert not (project / "data").exists()


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

    assert reason(lacking, "mgd") == "needs 'neck': a pair without a neck"
    assert reason(lacking, "fgd+mgd_seg") == "needs 'neck': a pair without a neck"
    assert reason(pair, "mgd_seg+fitnet") == "needs 'logits': a detector has no logits of pixels"
    assert reason(load_pair("fcos_r101_r50"), "fgfi") == "needs 'anchors': predicts from points, without anchors"
    assert reason(pair, "mgd") is None
    assert reason(lacking, "none") is None
    monkeypatch.setattr(load_parts("mgd")[0].method, "roles", lambda _: ("neck", "queries"))
    with pytest.raises(
        ValueError,
        match=r"mgd needs role 'queries', which no pair has; .*gfl_r101_r50\.yaml offers: .*neck, predictions; .*benchmarks/pair\.py",
    ):
        reason(pair, "mgd")


PAIR_FILE = "benchmarks/pairs/gfl_r101_r50.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "gfll"}, r"head: Input should be 'gfl', 'retinanet', .* or 'classifier', got 'gfll'"),
        ({"haed": "gfl"}, r"unknown key 'haed' \(misspelt\?\)"),
        ({"taps": {"nek": "neck"}}, r"the file: Value error, taps or lacks name unknown roles nek; there are: anchors, .*neck, .*"),
        ({"student": {"name": "GFL", "config": "mmdet::gfl/gfl_r50_fpn_1x_coc.py"}},
         (r"there is no config mmdet::gfl/gfl_r50_fpn_1x_coc\.py in the installed mmdet; "
         r"did you mean mmdet::gfl/gfl_r50_fpn_1x_coco\.py\?")),
        ({"student": {"name": "GFL", "config": "mmseg::gfl/nothing_like_it.py"}}, r"there is no config mmseg::gfl/nothing_like_it\.py .*"),
        ({"student": {"name": "GFL", "config": "gfl_r50_fpn_1x_coco"}}, r"student\.config: String should match pattern .*"),
        ({"student": {"name": "GFL", "config": "mmdet::gfl/gfl_r50_fpn_1x_coco.py", "changes": {"model.neck.out_channels": 8}}},
         r"student: Value error, changes and why_changed are given together"),
    ],
)  # fmt: skip
def test_pair_file(project, change, message):
    """What is wrong in a pair's file is a line of the first stage that names the file."""
    edit_yaml(project / PAIR_FILE, **change)
    done = run_stage(project, "pipelines.check", *CHECK)

    assert done.returncode == 2
    assert re.fullmatch(rf"error: {PAIR_FILE}: {message}\n", done.stderr), done.stderr
    assert not (project / "runs").exists()


def test_recipe_against_code():
    """A hyper-parameter too few, one too many, and one that a tier invents."""
    (part,) = load_parts("mgd")

    def changed(**update):
        return replace(part, recipe=part.recipe.model_copy(update=update))

    with pytest.raises(ValueError, match=r"hparams\.share_masked is missing; .*hparams\.beta is no parameter of mgd\.py"):
        check_recipe(changed(hparams={"alpha": 1.0, "beta": 2.0, "num_levels": 0}))
    with pytest.raises(ValueError, match=r"methods/mgd\.yaml: overrides\.0\.hparams\.gamma is not among hparams"):
        check_recipe(changed(overrides=[Override(scale="reduced", hparams={"gamma": 1.0}, why="-")]))
    with pytest.raises(ValueError, match=r"methods/mgd\.yaml: there is no methods/mdg\.py beside it"):
        check_recipe(changed(code="mdg"))
    for other in ("crossdk", "mgd", "none"):
        with pytest.raises(ValueError, match=rf"overrides\.0\.combined_with is '{other}', which .* there are: crosskd, "):
            check_recipe(changed(overrides=[Override(combined_with=other, why="-")]))


def test_two_recipes_of_one_method_are_not_combined():
    """Their losses would have the same names."""
    with pytest.raises(ValueError, match=r"method 'ld\+ld_vlr' combines two recipes of methods/ld\.py; choose one of them"):
        load_parts("ld+ld_vlr")


def test_committed_files_are_in_order(tmp_path):
    """The default grid passes, every tier and pair loads, and the registry names known pairs."""
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    check_all(load_grid(tmp_path / "params.yaml"))
    for folder, load in (("tiers", load_tier), ("pairs", load_pair)):
        for path in (ROOT / "benchmarks" / folder).glob("*.yaml"):
            load(path.stem)
    registry = load_yaml(ROOT / "benchmarks/published.yaml", Registry)

    assert all((ROOT / f"benchmarks/pairs/{figure.pair}.yaml").exists() for figure in registry.root if figure.pair)


def test_settings_change_with_what_they_decide(project):
    """Another schedule is another training and no other evaluation; other sizes of objects the other way round."""

    def settings():
        done = run_stage(project, "pipelines.check", *CHECK)
        assert done.returncode == 0, done.stderr
        return {name: (project / f"runs/settings/{name}.json").read_bytes() for name in ("training", "evaluation")}

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
