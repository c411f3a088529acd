"""Errors in one line: ours as they are, a library's with its type, its place and the file of the traceback."""

import json

import numpy as np
import pytest
from mmengine.dataset import Compose
from pydantic import BaseModel

from pipelines.engine.named_files import name_files
from pipelines.errors import describe, place
from pipelines.params import load_tier


def caught(call, *arguments):
    """The exception of a call."""
    with pytest.raises(Exception, match=r"(?s).*") as found:
        call(*arguments)
    return found.value


class Needs(BaseModel):
    """A schema."""

    number: int


def test_ours_explains_itself(project, monkeypatch):
    """A line that this project wrote is not changed, whatever is noted about it."""
    monkeypatch.chdir(project)
    error = caught(load_tier, "nowhere")
    place(error, "cell gfl/none/seed0")

    assert describe(error) == str(error)


@pytest.mark.parametrize(
    ("call", "arguments", "line"),
    [
        (json.loads, ["{"], "json.decoder.JSONDecodeError: Expecting property name"),
        (len, [1], "TypeError: object of type 'int' has no len()"),
        (Needs.model_validate, [{}], "ValidationError: 1 validation error for Needs"),
        (open, ["/nowhere/at/all"], "FileNotFoundError: /nowhere/at/all: No such file or directory"),
        (np.zeros(2).reshape, [3], "ValueError: cannot reshape array"),
    ],
)
def test_a_librarys_has_its_type_its_place_and_its_traceback(call, arguments, line):
    """Also where a library raises the same types as this project, which would read as a sentence of ours."""
    error = caught(call, *arguments)
    place(error, "picture.jpg")
    place(error, "distill gfl/none/seed0 after iteration 7")
    found = describe(error)

    assert found.startswith("picture.jpg: distill gfl/none/seed0 after iteration 7: ")
    assert line in found
    assert found.endswith("; the traceback is in work/last_error.txt")
    assert "\n" not in found


class Fails:
    """A transform that fails on one image."""

    def __call__(self, data):
        """Fail on all but one."""
        return data if data["img_path"] == "a.jpg" else 1 / 0


class Dataset:
    """As MMEngine's data sets keep their pipeline."""

    def __init__(self, *inside):
        self.pipeline, self.datasets = None if inside else Compose([Fails()]), inside


def test_a_transforms_error_names_the_image():
    """In a data set inside of another, once however often it is wrapped; what the pipeline has stays reachable."""
    inner = Dataset()
    for _ in range(2):
        name_files(Dataset(inner))
    error = caught(inner.pipeline, {"img_path": "b.jpg"})

    assert inner.pipeline({"img_path": "a.jpg"}) == {"img_path": "a.jpg"}
    assert len(inner.pipeline.transforms) == 1
    assert describe(error) == "b.jpg: ZeroDivisionError: division by zero; the traceback is in work/last_error.txt"
