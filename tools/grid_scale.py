"""Cost of the coordinator against the size of a grid: ``python -m tools.grid_scale --seeds 3``.

The paper tier's grid of every pair and 13 methods, in a copy of the project; an executor that only writes small files in
place of every output.  Prints seconds of wall time and of this process's CPU.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

METHODS = ["none", "maskd", "mgd", "crosskd", "pkd", "crosskd+pkd", "fitnet", "defeat", "fgfi", "fgd", "cwd", "ld", "mgd_seg"]
ROOT = Path(__file__).parents[1]


class StartedError(Exception):
    """A unit that was waited for has been submitted."""


class Fake:
    """Writes outputs at once; ``slots`` at a time."""

    def __init__(self, record, slots=64):
        self.slots, self._record, self._running, self.submitted = slots, record, [], []
        self.stop_at = lambda _key: False

    def room(self):
        """Free slots."""
        return self.slots - len(self._running)

    def submit(self, unit):
        """Write what its stages would."""
        for name in unit.commands:
            for out in self._record.stages[name].outs:
                if name == "check":
                    check.write_resolved(params.load_grid())
                    continue
                path = Path(str(out))
                for file in [path] if path.suffix else [path / f"{data}.json" for data in ("coco", "voc", "cityscapes")]:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(f"{name} {file.name}\n")
        unit.note_done(list(unit.commands))
        self._running.append(unit.key)
        self.submitted.append(unit.key)
        if self.stop_at(unit.key):
            raise StartedError

    def attach(self, unit, *, is_same):  # noqa: ARG002 (the executor's interface)
        """Nothing is left of an earlier one."""
        return False

    def finish(self, unit):
        """Nothing to enter anywhere."""

    def ended(self):
        """All that was submitted."""
        ended, self._running = self._running, []
        return dict.fromkeys(ended)

    def stop(self):
        """Nothing runs."""


@contextlib.contextmanager
def measured(what, each=None):
    """Print wall and CPU seconds of a block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    per = f", {1000 * cpu / each():.0f} ms of CPU per stage" if each else ""
    print(f"{what}: {wall:.1f} s, {cpu:.1f} s of CPU{per}", flush=True)


def lay_out(target, seeds):
    """Copy the project there with the large grid."""
    for name in ("benchmarks", "methods", "pipelines", "reports"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "leaderboard.*", "figures"))
    for name in ("dvc.yaml", ".dvcignore", "grid.yaml"):
        shutil.copy(ROOT / name, target / name)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    pairs = [path.stem for path in sorted((ROOT / "benchmarks/pairs").glob("*.yaml")) if "repeats:" not in path.read_text()]
    grid = {pair: list(METHODS) for pair in pairs if "not_run:" not in (ROOT / f"benchmarks/pairs/{pair}.yaml").read_text()}
    params |= {"tier": "paper", "grid": grid, "seeds": seeds, "baseline_seeds": []}
    params["tuning"]["grid"] = {}
    (target / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=target, check=True)
    return len(grid)


def main():
    """Measure planning, running and recording, and one more start with nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        num_pairs = lay_out(target, args.seeds)
        os.chdir(target)
        sys.path.insert(0, folder)
        global check, grid, params  # noqa: PLW0603 (imported late: it is what is measured)
        from pipelines import grid, params  # noqa: PLC0415 (of the copy)
        from pipelines.runner.coordinator import Coordinator  # noqa: PLC0415 (seconds)
        from pipelines.runner.record import Record  # noqa: PLC0415 (seconds)
        from pipelines.runner.screen import Screen  # noqa: PLC0415 (seconds)
        from pipelines.stages import check  # noqa: PLC0415 (seconds)

        with measured("grid.yaml and stage check"):
            check.check_all(params.load_grid())
            grid.write_stages(params.load_grid())
        with measured("DVC's index"):
            record = Record()
        print(
            f"{num_pairs} pairs x {len(METHODS)} methods x {args.seeds} seeds: {len(record.stages)} stages, {len(record.units)} units"
        )
        with measured("what is stale"):
            record.waiting()
        executor = Fake(record)
        coordinator = Coordinator(record, executor, Screen(dict.fromkeys(record.units, 1.0), executor.slots))
        with (
            measured("all units run and recorded", lambda: len(record.stages)),
            contextlib.redirect_stdout(Path(os.devnull).open("w")),
        ):
            coordinator.run()
        assert not coordinator.failed, list(coordinator.failed.values())[:3]
        print(f"dvc.lock: {len(Path('dvc.lock').read_text().splitlines())} lines")
        record.close()
        with measured("one more start, nothing to do"):
            record = Record()
            again = Coordinator(record, Fake(record), Screen({}, 1))
            again.run()
        assert again.num_fresh == len(record.units), (again.num_fresh, again.failed)
        record.close()
        content = yaml.safe_load(Path("params.yaml").read_text()) | {"seeds": args.seeds + 1}
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        with measured("one line of params.yaml changed, until the first new cell starts, stage check within the same process"):
            check.check_all(params.load_grid())
            grid.write_stages(params.load_grid())
            record = Record()
            executor = Fake(record)
            executor.stop_at = lambda key: "/seed" in key
            with contextlib.suppress(StartedError):
                Coordinator(record, executor, Screen({}, 1)).run()
            first = executor.submitted[-1]
        print(f"({len(executor.submitted)} units submitted, DVC opened once, {len(record.stages)} stages; the first was {first})")


if __name__ == "__main__":
    main()
