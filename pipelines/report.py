"""Stage ``report``: the leaderboard from every cell's run.json and metrics.json and the registry."""

import argparse
from pathlib import Path

from pydantic import ValidationError

from benchmarks.published import Figure, Registry
from pipelines import cli
from pipelines.params import load_grid, load_pair, load_tier, load_yaml, method_title
from reports.board import PublishedFigure, Table, leaderboard, table
from reports.figures import leaderboard_png
from reports.record import Metrics, Run
from reports.tables import markdown

_DATASETS = {"coco": "COCO", "voc": "VOC", "cityscapes": "Cityscapes", "imagenet": "ImageNet"}  # as printed


def read_result(folder: Path) -> tuple[Run, Metrics] | None:
    """A finished training and its result, or None where it is not finished; ValueError where a file is wrong."""
    paths = (folder / "run.json", folder / "metrics.json")
    if not all(path.is_file() for path in paths):
        return None
    results = []
    for path, schema in zip(paths, (Run, Metrics), strict=True):
        try:
            results.append(schema.model_validate_json(path.read_text()))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
            raise ValueError(f"{path}: {problems}; run its stage again") from error
    run, metrics = results
    if run.status == "done" and run.weights_sha256 != metrics.weights_sha256:
        raise ValueError(f"{paths[1]}: was measured on other weights than {paths[0]} records; run stage evaluate again")
    return run, metrics


def _published(figures: list[Figure], pair: str, metric: str) -> dict[str, list[PublishedFigure]]:
    """By method, what its authors and others publish on a pair; what one source repeats after another is shown once."""
    found: dict[str, list[PublishedFigure]] = {}
    for figure in figures:
        shown = figure.other_method is None and figure.kind != "user_reproduction"
        if shown and (figure.pair, figure.metric) == (pair, metric):
            gain = None if figure.baseline is None else round(figure.value - figure.baseline, 4)
            entry = PublishedFigure(value=figure.value, gain=gain, teacher=figure.teacher, source=figure.source)
            entries = found.setdefault(figure.method_name, [])
            if (entry.value, entry.gain) not in [(other.value, other.gain) for other in entries]:
                entries.append(entry)
    return found


def main() -> None:
    """Write leaderboard.json, .md and .png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    grid, registry = load_grid(), load_yaml(Path("benchmarks/published.yaml"), Registry)
    tier = load_tier(grid.tier)
    tables: list[Table] = []
    runs: list[Run] = []
    for name in grid.pairs:
        pair = load_pair(name)
        teacher = read_result(args.runs / name / "teacher")
        methods = [method for method in grid.methods if method not in grid.leave_out.get(name, [])]
        cells = {
            method: [r for seed in grid.seeds if (r := read_result(args.runs / name / method / f"seed{seed}"))]
            for method in methods
        }
        runs += [run for results in cells.values() for run, _ in results] + ([teacher[0]] if teacher else [])
        tables.append(
            table(
                name,
                pair.title,
                {method: method_title(method) for method in methods},
                task=pair.task,
                metric=pair.metric,
                dataset=_DATASETS[pair.dataset],
                teacher_name=pair.teacher.name,
                teacher=teacher,
                results=cells,
                published=_published(registry.root, name, pair.metric),
            )
        )
    board = leaderboard(grid.tier, tier.title, tables, runs)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "leaderboard.json").write_text(board.model_dump_json(indent=2) + "\n")
    (args.out / "leaderboard.md").write_text(markdown(board))
    leaderboard_png(board, args.out / "leaderboard.png")
    print(f"[report] {args.out / 'leaderboard.md'}: {sum(len(t.rows) for t in tables)} rows", flush=True)


if __name__ == "__main__":
    cli.run(main)
