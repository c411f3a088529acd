"""A student out of the checkpoints of distillers, bit for bit, whatever stands before and beside its keys."""

import pytest
import torch
from safetensors.torch import save_file

from pipelines.engine.mmlab import prepare_process
from pipelines.engine.weights import convert_checkpoint
from tests.containers import CONTAINERS, mgd, mmrazor_1
from tests.test_weights import HEADS, assert_same, build_in, fresh, narrow, write


@pytest.fixture(autouse=True)
def process():
    """MMLab's components registered."""
    prepare_process()


@pytest.fixture(scope="module")
def student():
    """A narrow GFL: its config and weights."""
    prepare_process()
    config = narrow(HEADS["gfl"][0])
    return config, build_in("mmdet", config).state_dict()


@pytest.fixture(scope="module")
def teacher():
    """A deeper one, with other weights."""
    prepare_process()
    config = narrow(HEADS["gfl"][0])
    config.backbone.depth = 101
    return build_in("mmdet", config).state_dict()


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_student_comes_out(tmp_path, student, teacher, name):
    """Under its own keys, to the last bit; the prefix and what was left beside it are said."""
    config, weights = student
    write_container, prefix = CONTAINERS[name]
    content = write_container(weights, teacher)
    found = convert_checkpoint(*write(content, tmp_path / "student.pth"), fresh(config))

    assert_same(found.state, weights)
    assert found.prefix == prefix
    dropped = len(content.get("state_dict", content)) - len(weights)
    assert sum(found.beside.values()) == dropped
    assert bool(found.told) == bool(prefix or dropped)


@pytest.mark.parametrize("write_container", [mgd, mmrazor_1])
def test_a_teacher_of_the_same_architecture_is_not_the_student(tmp_path, student, write_container):
    """Both fit; the one that was trained is taken."""
    config, weights = student
    same = {key: value + 1 for key, value in weights.items()}
    found = convert_checkpoint(*write(write_container(weights, same), tmp_path / "student.pth"), fresh(config))

    assert_same(found.state, weights)


def test_a_teacher_alone_can_be_taken(tmp_path, student, teacher):
    """The only one of the architecture that is asked for, under a teacher's name."""
    config, weights = student
    found = convert_checkpoint(*write(mgd(teacher, weights), tmp_path / "both.pth"), fresh(config))

    assert_same(found.state, weights)
    assert found.prefix == "teacher."


def test_two_students_are_refused(tmp_path, student):
    """Nobody can say which of them is meant."""
    config, weights = student
    both = {f"{who}.{key}": value for who in ("first", "second") for key, value in weights.items()}

    with pytest.raises(ValueError, match=r"both\.pth hold GFL 2 times, under 'first\.' and 'second\.'; keep the right one"):
        convert_checkpoint(*write(both, tmp_path / "both.pth"), fresh(config))


@pytest.mark.parametrize("name", CONTAINERS)
def test_another_architecture_is_named_inside_its_container(tmp_path, student, teacher, name):
    """No container makes a model fit that does not; the error speaks of the student, not of 490 tensors in the way."""
    config, _ = student
    write_container, prefix = CONTAINERS[name]
    inner = f" \\('{prefix}' in it\\)" if prefix else ""
    deeper = {key: value for key, value in teacher.items() if "backbone" not in key or "layer3.2" in key}

    with pytest.raises(ValueError, match=rf"s\.pth{inner} are of another architecture than GFL here: \d+ tensors differ"):
        convert_checkpoint(*write(write_container(deeper, teacher), tmp_path / "s.pth"), fresh(config))


@pytest.mark.parametrize("name", CONTAINERS)
def test_another_number_of_classes_is_named_with_both_numbers(tmp_path, student, teacher, name):
    """VOC's 20 classes for COCO's 80."""
    config, weights = student
    few = {key: value[:20] if "gfl_cls" in key else value for key, value in weights.items()}

    with pytest.raises(ValueError, match=r"another number of classes: bbox_head\.gfl_cls\.weight has 20 outputs, here 80; train"):
        convert_checkpoint(*write(CONTAINERS[name][0](few, teacher), tmp_path / "s.pth"), fresh(config))


def test_values_that_are_not_finite_are_refused(tmp_path, student, teacher):
    """Of the student's alone: a teacher beside it is not read."""
    config, weights = student
    key = "backbone.layer1.0.conv1.weight"
    broken = {**weights, key: weights[key] / 0}
    convert_checkpoint(*write(mmrazor_1(weights, {"a.weight": torch.tensor([torch.nan])}), tmp_path / "t.pth"), fresh(config))

    with pytest.raises(ValueError, match=rf"s\.pth: {key} hold values that are not finite"):
        convert_checkpoint(*write(mmrazor_1(broken, teacher), tmp_path / "s.pth"), fresh(config))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_cut_download_is_named(tmp_path, student, zipped):
    """At any place, in either format of torch."""
    config, weights = student
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": weights}, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for part in (0.01, 0.5, 0.999):
        path = tmp_path / "cut.pth"
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(ValueError, match=r"cut\.pth are (damaged or )?cut off.*again") as caught:
            convert_checkpoint(path, "", fresh(config))
        assert "\n" not in str(caught.value)


def test_a_web_page_is_named(tmp_path, student):
    """What a host shows in place of a file that it wants to confirm or to sell."""
    path = tmp_path / "s.pth"
    path.write_bytes(b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head></html>")

    with pytest.raises(ValueError, match=r"s\.pth are a web page.*by a browser"):
        convert_checkpoint(path, "", fresh(student[0]))


def test_a_teachers_file_as_other_tools_write_it(tmp_path, student):
    """Safetensors, and a state dict under a key that MMLab does not use; a cut or damaged one is refused."""
    config, weights = student
    path = tmp_path / "t.safetensors"
    save_file({key: value.contiguous() for key, value in weights.items()}, path, metadata={"format": "pt"})
    found = convert_checkpoint(path, "", fresh(config))
    assert_same(found.state, weights)
    other = convert_checkpoint(*write({"epoch": 3, "model_state": weights, "args": {"lr": 1}}, tmp_path / "m.pth"), fresh(config))
    assert_same(other.state, weights)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="are damaged or cut off"):
        convert_checkpoint(path, "", fresh(config))
    with pytest.raises(ValueError, match="hold several state dicts, first, second; keep the right one"):
        convert_checkpoint(*write({"first": weights, "second": weights}, tmp_path / "m.pth"), fresh(config))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda value: value.to(torch.int8), r"backbone\.conv1\.weight \(int8\) are no floating-point numbers"),
        (lambda value: value.to(torch.complex64), r"backbone\.conv1\.weight \(complex64\) are no floating-point numbers"),
    ],
)
def test_numbers_of_another_kind(tmp_path, student, change, line):
    """A quantised or complex tensor would be converted without a word."""
    config, weights = student
    key = "backbone.conv1.weight"

    with pytest.raises(ValueError, match=line):
        convert_checkpoint(*write({**weights, key: change(weights[key])}, tmp_path / "s.pth"), fresh(config))


def test_tensors_that_cannot_be_right(tmp_path, student):
    """A negative variance; weights that are all 0."""
    config, weights = student
    key = "backbone.bn1.running_var"
    with pytest.raises(ValueError, match=rf"{key} is a variance below 0"):
        convert_checkpoint(*write({**weights, key: weights[key] - 2}, tmp_path / "s.pth"), fresh(config))
    blank = {name: torch.zeros_like(value) for name, value in weights.items()}
    with pytest.raises(ValueError, match="all weights are 0"):
        convert_checkpoint(*write(blank, tmp_path / "s.pth"), fresh(config))
