"""Pictures of what methods learned, on test images: MasKD's masks, and MGD's masked and restored features."""

import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from reports.board import Leaderboard, Row, Table
from reports.drawing import WIDTH_INCHES, Drawn, scale_note

Arrays = Mapping[str, npt.NDArray[Any]]
_NUM_IMAGES = 2
_MOST_TOKENS = 6
_COLOURS = "cividis"  # even in grey print, and to the colour-blind
_OVER = 0.7  # opacity of a mask over its image
_IMAGE_SHARE = 1.6  # of a map's width
_NOTHING = 0.001  # of a range's upper end
_LEAST_INCHES = 0.56  # of a level's line, for its words
_ABOVE_INCHES, _GAP_INCHES, _BELOW_INCHES = 0.35, 0.2, 0.45  # for titles, a title, and the bar of colours
_FEATURES = {"masked student": "student,\nmasked", "restored": "student,\nrestored", "teacher": "teacher"}


def read_samples(files: Mapping[str, Path]) -> dict[str, Arrays]:
    """What there is to look at, by model; a file that cannot be read is left out with a warning."""
    found: dict[str, Arrays] = {}
    for model, path in files.items():
        if not path.is_file():
            continue
        try:
            with np.load(path) as arrays:
                found[model] = dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{path}: {error}; its pictures are left out", stacklevel=2)
    return found


def masks(board: Leaderboard, table: Table, samples: Mapping[str, Arrays]) -> Iterator[Drawn]:
    """The masks that a method learned for the teacher's features, by level and token."""
    row = _row_with(table, samples, "map/mask/0")
    if row is None:
        return
    images, shown, levels = _images(samples), samples[row.method], _levels(samples[row.method], "mask")
    tokens = [f"map/mask/{level}" for level in levels]
    num = min(_MOST_TOKENS, shown[tokens[0]].shape[1])
    sheet = _Sheet(images, len(levels), num, 1.0, side_by_side=False)
    for n, image in enumerate(images):
        for level, name in enumerate(tokens):
            values = shown[name][: len(images), :num].astype(float)
            limits = float(values.min()), float(values.max())
            sheet.write(n, level, f"level {level + 1}\n{_size(values)}\n{_range(limits)}")
            for token in range(num):
                axis = sheet.axis(n, level, token)
                axis.imshow(_faint(image), cmap="gray", vmin=0, vmax=1)
                _overlay(axis, values[n, token], image, shown["covered"][n], limits, _OVER)
                if level == 0 and n == 0:
                    axis.set_title(f"token {token + 1}", fontsize=8)
    sheet.bar("value of the mask, from each level's least to its greatest", _OVER)
    of_tokens = f"its {num} tokens" if num == shown[tokens[0]].shape[1] else f"{num} of its {shown[tokens[0]].shape[1]} tokens"
    yield Drawn(
        f"masks-{table.pair}",
        f"Masks learned by {row.title}, {table.title}",
        f"{_which(images)}: the masks that {row.title} learned on the teacher's features, {of_tokens} on each level, laid over the "
        "image in grey. Beside each level: positions, and the least and the greatest value, which are the ends of its colours "
        f"(dark to bright). {table.title}, first seed. {scale_note(board)}",
        sheet.figure,
        "png",
    )


def features(board: Leaderboard, table: Table, samples: Mapping[str, Arrays]) -> Iterator[Drawn]:
    """The student's masked feature, what is restored of it, and the teacher's."""
    row = _row_with(table, samples, "map/restored/0")
    if row is None:
        return
    images, shown, levels = _images(samples), samples[row.method], _levels(samples[row.method], "restored")
    sheet = _Sheet(images, len(levels), len(_FEATURES), 1.3, side_by_side=True)
    for level in levels:
        maps = {name: shown[f"map/{name}/{level}"][: len(images), 0].astype(float) for name in _FEATURES}
        own = float(maps["masked student"].min()), float(maps["masked student"].max())
        both = np.stack([maps["restored"], maps["teacher"]])
        shared = float(both.min()), float(both.max())
        words = f"level {level + 1}\n{_size(both)}\nmasked: {_range(own)}\nothers: {_range(shared)}"
        sheet.write(0, level, words)
        for n, image in enumerate(images):
            for k, (name, title) in enumerate(_FEATURES.items()):
                axis = sheet.axis(n, level, k)
                limits = own if name == "masked student" else shared
                _overlay(axis, maps[name][n], image, shown["covered"][n], limits, 1.0)
                if level == 0:
                    axis.set_title(title, fontsize=8)
    sheet.bar("mean absolute activation, from the least to the greatest that is named beside the level", 1.0)
    yield Drawn(
        f"features-{table.pair}",
        f"Features masked and restored by {row.title}, {table.title}",
        f"{_which(images)}: the student's feature after masking, what {row.title} restores of it, and the teacher's; mean over "
        "channels of the absolute activation, by level. Restored and teacher share a level's colours, the masked feature has its "
        "own; their ends, least (dark) and greatest (bright), stand beside the level in the feature's own unit. "
        f"{table.title}, first seed. {scale_note(board)}",
        sheet.figure,
        "png",
    )


class _Sheet:
    """Images, and beside each its levels' maps in columns.

    Args:
        images: each (H, W, 3), all shown with the first one's proportions.
        num_levels: lines beside an image.
        num_columns: maps a level.
        words: inches for what is said of a level.
        side_by_side: images beside each other and levels in common lines; or one below the other.
    """

    def __init__(
        self, images: Sequence[npt.NDArray[Any]], num_levels: int, num_columns: int, words: float, *, side_by_side: bool
    ) -> None:
        self._side_by_side, self._columns, self._levels = side_by_side, num_columns, num_levels
        blocks, below = (len(images), 1) if side_by_side else (1, len(images))
        cell = (WIDTH_INCHES - words - 0.1) / (blocks * (num_columns + _IMAGE_SHARE))
        line = max(cell * 0.94 * images[0].shape[0] / images[0].shape[1], _LEAST_INCHES)
        heights = ([line] * num_levels + [_GAP_INCHES]) * (below - 1) + [line] * num_levels
        height = sum(heights) + _ABOVE_INCHES + _BELOW_INCHES
        self.figure = Figure((WIDTH_INCHES, height))
        block = [cell * _IMAGE_SHARE, *[cell] * num_columns]
        self._grid = GridSpec(
            len(heights), blocks * len(block) + 1, self.figure, left=0.005, right=0.995, top=1 - _ABOVE_INCHES / height,
            bottom=_BELOW_INCHES / height, wspace=0.06, hspace=0.06, height_ratios=heights,
            width_ratios=[block[0], words, *block[1:], *block * (blocks - 1)],
        )  # fmt: skip
        for n, image in enumerate(images):
            top = self._line(n, 0)
            column = self._first(n) - (1 if side_by_side and n else 2)
            axis = self.figure.add_subplot(self._grid[top : top + num_levels, column], anchor="N")
            axis.imshow(image)
            axis.set_title(f"image {n + 1}", fontsize=8)
            _bare(axis)

    def axis(self, image: int, level: int, column: int) -> Axes:
        """For a map."""
        axis = self.figure.add_subplot(self._grid[self._line(image, level), self._first(image) + column])
        _bare(axis)
        return axis

    def write(self, image: int, level: int, text: str) -> None:
        """Words on a level, left of its maps."""
        axis = self.figure.add_subplot(self._grid[self._line(image, level), 1])
        axis.set_axis_off()
        axis.text(0.97, 0.5, text, ha="right", va="center", transform=axis.transAxes)

    def bar(self, text: str, alpha: float) -> None:
        """What the colours mean, below all."""
        height = self.figure.get_figheight()
        axis = self.figure.add_axes((0.3, 0.27 / height, 0.4, 0.09 / height))
        bar = self.figure.colorbar(ScalarMappable(cmap=_COLOURS), cax=axis, orientation="horizontal", ticks=[], alpha=alpha)
        bar.set_label(text)

    def _line(self, image: int, level: int) -> int:
        """Between images below each other is a gap."""
        return level if self._side_by_side else image * (self._levels + 1) + level

    def _first(self, image: int) -> int:
        """Column of an image's first map, after the image and the words, of which a second one beside it has none."""
        return 2 + image * (self._columns + 1) if self._side_by_side else 2


def _row_with(table: Table, samples: Mapping[str, Arrays], name: str) -> Row | None:
    """The pair's first method that shows such a map, where the images are there, too."""
    if "image_0" not in samples.get("teacher", {}):
        return None
    return next((row for row in table.rows if name in samples.get(row.method, {})), None)


def _images(samples: Mapping[str, Arrays]) -> list[npt.NDArray[Any]]:
    teacher = samples["teacher"]
    return [teacher[f"image_{n}"] for n in range(_NUM_IMAGES) if f"image_{n}" in teacher]


def _levels(shown: Arrays, name: str) -> range:
    return range(sum(key.startswith(f"map/{name}/") for key in shown))


def _size(values: npt.NDArray[Any]) -> str:
    return f"{values.shape[-2]} x {values.shape[-1]}"


def _range(limits: tuple[float, float]) -> str:
    """``0.405 to 0.607``; next to nothing is 0."""
    low, high = limits
    return f"{0.0 if abs(low) < _NOTHING * abs(high) else low:.3g} to {high:.3g}"


def _faint(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The image (H, W, 3) in middle greys (H, W), through which a mask's colours stay what they are."""
    grey = image.mean(2)
    return np.asarray(0.35 + 0.5 * (grey - grey.min()) / max(np.ptp(grey), 1.0))


def _which(images: Sequence[npt.NDArray[Any]]) -> str:
    return f"The first {len(images)} images of the test split" if len(images) > 1 else "The first image of the test split"


def _overlay(
    axis: Axes,
    values: npt.NDArray[Any],
    image: npt.NDArray[Any],
    covered: npt.NDArray[Any],
    limits: tuple[float, float],
    alpha: float,
) -> None:
    """A map (h, w) over its image: where the map goes on over padding, the axes end."""
    height, width = image.shape[:2]
    down, across = height / float(covered[0]), width / float(covered[1])
    axis.imshow(
        values, cmap=_COLOURS, vmin=limits[0], vmax=limits[1], alpha=alpha, interpolation="nearest",
        extent=(-0.5, across - 0.5, down - 0.5, -0.5),
    )  # fmt: skip
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(height - 0.5, -0.5)


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
