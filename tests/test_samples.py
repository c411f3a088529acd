"""Visualizations kept of a run: instances by hand, a method's maps by their formulas."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask

from methods.contract import BaseMethod, Composition
from pipelines.engine.visualizations import NUM_IMAGES, _instances, shown, write_samples
from pipelines.recipes import load_parts
from tests.views import Case


def built(name, **hparams):
    """A method on the case's channels, with its recipe's hyper-parameters."""
    torch.manual_seed(0)
    case = Case()
    part = load_parts(name)[0]
    return case, part.method(case.channels, **{**part.recipe.hparams, **hparams}).double()


def generator():
    """A seeded generator."""
    return torch.Generator().manual_seed(5)


def test_instances_lie_over_each_other_by_hand(tmp_path):
    """The surest is number 1 and on top; one below the least score and one of another image are not there."""

    def instance(image, score, columns):
        area = np.zeros((2, 4), np.uint8, order="F")
        area[:, columns] = 1
        code = mask.encode(area)
        return {"image_id": image, "score": score, "segmentation": {**code, "counts": code["counts"].decode()}}

    found = [instance(7, 0.5, [1, 2]), instance(7, 0.9, [0, 1]), instance(7, 0.2, [3]), instance(8, 0.9, [3])]
    (tmp_path / "p.segm.json").write_text(json.dumps(found))
    maps = _instances(tmp_path / "p.segm.json", {7: 0})

    assert list(maps) == ["labels_0"]
    assert maps["labels_0"].tolist() == [[1, 1, 2, 0]] * 2


class Infos(list):
    """A data set of nothing but its infos."""

    def get_data_info(self, index):
        """As MMEngine's."""
        return self[index]


def test_the_images_with_the_most_objects_are_shown():
    """The first of equals first; objects that are ignored do not count."""
    counts = [1, 3, 2, 3, *[1] * 20]
    infos = Infos({"instances": [{"ignore_flag": 0}] * count} for count in counts)
    infos[0]["instances"] += [{"ignore_flag": 1}] * 5

    assert shown(infos) == [1, 3, 2, 0, *range(4, 12)]
    assert shown(Infos(infos[:2])) == [1, 0]
    assert len(shown(infos)) == NUM_IMAGES


def test_a_segmenters_images_are_evenly_spaced():
    """Over the whole split; all of a small one."""
    assert shown(Infos([{}] * 36)) == list(range(0, 36, 3))
    assert shown(Infos([{}] * 5)) == [0, 1, 2, 3, 4]


def test_samples_are_the_same_bytes_again(tmp_path):
    """Whenever they are written; read back without pickles."""
    arrays = {"paths": np.array(["a.png"]), "image_0": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)}
    for name in ("first.npz", "second.npz"):
        write_samples(tmp_path / name, arrays)
    with np.load(tmp_path / "first.npz", allow_pickle=False) as back:
        assert back["paths"].tolist() == ["a.png"]
        assert back["image_0"].shape == (2, 2, 3)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_maskd_shows_the_teachers_masks():
    """The logistic function of each token's inner product with each position, a column per token."""
    case, method = built("maskd", box_loss="none")
    ((name, shown),) = method.pictures(case.student, case.teacher, generator()).items()
    tokens, feature = method.mask_modules[0].mask_token, case.teacher.features["neck"][0]
    expected = 1 / (1 + np.exp(-sum(tokens[2, c].item() * feature[1, c].numpy() for c in range(feature.shape[1]))))

    assert name == "masks"
    assert list(shown.columns) == list(shown.common) == [f"token {number}" for number in range(1, 7)]
    assert len(shown.columns["token 3"]) == len(case.teacher.features["neck"])
    np.testing.assert_allclose(shown.columns["token 3"][0][1].detach(), expected, rtol=1e-12)


@pytest.mark.parametrize(("name", "role"), [("mgd", "neck"), ("mgd_seg", "backbone")])
def test_mgd_shows_what_is_masked_and_restored(name, role):
    """Zero exactly where the draw falls below the share; the aim is the teacher's mean absolute value."""
    case, method = built(name, **({"num_levels": 1} if name == "mgd" else {}))
    shown = method.pictures(case.student, case.teacher, generator())["features"]
    masked, restored, aim = (levels[0] for levels in shown.columns.values())
    teacher = case.teacher.features[role][0 if name == "mgd" else -1]
    num, _, height, width = teacher.shape
    draws = torch.rand((num, 1, height, width), generator=generator())

    assert shown.common == ("student,\nrestored", "teacher") == tuple(shown.columns)[1:]
    assert ((masked == 0) == (draws[:, 0] < method.share_masked)).all()
    np.testing.assert_allclose(aim.detach(), np.abs(teacher.numpy()).mean(1), rtol=1e-12)
    assert restored.shape == (num, height, width)


def test_a_composition_shows_what_its_parts_show():
    """MGD's pictures beside FitNet, which has none."""
    case, mgd = built("mgd")
    fitnet = built("fitnet")[1]
    joined = Composition({"mgd": mgd, "fitnet": fitnet})

    assert type(fitnet).pictures is BaseMethod.pictures
    assert list(joined.pictures(case.student, case.teacher, generator())) == ["features"]
