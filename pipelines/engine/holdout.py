"""The validation split of trials where data are published: a fixed part of the *training* images.

A published data set has no split to choose hyper-parameters by but the one that is reported, and that one no trial may see.
So some training images are held out, the same ones for every pair, method and trial, and trials train on the rest; the
runs that are reported use all training images, as published.

COCO and VOC: images in the order of the sha256 of seed and name, the first so many.
No random generator, no order of files and no version of a library can change that choice.

Cityscapes: whole cities.
Frames of one city show the same streets by the same light, sometimes seconds apart; were a city on both sides, weights that
remember it would look good.  The published val split is of three cities of its own, so here, too, it is three cities: of all
threes the one whose images come nearest to the requested number, and among equals the one of the least sha256.

A limitation: a published teacher was trained on the held-out images, as was a method's auxiliary module.
Both are equal for all trials of a study, and what a study finds is measured on the test split afterwards, once.
"""

import copy
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

from mmengine.config import Config, ConfigDict

from benchmarks.dataset import datasets
from benchmarks.digest import file_sha256
from benchmarks.manifest import listing
from pipelines.engine.data_configs import dicts
from pipelines.engine.setting import Setting
from pipelines.engine.workdir import check_writable

_LEAST_REST = 5  # an image is held out of at least so many
_SEED = 0

Contents = Callable[[], dict[str, str]]


def hold_out(config: Config, setting: Setting, folder: Path) -> None:
    """Train a run on published data on all training images but the held-out ones, and measure it on those.

    Nothing in the config names the test split any more.  How often it is measured is the caller's business.
    A config on other data has a validation split and is left as it is.

    Args:
        config: of :func:`compose_training` or :func:`compose_cell`; changed in place.
        setting: the pair at its tier.
        folder: where lists or annotation files of the two parts are kept, below a name that follows from what they are made of;
            written once, whole or not at all, by however many processes.

    Raises:
        ValueError: training images cannot be parted, or the folder cannot be written.
    """
    origin = setting.origin
    if origin.published is None:
        return
    trained = [part for part in dicts(config.train_dataloader.dataset) if "data_root" in part]
    tested, held = config.test_dataloader, []
    for part, (rest, tune) in zip(trained, _PARTS[origin.published.format](trained, folder, origin.name), strict=True):
        # Without a root of the data set, files that are named from the project's root are found.
        prefix = ConfigDict({key: part.data_root + path for key, path in part.data_prefix.items()})
        part.update(data_root="", data_prefix=prefix, ann_file=str(rest))
        if tune.is_file():
            held.append(
                ConfigDict(copy.deepcopy(tested.dataset), data_root="", data_prefix=copy.copy(prefix), ann_file=str(tune))
            )
    joined = next((part for part in dicts(config.train_dataloader.dataset) if "datasets" in part), None)
    dataset = held[0] if len(held) == 1 else ConfigDict(joined or {}, datasets=held)
    config.val_dataloader = ConfigDict(
        copy.deepcopy({key: value for key, value in tested.items() if key != "dataset"}), dataset=dataset
    )
    config.val_evaluator = copy.deepcopy(config.test_evaluator)
    if "ann_file" in config.val_evaluator:
        config.val_evaluator.ann_file = dataset.ann_file
    config.val_cfg = ConfigDict(type="ValLoop")
    config.test_dataloader = config.test_evaluator = config.test_cfg = None


def _coco(parts: list[ConfigDict], folder: Path, name: str) -> list[tuple[Path, Path]]:
    source = Path(parts[0].data_root + parts[0].ann_file)

    def contents() -> dict[str, str]:
        coco = json.loads(source.read_text())
        held = _first(source, [image["file_name"] for image in coco["images"]], name)
        ids = {image["id"] for image in coco["images"] if image["file_name"] in held}
        return {
            f"{part}.json": json.dumps(
                {
                    **coco,
                    "images": [image for image in coco["images"] if (image["id"] in ids) == wanted],
                    "annotations": [box for box in coco["annotations"] if (box["image_id"] in ids) == wanted],
                }
            )
            for part, wanted in (("train", False), ("tune", True))
        }

    target = _write_once(folder, name, file_sha256(source), contents)
    return [(target / "train.json", target / "tune.json")]


def _voc(parts: list[ConfigDict], folder: Path, name: str) -> list[tuple[Path, Path]]:
    """Write lists by year; where little is held out, a year may have no list of it."""
    sources = {Path(part.data_prefix.sub_data_root).name: Path(part.data_root + part.ann_file) for part in parts}
    names = {year: path.read_text().split() for year, path in sources.items()}

    def contents() -> dict[str, str]:
        held = _first(sources["VOC2007"], [f"{year}/{image}" for year in names for image in names[year]], name)
        lists = {
            f"{part}_{year}.txt": [image for image in names[year] if (f"{year}/{image}" in held) == wanted]
            for year in names
            for part, wanted in (("train", False), ("tune", True))
        }
        return {file: _lines(found) for file, found in lists.items() if found or file.startswith("train")}

    target = _write_once(folder, name, json.dumps(names), contents)
    return [(target / f"train_{year}.txt", target / f"tune_{year}.txt") for year in names]


def _label_maps(parts: list[ConfigDict], folder: Path, name: str) -> list[tuple[Path, Path]]:
    source = Path(parts[0].data_root + parts[0].data_prefix.img_path)
    suffix = datasets()[name].image_suffix
    names = sorted(image.removesuffix(suffix) for image in listing(source) if image.endswith(suffix))

    def contents() -> dict[str, str]:
        if datasets()[name].held_out_folders is None:
            held = _first(source, names, name)
        else:
            cities = _cities(source, Counter(image.partition("/")[0] for image in names), name)
            held = {image for image in names if image.partition("/")[0] in cities}
        return {
            f"{part}.txt": _lines(image for image in names if (image in held) == wanted)
            for part, wanted in (("train", False), ("tune", True))
        }

    target = _write_once(folder, name, _lines(names), contents)
    return [(target / "train.txt", target / "tune.txt")]


_PARTS = {"coco": _coco, "voc": _voc, "label_maps": _label_maps}


def _number(source: Path, num_images: int, data_set: str) -> int:
    """Return the number of held-out images."""
    if num_images < 2:  # noqa: PLR2004 (a part and a rest)
        raise ValueError(
            f"{source}: {num_images} training images, of which none can be held out for tuning; put the data set back"
        )
    return max(1, min(datasets()[data_set].held_out, num_images // _LEAST_REST))


def _first(source: Path, names: list[str], data_set: str) -> set[str]:
    """Return the names that come first in the order of their digests."""
    return set(sorted(names, key=_digest)[: _number(source, len(names), data_set)])


def _cities(source: Path, num_images: Counter[str], data_set: str) -> set[str]:
    """Return the cities whose images come nearest to the requested number, as many as the record says or all but one."""
    if len(num_images) < 2:  # noqa: PLR2004 (a part and a rest)
        raise ValueError(
            f"{source}: images of {len(num_images)} cities, of which none can be held out for tuning; put the data set back"
        )
    wanted = _number(source, num_images.total(), data_set)
    most = datasets()[data_set].held_out_folders or 1
    choices = combinations(sorted(num_images), min(most, len(num_images) - 1))
    return set(
        min(choices, key=lambda cities: (abs(sum(num_images[city] for city in cities) - wanted), _digest(" ".join(cities))))
    )


def _digest(name: str) -> str:
    return hashlib.sha256(f"{_SEED} {name}".encode()).hexdigest()


def _lines(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def _write_once(folder: Path, data_set: str, made_of: str, contents: Contents) -> Path:
    """Return a folder with these files, named by a digest of their origin; ``contents`` is called only where it is missing."""
    target = folder / f"{data_set}-{_digest(f'{datasets()[data_set].held_out} {made_of}')[:12]}"
    if target.is_dir():
        return target
    check_writable(folder)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial:
        whole = Path(partial) / target.name
        whole.mkdir()
        for name, text in contents().items():
            (whole / name).write_text(text)
        try:
            whole.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first, with the same bytes
                raise
    return target
