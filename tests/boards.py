"""Records and leaderboards made up for the tests of the reports."""

import json
from dataclasses import replace

from benchmarks.metrics import METRICS
from reports.schemas.reported import ReportedResult
from reports.schemas.run import Ap, Cost, Data, Metrics, Reading, Run, Segmentation
from reports.schemas.study import SearchRange, Study, Trial
from reports.stats.assembly import leaderboard
from reports.stats.rows import PairInfo, Result, RowRecords, table

COST = Cost(wall_s=120, train_s=90, images_per_s=30.4, num_images=100, peak_memory_mib=900, resumed_after_iteration=0)


def result(metric, score, method="none", seed=0, data="d", **run):
    """A finished training whose score in the metric is given; its other figures differ from it."""
    others = {"AP50": 91.0, "AP75": 92.0, "APs": None, "APm": 93.0, "APl": 94.0}
    kinds = {
        "box AP": {"box": Ap(AP=score, **others)},
        "box AP50": {"box": Ap(AP=1.0, **{**others, "AP50": score})},
        "mask AP": {"box": Ap(AP=2.0, **others), "mask": Ap(AP=score, **others)},
        "mIoU": {"seg": Segmentation(mIoU=score, mAcc=95.0, aAcc=96.0, foreground=61.2)},
    }
    found = kinds.get(metric) or {"scores": {METRICS[metric].key: score}}
    reads = {} if metric == "mIoU" else {"reading": Reading(found=97.0, right=64.6)}
    stage = "distill" if method else "teacher"
    identity = {"stage": stage, "tier": "mini", "pair": "pair", "method": method, "seed": seed, "weights_sha256": "0"}
    record = {"status": "done", "cost": COST, "data": Data(name="scenes", digest=data), **identity, **run}
    return Result(
        Run(**record),
        Metrics(num_images=1, weights_sha256="0", metric=metric, score=score, **found, **reads),
        "1",
        "2",
        "t",
    )


def figure(value, gain, name="a-figure", source="a paper"):
    """A published one."""
    return ReportedResult(id=name, value=value, gain=gain, teacher=43.0, source=source, read="verbatim")


def made_up(metric="box AP", title="A pair", teacher=None, scores=None, reported=None, margin=None, cells=None, name="pair"):
    """A table of control, MGD and CWD; unless told otherwise two seeds each, means 11 and 14, CWD not run, the teacher at 20."""
    scores = scores or {"none": (10.0, 12.0), "mgd": (13.0, 15.0)}
    tuned = {"mgd/tuned": "MGD, tuned"} if "mgd/tuned" in (cells or {}) else {}
    made = {m: RowRecords([result(metric, score, m, seed) for seed, score in enumerate(of)]) for m, of in scores.items()}
    return table(
        PairInfo(
            name,
            title,
            "detection",
            metric,
            "Cityscapes" if metric == "mIoU" else "COCO",
            "1x",
            "the teacher",
            curve_key=METRICS[metric].curve_key,
        ),
        {"none": "none (control)", "mgd": "MGD", **tuned, "cwd": "CWD"},
        teacher=teacher or result(metric, 20.0, None),
        records=made | (cells or {}),
        reported=reported or {"mgd": [figure(41.0, 3.6), figure(40.25, 2.0, "another-figure")]},
        margin=margin,
    )


def trial(number, state="complete", score=None, alpha=1.0, reports=(), **changes):
    """One of a study over alpha; ten iterations a minute."""
    values = [score] if state == "complete" else None
    ran = reports[-1][0] if reports else 100
    made = {
        "hparams": {"alpha": alpha, "kind": "l1"},
        "is_recipe": False,
        "iterations": ran,
        "train_s": 6 * ran,
        "wall_s": 6 * ran,
    }
    return Trial(**({"number": number, "state": state, "values": values, "reports": list(reports)} | made | changes))


def study(method="mgd", **changes):
    """Five trials: the recipe's 9, the best's 11, one pruned at 40 of 100 iterations, one failed, one lost; 31 minutes."""
    trials = [
        trial(0, score=9.0, is_recipe=True),
        trial(1, "pruned", alpha=8.0, reports=[(20, 2.0), (40, 3.0)]),
        trial(2, score=11.0, alpha=0.5),
        trial(3, "failed", alpha=9.0, iterations=50, train_s=300, reason="loss_mgd is not finite"),
        trial(4, "lost", alpha=0.1, iterations=20, train_s=120, reason="its worker was killed"),
    ]
    made = {
        "space": {"alpha": SearchRange(low=0.1, high=10.0, scale="log"), "kind": SearchRange(choices=["l1", "l2"])},
        "recipe_hparams": {"alpha": 1.0, "kind": "l1"}, "trials": trials, "best": 2, "front": [2],
        "importance": {"alpha": 0.75, "kind": 0.25}, "objectives": ["score"], "full_iterations": 100,
    }  # fmt: skip
    about = {
        "status": "done", "tier": "mini", "pair": "pair", "method": method, "metric": "box AP", "sampler": "tpe", "pruner": "median",
        "schedule_share": 0.25,
    }  # fmt: skip
    return Study(**(about | made | changes))


def tuned_table(scores=(17.0, 18.0), of=None, **changes):
    """:func:`made_up` with a tuned MGD behind MGD, which has 13 and 15."""
    found = {
        "mgd/tuned": RowRecords([result("box AP", score, "mgd", seed, variant="tuned") for seed, score in enumerate(scores)])
    }
    found["mgd/tuned"] = replace(found["mgd/tuned"], study=of or study(), command="dvc repro evaluate@pair/mgd/tuned/seed0")
    return made_up(cells=found | changes.pop("cells", {}), **changes)


def board(*tables, **changes):
    """A leaderboard of tables; unless told otherwise of one, at a scaled tier."""
    return leaderboard("mini", "small", list(tables or [made_up()]), changes.pop("runs", []), **changes)


def write_result(folder, found):
    """Its two files, where a stage would leave them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, record in (("run.json", found.run), ("metrics.json", found.metrics)):
        (folder / name).write_text(record.model_dump_json(indent=2) + "\n")


def edit_json(path, **changes):
    """Change a JSON file's keys; None takes one out."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
