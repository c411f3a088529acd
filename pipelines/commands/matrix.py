"""``make smoke``: every pair with every method that fits it, two iterations each, in one table.

Each pair is one process: it trains the pair's teacher, then for every method its prior, its student, and evaluates,
through the same composition, distiller, data pipelines and metrics as the stages, without DVC and MLflow around them.
Exit code 1 where a cell fails; the table says why.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from benchmarks.synthetic import SceneSpec, write_scenes
from pipelines import errors, layout
from pipelines.commands.names import all_methods, all_pairs
from pipelines.params import load_pair, load_tier
from pipelines.recipes import cell_parts, impossible_reason, load_parts

if TYPE_CHECKING:
    from pipelines.engine.setting import Setting, Weights

TIER = "smoke"
_RAN = "ran"


@dataclass(frozen=True)
class Outcome:
    """A cell of the table: ``ran`` with its last loss and score, a reason why it cannot be, or what went wrong."""

    pair: str
    method: str
    said: str
    loss: float | None = None
    score: float | None = None
    seconds: float | None = None


def share(
    pairs: list[str], methods: list[str], *, of: int, runs: Callable[[str, str], bool] = lambda _pair, _method: True
) -> dict[str, list[str]]:
    """One cell in ``of``, spread so that every pair and every method is met; the baseline of every pair is in it.

    A method that would be met only on pairs where it does not run is also in it on the first where it ``runs``.
    """
    met = {pair: {name for j, name in enumerate(methods) if (i + j) % of == 0 or name == "none"} for i, pair in enumerate(pairs)}
    for name in methods:
        if not any(name in met[pair] and runs(pair, name) for pair in pairs):
            met[next((pair for pair in pairs if runs(pair, name)), pairs[0])].add(name)
    return {pair: [name for name in methods if name in names] for pair, names in met.items()}


def runs_here(pair_name: str, method: str) -> bool:
    """Return True for a cell that can run at this tier; False where a file is wrong, which its pair's worker says."""
    try:
        return impossible_reason(pair_name, load_pair(pair_name), method, TIER) is None
    except ValueError:
        return False


def main() -> None:
    """Run the table, or as a worker one pair of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="+", default=all_pairs())
    parser.add_argument("--methods", nargs="+", default=all_methods())
    parser.add_argument("--one-in", type=int, default=1, help="run a share of the cells only")
    parser.add_argument("--out", type=Path, default=layout.work(TIER))
    parser.add_argument("--worker", help="run this pair here, and print its outcomes as JSON")
    args = parser.parse_args()
    chosen = share(args.pairs, args.methods, of=args.one_in, runs=runs_here)
    if args.worker:
        for outcome in run_pair(args.worker, args.methods, args.out):
            print(json.dumps(asdict(outcome)), flush=True)
        return
    begun = time.monotonic()
    write_scenes(cast("SceneSpec", load_tier(TIER).scenes), args.out / "data")
    outcomes = run_all(chosen, args.out)
    table = as_table(outcomes, args.methods)
    (args.out / "table.md").write_text(table)
    counts = [
        f"{sum(map(test, outcomes))} {word}" for word, test in (("ran", _ran), ("impossible", _cannot), ("failed", _failed))
    ]
    print(
        f"{table}\n{', '.join(counts)}, in {time.monotonic() - begun:.0f} s; the table is in {args.out / 'table.md'}", flush=True
    )
    if any(map(_failed, outcomes)):
        sys.exit(1)


def _ran(outcome: Outcome) -> bool:
    return outcome.said == _RAN


def _failed(outcome: Outcome) -> bool:
    return outcome.said.startswith("failed")


def _cannot(outcome: Outcome) -> bool:
    return not _ran(outcome) and not _failed(outcome)


def run_all(chosen: dict[str, list[str]], out: Path) -> list[Outcome]:
    """Every pair in a process of its own, two at a time."""

    def run(pair: str) -> list[Outcome]:
        command = [
            sys.executable,
            "-m",
            "pipelines.commands.matrix",
            "--worker",
            pair,
            "--methods",
            *chosen[pair],
            "--out",
            str(out),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        found = [Outcome(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            missing = [name for name in chosen[pair] if name not in {outcome.method for outcome in found}]
            found += [Outcome(pair, name, f"failed: {said}") for name in missing]
        print(f"[smoke] {pair}: {sum(map(_ran, found))} ran, {sum(map(_failed, found))} failed", flush=True)
        return found

    with ThreadPoolExecutor(2) as pool:
        return [outcome for outcomes in pool.map(run, chosen) for outcome in outcomes]


def run_pair(name: str, methods: list[str], out: Path) -> Iterator[Outcome]:
    """A pair's teacher, and every method's cell; what cannot be is said without training."""
    pair = load_pair(name)
    reasons = {method: impossible_reason(name, pair, method, TIER) for method in methods}
    yield from (Outcome(name, method, reason) for method, reason in reasons.items() if reason)
    possible = [method for method, reason in reasons.items() if not reason]
    if not possible:
        return

    from pipelines.engine.compose import compose_training  # noqa: PLC0415 (the engine takes seconds, here and below)
    from pipelines.engine.mmlab import prepare_process  # noqa: PLC0415
    from pipelines.engine.setting import Weights, open_setting  # noqa: PLC0415
    from pipelines.engine.training import train_unrecorded  # noqa: PLC0415
    from pipelines.engine.weights import file_sha256, save_weights  # noqa: PLC0415

    prepare_process()
    setting, folder = open_setting(TIER, name, out / "data"), out / name
    model, _ = train_unrecorded(compose_training(setting, "teacher", seed=0), folder / "teacher")
    save_weights(model, folder / "teacher.pth")
    teacher = Weights(folder / "teacher.pth", file_sha256(folder / "teacher.pth"))
    for method in possible:
        begun = time.monotonic()
        try:
            loss, score = _run_cell(setting, name, method, teacher, folder / method)
        except Exception as error:  # noqa: BLE001 (a row of the table, whatever it is)
            said = " ".join(str(error).split()) or type(error).__name__
            yield Outcome(name, method, f"failed: {type(error).__name__}: {said}")
        else:
            yield Outcome(name, method, _RAN, loss, score, time.monotonic() - begun)


def _run_cell(setting: "Setting", name: str, method: str, teacher: "Weights", folder: Path) -> tuple[float, float | None]:
    from pipelines.engine.auxiliary import compose_auxiliary  # noqa: PLC0415
    from pipelines.engine.compose import compose_cell  # noqa: PLC0415
    from pipelines.engine.evaluation import measure  # noqa: PLC0415
    from pipelines.engine.setting import Distillation, Weights  # noqa: PLC0415
    from pipelines.engine.training import train_unrecorded  # noqa: PLC0415
    from pipelines.engine.weights import file_sha256, save_weights  # noqa: PLC0415

    prior, pair = None, setting.pair
    for part in load_parts(method):
        if part.recipe.prior is not None:
            training = part.auxiliary_training(name, pair.head, TIER)
            config = compose_auxiliary(
                setting, teacher, code=part.code, hparams=part.recipe.prior.hparams, training=training, seed=0
            )
            learner, _ = train_unrecorded(config, folder / "prior")
            save_weights(learner.auxiliary, folder / layout.AUXILIARY_WEIGHTS)
            prior = Weights(folder / layout.AUXILIARY_WEIGHTS, file_sha256(folder / layout.AUXILIARY_WEIGHTS))
    parts, _ = cell_parts(method, name, pair, TIER)
    model, loss = train_unrecorded(compose_cell(setting, Distillation(parts, teacher, prior), seed=0), folder / "student")
    save_weights(model.student, folder / layout.STUDENT_WEIGHTS)
    return loss, measure(setting, "student", folder / layout.STUDENT_WEIGHTS, folder / "test").score


def as_table(outcomes: list[Outcome], methods: list[str]) -> str:
    """Markdown: a row a pair, a column a method, and below it the reasons, numbered."""
    reasons = list(dict.fromkeys(outcome.said for outcome in outcomes if not _ran(outcome)))
    cells = {(outcome.pair, outcome.method): outcome for outcome in outcomes}

    def show(pair: str, method: str) -> str:
        outcome = cells.get((pair, method))
        if outcome is None:
            return "not asked"
        if _ran(outcome):
            return f"{outcome.score:.1f}"
        return f"({reasons.index(outcome.said) + 1})" + (" FAILED" if _failed(outcome) else "")

    pairs = list(dict.fromkeys(outcome.pair for outcome in outcomes))
    lines = [f"| pair | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    lines += [f"| {pair} | {' | '.join(show(pair, method) for method in methods)} |" for pair in pairs]
    lines += ["", "A number: it ran; what its student scored after two iterations, which means nothing. Otherwise:", ""]
    return "\n".join([*lines, *(f"({number}) {reason}" for number, reason in enumerate(reasons, 1)), ""])


if __name__ == "__main__":
    errors.run(main)
