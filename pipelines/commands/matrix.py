"""Verb ``matrix``: every pair with every method, two iterations each, in one table.

Through the composition, distiller, data pipelines and metrics of the stages, without DVC and MLflow around them.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.synthetic import write_scenes
from pipelines.commands.names import all_methods, all_pairs
from pipelines.params import cell_parts, impossible_reason, load_pair, load_parts, load_tier
from pipelines.runner.processes import Child, ProcessEnd

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

    from pipelines.engine.compose import Setting, Weights

TIER = "smoke"
_RAN = "ran"
_AT_A_TIME = 2
_POLL_S = 0.1


@dataclass(frozen=True)
class CellResult:
    """A cell of the table: ``ran`` with its last loss and score, the reason why it is unsupported, or its failure."""

    pair: str
    method: str
    status: str
    loss: float | None = None
    score: float | None = None
    seconds: float | None = None

    @property
    def ran(self) -> bool:
        """True where the cell has a score."""
        return self.status == _RAN

    @property
    def failed(self) -> bool:
        """True where the cell should have run and did not."""
        return self.status.startswith("failed")


def subset(
    pairs: Sequence[str], methods: Sequence[str], *, one_in: int, runs: Callable[[str, str], bool] = lambda _pair, _method: True
) -> dict[str, list[str]]:
    """Return one cell in ``one_in``, spread over all pairs and methods, and the baseline of every pair.

    A method that would only be in cells where it is unsupported is also in the first where it ``runs``.
    """
    chosen = {
        pair: {name for j, name in enumerate(methods) if (i + j) % one_in == 0 or name == "none"} for i, pair in enumerate(pairs)
    }
    for name in methods:
        if not any(name in chosen[pair] and runs(pair, name) for pair in pairs):
            chosen[next((pair for pair in pairs if runs(pair, name)), pairs[0])].add(name)
    return {pair: [name for name in methods if name in names] for pair, names in chosen.items()}


def is_supported(pair_name: str, method: str) -> bool:
    """Return True for a cell that can run at this tier; False where a file is wrong, which its pair's process reports."""
    try:
        return impossible_reason(pair_name, load_pair(pair_name), method, TIER) is None
    except ValueError:
        return False


def matrix(
    *, pairs: list[str] | None = None, methods: list[str] | None = None, one_in: int = 1, out: Path = Path("work/smoke")
) -> None:
    """Run every pair with every method, two iterations each, and print one table.

    Each pair is one process: it trains the pair's teacher, then for every method its auxiliary module and its student,
    and evaluates the student. Exit code 1 where a cell fails; the table says why.

    Args:
        pairs: names of pairs; all if not given.
        methods: names of methods; all if not given.
        one_in: run one cell in so many, spread over all pairs and methods.
        out: folder of data, weights and table.md.
    """
    if one_in < 1:
        raise ValueError(f"--one-in is {one_in}; give 1 or more")
    begun, columns = time.monotonic(), methods or all_methods()
    write_scenes(load_tier(TIER).scenes, out / "data")
    results = run_all(subset(pairs or all_pairs(), columns, one_in=one_in, runs=is_supported), out)
    table = as_table(results, columns)
    (out / "table.md").write_text(table)
    num_ran, num_failed = sum(one.ran for one in results), sum(one.failed for one in results)
    print(
        f"{table}\n{num_ran} ran, {len(results) - num_ran - num_failed} unsupported, {num_failed} failed, in "
        f"{time.monotonic() - begun:.0f} s; the table is in {out / 'table.md'}",
        flush=True,
    )
    if num_failed:
        sys.exit(1)


def run_all(chosen: Mapping[str, Sequence[str]], out: Path) -> list[CellResult]:
    """Run every pair in a subprocess of its own, two at a time."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the fork server starts
    waiting, running, found = list(chosen), dict[str, Child](), dict[str, list[CellResult]]()
    try:
        while waiting or running:
            while waiting and len(running) < _AT_A_TIME:
                pair = waiting.pop(0)
                (out / pair).mkdir(parents=True, exist_ok=True)
                _cells_file(out, pair).write_text("")
                running[pair] = Child(
                    f"{__name__}:run_pair", pair, chosen[pair], out, log=out / pair / "log.txt", trace=out / pair / "traceback.txt"
                )
            for pair, child in list(running.items()):
                if (end := child.poll(_POLL_S)) is None:
                    continue
                del running[pair]
                found[pair] = _results(pair, chosen[pair], end, out)
                num_ran, num_failed = sum(one.ran for one in found[pair]), sum(one.failed for one in found[pair])
                print(f"[smoke] {pair}: {num_ran} ran, {num_failed} failed", flush=True)
    except BaseException:
        for child in running.values():
            child.kill()
        raise
    return [result for pair in chosen for result in found[pair]]


def _cells_file(out: Path, pair: str) -> Path:
    """File of a pair's results so far, one line per cell."""
    return out / pair / "cells.jsonl"


def _results(pair: str, methods: Sequence[str], end: ProcessEnd, out: Path) -> list[CellResult]:
    """Results of a pair's process; where it failed, the cells that it did not reach have failed with it."""
    found = [CellResult(**json.loads(line)) for line in _cells_file(out, pair).read_text().splitlines()]
    missing = [name for name in methods if name not in {result.method for result in found}]
    return found + [CellResult(pair, name, f"failed: {end.problem or 'no result'}") for name in missing]


def run_pair(name: str, methods: Sequence[str], out: Path) -> None:
    """Run the cells of one pair, and write each result to its file as soon as it is there."""
    with _cells_file(out, name).open("a") as file:
        for result in _cells(name, methods, out):
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()


def _cells(name: str, methods: Sequence[str], out: Path) -> Iterator[CellResult]:
    """Train a pair's teacher, and run every supported method's cell."""
    pair = load_pair(name)
    reasons = {method: impossible_reason(name, pair, method, TIER) for method in methods}
    yield from (CellResult(name, method, reason) for method, reason in reasons.items() if reason)
    possible = [method for method, reason in reasons.items() if not reason]
    if not possible:
        return

    from pipelines.engine.compose import Weights, compose_training  # noqa: PLC0415 (seconds)
    from pipelines.engine.stage import open_setting  # noqa: PLC0415
    from pipelines.engine.training import prepare_process, save_weights  # noqa: PLC0415
    from pipelines.engine.weights import file_sha256  # noqa: PLC0415

    prepare_process()
    setting, folder = open_setting(TIER, name, out / "data"), out / name
    model, _ = _train(compose_training(setting, "teacher", seed=0), folder / "teacher")
    save_weights(model, folder / "teacher.pth")
    teacher = Weights(folder / "teacher.pth", file_sha256(folder / "teacher.pth"))
    for method in possible:
        begun = time.monotonic()
        try:
            loss, score = _run_cell(setting, name, method, teacher, folder / method)
        except Exception as error:  # noqa: BLE001 (a row of the table, whatever it is)
            problem = " ".join(str(error).split()) or type(error).__name__
            yield CellResult(name, method, f"failed: {type(error).__name__}: {problem}")
        else:
            yield CellResult(name, method, _RAN, loss, score, time.monotonic() - begun)


def _run_cell(setting: "Setting", name: str, method: str, teacher: "Weights", folder: Path) -> tuple[float, float | None]:
    from pipelines.engine.compose import Distillation, Weights, compose_cell, compose_prior  # noqa: PLC0415
    from pipelines.engine.training import save_weights  # noqa: PLC0415
    from pipelines.engine.weights import file_sha256  # noqa: PLC0415
    from pipelines.stages.evaluate import measure  # noqa: PLC0415

    prior, pair = None, setting.pair
    for part in load_parts(method):
        if part.recipe.prior is not None:
            training = part.prior_training(name, pair.head, TIER).model_dump()
            config = compose_prior(setting, teacher, code=part.code, hparams=part.recipe.prior.hparams, training=training, seed=0)
            learner, _ = _train(config, folder / "prior")
            save_weights(learner.prior, folder / "prior.pth")
            prior = Weights(folder / "prior.pth", file_sha256(folder / "prior.pth"))
    parts, _ = cell_parts(method, name, pair, TIER)
    model, loss = _train(compose_cell(setting, Distillation(parts, teacher, prior), seed=0), folder / "student")
    save_weights(model.student, folder / "student.pth")
    return loss, measure(setting, "student", folder / "student.pth", folder / "test").score


def _train(config: "Config", folder: Path) -> tuple["nn.Module", float]:
    """Train a config to its end; return the model and its last loss. ValueError where a loss is not finite."""
    from mmengine.hooks import Hook  # noqa: PLC0415
    from mmengine.runner import Runner  # noqa: PLC0415

    from pipelines.engine.training import quiet  # noqa: PLC0415

    class Watch(Hook):
        loss = math.nan

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:  # noqa: ARG002 (MMEngine's)
            values = {key: float(value) for key, value in outputs.items()}
            bad = [key for key, value in values.items() if not math.isfinite(value)]
            if bad:
                raise ValueError(f"{', '.join(bad)} is not finite at iteration {runner.iter + 1}")
            self.loss = values["loss"]

    config.work_dir, config.experiment_name = str(folder), f"{folder}-{time.monotonic_ns()}"
    config.default_hooks.checkpoint = None
    config.val_dataloader = config.val_evaluator = config.val_cfg = None
    watch = Watch()
    with quiet():
        runner = Runner.from_cfg(config)
        runner.register_hook(watch)
        runner.train()
    return runner.model, watch.loss


def as_table(results: list[CellResult], methods: list[str]) -> str:
    """Table in Markdown, one row per pair and one column per method, and the numbered reasons below it."""
    reasons = list(dict.fromkeys(result.status for result in results if not result.ran))
    cells = {(result.pair, result.method): result for result in results}

    def show(pair: str, method: str) -> str:
        result = cells.get((pair, method))
        if result is None:
            return "not requested"
        if result.ran:
            return f"{result.score:.1f}"
        return f"({reasons.index(result.status) + 1})" + (" FAILED" if result.failed else "")

    pairs = list(dict.fromkeys(result.pair for result in results))
    lines = [f"| pair | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    lines += [f"| {pair} | {' | '.join(show(pair, method) for method in methods)} |" for pair in pairs]
    lines += ["", "A number: it ran; its student's score after two iterations, which means nothing. Otherwise:", ""]
    return "\n".join([*lines, *(f"({number}) {reason}" for number, reason in enumerate(reasons, 1)), ""])
