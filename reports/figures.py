"""Figures of the leaderboard; each stands alone with its title, units and sample sizes."""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from reports.board import Leaderboard

mpl.use("Agg")

# Okabe and Ito's palette: told apart by colour-blind readers and in grey print.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # behind words that a line would cross


def leaderboard_png(board: Leaderboard, path: Path) -> None:
    """Seeds, means and the teacher of every pair, one panel a pair."""
    with plt.rc_context({"font.size": 10, "svg.hashsalt": "leaderboard"}):
        heights = [1.2 + 0.5 * len(table.rows) for table in board.tables]
        figure, axes = plt.subplots(
            len(board.tables), 1, figsize=(7.5, sum(heights) + 0.9), squeeze=False, height_ratios=heights, layout="constrained"
        )
        for axis, table in zip(axes[:, 0], board.tables, strict=True):
            labels = []
            for position, row in enumerate(table.rows):
                values = [result.box.AP for result in row.seeds]
                axis.plot(values, [position] * len(values), "o", color=_BLUE, alpha=0.6, markersize=7, mec="white")
                if row.mean_ap is not None:
                    axis.plot([row.mean_ap] * 2, [position - 0.28, position + 0.28], color=_BLUE, linewidth=2.5)
                    gain = "" if row.gain_ap is None else f"  {row.gain_ap:+.1f}"
                    axis.annotate(
                        f"{row.mean_ap:.1f}{gain}",
                        (row.mean_ap, position - 0.32),
                        ha="center",
                        va="bottom",
                        fontsize=9,
                        bbox=_CLEAR,
                    )
                else:
                    axis.annotate(
                        row.status, (0.02, position), xycoords=("axes fraction", "data"), color=_GREY, va="center", bbox=_CLEAR
                    )
                labels.append(f"{row.title} (n={row.num_seeds})")
            control = next((row.mean_ap for row in table.rows if row.method == "none"), None)
            if control is not None:
                axis.axvline(control, color=_GREY, linestyle=":", linewidth=1.2)
            if table.teacher is not None and table.teacher.box.AP is not None:
                teacher = table.teacher.box.AP
                axis.axvline(teacher, color=_ORANGE, linestyle="--", linewidth=1.5)
                axis.annotate(
                    f"teacher {teacher:.1f}", (teacher, 1.0), xycoords=("data", "axes fraction"),
                    ha="right", va="bottom", color=_ORANGE, fontsize=9,
                )  # fmt: skip
            axis.set_yticks(range(len(labels)), labels)
            axis.set_ylim(len(labels) - 0.4, -0.75)
            axis.margins(x=0.12)
            axis.set_title(table.title, loc="left", fontsize=11, fontweight="bold")
            axis.spines[["top", "right"]].set_visible(False)
        axes[-1, 0].set_xlabel("box AP on the test split, points (dot: one seed; bar: mean; dotted: control's mean)")
        not_coco = "" if board.tier == "paper" else " (not COCO)"
        figure.suptitle(f"tier {board.tier}: {board.tier_title}{not_coco}", fontsize=11)
        figure.savefig(path, dpi=150, metadata={"Software": None})
        plt.close(figure)
