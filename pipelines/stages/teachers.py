"""Stage ``teachers``: a pair's teacher, fetched or trained, and the weights that its student starts from.

A fetched teacher is evaluated before any student is trained on it: one without the accuracy that its publisher states is not the
published teacher, or is not run as published.
"""

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.digest import file_sha256
from benchmarks.pair import Checkpoint, Model
from benchmarks.whole_file import replacing, write_whole
from pipelines import errors, first_uses, layout
from pipelines.engine.backbones import backbone_of
from pipelines.engine.compose import compose_training
from pipelines.engine.evaluation import measure
from pipelines.engine.fetch import downloads, fetch
from pipelines.engine.mmlab import build_model, prepare_process
from pipelines.engine.model_check import SIDES, lost_hook_points
from pipelines.engine.ranks import first_says
from pipelines.engine.records import RunSpec, record_fetched, write_json
from pipelines.engine.setting import Setting, Side, Weights, open_setting, read_run, verified_data
from pipelines.engine.training import run_training
from pipelines.engine.weights import NO_WEIGHTS, convert_checkpoint, read_weights, rewrite_safely
from pipelines.params import load_grid
from pipelines.resolved import confirm
from pipelines.runner.launch import is_rank, launch
from pipelines.stage_list import brought_teacher

STATED_WITHIN = 0.2  # points between a fetched teacher's own result and the one that its publisher states


def get(checkpoint: Checkpoint) -> Path:
    """Return the verified file of a published checkpoint; ValueError where it cannot be had, or is not the one of the first use."""
    path = fetch(checkpoint.url, sha256=checkpoint.sha256, size=checkpoint.size_bytes, folder=downloads())
    sha256 = file_sha256(path)
    first_uses.check(checkpoint.url, path, sha256)
    first_uses.note(checkpoint.url, path, sha256)
    return path


def build(setting: Setting, side: Side) -> nn.Module:
    """Build a side's model with random weights."""
    return build_model(compose_training(setting, side, seed=setting.pair.teacher_seed))


def check_hook_points(setting: Setting, pair_name: str) -> None:
    """ValueError where a path of the pair is no module of its teacher or student."""
    for side in SIDES:
        for problem in lost_hook_points(pair_name, setting.pair, side, build(setting, side)):
            raise ValueError(problem)


def write_initialisation(setting: Setting, side: Side, out: Path, backbones: Path) -> Weights | None:
    """Write the weights that a backbone starts from: ImageNet's weights, or at a tier with reduced models those of stage ``pretrain``.

    Args:
        setting: the pair at its tier.
        side: which of the two.
        out: file; it says so where the tier or the pair starts from random weights.
        backbones: folder of what stage ``pretrain`` made.

    Raises:
        ValueError: the file is not the recorded one, or does not fit.
    """
    model: Model = getattr(setting.pair, side)
    out.parent.mkdir(parents=True, exist_ok=True)
    if setting.tier.model is not None:
        named = backbone_of(setting.pair, side, setting.tier.model) if setting.tier.pretraining else None
        if named is not None:
            return Weights(out, _pretrained(backbones / named[0], out))
    elif model.initialisation is not None:
        fetched = get(model.initialisation)
        return Weights(
            out,
            rewrite_safely(fetched, file_sha256(fetched), out, backbone=build(setting, side).get_submodule("backbone")),
        )
    write_whole(out, NO_WEIGHTS)
    return None


def read_initialisation(_setting: Setting, _side: Side, out: Path, _backbones: Path) -> Weights | None:
    """Return what :func:`write_initialisation` has just written in the process that started this one."""
    return None if out.read_bytes() == NO_WEIGHTS else Weights(out, file_sha256(out))


def _pretrained(folder: Path, out: Path) -> str:
    """Copy a pre-trained backbone's file once it is verified; return its sha256."""
    record = folder / layout.RUN
    if not record.is_file():
        raise ValueError(f"{record} is not there: backbone {folder.name} has not been trained; run dvc repro pretrain")
    run = read_run(folder)
    if run.status != "done" or run.weights_sha256 is None:
        raise ValueError(
            f"{record}: the backbone was not trained ({run.status}), and this tier starts from it; run dvc repro pretrain"
        )
    read_weights(folder / layout.WEIGHTS, run.weights_sha256)
    with replacing(out, is_synced=True) as partial:
        shutil.copyfile(folder / layout.WEIGHTS, partial)
    return run.weights_sha256


def write_fetched(setting: Setting, source: Path, sha256: str, spec: RunSpec, data: Path, out: Path) -> None:
    """Write a checkpoint in today's layout, evaluate it, and record it if it is as good as stated.

    Raises:
        ValueError: data or checkpoint are not the recorded ones, or the accuracy is not the stated one.
    """
    verified = verified_data(setting, data)
    weights, partial = out / layout.WEIGHTS, out / "unverified.pth"
    out.mkdir(parents=True, exist_ok=True)
    try:
        checkpoint = convert_checkpoint(source, sha256, build(setting, "teacher"))
    except ValueError as error:
        if setting.tier.data != "own":
            raise
        raise ValueError(f"{error}; it is own.teacher in params.yaml, which must be the teacher of {spec.pair}") from error
    torch.save(checkpoint.state, partial)
    if checkpoint.told:
        print(f"{spec.label} {source.name}: {checkpoint.told}", flush=True)
    print(f"{spec.label} evaluating {source.name} before it is used", flush=True)
    metrics = measure(setting, "teacher", partial, layout.work(spec.tier) / spec.name / "verify")
    stated = setting.pair.teacher.stated if setting.tier.data == "published" else None
    found = metrics.score or 0.0
    if stated is not None and round(abs(found - stated), 4) > STATED_WITHIN:
        raise ValueError(
            f"teacher {source} of pair {spec.pair} has {found:.2f} {setting.pair.metric} on the test split, and its publisher "
            f"states {stated}: more than {STATED_WITHIN} apart, so nothing is distilled from it; check the data set "
            f"(python -m pipelines.stages.prepare) and the pair's config and checkpoint in benchmarks/pairs/{spec.pair}.yaml"
        )
    if not found and setting.tier.data == "own":
        print(
            f"warning: own.teacher {source} has {setting.pair.metric} 0 on the test split, so it can teach nothing: wrong file, other order "
            "of classes, or other preprocessing?", file=sys.stderr, flush=True,
        )  # fmt: skip
    partial.replace(weights)
    record_fetched(spec, verified, weights, origin=source.name, metrics={"measured": found, "stated": stated})


def write_digests(out: Path) -> None:
    """Write digests.json, the one file that a student depends on: of teacher, initialisation and data, without times or machines.

    A teacher that is trained again to the same weights leaves its students fresh.
    """
    run = read_run(out)
    digests = {
        "weights": run.weights_sha256,
        "initialisation": run.student_initialisation_sha256,
        "data": run.data and run.data.digest,
    }
    write_json(out / layout.DIGESTS, digests)


def main() -> None:
    """Fetch or train the teacher and write its weights, its run.json and the student's initialisation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--out", type=Path, help="folder; runs/TIER/PAIR/teacher if not given")
    args = parser.parse_args()
    code = confirm(layout.TEACHERS, args.pair)["code"]
    data, out, backbones = layout.data(args.tier), args.out or layout.teacher(args.tier, args.pair), layout.backbones(args.tier)
    setting, grid = open_setting(args.tier, args.pair, data), load_grid()
    position = (grid.pairs.index(args.pair) + 1, len(grid.pairs)) if args.pair in grid.pairs else (1, 1)
    own = brought_teacher(grid)
    if own is not None and not own.is_file():
        raise ValueError(f"params.yaml: own.teacher {own} is no file; correct it, or null to have the teacher trained here")
    prepare_process()
    check_hook_points(setting, args.pair)
    started = read_initialisation if is_rank() else write_initialisation
    of_student = started(setting, "student", out / layout.INITIALISATION, backbones)
    spec = RunSpec(
        "teacher", args.tier, args.pair, None, setting.pair.teacher_seed, position,
        student_initialisation_sha256=of_student.sha256 if of_student else None, code=code,
    )  # fmt: skip
    published = setting.pair.teacher.checkpoint if setting.tier.data == "published" and setting.tier.model is None else None
    if own is not None:
        write_fetched(setting, own, file_sha256(own), spec, data, out)
    elif published is not None:
        fetched = get(published)
        write_fetched(setting, fetched, file_sha256(fetched), spec, data, out)
    else:
        place = layout.work(args.tier) / args.pair / "teacher_initialisation.pth"
        start = started(setting, "teacher", place, backbones)
        config = compose_training(setting, "teacher", seed=spec.seed, initialisation=start)
        if launch(layout.TEACHERS, setting.processes):
            write_digests(out)
            return
        run_training(
            replace(spec, initialisation_sha256=start.sha256 if start else None),
            config,
            first_says(lambda: verified_data(setting, data)),
            export=lambda model: model,
            weights=out / layout.WEIGHTS,
        )
    if not is_rank():
        write_digests(out)


if __name__ == "__main__":
    errors.run(main)
