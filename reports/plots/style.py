"""Styles, panels of pairs, pages, captions and files of all figures; the same input gives the same bytes."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.formats.wording import datasets
from reports.plots.fonts import families
from reports.schemas.leaderboard import Leaderboard, Row, Table

WIDTH_INCHES = 6.7  # 17 cm, as printed: type sizes are the printed ones
TALLEST_INCHES = 8.6  # with its caption on one page
ROW_INCHES = 0.2  # a line of type and some air
BLACK, GREY, PALE = "#000000", "#595959", "#F0F0F0"
TEACHER = "#D55E00"
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}  # behind words that a line would cross
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.labelsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False, "figure.titlesize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.labelpad": 2,
    "lines.linewidth": 1.2, "lines.markersize": 5, "hatch.linewidth": 0.6, "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollars is no formula
}  # fmt: skip

# Okabe and Ito's palette without black, which is the baseline's, and yellow, which is too faint for a line.
# Six colours and seven markers: 42 methods before a pair of them comes again.
_COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
_MARKERS = "s", "^", "v", "P", "X", "<", ">"
_LINES = "-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1))
_LETTER_INCHES, _TITLE_LETTER_INCHES = 0.066, 0.085
_DPI = 120  # on a page of that width; images of the default tier have fewer pixels
_MOST_BYTES = 200  # of a file's name without its ending; file systems take 255
_HANDLE_INCHES = 0.6  # a legend's mark, with the gap before the next


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of a method, the same in every figure."""

    title: str
    colour: str
    marker: str
    line: Any
    tuned: bool = False

    def mark(self, size: float) -> dict[str, Any]:
        """Mark of a mean, in points: filled, or by half where the method was tuned, so that both rows match."""
        if self.tuned:
            edge = {"mec": self.colour, "mew": 0.8, "fillstyle": "left", "markerfacecoloralt": "white"}
        else:
            edge = {"mec": "white", "mew": 0.5}
        return {"marker": self.marker, "color": self.colour, "markersize": size, **edge}


@dataclass(frozen=True)
class Drawn:
    """A figure before it is a file."""

    name: str
    title: str
    caption: str
    figure: Figure
    kind: Literal["svg", "png"] = "svg"


@dataclass(frozen=True)
class Chart:
    """A figure of one panel per pair.

    Args:
        name: of its file.
        title: of the figure in the report.
        caption: complete by itself, but for what :func:`caption` adds.
        panel: draws a pair into its axes.
        inches: height of a pair's panel.
        parts: widths of a panel's axes, side by side.
        columns: of panels; few pairs have one.
        legend: methods that it names, by :class:`Look`; None where rows are labelled.
        further_legend: its other entries.
    """

    name: str
    title: str
    caption: str
    panel: Callable[[Sequence[Axes], Table], None]
    inches: Callable[[Table], float]
    parts: tuple[float, ...] = (1.0,)
    columns: int = 2
    legend: Mapping[str, Look] | None = None
    further_legend: tuple[Artist, ...] = ()


@contextmanager
def styled(letters: Iterable[str] = ()) -> Iterator[None]:
    """Apply the style of all figures, with fonts for the letters; the defaults first: a user's settings must not change the bytes."""
    with mpl.rc_context():
        mpl.rcdefaults()
        needed = families(letters)
        # Words in other fonts are outlines: who looks at the figure may not have the fonts.
        mpl.rcParams.update({**STYLE, "font.family": needed, **({"svg.fonttype": "path"} if len(needed) > 1 else {})})
        yield


def looks(board: Leaderboard) -> dict[str, Look]:
    """Return looks by row's id, in the board's order; the baseline is black, a tuned row has its method's look."""
    titles = {row.id: row.title for table in reversed(board.tables) for row in reversed(table.rows)}
    order = dict.fromkeys(row.id for table in board.tables for row in table.rows)
    methods = dict.fromkeys(method.partition("/")[0] for method in order)
    found = {}
    for k, method in enumerate(["none", *(method for method in methods if method != "none")], start=-1):
        drawn = (BLACK, "o", "-") if method == "none" else (_COLOURS[k % 6], _MARKERS[k % 7], _LINES[k % 5])
        own = found[method] = Look(titles.get(method, method), *drawn)
        tuned = f"{method}/tuned"
        found[tuned] = replace(own, title=titles.get(tuned, tuned), line=_LINES[(k + 3) % 5], tuned=True)
    return {method: found[method] for method in order}


def scale_note(board: Leaderboard) -> str:
    """Line on the tier, in every figure and caption."""
    note = f"Tier {board.tier}: {board.tier_title}"
    return note + ("." if board.paper_scale else f"; not {datasets(board)} results.")


def caption(board: Leaderboard, text: str, rows: Iterable[Row]) -> str:
    """Text, and the number of runs per row where it is not every row's in the report; the figure itself names the tier."""
    of_all = _num_runs(row for table in board.tables for row in table.rows)
    return " ".join([text, *(said for said in _num_runs(rows) if said not in of_all)])


def _num_runs(rows: Iterable[Row]) -> list[str]:
    """Sentence on the number of runs; none before anything has run."""
    counts = sorted({row.num_seeds for row in rows if row.seeds})
    if not counts:
        return []
    num = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [f"n = {num} run{'' if counts == [1] else 's'} per method and pair."]


def labels(rows: Iterable[Row], board: Leaderboard) -> list[str]:
    """Names of a panel's lines: each method, with its number of seeds where the board's differ."""
    differ = len({row.num_seeds for table in board.tables for row in table.rows if row.seeds}) > 1
    return [f"{row.title} (n={row.num_seeds})" if differ and row.seeds else row.title for row in rows]


def set_lines(axis: Axes, names: Sequence[str]) -> None:
    """Label one line per name, the first on top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0, pad=6)  # room for an arrow head


def note(axis: Axes, text: str, position: float) -> None:
    """Write words in a line without a mark."""
    axis.annotate(text, (0.02, position), xycoords=("axes fraction", "data"), color=GREY, va="center", style="italic", bbox=CLEAR)


def legend_columns(handles: Sequence[Artist]) -> int:
    """Return the number of columns that the longest of the labels has room for."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    fit = int(WIDTH_INCHES / (longest * _LETTER_INCHES + _HANDLE_INCHES))
    return max(1, min(len(handles), fit))


def draw_chart(chart: Chart, tables: Sequence[Table], board: Leaderboard) -> Iterator[Drawn]:
    """Draw the chart on as many pages as its pairs need; none for no pairs."""
    columns = 1 if len(tables) <= 2 else chart.columns  # noqa: PLR2004 (a column of two is no taller than wide)
    pages = _pages(tables, chart.inches, columns)
    for number, page in enumerate(pages, start=1):
        figure = _draw_page(chart, page, columns, board)
        of_many = f" ({number} of {len(pages)})" if len(pages) > 1 else ""
        name = chart.name if number == 1 else f"{chart.name}-{number}"
        rows = [row for table in page for row in table.rows]
        yield Drawn(name, chart.title + of_many, caption(board, chart.caption, rows), figure)


def write(drawn: Drawn, folder: Path) -> str:
    """Write the file and return its name; the same figure gives the same bytes."""
    path = folder / f"{_file_name(drawn.name)}.{drawn.kind}"
    if drawn.kind == "svg":
        buffer = StringIO()
        with mpl.rc_context({"svg.hashsalt": drawn.name}):
            drawn.figure.savefig(buffer, format="svg", metadata={"Date": None})
        path.write_text(_compact(buffer.getvalue()), encoding="utf-8")
    else:
        drawn.figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    return path.name


def _file_name(name: str) -> str:
    """Return a name that every file system takes."""
    safe = re.sub(r"[^\w.+-]", "_", name)
    if len(os.fsencode(safe)) <= _MOST_BYTES:
        return safe
    return f"{safe[: _MOST_BYTES // 4 - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _compact(svg: str) -> str:
    """Remove names of groups and metadata, and round coordinates to a hundredth of a point, in place of a millionth."""
    number = re.compile(r"scale\([^)]*\)|-?\d+\.\d{3,}(?![\d%])")  # a letter's outline is scaled by less than a hundredth
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Verdana is as wide as DejaVu Sans.
    svg = re.sub(r"('[^']*', )*'DejaVu Sans'(, '[^']*')*(, sans-serif)?", "DejaVu Sans, Verdana, sans-serif", svg)
    svg = _without_groups(re.sub(r'<g id="[^"]*"', "<g", svg))
    svg = re.sub(r"<[^>]*>", lambda tag: number.sub(_rounded, tag[0]), svg)
    svg = re.sub(r" transform=\"rotate\(-?0 [^)]*\)\"", "", svg)
    svg = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"\s*([A-Zz])\s*", r"\1", path[0]).strip(), svg)
    svg = re.sub(r' style="[^"]*"', lambda style: re.sub(r"([:;]) ", r"\1", style[0]), svg)
    ids = dict.fromkeys(re.findall(r' id="([^"]+)"', svg))
    short = {name: f"i{number}" for number, name in enumerate(ids)}
    svg = re.sub(r'( id="|#)([^")]+)(?=["\)])', lambda found: found[1] + short.get(found[2], found[2]), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    return re.sub(r"<g([^>]*)>\n((?:<use [^>]*/>\n)+)</g>", _with_common_style, svg)


def _rounded(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith("scale") else f"{round(float(found[0]), 2):g}"


def _without_groups(svg: str) -> str:
    """Remove the drawing's groups without attributes."""
    kept: list[str] = []
    is_open: list[bool] = []
    for tag in re.split(r"(<g[^>]*>|</g>)", svg):
        if tag == "</g>":
            kept += [tag] if is_open.pop() else []
        elif tag.startswith("<g") and tag != "<g/>":
            is_open.append(tag != "<g>")
            kept += [tag] if is_open[-1] else []
        elif tag != "<g/>":
            kept.append(tag)
    return "".join(kept)


def _with_common_style(group: re.Match[str]) -> str:
    """Group of a line's marks with their common style."""
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1 or "style" in group[1]:
        return group[0]
    style = styles.pop()
    return f"<g{group[1]}{style}>\n{group[2].replace(style, '')}</g>"


def _pages(tables: Sequence[Table], inches: Callable[[Table], float], columns: int) -> list[list[Table]]:
    """Tables by page; a line of panels is as tall as its tallest."""
    pages: list[list[Table]] = []
    height = 0.0
    for start in range(0, len(tables), columns):
        line = tables[start : start + columns]
        tallest = max(map(inches, line))
        height += tallest
        if not pages or height > TALLEST_INCHES:
            pages.append([])
            height = tallest
        pages[-1] += line
    return pages


def _draw_page(chart: Chart, tables: Sequence[Table], columns: int, board: Leaderboard) -> Figure:
    heights = [max(map(chart.inches, tables[start : start + columns])) for start in range(0, len(tables), columns)]
    handles = _handles(chart, tables)
    across = legend_columns(handles)
    below = 0.2 * -(-len(handles) // across)
    figure = Figure((WIDTH_INCHES, sum(heights) + 0.3 + below), layout="constrained")
    places = figure.subfigures(len(heights), columns, squeeze=False, height_ratios=heights).flat
    letters = int(WIDTH_INCHES / columns / _TITLE_LETTER_INCHES)
    for place, table in zip(places, tables, strict=False):
        chart.panel(list(place.subplots(1, len(chart.parts), squeeze=False, width_ratios=chart.parts)[0]), table)
        # Above the names of its lines, too: the axes alone are narrower than a title.
        place.suptitle(fill(table.title, letters), x=0.02, ha="left", fontsize=8.5, fontweight="bold")
    heading = " ".join([scale_note(board), *_num_runs(row for table in tables for row in table.rows)])
    figure.suptitle(heading, x=0.01, ha="left", color=GREY)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=across)
    return figure


def _handles(chart: Chart, tables: Sequence[Table]) -> list[Artist]:
    """Legend entries of the methods that have run on the pairs."""
    ran = {row.id for table in tables for row in table.rows if row.seeds}
    named = [
        Line2D([], [], **look.mark(5), linestyle=look.line, label=look.title)
        for method, look in (chart.legend or {}).items()
        if method in ran
    ]
    return [*named, *chart.further_legend]
