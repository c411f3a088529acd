"""Sources of a pair's images and labels, and the data part of a config.

Three kinds: the synthetic data and a user's own data, both read by one simple pipeline at a tier with reduced models;
and the published data sets, read as the published config does, from the folder that the user names.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from benchmarks.dataset import Dataset, datasets
from benchmarks.manifest import listing
from benchmarks.metrics import METRICS
from benchmarks.own import OwnData, image_suffix
from benchmarks.pair import Pair
from benchmarks.published_data import boxes_folder, data_root
from benchmarks.synthetic import CLASSES
from benchmarks.tier import Tier

_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
_EVAL_BATCH = 50  # images at a time while a reduced model is evaluated


@dataclass(frozen=True)
class DataSource:
    """A data set as one pair reads it.

    Args:
        name: ``scenes``, ``own``, or the published data set's.
        root: folder that the paths of ``splits`` start from.
        classes: names of the classes; None where the published config's are meant.
        splits: of each split the folder of images and the annotations: a COCO file, or a folder of label maps.
        label_suffix: how the name of an image's label map ends, behind the image's stem.
        image_px: side to which images are brought; None where the published pipeline does as it does.
    """

    name: str
    root: Path
    classes: tuple[str, ...] | None
    splits: Mapping[str, tuple[str, str]]
    label_suffix: str = ".png"
    image_px: int | None = None

    @property
    def published(self) -> Dataset | None:
        """Record of a published data set; None for generated data and a user's own."""
        return datasets()[self.name] if self.classes is None else None

    def truth(self, split: str = "test") -> Path:
        """Annotations of a split: a JSON file, or the folder of label maps."""
        return self.root / self.splits[split][1]

    def evaluator(self, config: dict[str, Any]) -> dict[str, Any]:
        """MMLab's evaluator on these data, a user's read as :func:`benchmarks.coco_file.read_coco` reads them."""
        return {**config, "type": "UserCocoMetric"} if self.name == "own" and config["type"] == "CocoMetric" else config


def data_source(
    pair: Pair, tier: Tier, data: Path, *, own: OwnData | None = None, roots: Mapping[Any, str] | None = None
) -> DataSource:
    """Return the data that a pair reads at a tier.

    Args:
        pair: whose task and data set decide.
        tier: whose ``data`` decide.
        data: folder of the tier's manifest, and of the synthetic data where they are generated.
        own: params.yaml's ``own``.
        roots: params.yaml's ``data``, published data set -> folder.

    Raises:
        ValueError: the tier reads own data and none are named; or a published data set's folder is not named.
    """
    of_pixels = pair.task == "segmentation"
    if tier.scenes is not None:
        files = {split: (split, f"{split}_labels" if of_pixels else f"{split}.json") for split in ("train", "tune", "test")}
        classes = ("background", *CLASSES) if of_pixels else CLASSES
        return DataSource("scenes", data, classes, files, image_px=tier.scenes.image_px)
    if tier.data == "own":
        if own is None:
            raise ValueError("params.yaml: this tier reads your own data; name them under 'own:' (README, Your own data)")
        wanted = "label_maps" if of_pixels else "coco"
        if own.format != wanted:
            raise ValueError(
                f"params.yaml: own.format is {own.format}, but pair '{pair.title}' needs {wanted}; leave the pair out"
            )
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MMDetection names packages that nothing here uses
            import pipelines.engine.user_coco  # noqa: F401, PLC0415 (registers their data set and evaluator; seconds)
        files = {split: (getattr(own, split).images, getattr(own, split).annotations) for split in ("train", "tune", "test")}
        return DataSource("own", own.folder, tuple(own.classes), files, image_px=own.image_px)
    name = pair.dataset
    root = data_root(name, roots or {})
    return DataSource(name, root, None, {"test": ("", datasets()[name].truth)}, datasets()[name].label_suffix)


def is_of_test(origin: DataSource) -> Callable[[str], bool]:
    """Return a test of whether an annotation file, named from the data set's root, is of the test split and of no other.

    Reads what belongs to the other splits only.
    """
    files, kept = [origin.splits["test"][1]], set()
    if origin.published is not None:
        splits = origin.published.splits.items()
        files += [split.annotations for name, split in splits if not name.startswith("train")]
        # VOC has one folder of boxes for the images of 2007, of training and of test.
        shared = [split for name, split in splits if name.startswith("train") and boxes_folder(split) == files[0]]
        kept = {
            f"{files[0]}/{name}.xml"
            for split in shared
            if origin.published.format == "voc"
            for name in (origin.root / split.annotations).read_text().split()
        }
    for images, labels in (origin.splits[name] for name in ("train", "tune") if name in origin.splits):
        if labels == files[0]:  # a user's label maps, all in one folder
            suffix = image_suffix(origin.root / images)
            kept |= {f"{labels}/{name.removesuffix(suffix)}{origin.label_suffix}" for name in listing(origin.root / images)}
    return lambda path: path not in kept and any(path == file or path.startswith(f"{file}/") for file in files)


def set_data(config: Config, pair: Pair, origin: DataSource, *, batch_size: int) -> None:
    """Make a published config read a source; see :class:`DataSource`."""
    if origin.published is not None:
        _move(config, origin.published.config_root, f"{origin.root}/")
        return
    masks = needs_masks(config)
    if origin.image_px is not None:
        pipelines = tuple(plain_pipeline(pair, origin.image_px, masks=masks, training=training) for training in (True, False))
    else:
        pipelines = (_innermost(config.train_dataloader.dataset).pipeline, _innermost(config.test_dataloader.dataset).pipeline)
    make = _label_maps if pair.task == "segmentation" else _coco
    for split, key in (("train", "train"), ("tune", "val"), ("test", "test")):
        training = split == "train"
        dataset = make(origin, split, pipelines[0 if training else 1], training)
        sampler = ConfigDict(type="DefaultSampler", shuffle=training)
        config[f"{key}_dataloader"] = ConfigDict(
            batch_size=batch_size if training else _EVAL_BATCH if origin.image_px else 1,
            num_workers=0 if origin.image_px else config.train_dataloader.num_workers,
            sampler=sampler,
            dataset=dataset,
            drop_last=training,
        )
    config.val_evaluator = ConfigDict(origin.evaluator(METRICS[pair.metric].validator(str(origin.truth("tune")))))
    config.val_cfg, config.test_cfg = ConfigDict(type="ValLoop"), ConfigDict(type="TestLoop")


def needs_masks(config: Config) -> bool:
    """Return True for a config whose model is trained on the objects' outlines."""
    return any(model.get("type") in ("FCNMaskHead", "SOLOHead") for model in dicts(config.model))


def plain_pipeline(pair: Pair, image_px: int, *, masks: bool, training: bool) -> list[ConfigDict]:
    """Load and resize, and no more: a mirrored digit is no digit."""
    image, resize = ConfigDict(type="LoadImageFromFile"), ConfigDict(type="Resize", scale=(image_px, image_px), keep_ratio=True)
    if pair.task == "segmentation":
        labels = ConfigDict(type="LoadAnnotations")
        # In a test predictions are brought back to the image's size, and are compared with labels of that size.
        return [image, *([labels, resize] if training else [resize, labels]), ConfigDict(type="PackSegInputs")]
    labels = ConfigDict(type="LoadAnnotations", with_bbox=True, **({"with_mask": True} if masks else {}))
    return [image, labels, resize, ConfigDict(type="PackDetInputs", meta_keys=_META)]


def _coco(origin: DataSource, split: str, pipeline: list[ConfigDict], training: bool) -> ConfigDict:  # noqa: FBT001 (called by a table of functions)
    images, annotations = origin.splits[split]
    dataset = ConfigDict(
        type="UserCocoDataset" if origin.name == "own" else "CocoDataset",
        data_root=f"{origin.root}/",
        ann_file=annotations,
        data_prefix=ConfigDict(img=f"{images}/"),
        metainfo=ConfigDict(classes=origin.classes),
        pipeline=pipeline,
        test_mode=not training,
    )
    if training:
        dataset.filter_cfg = ConfigDict(filter_empty_gt=True)
    return dataset


def _label_maps(origin: DataSource, split: str, pipeline: list[ConfigDict], training: bool) -> ConfigDict:  # noqa: FBT001 (called by a table of functions)
    images, labels = origin.splits[split]
    return ConfigDict(
        type="BaseSegDataset",
        data_root=f"{origin.root}/",
        data_prefix=ConfigDict(img_path=images, seg_map_path=labels),
        img_suffix=".png" if origin.name == "scenes" else image_suffix(origin.root / images),
        seg_map_suffix=origin.label_suffix,
        metainfo=ConfigDict(classes=origin.classes),
        reduce_zero_label=False,
        pipeline=pipeline,
        test_mode=not training,
    )


def dicts(value: Any) -> Iterator[Any]:
    """Every dictionary in a nested config, itself first."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from dicts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts(item)


def _innermost(dataset: ConfigDict) -> ConfigDict:
    """Return the data set inside of wrappers that repeat or concatenate."""
    while "dataset" in dataset or "datasets" in dataset:
        dataset = dataset.dataset if "dataset" in dataset else dataset.datasets[0]
    return dataset


def _move(config: Config, old: str, new: str) -> None:
    """Replace the folder at which published configs expect their data."""
    for part in dicts(config._cfg_dict):  # noqa: SLF001 (Config itself is no dict)
        for key, value in part.items():
            if isinstance(value, str) and value.startswith(old):
                part[key] = new + value[len(old) :]
