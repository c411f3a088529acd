"""Methods' own visualizations of test images, such as MasKD's masks and MGD's restored features, with their own words."""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from reports.plots.fonts import drawn
from reports.plots.style import WIDTH_INCHES, Drawn
from reports.schemas.leaderboard import Row, Table

Arrays = Mapping[str, npt.NDArray[Any]]
_NUM_IMAGES = 2
_MOST_COLUMNS = 6
_MOST_BESIDE = 3  # columns with which images are side by side
_COLOURS = "cividis"  # even in grey print, and to the colour-blind
_OVER = 0.7  # opacity of a mask over its image
_IMAGE_RATIO = 1.6  # of a map's width
_NOTHING = 0.001  # of a range's upper end
_LEAST_INCHES = 0.56  # of a level's line, for its words
_ABOVE_INCHES, _GAP_INCHES, _BELOW_INCHES = 0.35, 0.2, 0.45  # for titles, a title, and the bar of colours


def read_samples(files: Mapping[str, Path], change: Callable[[str], str] = drawn) -> dict[str, Arrays]:
    """Read samples by model, names of classes as figures have them.

    A file that cannot be read is excluded with a warning; so is, without one, a model that was evaluated on other images than the teacher:
    it is from before the images or their choice changed.
    """
    found: dict[str, Arrays] = {}
    for model, path in files.items():
        if not path.is_file():
            continue
        try:
            with np.load(path) as arrays:
                read = dict(arrays)
            if "classes" in read:
                read["classes"] = np.array([change(str(one)) for one in read["classes"]])
            found[model] = read
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"{path}: {error}; its visualizations are excluded", stacklevel=2)
    truth = found.get("teacher", {})
    return {model: arrays for model, arrays in found.items() if of_same_images(arrays, truth)}


def of_same_images(arrays: Arrays, truth: Arrays) -> bool:
    """Return False where both name their images, and name others."""
    return "paths" not in arrays or "paths" not in truth or np.array_equal(arrays["paths"], truth["paths"])


@dataclass(frozen=True)
class _About:
    """Words of a visualization, as :mod:`pipelines.engine.visualizations` writes them.

    Args:
        name: of the visualization.
        what: a noun phrase.
        value: the quantity that a colour represents.
        columns: titles.
        common: titles of the columns with a common scale of colours.
        translucent: whether the image shows through.
    """

    name: str
    what: str
    value: str
    columns: list[str]
    common: list[str]
    translucent: bool


def maps(table: Table, samples: Mapping[str, Arrays]) -> Iterator[Drawn]:
    """Every visualization of a method, by level and column; none of a tuned row, as its method's are there."""
    if "image_0" not in samples.get("teacher", {}):
        return
    for row in table.rows:
        shown = {} if row.tuned else samples.get(row.id, {})
        for key in sorted(key for key in shown if key.startswith("about/")):
            about = _About(name=key.removeprefix("about/"), **json.loads(str(shown[key])))
            yield _maps(table, row, about, shown, _images(samples))


def _maps(table: Table, row: Row, about: _About, shown: Arrays, images: Sequence[npt.NDArray[Any]]) -> Drawn:
    columns = about.columns[:_MOST_COLUMNS]
    num_levels = sum(key.startswith(f"map/{about.name}/0/") for key in shown)
    beside = len(columns) <= _MOST_BESIDE
    sheet = _Sheet(images, num_levels, len(columns), 1.3 if beside else 1.0, side_by_side=beside)
    for level in range(num_levels):
        values = {
            title: shown[f"map/{about.name}/{column}/{level}"][: len(images)].astype(float)
            for column, title in enumerate(columns)
        }
        limits = _limits(values, about.common)
        lines = [f"level {level + 1}", _size(next(iter(values.values()))), *_range_lines(limits, about.common)]
        for n, image in enumerate(images):
            if n == 0 or not beside:
                sheet.write(n, level, "\n".join(lines))
            for column, title in enumerate(columns):
                axis = sheet.axis(n, level, column)
                if about.translucent:
                    axis.imshow(_faint(image), cmap="gray", vmin=0, vmax=1)
                alpha = _OVER if about.translucent else 1.0
                _overlay(axis, values[title][n], image, shown["covered"][n], limits[title], alpha)
                if level == 0 and (n == 0 or beside):
                    axis.set_title(title, fontsize=8)
    sheet.bar(f"{about.value}, from the least to the greatest named beside the level", _OVER if about.translucent else 1.0)
    fewer = "" if len(columns) == len(about.columns) else f", {len(columns)} of {len(about.columns)} columns"
    over = ", laid over the image in grey" if about.translucent else ""
    scales = "" if len(about.common) == len(about.columns) else f" {_scales(about)}"
    return Drawn(
        f"{about.name}-{row.method}-{table.pair}",
        f"{about.name.capitalize()} of {row.title}, {table.title}",
        f"{_which(images)}: {about.what} ({row.title}), by level{fewer}{over}. Beside each level: positions, and the least and the "
        f"greatest value, which are the ends of its colours (dark to bright).{scales} First seed.",
        sheet.figure,
        "png",
    )


def _limits(values: Mapping[str, npt.NDArray[Any]], common: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Limits of each column's colours."""
    own = {title: (float(found.min()), float(found.max())) for title, found in values.items()}
    together = [own[title] for title in common if title in own]
    shared = (min(low for low, _ in together), max(high for _, high in together)) if together else (0.0, 0.0)
    return {title: shared if title in common else ends for title, ends in own.items()}


def _range_lines(limits: Mapping[str, tuple[float, float]], common: Sequence[str]) -> list[str]:
    """Limits of the colours, a line per scale; one alone needs no name."""
    alone = [title for title in limits if title not in common]
    if not alone:
        return [_limits_text(next(iter(limits.values())))]
    # There is room for the last line of a title, in which the titles differ.
    lines = [f"{title.splitlines()[-1]}: {_limits_text(limits[title])}" for title in alone]
    shared = next((limits[title] for title in common if title in limits), None)
    return lines + ([f"others: {_limits_text(shared)}"] if shared else [])


def _scales(about: _About) -> str:
    """Sentence on the columns with a common scale of colours."""
    common = " and ".join(_one_line(title) for title in about.common)
    return f"The columns {common} have a level's colours in common, each other column has its own."


def _one_line(title: str) -> str:
    return " ".join(title.split())


class _Sheet:
    """Images, and beside each its levels' maps in columns.

    Args:
        images: each (H, W, 3), all shown with the first one's proportions.
        num_levels: lines beside an image.
        num_columns: maps per level.
        words: inches for the words on a level.
        side_by_side: images beside each other and levels in common lines; or one below the other.
    """

    def __init__(
        self, images: Sequence[npt.NDArray[Any]], num_levels: int, num_columns: int, words: float, *, side_by_side: bool
    ) -> None:
        self._side_by_side, self._columns, self._levels = side_by_side, num_columns, num_levels
        blocks, below = (len(images), 1) if side_by_side else (1, len(images))
        cell = (WIDTH_INCHES - words - 0.1) / (blocks * (num_columns + _IMAGE_RATIO))
        line = max(cell * 0.94 * images[0].shape[0] / images[0].shape[1], _LEAST_INCHES)
        heights = ([line] * num_levels + [_GAP_INCHES]) * (below - 1) + [line] * num_levels
        height = sum(heights) + _ABOVE_INCHES + _BELOW_INCHES
        self.figure = Figure((WIDTH_INCHES, height))
        block = [cell * _IMAGE_RATIO, *[cell] * num_columns]
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
        """Add the axes of a map."""
        axis = self.figure.add_subplot(self._grid[self._line(image, level), self._first(image) + column])
        _bare(axis)
        return axis

    def write(self, image: int, level: int, text: str) -> None:
        """Write words on a level, left of its maps."""
        axis = self.figure.add_subplot(self._grid[self._line(image, level), 1])
        axis.set_axis_off()
        axis.text(0.97, 0.5, text, ha="right", va="center", transform=axis.transAxes)

    def bar(self, text: str, alpha: float) -> None:
        """Add the colour bar below all."""
        height = self.figure.get_figheight()
        axis = self.figure.add_axes((0.3, 0.27 / height, 0.4, 0.09 / height))
        bar = self.figure.colorbar(ScalarMappable(cmap=_COLOURS), cax=axis, orientation="horizontal", ticks=[], alpha=alpha)
        bar.set_label(text)

    def _line(self, image: int, level: int) -> int:
        """Line of a level; there is a gap between images below each other."""
        return level if self._side_by_side else image * (self._levels + 1) + level

    def _first(self, image: int) -> int:
        """Column of an image's first map, after the image and the words, of which a second one beside it has none."""
        return 2 + image * (self._columns + 1) if self._side_by_side else 2


def _images(samples: Mapping[str, Arrays]) -> list[npt.NDArray[Any]]:
    teacher = samples["teacher"]
    return [teacher[f"image_{n}"] for n in range(_NUM_IMAGES) if f"image_{n}" in teacher]


def _size(values: npt.NDArray[Any]) -> str:
    return f"{values.shape[-2]} x {values.shape[-1]}"


def _limits_text(limits: tuple[float, float]) -> str:
    """``0.405 to 0.607``; next to nothing is 0."""
    low, high = limits
    return f"{0.0 if abs(low) < _NOTHING * abs(high) else low:.3g} to {high:.3g}"


def _faint(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the image (H, W, 3) in middle greys (H, W), which keep a mask's colours distinct."""
    grey = image.mean(2)
    return np.asarray(0.35 + 0.5 * (grey - grey.min()) / max(np.ptp(grey), 1.0))


def _which(images: Sequence[npt.NDArray[Any]]) -> str:
    return "Images of the test split (detectors: with the most objects)" if len(images) > 1 else "An image of the test split"


def _overlay(
    axis: Axes,
    values: npt.NDArray[Any],
    image: npt.NDArray[Any],
    covered: npt.NDArray[Any],
    limits: tuple[float, float],
    alpha: float,
) -> None:
    """Draw a map (h, w) over its image; the axes end where the padding begins."""
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
