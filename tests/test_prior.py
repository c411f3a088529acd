"""The losses that an auxiliary module is trained on: the frozen teacher's, as its own training would compute them."""

import pytest
import torch
from torch import nn

from benchmarks.digest import file_sha256
from pipelines.engine.auxiliary import compose_auxiliary
from pipelines.engine.compose import compose_training
from pipelines.engine.dummy_batches import dummy_batch
from pipelines.engine.mmlab import prepare_process
from pipelines.engine.setting import Weights
from pipelines.engine.weights import save_weights
from pipelines.recipes import load_parts
from tests.conftest import build, setting


class Unchanged(nn.Module):
    """A prior that changes nothing and learns nothing."""

    def forward(self, levels):  # noqa: D102
        return levels, {}


# Heads whose output depends on the mode, and one whose does not.
@pytest.mark.parametrize("pair", ["fcos_r101_r50_upgraded", "reppoints_x101dcn_r50", "solo_r101_r50", "retinanet_r101_r50"])
def test_losses_are_those_of_a_training(pair, tmp_path):
    """Losses of the teacher with its head in training mode; the heads have no batch norms, which would differ in it."""
    prepare_process()
    at, path = setting(pair), tmp_path / "teacher.pth"
    torch.manual_seed(0)
    save_weights(build(compose_training(at, "teacher", seed=0)), path)
    part = load_parts("maskd")[0]
    training = part.auxiliary_training(pair, at.pair.head, "smoke")
    config = compose_auxiliary(
        at, Weights(path, file_sha256(path)), code="maskd", hparams=part.recipe.prior.hparams, training=training, seed=0
    )
    learner = build(config).train()
    learner.auxiliary = Unchanged()
    teacher = learner.teacher
    batch = learner.data_preprocessor(dummy_batch(config, (at.tier.scenes.image_px,) * 2, 2), training=True)

    found = learner(**batch, mode="loss")
    head = teacher.mask_head if at.pair.head == "solo" else teacher.bbox_head
    modes = {name: module.training for name, module in head.named_modules()}
    teacher.eval()
    head.train()
    expected = teacher(**batch, mode="loss")

    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in head.modules())
    assert [name for name, mode in modes.items() if mode] == [""]
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0, atol=0)
