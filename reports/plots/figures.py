"""All figures of the report: charts as vectors, images as pixels."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from reports.formats.printable import with_texts
from reports.plots import predictions, scores, subgroups, training, tuning, visualizations
from reports.plots.fonts import drawn as as_drawn
from reports.plots.style import Drawn, styled, write
from reports.schemas.leaderboard import FigureRecord, Leaderboard

_CHARTS = (
    scores.scores,
    scores.forest,
    scores.gap,
    scores.tuning,
    subgroups.size,
    subgroups.classes,
    training.curves,
    training.cost,
    tuning.history,
    tuning.slices,
    tuning.importance,
    tuning.front,
)
_KINDS = "*.svg", "*.png"


def draw(board: Leaderboard, samples: Mapping[str, Mapping[str, Path]], folder: Path, *, prefix: str) -> list[FigureRecord]:
    """Draw every figure that is not empty; the same input gives the same bytes.

    Args:
        board: the leaderboard.
        samples: by pair, and there by row or ``teacher``, files as :mod:`pipelines.engine.visualizations` writes them.
        folder: for the figures and nothing else; an earlier drawing's files are removed.
        prefix: of each file's name in its record.

    Returns:
        Records in the order of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    letters: set[str] = set()

    def change(text: str) -> str:
        words = as_drawn(text)
        letters.update(words)
        return words

    board, samples = with_texts(board, change), with_texts(dict(samples), change)
    read = {table.pair: visualizations.read_samples(samples.get(table.pair, {}), change) for table in board.tables}
    with styled(letters):
        for drawn in _all(board, read):
            file = prefix + write(drawn, folder)
            records.append(FigureRecord(name=drawn.name, title=drawn.title, caption=drawn.caption, file=file))
    wanted = {record.file.removeprefix(prefix) for record in records}
    for path in (path for kind in _KINDS for path in folder.glob(kind)):
        if path.name not in wanted:
            path.unlink()
    return records


def _all(board: Leaderboard, samples: Mapping[str, Mapping[str, visualizations.Arrays]]) -> Iterator[Drawn]:
    for chart in _CHARTS:
        yield from chart(board)
    for kind in (visualizations.maps, predictions.found):
        for table in board.tables:
            yield from kind(table, samples[table.pair])
