"""Values of settings against the code and the models: seeds, hyper-parameters, config keys, names of modules."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from benchmarks.schema import problems
from methods.recipe import Conversion, Override, TunableRange
from pipelines.checking import models
from pipelines.checking.recipes import check_cell, check_recipe, check_search, wrong_values
from pipelines.engine import model_check
from pipelines.engine.config_keys import wrong_changes
from pipelines.engine.hooks import epoch_seed
from pipelines.engine.mmlab import register_components
from pipelines.engine.published import published_config
from pipelines.grid import Grid
from pipelines.params import load_grid, load_pair, load_recipe
from pipelines.recipes import load_parts
from pipelines.tuning.params import TuningParams
from pipelines.tuning.samplers import sampler_for
from pipelines.tuning.space import search_space
from tests.conftest import PAIR, edit_yaml, run_here

LARGEST_SEED = 2**31 - 1


def test_seeds_of_epochs():
    """A product as ever where NumPy takes it, and else another number of 32 bits for each seed and epoch."""
    assert [epoch_seed(3, epoch, 0) for epoch in (0, 11)] == [30_000, 30_011]
    large = [epoch_seed(seed, epoch, 0) for seed in (429_497, 20261128, 20261129, LARGEST_SEED) for epoch in range(3)]
    assert len({*large}) == len(large)
    for seed in large:
        np.random.default_rng(seed)
        np.random.RandomState(seed)


def test_the_largest_seed_is_one_for_every_generator():
    """NumPy's with a rank added, a method's with iteration and group, and the samplers' of a study."""
    np.random.RandomState(LARGEST_SEED + 1023)
    torch.Generator().manual_seed((LARGEST_SEED << 32) + (1023 << 22) + 2**22 - 1)
    for sampler in ("tpe", "random"):
        tuning = TuningParams(grid={}, seed=LARGEST_SEED, sampler=sampler)
        sampler_for(tuning, 99)._rng.rng if sampler == "random" else sampler_for(tuning, 99)._rng.rng.random()


def test_a_sampler_of_a_small_seed_draws_as_ever():
    """Its generator begins as NumPy's with the product."""
    drawn = sampler_for(TuningParams(grid={}, seed=100), 3)._rng.rng.random()

    assert drawn == np.random.RandomState(100 * 100_003 + 3).random()


@pytest.mark.parametrize("seed", [20261128, 0, LARGEST_SEED])
def test_a_date_is_a_seed(seed):
    """In a list; as a number of seeds it is far too many, and the line says how to write it."""
    assert Grid(tier="smoke", grid={PAIR: ["none"]}, seeds=[seed]).seeds == [seed]
    (said,) = problems({"tier": "smoke", "grid": {PAIR: ["none"]}, "seeds": 20261128}, Grid)
    assert said.startswith("seeds: ")
    assert "[20261128]" in said


class Learner:
    """A method as its author might annotate it."""

    def __init__(self, channels, *, weight: float, levels: int, rectified: bool, role: str, free) -> None:
        """Take anything."""


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("weight", 1, None), ("weight", 1.5, None), ("weight", True, "must be a number, got true"), ("weight", "1", "must be a number, got '1'"),
        ("weight", None, "must be a number, got null"), ("levels", 3, None), ("levels", 3.0, "must be a whole number, got 3.0"),
        ("levels", False, "must be a whole number, got false"), ("rectified", True, None), ("rectified", 1, "must be true or false, got 1"),
        ("role", "neck", None), ("role", 5, "must be text, got 5"), ("free", "x", None), ("free", 5, None), ("unknown", 5, None),
    ],
)  # fmt: skip
def test_a_value_has_the_annotations_kind(key, value, said):
    """An integer is a number, and nothing else is what it is not; what has no annotation is not judged."""
    assert wrong_values(Learner, {key: value}, "hparams") == ([f"hparams.{key}: {said}"] if said else [])


@pytest.mark.parametrize(
    ("method", "change", "said"),
    [
        ("mgd", {"hparams": {"alpha": -1.0, "share_masked": 1.5, "num_levels": 0}},
         r"alpha: must be at least 0.*share_masked: must be at most 1.*num_levels: must be at least 1"),
        ("cwd", {"hparams": {"loss_weight": 1.0, "tau": 0.0, "role": "neck", "decoded_weight": 0.0}}, r"hparams\.tau: must be above 0"),
        ("crosskd", {"overrides": [Override(head="gfl", hparams={"box_loss": "klx"}, why="-")]}, r"overrides\.0\.hparams\.box_loss: .*'kl', 'giou'"),
        ("crosskd", {"overrides": [Override(head="gfll", why="-")]}, r"overrides\.0\.head is 'gfll'.*did you mean 'gfl'"),
        ("mgd", {"overrides": [Override(pair="gfl_r101", why="-")]}, r"overrides\.0\.pair is 'gfl_r101'.*did you mean 'gfl_r101_r50'"),
        ("crosskd", {"reduced": {"box_loss": Conversion(tower_convs=4)}}, r"reduced\.box_loss: is no number"),
        ("mgd", {"tunable": {"share_masked": TunableRange(between=(0.2, 2.0))}}, r"tunable\.share_masked: must be at most 1"),
    ],
)  # fmt: skip
def test_a_recipe_against_the_annotations_of_its_code(method, change, said):
    """All values, those of overrides and of search ranges among them."""
    (part,) = load_parts(method)
    check_recipe(part)
    with pytest.raises(ValueError, match=rf"^methods/{method}\.yaml: .*{said}"):
        check_recipe(replace(part, recipe=part.recipe.model_copy(update=change)))


def test_an_auxiliary_module_against_the_annotations_of_its_code():
    """As the method itself."""
    (part,) = load_parts("maskd")
    prior = part.recipe.prior.model_copy(update={"hparams": {"num_tokens": 0, "dice_weight": "1"}})
    with pytest.raises(
        ValueError, match=r"prior\.hparams\.num_tokens: .* prior\.hparams\.dice_weight: must be a number, got '1'"
    ):
        check_recipe(replace(part, recipe=part.recipe.model_copy(update={"prior": prior})))


def test_a_search_stays_within_the_annotations():
    """Both ends of a range; a combination's names have their part's before them."""
    tuning = TuningParams(grid={}, space={"crosskd+pkd": {"pkd.loss_weight": TunableRange(between=(-1.0, 10.0))}})
    space, _ = search_space(tuning, "crosskd+pkd", PAIR, load_pair(PAIR), "smoke")

    with pytest.raises(ValueError, match=r"crosskd\+pkd\.loss_weight: must be at least 0, got -1"):
        check_search("crosskd+pkd", space)


def test_values_in_force_are_compared_too(monkeypatch):
    """What a conversion makes of a published value."""
    part = load_parts("crosskd")[0]
    monkeypatch.setattr(type(part), "resolve", lambda self, *_: (replace_hparams(self), []))
    with pytest.raises(
        ValueError, match=rf"^methods/crosskd\.yaml: on {PAIR} at tier smoke: hparams\.position: must be at most 64"
    ):
        check_cell("crosskd", PAIR, load_pair(PAIR), "smoke")


def replace_hparams(part):
    """A resolved part with a position that no head has."""
    from methods.recipe import ResolvedPart  # noqa: PLC0415

    return ResolvedPart(part.name, part.code, {**load_recipe(part.name).hparams, "position": 65}, [])


CONFIG = {
    "default_scope": "mmdet",
    "model": {
        "type": "GFL",
        "neck": {"type": "FPN", "out_channels": 256},
        "test_cfg": {"nms": {"iou_threshold": 0.6}},
        "frozen": True,
    },
    "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.01}},
    "param_scheduler": [{"type": "LinearLR", "end": 500}],
    "train_cfg": {"type": "EpochBasedTrainLoop", "max_epochs": 12},
    "train_dataloader": {"batch_size": 2, "dataset": {"ann": "x.json", "scales": [1, 2]}},
}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.neck.out_channels", 8, None),
        ("model.neck.start_level", 1, None),  # FPN takes it
        ("model.neck.start_levels", 1, "model.neck has no start_levels; did you mean start_level?"),
        ("model.nec.out_channels", 8, "model has no nec; did you mean neck?"),
        ("model.test_cfg.nms.iou_treshold", 0.5, "model.test_cfg.nms has no iou_treshold; did you mean iou_threshold?"),
        ("optim_wrapper.clip_grad", {"max_norm": 35}, None),  # OptimWrapper takes it
        ("optim_wrapper.paramwise_cfg", {}, None),
        ("optim_wrapper.clip_grd", {}, "optim_wrapper has no clip_grd; did you mean clip_grad?"),
        ("optim_wrapper.optimizer.weight_decay", 1e-4, None),
        ("optim_wrapper.optimizer.lr", "0.1", "'0.1' is given for 0.01, which is a number"),
        ("optim_wrapper.optimizer.lr", True, "True is given for 0.01, which is a number"),
        ("optim_wrapper.optimizer.lr", -0.1, "-0.1 is not within 0 to 1000"),
        ("optim_wrapper.clip_grad", {"max_norm": -1}, "-1 is not within 0 to 1e+09"),
        ("param_scheduler.0.end", 1000, None),
        ("param_scheduler.1.end", 1000, "param_scheduler is a list of 1, which has no entry 1"),
        ("param_scheduler.0.start_factor", 0.1, None),
        ("train_cfg.max_epochs", 10**6, "1000000 is not within 0 to 9999"),
        ("train_cfg.max_epoch", 5, "train_cfg has no max_epoch; did you mean max_epochs?"),
        ("train_dataloader.drop_last", True, None),  # torch's takes it
        ("train_dataloader.dataset.ann.x", 5, "train_dataloader.dataset.ann is a single value, without a key x"),
        ("train_dataloader.dataset.scales", 5, None),
        ("train_dataloader.dataset.scales", "x", "'x' is given for [1, 2], which is a list"),
        ("model.frozen", 1, "1 is given for True; write true or false"),
        ("model.neck", 5, "5 is given for {'type': 'FPN', 'out_channels': 256}, which is keys with values"),
        ("custom_hooks", [], None),
        ("learning_rate", 0.1, "the published config has no learning_rate"),
    ],
)
def test_a_key_of_a_config(key, value, said):
    """What is there, or what is built from its part takes; with the nearest name where it does not."""
    register_components()

    assert list(wrong_changes(Config(CONFIG), {key: value})) == ([f"{key}: {said}"] if said else [])


def test_a_config_is_read_once_and_changed_in_copies():
    """A change of one is in no other."""
    name = load_pair(PAIR).student.config
    published_config(name).merge_from_dict({"model.neck.out_channels": 8})

    assert published_config(name).model.neck.out_channels == 256


@pytest.mark.slow
def test_names_are_looked_up_once(project, monkeypatch):
    """A second check builds no model; another hook point builds both."""
    assert run_here(project, "pipelines.stages.check").returncode == 0
    built = []
    monkeypatch.setattr(model_check, "build_model", built.append)
    assert run_here(project, "pipelines.stages.check").returncode == 0
    assert built == []

    edit_yaml(project / f"benchmarks/pairs/{PAIR}.yaml", taps={"neck": "backbone"})
    run_here(project, "pipelines.stages.check")
    assert len(built) == 2  # and ends where hook points are looked up in what is no model here


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        (f"benchmarks/pairs/{PAIR}.yaml", {"taps": {"neck": "nek"}}, f"{PAIR}.yaml: the teacher has no module nek for neck"),
        ("methods/mgd.yaml", {"inherits": ["nek"]}, f"methods/mgd.yaml: inherits nek, which the teacher of {PAIR} does not have; it has: backbone"),
        ("methods/mgd.yaml", {"config": {"model.nec": 1}}, f"methods/mgd.yaml: config.model.nec: model has no nec; did you mean neck? (on {PAIR})"),
        ("methods/crosskd.yaml", {"reduced": {}}, "methods/crosskd.yaml: position: no position 3 in a gfl head with 2 convolutions a tower"),
        ("params.yaml", {"released": ["no-such-student"]}, "no-such-student"),
    ],
)  # fmt: skip
def test_names_that_the_models_do_not_have(project, path, changes, said):
    """Said by stage check, in one line, and nothing is written."""
    edit_yaml(project / "params.yaml", grid={PAIR: ["none", "mgd", "crosskd"]})
    edit_yaml(project / path, **changes)
    done = run_here(project, "pipelines.stages.check")

    assert done.returncode == 2
    assert re.fullmatch(rf"error: .*{re.escape(said)}.*\n", done.stderr), done.stderr
    assert not (project / "runs").exists()


def test_a_spoilt_note_is_no_obstacle(project, monkeypatch):
    """It is written anew."""
    monkeypatch.chdir(project)
    for content in (b"\xff", b"{}", b"[1", b"5"):
        Path("work").mkdir(exist_ok=True)
        Path("work/models_checked.json").write_bytes(content)
        models.check_names(load_grid())
        assert Path("work/models_checked.json").read_text().startswith('["')
