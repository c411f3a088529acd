"""Published data sets: one record each, ``datasets/<name>.yaml`` beside this module.

A record says what a complete copy consists of, where to get it, where the published configs look for it, which part of it the
trials of stage ``tune`` are measured on, and the margins of its metrics.
A new data set in one of the three formats is a record alone.
"""

from collections.abc import Sequence
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from benchmarks.metrics import MetricName
from benchmarks.schema import Count, Points, Text, read_as

_FOLDER = Path(__file__).with_name("datasets")
_STRICT = ConfigDict(extra="forbid")
_Bytes = Annotated[int, Field(ge=1, le=10**12)]
_Name = r"(\.?[^./\s*][^/\s*]*)"  # neither . nor ..
_Below = Annotated[str, Field(pattern=rf"^{_Name}(/{_Name})*/?$", description="path from the data set's root")]


@dataclass(frozen=True, config=_STRICT)
class Archive:
    """A file that its publisher lets anybody download.

    Args:
        url: address.
        size: of the archive, bytes.
        gives: folders or files under the data set's root that it fills.
        unpacked: about how many bytes are taken of it.
        sha256, md5: of the archive; at least one is known.
        wanted: beginning of the members' names that are unpacked; the rest is not needed.
    """

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    size: _Bytes
    gives: Annotated[tuple[_Below, ...], Field(min_length=1)]
    unpacked: _Bytes
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    wanted: str = ""


@dataclass(frozen=True, config=_STRICT)
class Split:
    """Part of a published data set; paths are relative to its root.

    ``annotations`` is a COCO JSON file, VOC's list of image names, or the folder of label maps.
    """

    images: _Below
    annotations: _Below
    num_images: Count


@dataclass(frozen=True, config=_STRICT)
class RawLabels:
    """Label maps of which those that are trained on can be made.

    Args:
        suffix: ending of their names.
        remedy: command that converts them; "{root}" is replaced by the data set's root.
    """

    suffix: Text
    remedy: Text


@dataclass(frozen=True, config=_STRICT)
class DeclaredMargin:
    """Distance in points up to which our mean counts as equal to a reported score.

    Written down before anything had run at paper scale; a change here is a change of the question, not of an answer.

    Args:
        metric: name.
        margin: points.
        planning_sd: assumed standard deviation between seeds where one seed cannot show it, points; for the number of further
            seeds that would decide, and part of no verdict.
        why: reason.
    """

    metric: MetricName
    margin: Points
    planning_sd: Points
    why: Text


@dataclass(frozen=True, config=_STRICT)
class Dataset:
    """A published data set; one without ``splits`` is named by reported results alone.

    Args:
        title: in reports.
        format: on the disk; decides how it is checked and parted.
        variable: of the environment, names the root.
        layout: contents of the root, for messages.
        splits: by name; those whose name begins with ``train`` are trained on, the other one is the test split.
        num_classes: their names are the framework's business.
        image_suffix: ending of the images' names.
        label_suffix: ending of the label maps' names behind the images' stems.
        raw_labels: label maps that must be converted first, where there are any.
        config_root: folder in which the published configs look for it.
        truth: annotations of the test split, which scores are computed from.
        keeps_evaluator: the published configs' own evaluator computes the score, in place of the metric's.
        num_trained: training images that the framework uses; None where it uses all.
        held_out: training images that trials of stage ``tune`` are measured on; of a small copy a fifth.
        held_out_folders: number of whole folders of images that are held out; None where images are chosen one by one.
        archives: files that may be downloaded freely.
        account: how to get the others.
        sha256: digests of annotation files, where they are documented.
        margins: of its metrics.
    """

    title: Text
    format: Literal["coco", "voc", "label_maps"] = "coco"
    variable: str = ""
    layout: str = ""
    splits: dict[str, Split] = field(default_factory=dict)
    num_classes: Annotated[int, Field(ge=0, le=100_000)] = 0
    image_suffix: str = ""
    label_suffix: str = ".png"
    raw_labels: RawLabels | None = None
    config_root: str = ""
    truth: str = ""
    keeps_evaluator: bool = False
    num_trained: Count | None = None
    held_out: Annotated[int, Field(ge=0)] = 0
    held_out_folders: Count | None = None
    archives: tuple[Archive, ...] = ()
    account: str = ""
    sha256: dict[str, str] = field(default_factory=dict)
    margins: tuple[DeclaredMargin, ...] = ()

    @property
    def num_train(self) -> int:
        """Images that an epoch of training uses."""
        return self.num_trained or sum(split.num_images for name, split in self.splits.items() if name.startswith("train"))

    @property
    def num_test(self) -> int:
        """Images of the test split."""
        return sum(split.num_images for name, split in self.splits.items() if not name.startswith("train"))

    def for_configs(self) -> dict[str, Any]:
        """Fields that reach a run's or an evaluation's config, as YAML's types."""
        names = ("format", "label_suffix", "config_root", "truth", "keeps_evaluator", "held_out", "held_out_folders")
        return {name: getattr(self, name) for name in names}

    def where(self, missing: Sequence[str], *, test_only: bool = False) -> str:
        """Directions for getting the missing paths, of the test split alone for released students."""
        if not self.archives:
            return self.account
        parts = [f"{archive.url} ({archive.size / 1e9:.2g} GB)" for archive in self.giving(missing)]
        command = "./kd released PAIR METHOD" if test_only else "python -m pipelines.stages.prepare --tier paper"
        return f"unpack {', '.join(parts)} there, or add --download to {command}"

    def giving(self, missing: Sequence[str]) -> list[Archive]:
        """Return the archives that contain the missing paths."""
        return [archive for archive in self.archives if any(path.startswith(archive.gives) for path in missing)]


@cache
def datasets() -> dict[str, Dataset]:
    """All records by name, read once.

    Raises:
        ValueError: a record is wrong; one line that names the file and all that is wrong in it.
    """
    return {path.stem: _record(path) for path in sorted(_FOLDER.glob("*.yaml"))}


def _record(path: Path) -> Dataset:
    where = f"benchmarks/datasets/{path.name}"
    record = read_as(path, Dataset, where)
    listed = sum(split.num_images for name, split in record.splits.items() if name.startswith("train"))
    if record.num_trained is not None and record.num_trained > listed:
        raise ValueError(f"{where}: num_trained is {record.num_trained}, and the splits that are trained on have {listed} images")
    if record.splits and record.held_out >= record.num_train:
        raise ValueError(f"{where}: held_out is {record.held_out}, and only {record.num_train} images are trained on")
    return record


def checkable() -> list[str]:
    """Names of the data sets that stage ``prepare`` can check."""
    return [name for name, record in datasets().items() if record.splits]


def _one_of(name: str, names: Sequence[str]) -> str:
    if name not in names:
        *first, last = (f"'{one}'" for one in names)
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": f"{', '.join(first)} or {last}"})
    return name


DatasetName = Annotated[str, AfterValidator(lambda name: _one_of(name, list(datasets())))]
CheckableName = Annotated[str, AfterValidator(lambda name: _one_of(name, checkable()))]
