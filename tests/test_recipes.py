"""The recipes against the pairs: what each method's authors ran where; nothing is built."""

from dataclasses import replace
from typing import get_args

import pytest

from benchmarks.pair import HeadType
from pipelines import params
from pipelines.conversion import converted
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_config, cell_parts, impossible_reason, load_parts, needed_inputs
from pipelines.stages.check import check_recipe
from tests.conftest import ROOT
from tests.published import RUNNABLE, changed, read_once, unknown_keys

METHODS = sorted(path.stem for path in (ROOT / "methods").glob("*.yaml"))
TIERS = sorted(path.stem for path in (ROOT / "benchmarks/tiers").glob("*.yaml"))


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Files are named from the project's root; each is read once, for what it holds is frozen."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(params, "load_yaml", read_once)


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_every_role_is_there_or_has_a_reason(pair_name):
    """Each method at each tier has all the roles that it needs, or says in words why it cannot run."""
    pair = load_pair(pair_name)
    for method in METHODS:
        for tier in TIERS:
            reason = impossible_reason(pair_name, pair, method, tier)
            missing = set(needed_inputs(cell_parts(method, pair_name, pair, tier)[0])) - pair.modules.keys()

            assert (reason is not None) == bool(missing)
            assert reason is None or reason.split("'")[1] in missing


@pytest.mark.parametrize("method", METHODS)
def test_overrides_name_what_exists(method):
    """Pair and head family of every override; and its hyper-parameters are the code's."""
    (part,) = load_parts(method)
    check_recipe(part)
    for override in part.recipe.overrides:
        assert override.pair in (None, *RUNNABLE)
        assert override.head in (None, *get_args(HeadType))
        assert override.pair is None or override.head in (None, load_pair(override.pair).head)


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_recipes_change_keys_that_exist(pair_name):
    """The changes of a method's authors fit onto the student's config."""
    pair = load_pair(pair_name)
    before = changed(pair.student.config, pair.student.changes)
    for method in METHODS:
        if impossible_reason(pair_name, pair, method, "paper") is None:
            changes = cell_config(method, pair_name, pair, "paper")
            changed(pair.student.config, pair.student.changes | changes)

            assert unknown_keys(before, changes) == []


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_scaled_tiers_keep_their_own_schedule(pair_name):
    """The authors' changes to published schedules do not reach scaled tiers."""
    pair = load_pair(pair_name)

    assert all(cell_config(method, pair_name, pair, "mini") == {} for method in METHODS)


@pytest.mark.parametrize("pair_name", RUNNABLE)
def test_inherited_modules_are_alike(pair_name):
    """Modules that a student starts from are configured alike in the teacher, apart from losses: weights can be copied."""
    pair = load_pair(pair_name)
    parts = {method: cell_parts(method, pair_name, pair, "paper")[0] for method in METHODS}
    inheriting = {method: [name for part in found for name in part.inherits] for method, found in parts.items()}
    teacher = changed(pair.teacher.config, pair.teacher.changes).model
    for method, modules in inheriting.items():
        if modules and impossible_reason(pair_name, pair, method, "paper") is None:
            changes = pair.student.changes | cell_config(method, pair_name, pair, "paper")
            student = changed(pair.student.config, changes).model

            assert [_shape(student[name]) for name in modules] == [_shape(teacher[name]) for name in modules]


def _shape(config):
    return {key: value for key, value in config.items() if not key.startswith("loss")}


@pytest.mark.parametrize(
    ("method", "pair", "tier", "expected"),
    [
        ("defeat", "faster_rcnn_r101_r50", "paper", {"foreground_weight": 4, "head_background_weight": 2}),
        (
            "defeat",
            "faster_rcnn_r101_r50_voc",
            "paper",
            {"foreground_weight": 3, "background_weight": 12, "head_background_weight": 0},
        ),
        (
            "maskd",
            "cascade_mask_x101_faster_rcnn_r50",
            "paper",
            {"warmup_iterations": 5000, "box_loss": "roi_head", "box_weight": 1},
        ),
        ("maskd", "cascade_mask_x101_faster_rcnn_r50", "mini", {"warmup_iterations": 17, "box_loss": "none"}),
        ("maskd", "retinanet_x101_r50", "paper", {"warmup_iterations": 8500, "box_beta": 1, "loss_weight": 7}),
        ("maskd", "fcos_r101_r50_upgraded", "paper", {"warmup_iterations": 5000, "box_loss": "none", "loss_weight": 10}),
        ("maskd_seg", "deeplabv3_r101_deeplabv3_mbv2", "paper", {"aux_weight": 0}),
        ("mgd", "cascade_mask_x101dcn_mask_rcnn_r50", "paper", {"alpha": 5e-7, "share_masked": 0.45, "num_levels": 4}),
        ("mgd", "solo_r101_r50", "paper", {"alpha": 2e-5, "share_masked": 0.65, "num_levels": 4}),
        ("fgd", "solo_r101_r50", "paper", {"num_levels": 4, "foreground_weight": 1e-3}),
        ("cwd", "pspnet_r101_pspnet_r18", "paper", {"role": "logits", "loss_weight": 5, "tau": 1, "decoded_weight": 0}),
        ("cwd", "deeplabv3_r101_deeplabv3_r18", "paper", {"loss_weight": 3, "tau": 4, "decoded_weight": 50}),
        ("cwd", "deeplabv3_r101_deeplabv3_mbv2", "paper", {"loss_weight": 3, "tau": 4, "decoded_weight": 50}),
        ("fgfi", "faster_rcnn_r101_r50_voc", "paper", {"weight": 1}),
        ("fgfi", "faster_rcnn_r101_r50", "paper", {"weight": 3}),
        ("fgfi_weight2", "faster_rcnn_r101_r50_voc", "paper", {"weight": 2}),
        ("defeat", "faster_rcnn_r152_r50", "paper", {"foreground_weight": 4, "background_weight": 16}),
        ("defeat", "retinanet_r152_r50", "paper", {"foreground_weight": 4, "background_weight": 16}),
        ("kd", "gfl_r101_r50", "paper", {"loss_weight": 10, "temperature": 2, "role": "predictions"}),
        ("kd", "deeplabv3_r101_deeplabv3_r18", "paper", {"loss_weight": 1, "temperature": 1, "role": "logits"}),
        ("ld", "gfl_r101_r50", "paper", {"main_weight": 0.25, "region_weight": 0, "temperature": 10, "images_per_gpu": 3}),
        ("ld_vlr", "gfl_r101_r50", "paper", {"main_weight": 0.25, "region_weight": 0.25, "temperature": 10}),
    ],
)
def test_published_values(method, pair, tier, expected):
    """As read in the authors' configs, whatever the overrides' order."""
    hparams = cell_parts(method, pair, load_pair(pair), tier)[0][0].hparams

    assert {key: hparams[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("pair", "weight", "alone"),
    [
        ("gfl_r101_r50", 6, (6, 5)),
        ("retinanet_r101_r50", 2, (10, 4)),
        ("atss_r101_r50", 1, (1, 5)),
        ("fcos_r101_r50", 2, (10, 4)),
    ],
)
def test_pkd_beside_crosskd_has_the_weight_of_crosskds_authors(pair, weight, alone):
    """On all five levels, in either order, with their config as the reason; alone as its own authors ran it."""
    loaded = load_pair(pair)
    for name in ("crosskd+pkd", "pkd+crosskd"):
        parts, origin = cell_parts(name, pair, loaded, "paper")
        values = next(part.hparams for part in parts if part.name == "pkd")

        assert values == {"loss_weight": weight, "num_levels": 5}
        assert "pkd: jbwang1997/CrossKD at 87e156a4, configs/crosskd+pkd/crosskd+pkd_r50_" in origin
        assert "no config of PKD alone" not in origin
    (single,), _ = cell_parts("pkd", pair, loaded, "paper")

    assert tuple(single.hparams.values()) == alone
    assert cell_parts("pkd+fitnet", pair, loaded, "paper")[0][0] == single


@pytest.mark.parametrize(
    ("method", "pair", "expected"),
    [
        ("maskd", "retinanet_r101_r50", {"lr": 0.02, "clip": 35, "warmup": 1000, "extra": "on_input"}),
        ("crosskd", "retinanet_r101_r50", {"lr": 0.01, "clip": None, "warmup": 500, "extra": "on_output"}),
        ("mgd", "retinanet_r101_r50", {"lr": 0.01, "clip": 35, "warmup": 500, "extra": "on_input"}),
        ("pkd", "retinanet_r101_r50", {"lr": 0.01, "clip": None, "warmup": 500, "extra": "on_input"}),
        ("maskd", "retinanet_r50_r18", {"lr": 0.02, "clip": 35, "warmup": 1000, "extra": "on_input"}),
        ("maskd", "fcos_r101_r50_upgraded", {"lr": 0.01, "clip": 35, "warmup": 500, "extra": "on_output"}),
    ],
)
def test_one_pair_as_each_ran_it(method, pair, expected):
    """Rate, clipping, warm-up and where the extra levels come from."""
    loaded = load_pair(pair)
    config = changed(loaded.student.config, {**loaded.student.changes, **cell_config(method, pair, loaded, "paper")})
    clip = config.optim_wrapper.get("clip_grad")
    found = {
        "lr": config.optim_wrapper.optimizer.lr,
        "clip": clip and clip["max_norm"],
        "warmup": config.param_scheduler[0]["end"],
        "extra": config.model.neck.add_extra_convs,
    }

    assert expected == found


@pytest.mark.parametrize(
    ("pair", "decay", "end"),
    [
        ("deeplabv3_r101_deeplabv3_r18", 5e-4, 1e-4),
        ("deeplabv3_r101_deeplabv3_mbv2", 2e-4, 1e-4),
        ("deeplabv3_r101_pspnet_r18", 5e-4, 1e-4),
    ],
)
def test_segmentation_with_maskd_and_without(pair, decay, end):
    """The student alone has weight decay 1e-4 and a rate that falls to 0, which MasKD's authors changed."""
    loaded = load_pair(pair)
    control = changed(loaded.student.config, loaded.student.changes)
    distilled = changed(loaded.student.config, {**loaded.student.changes, **cell_config("maskd_seg", pair, loaded, "paper")})
    found = [(config.optim_wrapper.optimizer.weight_decay, config.param_scheduler[0].eta_min) for config in (control, distilled)]

    assert [(1e-4, 0), (decay, end)] == found


@pytest.mark.parametrize(
    ("method", "pair", "tier", "expected"),
    [
        ("maskd", "faster_rcnn_r101_r50", "paper", ("SGD", 0.1, 1e-4)),
        ("maskd", "faster_rcnn_r101_r50", "mini", ("Adam", 0.01, 1e-3)),
        ("maskd", "cascade_mask_x101_faster_rcnn_r50", "paper", ("Adam", 0.01, 0.1)),
        ("maskd", "retinanet_r101_r50", "paper", ("Adam", 0.01, 1e-3)),
        ("maskd_seg", "deeplabv3_r101_deeplabv3_r18", "paper", ("SGD", 0.1, 1e-3)),
        ("maskd_seg", "deeplabv3_r101_deeplabv3_r18", "mini", ("Adam", 0.01, 1e-3)),
        ("maskd", "fcos_r101_r50_upgraded", "paper", ("Adam", 0.01, 1e-3)),
    ],
)
def test_how_tokens_are_learned(method, pair, tier, expected):
    """Optimizer, rate and weight decay by pair; of all only FCOS has its gradients clipped."""
    training = load_parts(method)[0].auxiliary_training(pair, load_pair(pair).head, tier)

    assert expected == (training.optimizer, training.lr, training.weight_decay)
    assert training.clip_grad_norm == (35 if pair.startswith("fcos") else None)


def test_mgd_weights_follow_the_number_of_terms():
    """At tier mini alpha times the number of terms is the published product, to three digits."""
    terms = {  # published and mini: alpha, channels, positions of all levels
        ("mgd", "retinanet_r101_r50"): ((2e-5, 256, 22400), (48, 84)),
        ("mgd", "faster_rcnn_r101_r50"): ((5e-7, 256, 89250), (48, 84)),
        ("mgd", "solo_r101_r50"): ((2e-5, 256, 89250), (48, 340)),
        ("mgd_seg", "pspnet_r101_pspnet_r18"): ((2e-5, 2048, 64 * 64), (128, 64)),
        ("mgd_seg_feature", "pspnet_r101_pspnet_r18"): ((2e-5, 2048, 64 * 64), (128, 64)),
    }
    for (method, pair), ((alpha, channels, positions), (mini_channels, mini_positions)) in terms.items():
        scaled = cell_parts(method, pair, load_pair(pair), "mini")[0][0].hparams["alpha"]

        assert alpha * channels * positions == pytest.approx(scaled * mini_channels * mini_positions, rel=5e-3)


@pytest.mark.parametrize("pair_name", RUNNABLE)
@pytest.mark.parametrize("tier", ["mini", "paper"])
def test_the_placebo_is_its_method_but_for_the_teacher(pair_name, tier):
    """CrossKD under an untrained teacher: the same values on every pair, and nobody else's teacher is untrained."""
    pair = load_pair(pair_name)
    (own,), (placebo,) = (cell_parts(name, pair_name, pair, tier)[0] for name in ("crosskd", "crosskd_untrained"))

    assert placebo == replace(own, name="crosskd_untrained", teacher="untrained")
    assert cell_config("crosskd_untrained", pair_name, pair, tier) == cell_config("crosskd", pair_name, pair, tier)
    assert "teacher" not in own.as_dict()


def test_values_follow_from_what_the_tier_is():
    """A copy of tier mini with other sizes, by hand: 96 channels, 4 convolutions a tower, strides from 16 on, a longer schedule."""
    tier = load_tier("mini")
    model = tier.model.model_copy(update={"neck_channels": 96, "stacked_convs": 4, "strides": (16, 32)})
    lengths = {**tier.schedule.model_dump(), "student_epochs": 20, "heads": {}}
    other = tier.model_copy(update={"model": model, "schedule": type(tier.schedule)(**lengths)})
    gfl = load_pair("gfl_r101_r50")

    def there(method, key):
        (part,) = load_parts(method)
        values = cell_parts(method, "gfl_r101_r50", gfl, "paper")[0][0].hparams
        return converted(key, values[key], part.recipe.reduced[key], values, gfl, other)[0]

    assert there("mgd", "alpha") == pytest.approx(2e-5 * 256 * 22400 / (96 * (16 + 4)), rel=1e-2)
    assert there("crosskd", "position") == 3
    assert there("fgfi", "finest_px") == tier.model.roi.finest_px
    assert there("maskd", "warmup_iterations") == round(5000 / 175920 * 20 * (tier.scenes.train // 16))
