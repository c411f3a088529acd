"""Model cards beside the weights of every student, with their pictures."""

from pathlib import Path

from benchmarks.whole_file import replacing, write_whole
from pipelines import layout
from pipelines.grid import Grid
from pipelines.params import load_pair, load_tier
from pipelines.stage_list import starts_of
from reports.formats.model_card import Origin, model_card
from reports.plots.card_picture import card_picture
from reports.plots.visualizations import Arrays, of_same_images, read_samples
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table

CARD, PICTURE = "README.md", "predictions.webp"  # .dvcignore has both: the report depends on their folder
_QUALITY = 85


def write_cards(board: Leaderboard, grid: Grid, runs: Path) -> None:
    """Write a model card beside the weights of every student, and a picture of its predictions where it has samples."""
    for table in board.tables:
        origin = student_origin(grid, table.pair)
        truth = _samples(runs / table.pair / layout.TEACHER)
        for row in table.rows:
            for seed in row.seeds:
                folder = runs / cell_of(table, row, seed).key
                picture = PICTURE if _write_picture(truth, folder) else None
                write_whole(folder / CARD, model_card(board, table, row, seed, origin, picture))


def cell_of(table: Table, row: Row, seed: SeedResult) -> layout.Cell:
    """Return the cell of a seed's result."""
    return layout.Cell(table.pair, row.method, seed.seed, row.tuned)


def student_origin(grid: Grid, pair_name: str) -> Origin:
    """Return the published model behind a pair's student, and the weights that it starts from at the grid's tier."""
    student, tier = load_pair(pair_name).student, load_tier(grid.tier)
    backbone = starts_of(grid, pair_name)["student"]
    if backbone is not None:
        start = f"the backbone {backbone}, trained beforehand as a classifier of images with one digit (stage pretrain)"
    elif tier.model is None and student.initialisation is not None:
        start = student.initialisation.url.rpartition("/")[2]
    else:
        start = "random weights"
    return Origin(student.name, student.config, start, tier.data)


def _samples(folder: Path) -> Arrays:
    return read_samples({"": folder / layout.SAMPLES}).get("", {})


def _write_picture(truth: Arrays, folder: Path) -> bool:
    found = _samples(folder)
    picture = card_picture(truth, found) if of_same_images(found, truth) else None
    if picture is None:
        (folder / PICTURE).unlink(missing_ok=True)
        return False
    with replacing(folder / PICTURE) as partial:
        picture.save(partial, "WEBP", quality=_QUALITY)
    return True
