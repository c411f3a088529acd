"""Figures of the leaderboard; each stands alone with its title, units and sample sizes."""

import math
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from reports.board import Leaderboard, Table
from reports.tables import short

mpl.use("Agg")

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # behind words that a line would cross
_PANEL_INCHES = 7.0  # wide
_LONGEST_COLUMN = 2  # panels; more pairs than that stand in two columns


def leaderboard_png(board: Leaderboard, path: Path) -> None:
    """Seeds, means and the teacher of every pair, one panel a pair, each in its own metric."""
    columns = 1 if len(board.tables) <= _LONGEST_COLUMN else 2
    lines = math.ceil(len(board.tables) / columns)
    rows = [max(len(table.rows) for table in board.tables[line * columns : (line + 1) * columns]) for line in range(lines)]
    heights = [1.3 + 0.46 * (num_rows + 1) for num_rows in rows]
    with plt.rc_context({"font.size": 10, "svg.hashsalt": "leaderboard"}):
        figure, axes = plt.subplots(
            lines, columns, figsize=(_PANEL_INCHES * columns, sum(heights) + 0.9),
            squeeze=False, height_ratios=heights, layout="constrained",
        )  # fmt: skip
        for axis, table in zip(axes.flat, board.tables, strict=False):
            _panel(axis, table)
        for axis in axes.flat[len(board.tables) :]:
            axis.set_axis_off()
        figure.supxlabel("on the test split; dot: one seed; bar: mean, and its gain; dotted: control's mean", fontsize=10)
        datasets = " or ".join(dict.fromkeys(table.dataset for table in board.tables))
        title = f"tier {board.tier}: {board.tier_title}" + ("" if board.tier == "paper" else f" (not {datasets})")
        figure.suptitle(fill(title, 75 * columns), fontsize=11)
        figure.savefig(path, dpi=150, metadata={"Software": None})
        plt.close(figure)


def _panel(axis: Axes, table: Table) -> None:
    """One pair: the teacher on top, then a line a method."""
    labels = ["teacher (n=1)" if table.teacher else "teacher (n=0)"]
    if table.teacher is not None:
        axis.axvline(table.teacher.score, color=_ORANGE, linestyle="--", linewidth=1.5)
        _write(axis, f"{table.teacher.score:.1f}", table.teacher.score, 0.2, colour=_ORANGE)
    else:
        _say(axis, "not run", 0)
    for position, row in enumerate(table.rows, start=1):
        axis.plot(
            [result.score for result in row.seeds], [position] * len(row.seeds), "o",
            color=_BLUE, alpha=0.6, markersize=7, mec="white",
        )  # fmt: skip
        if row.mean is None:
            _say(axis, row.status, position)
        else:
            axis.plot([row.mean] * 2, [position - 0.28, position + 0.28], color=_BLUE, linewidth=2.5)
            _write(axis, f"{row.mean:.1f}" + ("" if row.gain is None else f"  {row.gain:+.1f}"), row.mean, position - 0.32)
        if row.mean is not None and row.method == "none":
            axis.axvline(row.mean, color=_GREY, linestyle=":", linewidth=1.2)
        labels.append(f"{row.title} (n={row.num_seeds})")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.75)
    axis.margins(x=0.12)
    axis.set_xlabel(f"{short(table.metric)}, points", fontsize=9, labelpad=1)
    axis.set_title(fill(table.title, 55), loc="left", fontsize=11, fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)


def _write(axis: Axes, text: str, score: float, height: float, colour: str = "black") -> None:
    """A score's figure, just above its bar."""
    axis.annotate(text, (score, height), ha="center", va="bottom", fontsize=9, color=colour, bbox=_CLEAR)


def _say(axis: Axes, text: str, position: int) -> None:
    """Words in a line that has no score."""
    axis.annotate(text, (0.02, position), xycoords=("axes fraction", "data"), color=_GREY, va="center", bbox=_CLEAR)
