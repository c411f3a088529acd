"""The list of columns: one entry is in every form of the report."""

import csv

from reports.formats import columns
from reports.formats.columns import COLUMNS, Column, columns_of, glossary, line_frame, methods_of
from reports.formats.csv_files import write_csv
from reports.formats.html import page
from reports.formats.markdown import results
from reports.formats.pdf import write_pdf
from tests.boards import board
from tests.test_page import Tree
from tests.test_pdf import pages, squeezed


def test_a_column_is_one_entry(monkeypatch, tmp_path):
    """Added to the list, it is in Markdown, page, PDF and CSV, with head, values and explanation."""
    best = Column(
        "best_seed",
        lambda line: max((seed.score for seed in line.row.seeds), default=None),
        "best {metric}",
        digits=2,
        tooltip="of the seeds",
    )
    monkeypatch.setattr(columns, "COLUMNS", [*COLUMNS, best])
    found = board()
    write_csv(found, tmp_path / "rows.csv")
    write_pdf(found, tmp_path, tmp_path / "report.pdf")
    markdown = results(found.tables[0], found).splitlines()
    text = page([found], tmp_path)
    pdf = "".join(pages((tmp_path / "report.pdf").read_bytes()))

    assert markdown[0].endswith("| best AP |")
    assert markdown[3].endswith("| 15.00 |")
    assert [line["best_seed"].strip() for line in Tree(text).lines] == ["", "12.00", "15.00", ""]
    assert 'data-label="Best score" data-v="15.0"' in text
    assert "<dt>Best score</dt><dd>of the seeds</dd>" in text
    assert squeezed("best AP") in pdf
    assert "15.00" in pdf
    assert [row["best_seed"] for row in csv.DictReader((tmp_path / "rows.csv").open())] == ["12.0", "15.0", ""]


def test_keys_are_unique():
    """CSV and the page's address name columns by them."""
    keys = [column.key for column in COLUMNS]

    assert len(set(keys)) == len(keys)


def test_frame_has_a_line_per_row():
    """Teachers first in each table; values as numbers and texts as printed."""
    frame = line_frame(board())

    assert list(frame.index) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert list(frame["value", "score"]) == [20.0, 11.0, 14.0, None]
    assert list(methods_of(frame)["text", "score"]) == ["11.0 ± 1.4", "14.0 ± 1.4", ""]
    assert all(text for _, text in glossary(board(), columns_of("pdf")))
