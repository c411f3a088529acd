"""Records and leaderboards made up for the tests of the reports."""

import json

from reports.assembly import leaderboard
from reports.board import PublishedFigure
from reports.record import Ap, Cost, Data, Metrics, Run, Segmentation
from reports.rows import Cells, PairInfo, Result, table

COST = Cost(wall_s=120, train_s=90, images_per_s=30.4, num_images=100, peak_memory_mib=900, resumed_after_iteration=0)


def result(metric, score, method="none", seed=0, data="d", **run):
    """A finished training whose score in the metric is given; its other figures differ from it."""
    others = {"AP50": 91.0, "AP75": 92.0, "APs": None, "APm": 93.0, "APl": 94.0}
    kinds = {
        "box AP": {"box": Ap(AP=score, **others)},
        "box AP50": {"box": Ap(AP=1.0, **{**others, "AP50": score})},
        "mask AP": {"box": Ap(AP=2.0, **others), "mask": Ap(AP=score, **others)},
        "mIoU": {"seg": Segmentation(mIoU=score, mAcc=95.0, aAcc=96.0)},
    }
    stage = "distill" if method else "teacher"
    identity = {"stage": stage, "tier": "mini", "pair": "pair", "method": method, "seed": seed, "weights_sha256": "0"}
    record = {"status": "done", "cost": COST, "data": Data(name="scenes", digest=data), **identity, **run}
    return Result(
        Run(**record), Metrics(num_images=1, weights_sha256="0", metric=metric, score=score, **kinds[metric]), "1", "2", "t"
    )


def figure(value, gain, name="a-figure", source="a paper"):
    """A published one."""
    return PublishedFigure(id=name, value=value, gain=gain, teacher=43.0, source=source, read="verbatim")


def made_up(metric="box AP", title="A pair", teacher=None, scores=None, published=None, margin=None, cells=None, name="pair"):
    """A table of control, MGD and CWD; unless told otherwise two seeds each, means 11 and 14, CWD not run, the teacher at 20."""
    scores = scores or {"none": (10.0, 12.0), "mgd": (13.0, 15.0)}
    made = {m: Cells([result(metric, score, m, seed) for seed, score in enumerate(of)]) for m, of in scores.items()}
    return table(
        PairInfo(name, title, "detection", metric, "Cityscapes" if metric == "mIoU" else "COCO", "1x", "the teacher"),
        {"none": "none (control)", "mgd": "MGD", "cwd": "CWD"},
        teacher=teacher or result(metric, 20.0, None),
        cells=made | (cells or {}),
        published=published or {"mgd": [figure(41.0, 3.6), figure(40.25, 2.0, "another-figure")]},
        margin=margin,
    )


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
