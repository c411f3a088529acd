"""Results that only a leaderboard has, entered in MLflow: gains, notes, models, and the view of each pair's list.

A run ends before its baseline's other seeds do, so its gain is known to the report alone, and reports know no MLflow.
Whatever is there already stays, so entering a leaderboard twice changes nothing.  A logged model is a name for the weights where
DVC keeps them, with their digest and results: MLflow gets no copy of them.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.metrics import METRICS
from pipelines import layout
from pipelines.engine import tracking_names as names
from pipelines.engine.tracking import open_store
from reports.formats import wording
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table

_DIGITS = 4  # of points, as records have them


def enter_board(leaderboard: Path) -> int:
    """Enter what a leaderboard says of its runs; return how many of its students' runs the store has."""
    return _Entry(Leaderboard.model_validate_json(leaderboard.read_text())).enter()


def enter_views(tier: str, metrics: Mapping[str, str]) -> dict[str, str]:
    """Write the view of each pair's list; return the address of each from the server's root, none where the tier has no run.

    Args:
        tier: name.
        metrics: by pair, the name of the metric that it is judged by.
    """
    client = _client()
    experiment = client.get_experiment_by_name(f"kd-{tier}")
    if experiment is None:
        return {}
    for pair, metric in metrics.items():
        tag, view = names.view_tag(pair), names.pair_view(pair, METRICS[metric].key.replace(" ", "_"))
        if experiment.tags.get(tag) != view:
            client.set_experiment_tag(experiment.experiment_id, tag, view)
    return {pair: names.pair_link(experiment.experiment_id, pair) for pair in metrics}


def _client() -> Any:
    from mlflow import MlflowClient  # noqa: PLC0415 (seconds)

    return MlflowClient(tracking_uri=open_store())


class _Entry:
    def __init__(self, board: Leaderboard) -> None:
        self._board, self._client = board, _client()

    def enter(self) -> int:
        board = self._board
        enter_views(board.tier, {table.pair: table.metric for table in board.tables})
        for backbone in board.backbones:
            self._rename(backbone.mlflow_run_id, f"pretrain/{layout.BACKBONES}/{backbone.name}")
        for table in board.tables:
            if table.teacher:
                self._rename(table.teacher.mlflow_run_id, f"teacher/{table.pair}/{layout.TEACHER}")
        return sum(self._student(table, row, seed) for table in board.tables for row in table.rows for seed in row.seeds)

    def _run(self, run_id: str | None) -> Any:
        """Return a run; None where the store has none of that id."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (as above)

        try:
            return self._client.get_run(run_id) if run_id else None
        except MlflowException:
            return None

    def _rename(self, run_id: str | None, path: str) -> None:
        """Name a run of an earlier version, whose name was its path."""
        if (run := self._run(run_id)) is not None and run.info.run_name == path:
            self._client.set_tag(run_id, names.RUN_NAME, names.run_name(path))

    def _student(self, table: Table, row: Row, seed: SeedResult) -> bool:
        from mlflow.entities import RunTag  # noqa: PLC0415 (as above)

        if (run := self._run(seed.mlflow_run_id)) is None:
            return False
        cell = layout.Cell(table.pair, row.method, seed.seed, row.tuned)
        self._rename(run.info.run_id, f"distill/{cell.key}")
        related = names.built_on(self._board.tier, table.pair, row.method)
        tags = {names.ROW: row.id} | {f"{name}_run_id": run_id for name, run_id in related.items()}
        if names.is_own(run.data.tags.get(names.NOTE)):
            tags[names.NOTE] = self._note(table, row, seed, run.info.experiment_id, related)
        new = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        if new:
            self._client.log_batch(run.info.run_id, tags=new)
        self._test_split(run)
        self._results(run, self._model(run, cell, seed), table, row, seed)
        return True

    def _note(self, table: Table, row: Row, seed: SeedResult, experiment_id: str, related: Mapping[str, str]) -> str:
        board, metric = self._board, wording.short(table.metric)
        folder = layout.cell(board.tier, layout.Cell(table.pair, row.method, seed.seed, row.tuned))
        lines = [f"{metric} on the test split: **{seed.score:.1f}**; mean of the row {wording.mean(row)}."]
        if (gain := _gain(table, row, seed)) is not None:
            lines.append(
                f"Gain over the baseline: **{gain:+.1f}**; mean of the row {wording.gain(row)}: {wording.verdict(row, board)}."
            )
        lines.append(f"Weights `{folder / layout.STUDENT_WEIGHTS}`, model card `{folder / 'README.md'}`.")
        if row.command:
            lines.append(f"All seeds of the row again: `{row.command}`")
        links = {"all students of the pair": names.pair_link(experiment_id, table.pair)}
        links |= {f"its {name}": names.run_link(experiment_id, run_id) for name, run_id in related.items()}
        return names.note(f"{row.title} on {table.title}, seed {seed.seed}, tier {board.tier}.", lines, links)

    def _test_split(self, run: Any) -> None:
        """Record the test split beside the training split, as the same data set."""
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 (as above)

        known = [one.dataset for one in run.inputs.dataset_inputs] if run.inputs else []
        trained = next((one for one in known if one.name.endswith(" train")), None)
        if trained is None or any(one.name.endswith(" test") for one in known):
            return
        name = f"{trained.name.removesuffix(' train')} test"
        test = Dataset(name, trained.digest, source_type=trained.source_type, source=trained.source)
        self._client.log_inputs(run.info.run_id, datasets=[DatasetInput(test, [InputTag("mlflow.data.context", "test")])])

    def _model(self, run: Any, cell: layout.Cell, seed: SeedResult) -> str:
        """Return the run's logged model, made where there is none."""
        from mlflow.entities import LoggedModelOutput  # noqa: PLC0415 (as above)

        if run.outputs and run.outputs.model_outputs:
            return str(run.outputs.model_outputs[0].model_id)
        folder = layout.cell(self._board.tier, cell)
        tags = {
            "weights": str(folder / layout.STUDENT_WEIGHTS),
            "weights_sha256": seed.weights_sha256,
            "card": str(folder / "README.md"),
        }
        model = self._client.create_logged_model(
            run.info.experiment_id,
            name=cell.key.replace("/", "-"),
            source_run_id=run.info.run_id,
            tags=tags,
            model_type="student",
        )
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
        return str(model.model_id)

    def _results(self, run: Any, model_id: str, table: Table, row: Row, seed: SeedResult) -> None:
        """Record the gain, and score and gain as the model's: only what is new."""
        from mlflow.entities import Metric  # noqa: PLC0415 (as above)

        now, run_id = int(time.time() * 1000), run.info.run_id
        known = {metric.key: metric.value for metric in self._client.get_logged_model(model_id).metrics or []}
        batch, gain = [], _gain(table, row, seed)
        if gain is not None and run.data.metrics.get("gain") != gain:
            batch.append(Metric("gain", gain, now, 0, model_id=model_id, run_id=run_id))
        score = f"test/{METRICS[table.metric].key.replace(' ', '_')}"
        if score not in known and (history := self._client.get_metric_history(run_id, score)):
            last = history[-1]  # at its own time, so that the run does not have it twice
            batch.append(Metric(score, last.value, last.timestamp, last.step, model_id=model_id, run_id=run_id))
        if batch:
            self._client.log_batch(run_id, metrics=batch)


def _gain(table: Table, row: Row, seed: SeedResult) -> float | None:
    """Score over the baseline's mean, so that a row's mean is the leaderboard's gain; None of the baseline itself."""
    baseline = table.baseline
    return None if row.is_baseline or baseline is None or baseline.mean is None else round(seed.score - baseline.mean, _DIGITS)
