"""Names with markup, in every form of the report: shown as they are, as text, and nothing breaks."""

import csv
import html
import json
import re
import subprocess
import warnings
from functools import cache
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from markdown_it import MarkdownIt

from benchmarks.own import OwnData
from benchmarks.schema import validated
from reports.formats.csv_files import runs_csv, write_csv
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.formats.model_card import model_card
from reports.formats.pdf import write_pdf
from reports.formats.printable import printable
from reports.plots import fonts, scores, style
from reports.plots.figures import draw
from reports.schemas.leaderboard import Leaderboard, RecipeSummary
from tests import trees
from tests.boards import board, figure, made_up, study

NAMES = [
    "cost in $", "$x_", "a $x$ b $y$", r"\alpha $\frac{1}{0}$", "{", "}", "{{ 7 * 7 }}", "{% raise %}", "100 %", "# one", "- item", "1. one", "> quoted",
    "a & b", "&lt;", "<b>bold</b>", "<script>window.taken = 1</script>", "</script><img src=x onerror=alert(1)>", "' onload='x", '"quoted"',
    "a | b", "|", "`", "`` ` ``", "*", "*a*", "_x_", "__init__", "~~no~~", "[x](y)", "![x](javascript:alert(1))", "[a]: b", "two\nlines", "a\ttab",
    "nul\x00", "bell\x07", "esc\x1b[31m", "\u202eright to left", "mark\u200f", "zero\u200bwidth", "\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4",
    "\u043a\u043e\u0442", "\U0001f431", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "e\u0301", "\u0e41\u0e21\u0e27", "\u0645\u0631\u062d\u0628\u0627",
    "\U000f0000", "\ud800", "\ufffe", "\U00012000", "x" * 300, " leading", "trailing ", "=cmd()", "+1+1", "-x", "@x", "\\", "\\|", "a\\", "#let x = 1", "$ x $",
    "*bold* _it_ `code`", "---", "===", "~~~", "```", "CON", "../../etc/passwd", "a/b", "%s %d %(x)s",
]  # fmt: skip


@cache
def named(*names):
    """A board with one name at every place: tier, pair, methods, classes, reasons, sources and notes."""
    first, second, third = (names * 3)[:3]
    made = made_up(title=first, reported={"mgd": [figure(41.0, 3.6, source=first)]})
    classes = dict.fromkeys(names, 14.0)

    def row(old, title):
        seeds = [seed.model_copy(update={"per_class": classes}) for seed in old.seeds]
        return old.model_copy(update={"title": title, "seeds": seeds, "hparams": {first: second}, "hparams_origin": third})

    rows = [row(old, title) for old, title in zip(made.rows, (second, third, first), strict=True)]
    rows[2] = rows[2].model_copy(update={"reason": second})
    teacher = made.teacher.model_copy(update={"per_class": classes, "name": first, "origin": second, "cost": None})
    table = made.model_copy(update={"rows": rows, "teacher": teacher, "notes": [first, second]})
    recipe = RecipeSummary(title=first, paper=second, source=third, notes=[first], deviations=[second])
    found = board(table, recipes={"mgd": recipe}, problems=[first], studies=[study()])
    return found.model_copy(update={"tier_title": second, "commits": [first], "data": {first: second}})


def shown(text):
    """A name as every form prints it: in one line, without blanks at its ends."""
    return printable(text).strip()


class Text(HTMLParser):
    """All text of a page, its tags, and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.attributes = "", [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note it."""
        if tag != "span":  # one per word
            self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        """Add it."""
        self.text += data


def squeezed(text):
    """Words with one blank between them, as a browser shows them."""
    return " ".join(text.split())


PLAIN = Text(page([named("plain")], Path()))


@pytest.mark.parametrize("text", ["a\nb", "a\r\n b", "a\t\tb", "a\u2028b", "a\x85b"])
def test_a_name_is_one_line(text):
    """Ends of lines and tabs are one blank."""
    assert printable(text) == "a b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00", "a[U+0000]"),
        ("\u202eab", "[U+202E]ab"),
        ("\ud800", "[U+D800]"),
        ("\ufffe", "[U+FFFE]"),
        ("\u0645\u200c\u0631", "\u0645\u200c\u0631"),
    ],
)
def test_invisible_characters_are_shown(text, expected):
    """As code points; the joiners that scripts and emoji need stay."""
    assert printable(text) == expected


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_names_as_text(name):
    """No element, no attribute and no script beyond those of a plain name's page; the name is there to the letter."""
    found = Text(page([named(name)], Path()))

    assert found.tags == PLAIN.tags
    assert set(found.attributes) == set(PLAIN.attributes)
    assert squeezed(found.text).count(squeezed(shown(name))) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_names_as_text(name):
    """Read by a parser of GitHub's tables: the same blocks and the same cells as with a plain name, and its words to the letter."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens, plain = (parser.parse(markdown(named(one))) for one in (name, "plain"))
    blocks = [token.type for token in tokens]
    inline = {child.type for token in tokens for child in token.children or ()}
    expected = {child.type for token in plain for child in token.children or ()}
    text = "".join(child.content for token in tokens for child in token.children or ())
    links = [child.attrs["href"] for token in tokens for child in token.children or () if child.type == "link_open"]

    assert blocks == [token.type for token in plain]
    if not re.search(r"`.+`", name):  # code between backticks stays code
        assert inline - {"text_special"} == expected - {"text_special"}
        assert text.count(shown(name)) >= 10
    assert all(link.startswith("leaderboard.") or link == "runs.csv" for link in links)
    assert not re.search(r"(?<!\\)\$", re.sub(r"`+[^`]*`+", "", markdown(named(name))))


@pytest.mark.parametrize("name", NAMES)
def test_cards_show_names_as_text(name):
    """The same number of headings and items as with a plain name, and a head that YAML reads."""
    import yaml  # noqa: PLC0415

    def card(one):
        found = named(one)
        return model_card(found, found.tables[0], found.tables[0].rows[1], found.tables[0].rows[1].seeds[0])

    (_, head, body), (_, _, plain) = (card(one).split("---\n", 2) for one in (name, "plain"))
    parser = MarkdownIt("commonmark")

    assert yaml.safe_load(head)["model-index"]
    assert [token.type for token in parser.parse(body)] == [token.type for token in parser.parse(plain)]


@pytest.mark.parametrize("name", NAMES)
def test_csv_has_no_formulas(tmp_path, name):
    """The same lines and columns as with a plain name; no cell of words begins as a formula does."""
    found = named(name)
    rows = [row.model_copy(update={"command": name}) for row in found.tables[0].rows]
    write_csv(found.model_copy(update={"tables": [found.tables[0].model_copy(update={"rows": rows})]}), tmp_path / "rows.csv")
    runs_csv(found, tmp_path / "runs.csv")
    lines = list(csv.reader(StringIO((tmp_path / "rows.csv").read_text(encoding="utf-8"))))

    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines) == 4
    for cell in (cell for line in lines[1:] for cell in line):
        assert not re.match(r"[=+@\t\r-]", cell) or re.fullmatch(r"[-+]?[\d.;e+-]+", cell)
    assert lines[1][lines[0].index("command")] == ("'" if shown(name)[:1] in set("=+-@") and shown(name) else "") + shown(name)


def test_numbers_are_no_formulas(tmp_path):
    """A negative gain, and several in a cell, stay as they are."""
    write_csv(board(made_up(reported={"mgd": [figure(41.0, -3.6), figure(40.25, 2.0, "another")]})), tmp_path / "rows.csv")
    lines = list(csv.DictReader(StringIO((tmp_path / "rows.csv").read_text(encoding="utf-8"))))

    assert lines[1]["reported_gain"] == "-3.6;2.0"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(NAMES), 24))
def test_figures_and_pdf_show_names_as_text(tmp_path, caplog, capfd, start):
    """No warning of a letter without a font, no formula, no broken file; the PDF has the names' words."""
    names = NAMES[start : start + 24]
    found = named(*names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = draw(found, {"pair": samples(tmp_path, names)}, tmp_path / "figures", prefix="figures/")
        write_pdf(found.model_copy(update={"figures": records}), tmp_path, tmp_path / "report.pdf")

    assert len(records) == 10
    assert caplog.text == ""
    assert capfd.readouterr().err == ""
    for path in (tmp_path / "figures").glob("*.svg"):
        ET.parse(path)  # noqa: S314 (ours)
    words = subprocess.run(["pdftotext", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True).stdout
    ascii_names = [shown(name) for name in names[:3] if shown(name).isascii() and shown(name).isalnum()]
    assert all(name in words.replace("\u200b", "").replace("\n", "") for name in ascii_names)


def samples(folder, names):
    """An image of a teacher with a box of each name."""
    boxes = np.array([[0, 1, 1, 6, 6, 0.9]] * len(names), np.float32)
    np.savez(
        folder / "samples.npz", image_0=np.zeros((8, 8, 3), np.uint8), paths=["0.png"], classes=np.array(names), boxes=boxes,
        box_labels=np.arange(len(names)), true_boxes=boxes[:, :5], true_box_labels=np.arange(len(names)),
    )  # fmt: skip
    return {"teacher": folder / "samples.npz"}


@pytest.mark.parametrize(
    "name", ["\u4e2d\u6587", "\u65e5\u672c\u8a9e", "\ud55c\uad6d\uc5b4", "\U0001f431", "\u043a\u043e\u0442", "\u0e41\u0e21\u0e27"]
)
@pytest.mark.slow
def test_figures_have_fonts_of_many_scripts(tmp_path, name):
    """Chinese, Japanese, Korean, emoji, Cyrillic and Thai are drawn, as outlines where DejaVu Sans has not the letters."""
    with style.styled(name):
        (chart,) = scores.scores(named(name))
        text = (tmp_path / style.write(chart, tmp_path)).read_text(encoding="utf-8")

    assert fonts.drawn(name) == name
    assert (name in html.unescape(re.sub(r"<!--.*?-->", "", text))) == (len(fonts.families(name)) == 1)


def test_a_letter_of_no_font_is_its_code_point():
    """Cuneiform; and a long name loses its middle."""
    assert fonts.drawn("a\U00012000") == "a[U+12000]"
    assert fonts.drawn("x" * 300) == "x" * 42 + "\N{HORIZONTAL ELLIPSIS}" + "x" * 21


def test_names_of_figures_are_names_of_files(tmp_path):
    """Whatever a pair is called: no slash, no NUL, at most 255 bytes."""
    found = named("a")
    pair = found.tables[0].model_copy(update={"pair": "../a/\x00" + "\u4e2d" * 200})
    of_pair = [one.model_copy(update={"pair": pair.pair}) for one in found.studies]
    records = draw(found.model_copy(update={"tables": [pair], "studies": of_pair}), {}, tmp_path, prefix="")

    assert {path.name for path in tmp_path.iterdir()} == {record.file for record in records}
    assert any("slices" in record.file for record in records)


def test_a_leaderboard_is_read_back():
    """As JSON, to the letter."""
    found = named(*(name for name in NAMES if name != "\ud800"))

    assert Leaderboard.model_validate_json(found.model_dump_json()) == found
    assert json.loads(found.model_dump_json())["tier_title"] == NAMES[1]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "must not be empty"), ("  ", "must not be empty"), ("\t", "must not be empty"), (" cat", "begins or ends with a blank"), ("cat\n", "begins or ends with a blank"),
        ("c\nat", "not printable"), ("c\tat", "not printable"), ("c\x00at", "not printable"), ("\x1b[31m", "not printable"),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_used(name, why):
    """Refused with their position, in one line."""
    split = {"images": "a", "annotations": "b"}
    content = {"format": "coco", "root": "r", "classes": ["dog", name], "train": split, "tune": split, "test": split}

    assert re.match(rf"own: classes(\.1: |: name 1, .*){why}", trees.refused(validated, content, OwnData, "own"))


@pytest.mark.parametrize("name", ["$x_$", "<b>", "\u4e2d\u6587", "\U0001f431", "traffic light", "e\u0301", "\u0645\u200c\u0631"])
def test_classes_that_can_be_used(name):
    """Markup and scripts are no reason."""
    split = {"images": "a", "annotations": "b"}

    assert OwnData(format="coco", root="r", classes=[name], train=split, tune=split, test=split).classes == [name]
