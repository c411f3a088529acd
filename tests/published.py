"""The issue's pairs, the installed configs, and whether changes fit onto them."""

import inspect
from functools import cache

from mmdet.models.dense_heads import FCOSHead
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from pipelines import params
from pipelines.engine.published import published_config

DETECTION = [
    "retinanet_r101_r50", "retinanet_x101_r50", "faster_rcnn_r101_r50", "cascade_mask_x101_faster_rcnn_r50",
    "fcos_r101_r50", "fcos_r101_r50_upgraded", "reppoints_x101dcn_r50", "gfl_r101_r50", "atss_r101_r50",
    "retinanet_swint_r50", "gfl_r50_r18", "retinanet_r50_r18", "cascade_mask_x101dcn_faster_rcnn_r50",
    "cascade_mask_x101dcn_mask_rcnn_r50", "solo_r101_r50", "faster_rcnn_r101_r50_voc", "faster_rcnn_r152_r50",
    "retinanet_r152_r50",
]  # fmt: skip
SEGMENTATION = [
    "deeplabv3_r101_deeplabv3_r18", "deeplabv3_r101_deeplabv3_r18_scratch", "deeplabv3_r101_pspnet_r18",
    "deeplabv3_r101_deeplabv3_mbv2", "pspnet_r101_pspnet_r18", "pspnet_r101_deeplabv3_r18",
]  # fmt: skip
RUNNABLE = [*DETECTION, *SEGMENTATION]
read_once = cache(params.load_yaml)  # what a YAML file holds is frozen
# What a dotted key may add to a config must be a parameter of the class that is named there.
CLASSES = {"FCOSHead": FCOSHead, "OptimWrapper": OptimWrapper}


@cache
def installed(name: str) -> Config:
    """A published config, read once; never changed."""
    return published_config(name)


def changed(name: str, changes: dict) -> Config:
    """A published config with what is changed in it."""
    config = Config(installed(name).to_dict())
    config.merge_from_dict(dict(changes))
    return config


def unknown_keys(config: Config, changes: dict) -> list[str]:
    """Dotted keys that a config does not have and that no class there takes."""
    wrong = []
    for key in changes:
        *path, last = key.split(".")
        place = config
        for part in path:
            place = place[int(part)] if isinstance(place, (list, tuple)) else place.get(part, {})
        taker = CLASSES.get(place.get("type"))
        taken = {name for base in inspect.getmro(taker) for name in inspect.signature(base).parameters} if taker else set()
        if last not in place and last not in taken:
            wrong.append(key)
    return wrong
