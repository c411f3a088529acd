"""Stage ``report``: every form of the leaderboard, from the records of whatever has finished and the registry.

It can be made at any moment: what is missing, failed or unreadable is shown as such.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.whole_file import replacing, write_whole
from pipelines import errors, layout
from pipelines.params import load_grid
from pipelines.reporting.cards import cell_of, write_cards
from pipelines.reporting.collect import collect_leaderboard
from pipelines.reporting.records import read_board
from reports.formats.csv_files import runs_csv, write_csv
from reports.formats.dvc_metrics import metrics_json, write_curves
from reports.formats.evidence import ledger_markdown
from reports.formats.html import page
from reports.formats.markdown import MAIN_FIGURES, markdown
from reports.formats.pdf import write_pdf
from reports.formats.printable import with_texts
from reports.plots.figures import draw
from reports.schemas.leaderboard import Leaderboard


def sample_files(board: Leaderboard, runs: Path) -> Mapping[str, Mapping[str, Path]]:
    """By pair and model, the samples of the teacher and of each method's first finished seed."""
    found: dict[str, dict[str, Path]] = {}
    for table in board.tables:
        folders = {layout.TEACHER: runs / table.pair / layout.TEACHER} if table.teacher else {}
        folders |= {row.id: runs / cell_of(table, row, row.seeds[0]).key for row in table.rows if row.seeds}
        paths = {name: folder / layout.SAMPLES for name, folder in folders.items()}
        found[table.pair] = {name: path for name, path in paths.items() if path.is_file()}
    return found


def keep_figures(board: Leaderboard, drawn: Path, out: Path) -> Leaderboard:
    """Copy the figures of the Markdown; the others are inside page and PDF, and in no file of their own."""
    shutil.rmtree(out / "figures", ignore_errors=True)
    (out / "figures").mkdir()
    kept = [figure for figure in board.figures if figure.name in MAIN_FIGURES]
    for figure in kept:
        shutil.copyfile(drawn / figure.file, out / figure.file)
    return board.model_copy(update={"figures": kept})


def _encodable(text: str) -> str:
    """Return a text that UTF-8 has: half a character of UTF-16 becomes its escape."""
    return text.encode(errors="backslashreplace").decode()


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="the tier's records; runs/<tier> if not given")
    parser.add_argument("--out", type=Path, help="reports/<tier> if not given")
    parser.add_argument("--join", type=Path, nargs="*", default=[], help="other leaderboard.json to show on the page, too")
    args = parser.parse_args()
    report(args.runs, args.out, args.join)


def report(runs: Path | None, out: Path | None, join: Sequence[Path]) -> None:
    """Write the leaderboard in all its forms; exit code 1, after all is written, where a file could not be used.

    Args:
        runs: the tier's records; ``runs/<tier>`` if None.
        out: folder; ``reports/<tier>`` if None.
        join: other leaderboard.json files to show on the page, too.
    """
    grid = load_grid()
    runs = runs or layout.runs(grid.tier)
    out = out or layout.report(grid.tier)
    others = [read_board(path) for path in join]
    board = collect_leaderboard(grid, runs, layout.work(grid.tier))
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        figures = draw(board, sample_files(board, runs), Path(scratch) / "figures", prefix="figures/")
        board = board.model_copy(update={"figures": figures})
        write_whole(out / "leaderboard.html", page([board, *others], Path(scratch), os.path.relpath(Path.cwd(), out)))
        with replacing(out / "leaderboard.pdf") as partial:
            write_pdf(board, Path(scratch), partial)
        board = keep_figures(board, Path(scratch), out)
    text = with_texts(board, _encodable).model_dump_json().replace('{"score":', '\n{"score":')
    write_whole(out / "leaderboard.json", f"{text}\n")
    write_whole(out / "leaderboard.md", markdown(board))
    write_whole(out / "evidence.md", ledger_markdown(board.evidence))
    write_whole(out / "metrics.json", metrics_json(board))
    for name, write in (("leaderboard.csv", write_csv), ("runs.csv", runs_csv), ("curves.csv", write_curves)):
        with replacing(out / name) as partial:
            write(board, partial)
    write_cards(board, grid, runs)
    print(f"[report] {out}/leaderboard.md, .html, .pdf, .json, .csv: {sum(len(t.rows) for t in board.tables)} rows", flush=True)
    for problem in board.problems:
        print(f"error: {problem}", file=sys.stderr)
    if board.problems:
        sys.exit(1)


if __name__ == "__main__":
    errors.run(main)
