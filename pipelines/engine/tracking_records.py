"""MLflow runs of what has ended on a cluster's nodes, entered from its records by one process."""

import json
from pathlib import Path

from pipelines import layout
from pipelines.engine.records import RunSpec, division_params, run_params, run_tags, write_json
from pipelines.engine.tracking import Tracker
from pipelines.engine.tracking_names import PARENT, source_tags
from reports.schemas.run import Metrics, Run
from reports.schemas.study import Study


def enter(records: list[str]) -> None:
    """Enter records that name no MLflow run yet, and write the run's id into them."""
    for path in map(Path, records):
        content = json.loads(path.read_text())
        if content["mlflow_run_id"] is None:
            run_id = _study(path) if path.name == layout.STUDY else _run(path)
            if run_id is not None:
                write_json(path, content | {"mlflow_run_id": run_id})


def _run(path: Path) -> str | None:
    """Enter a run with its parameters, tags, curve, costs and, where it was evaluated, results; return its id."""
    run = Run.model_validate_json(path.read_text())
    spec = RunSpec(
        run.stage, run.tier, run.pair, run.method, run.seed, hparams=run.hparams, hparams_origin=run.hparams_origin,
        is_tuned=run.variant == "tuned",
    )  # fmt: skip
    tracker = Tracker(f"kd-{run.tier}", f"{run.stage}/{spec.name}")
    tracker.params(run_params(spec) | division_params(run.model_dump()))
    digests = {"config_sha256": run.config_sha256, "weights_sha256": run.weights_sha256}
    tracker.tags({**run_tags(spec, run.git), **digests, "entered": "from its record, after it had ended"})
    if run.data:
        tracker.dataset(run.data.name, run.data.digest, run.tier)
    for point in run.curve:
        values = {key if key.startswith("val") else f"train/{key}": value for key, value in point.items() if key != "iteration"}
        tracker.metrics(values, int(point["iteration"]))
    if run.cost:
        costs = {key: value for key, value in run.cost.model_dump().items() if isinstance(value, int | float)}
        tracker.metrics(costs, 0)
    result = path.with_name(layout.METRICS)
    if result.is_file():
        named = {key.replace(" ", "_"): value for key, value in Metrics.model_validate_json(result.read_text()).flat().items()}
        tracker.metrics({f"test/{key}": value for key, value in named.items() if value is not None}, 0)
        tracker.artifact(result)
    tracker.artifact(path)
    tracker.finish()
    return tracker.run_id


def _study(path: Path) -> str | None:
    """Enter a study's run with a nested one per trial; return its id."""
    study = Study.model_validate_json(path.read_text())
    parent = Tracker(f"kd-{study.tier}", f"tune/{study.pair}/{study.method}")
    known = {"stage": "tune", "tier": study.tier, "pair": study.pair, "method": study.method}
    parent.params(known | {"study": study.name, "sampler": study.sampler, "pruner": study.pruner, "seed": study.seed})
    parent.tags(source_tags("tune", study.git))
    for trial in study.trials:
        child = Tracker(f"kd-{study.tier}", f"tune/{study.pair}/{study.method}/trial{trial.number}")
        child.params(known | {f"hparams.{key}": value for key, value in trial.hparams.items()})
        child.tags({"trial": trial.number, "state": trial.state} | ({PARENT: parent.run_id} if parent.run_id else {}))
        for iteration, score in trial.reports:
            child.metrics({"score": score}, iteration)
        child.finish({"complete": "FINISHED", "pruned": "KILLED"}.get(trial.state, "FAILED"))
        if trial.values:
            parent.metrics({"score": trial.values[0]}, trial.number)
    parent.artifact(path)
    parent.finish()
    return parent.run_id
