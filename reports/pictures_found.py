"""Pictures of what teacher, control and every method find on the same test images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from reports.board import Leaderboard, Table
from reports.drawing import TALLEST_INCHES, WIDTH_INCHES, Drawn, scale_note
from reports.pictures import Arrays

Kind = Literal["boxes", "regions", "instances"]
# Okabe and Ito's, then Tol's muted; names are written beside them, so that nobody needs the colours alone.
_PALETTE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
    "#882255", "#999933", "#332288", "#44AA99", "#DDCC77", "#AA4499", "#117733",
)  # fmt: skip
_COLUMNS = 5
_TITLE_INCHES = 0.2
_OPACITY = 0.65  # of a label over its image in grey
_MOST_NAMED = 4  # boxes of an image whose names have room
_LEAST_NAMED = 0.04  # of the image, that a region takes whose name has room
_LEGEND_COLUMNS = 8
_SAYS = {
    "boxes": "Boxes in their class's colour, with score; those with a score below 0.3 are left out, and of an image's boxes the "
    f"{_MOST_NAMED} surest are named.",
    "regions": "Class of each pixel, in its colour over the image in grey; background and unlabelled pixels stay grey. Classes "
    f"that take at least {100 * _LEAST_NAMED:.0f} % of the image are named.",
    "instances": "Colours number the instances found with a score of at least 0.3, the surest first; of the truth, boxes and "
    "classes are shown.",
}


def found(board: Leaderboard, table: Table, samples: Mapping[str, Arrays]) -> Iterator[Drawn]:
    """Truth, teacher, control and methods on the same images; nothing before the teacher and another model have run."""
    truth = samples.get("teacher", {})
    kind: Kind = "regions" if "true_labels_0" in truth else "instances" if table.metric.startswith("mask") else "boxes"
    ran = "boxes" if kind == "boxes" else "paths"  # VOC's evaluator leaves no boxes
    titles = {"teacher": "teacher"} | {row.method: row.title for row in table.rows}
    models = [(title, samples[model]) for model, title in titles.items() if ran in samples.get(model, {})]
    if "image_0" not in truth or not models:
        return
    cells = [("truth", _labelled(truth)), *models]
    figure, images = _sheet(truth, len(cells))
    used: dict[int, str] = {}
    for n, axes in enumerate(images):
        for axis, (title, arrays) in zip(axes, cells, strict=False):
            used |= _paint(axis, kind, n, truth[f"image_{n}"], arrays, truth["classes"])
            axis.set_title(title, fontsize=8, pad=3)
    if used:
        handles = [Patch(color=_colour(index), label=used[index]) for index in sorted(used)]
        figure.legend(handles=handles, loc="outside lower center", ncols=_LEGEND_COLUMNS, handlelength=1, columnspacing=1)
    images_words = f"The first {len(images)} images" if len(images) > 1 else "The first image"
    yield Drawn(
        f"detections-{table.pair}",
        f"What the models find, {table.title}",
        f"{images_words} of the test split as labelled (truth) and as each model sees them, a method's first seed. {_SAYS[kind]} "
        f"{table.title}. {scale_note(board)}",
        figure,
        "png",
    )


def _labelled(truth: Arrays) -> Arrays:
    """The truth under the names of predictions."""
    return {name.removeprefix("true_"): values for name, values in truth.items() if name.startswith("true_")}


def _sheet(truth: Arrays, num_cells: int) -> tuple[Figure, list[list[Axes]]]:
    """Axes by image, as many images as a page holds."""
    columns = min(_COLUMNS, num_cells)
    lines = math.ceil(num_cells / columns)
    height, width = truth["image_0"].shape[:2]
    block = lines * (WIDTH_INCHES / _COLUMNS * height / width + _TITLE_INCHES)
    num_images = sum(name.startswith("image_") for name in truth)
    num_shown = max(1, min(num_images, int((TALLEST_INCHES - 0.5) / block)))
    figure = Figure((WIDTH_INCHES, num_shown * block + 0.5), layout="constrained")
    axes = figure.subplots(num_shown * lines, _COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, [list(axes[n * lines : (n + 1) * lines].flat) for n in range(num_shown)]


def _paint(axis: Axes, kind: Kind, n: int, image: npt.NDArray[Any], arrays: Arrays, classes: Sequence[Any]) -> dict[int, str]:
    """One image as one model sees it; the classes that it shows, by index."""
    labels = arrays.get(f"labels_{n}")
    if labels is None:
        axis.imshow(image)
        return _boxes(axis, n, arrays, classes) if "boxes" in arrays else {}
    grey = np.repeat(image.mean(2, keepdims=True), 3, axis=2) / 255
    if kind == "instances":
        axis.imshow(_blended(grey, {int(rank): labels == rank for rank in np.unique(labels) if rank}))
        return {}
    names = {index: str(name) for index, name in enumerate(classes) if name != "background" and (labels == index).any()}
    axis.imshow(_blended(grey, {index: labels == index for index in names}))
    for index, name in names.items():
        inside = np.argwhere(labels == index)
        if len(inside) >= _LEAST_NAMED * labels.size:
            # The pixel of the region that is nearest to its middle: a ring's middle is not its own.
            y, x = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
            _name(axis, float(x), float(y), name, ha="center", va="center")
    return names


def _blended(grey: npt.NDArray[Any], regions: Mapping[int, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Each region (H, W) in its colour over the grey image (H, W, 3), 0-1."""
    blended = grey.copy()
    for index, inside in regions.items():
        blended[inside] = (1 - _OPACITY) * grey[inside] + _OPACITY * np.array(to_rgb(_colour(index)))
    return blended


def _boxes(axis: Axes, n: int, arrays: Arrays, classes: Sequence[Any]) -> dict[int, str]:
    """Boxes, the surest last and therefore on top; the truth's have no score."""
    of_image = arrays["boxes"][:, 0] == n
    boxes, labels = arrays["boxes"][of_image, 1:].astype(float), arrays["box_labels"][of_image]
    order = np.argsort(boxes[:, 4], kind="stable") if boxes.shape[1] > 4 else np.arange(len(boxes))  # noqa: PLR2004
    for rank, k in enumerate(order):
        left, top, right, bottom = boxes[k, :4]
        edge = [withStroke(linewidth=2.6, foreground="black")]
        box = Rectangle(
            (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=_colour(int(labels[k])), lw=1.4, path_effects=edge
        )
        axis.add_patch(box)
        if rank >= len(order) - _MOST_NAMED:
            score = "".join(f" {value:.2f}".replace(" 0.", " .") for value in boxes[k, 4:])
            _name(axis, left - 0.5, top - 0.5, f"{classes[labels[k]]}{score}", ha="left", va="top")
    return {int(label): str(classes[label]) for label in labels}


def _name(axis: Axes, x: float, y: float, text: str, **where: Any) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
    axis.text(x, y, text, fontsize=8, clip_on=True, bbox=box, **where)


def _colour(index: int) -> str:
    return _PALETTE[index % len(_PALETTE)]
