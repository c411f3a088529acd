"""Checkpoints of distillers, written key by key from a student as the authors' code lays them out; no saver of this suite is used."""

from collections import OrderedDict

import torch
from mmengine.logging import HistoryBuffer


def _under(prefix, state):
    return OrderedDict((prefix + key, value.clone()) for key, value in state.items())


def _others(prefix, *shapes):
    return OrderedDict((f"{prefix}{number}.weight", torch.full(shape, 7.0)) for number, shape in enumerate(shapes))


def mmrazor_0(student, teacher):
    """From mmrazor 0.1, GeneralDistill: the student in ``architecture.model``, the teacher a module of the distiller (MasKD)."""
    state = _under("architecture.model.", student) | _under("distiller.teacher.", teacher)
    state |= {"distiller.losses.loss_maskd.mask_modules.0.mask_token": torch.ones(6, 256)}
    state |= _others("distiller.align_modules.", (4, 4, 1, 1), (4, 4, 1, 1))
    return {
        "meta": {"epoch": 12, "iter": 87960, "mmcv_version": "1.4.0", "hook_msgs": {}},
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4, "params": [0]}]},
    }


def crosskd(student, teacher):
    """MMDetection 3 with the teacher outside the tree of modules (CrossKD)."""
    hub = {"log_scalars": {"train/loss": HistoryBuffer([2.0, 1.0], [1, 1])}, "runtime_info": {"epoch": 11}}
    return {
        "meta": {"epoch": 12, "dataset_meta": {}},
        "state_dict": OrderedDict(student),
        "message_hub": hub,
        "param_schedulers": [],
    }


def mgd(student, teacher):
    """DetectionDistiller of MGD and FGD: buffers of the distiller's own beside student, teacher and losses."""
    state = _under("student.", student) | _under("teacher.", teacher)
    state |= _others("distill_losses.loss_mgd_fpn_0.generation.", (4, 4, 3, 3), (4, 4, 3, 3))
    state |= {"student_neck_fpn_convs_0_conv": torch.zeros(1), "teacher_neck_fpn_convs_0_conv": torch.zeros(1)}
    return {"meta": {"epoch": 24, "mmdet_version": "2.18.0"}, "state_dict": state}


def mmrazor_1(student, teacher):
    """From mmrazor 1.x, SingleTeacherDistill: ``architecture``, ``teacher``, connectors of the distiller (PKD, CWD, MGD, FBKD)."""
    state = _under("architecture.", student) | _under("teacher.", teacher)
    state |= _others("distiller.connectors.s_neck_mgd0.", (4, 4, 3, 3))
    return {"meta": {"epoch": 24}, "state_dict": state, "message_hub": {}}


def parallel_with_averages(student, teacher):
    """MMDetection 2 in a parallel wrapper under an averaging hook: the average in place, the raw weights in flat names beside."""
    state = _under("module.", student)
    state |= {f"module.ema_{key.replace('.', '_')}": torch.full_like(value, 3) for key, value in student.items()}
    return {"meta": {"epoch": 12}, "state_dict": state}


def bare(student, teacher):
    """What the authors' converters leave: the student's own keys, no dict around them."""
    return OrderedDict(student)


CONTAINERS = {
    "mmrazor 0.1": (mmrazor_0, "architecture.model."),
    "CrossKD": (crosskd, ""),
    "MGD": (mgd, "student."),
    "mmrazor 1.x": (mmrazor_1, "architecture."),
    "averages": (parallel_with_averages, "module."),
    "bare": (bare, ""),
}
