"""Predictions of teacher, baseline and every method on the same test images."""

import math
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from reports.plots.style import CLEAR, TALLEST_INCHES, WIDTH_INCHES, Drawn, legend_columns
from reports.plots.visualizations import Arrays
from reports.schemas.leaderboard import Table

Kind = Literal["boxes", "regions", "instances"]
# Okabe and Ito's, then Tol's muted; names are written beside them, so that colours alone are not needed.
PALETTE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
    "#882255", "#999933", "#332288", "#44AA99", "#DDCC77", "#AA4499", "#117733",
)  # fmt: skip
_COLUMNS = 6  # models beside each other, at most, of square images; of wider ones as many fewer
_FEWEST = 6  # columns, though some stay empty: no image gets larger than that
_TITLE_INCHES = 0.19
_LETTER_INCHES = 0.065
_MOST_LETTERS = 20  # of a model's title in a line
_OPACITY = 0.65  # of a label over its image in grey
_MOST_PX = 700  # of a label map's width that are drawn, or up to twice as many
_MOST_NAMED = 4  # boxes or classes of an image whose names have room
_LEAST_NAMED = 0.04  # of the image, that a region takes whose name has room
_IGNORED, _RIGHT = 255, 0.5  # label of pixels that do not count; IoU of a box that is right
_UNSURE = "where there is none, no score was above the threshold."
_CAPTIONS = {
    "boxes": "Boxes in their class's colour, with class and score: those with the highest scores, no more than the image has labelled "
    f"objects, of which {_MOST_NAMED} are named; {_UNSURE}",
    "regions": "Class of each pixel, in its colour over the image in grey; background and unlabelled pixels stay grey. The "
    f"{_MOST_NAMED} largest classes are named, if they take at least {100 * _LEAST_NAMED:.0f} % of the image.",
    "instances": "Colours number the instances that were found, the highest score first; "
    f"{_UNSURE} Of the truth, boxes and classes are shown.",
}


def found(table: Table, samples: Mapping[str, Arrays]) -> Iterator[Drawn]:
    """Truth, teacher, baseline and methods on the same images; nothing before the teacher has run."""
    truth = samples.get("teacher", {})
    kind: Kind = "regions" if "true_labels_0" in truth else "instances" if table.metric.startswith("mask") else "boxes"
    ran = "boxes" if kind == "boxes" else "paths"  # VOC's evaluator leaves no boxes
    titles = {"teacher": "teacher"} | {row.id: row.title for row in table.rows}
    models = [(title, samples[model]) for model, title in titles.items() if ran in samples.get(model, {})]
    if "image_0" not in truth or not models:
        return
    cells = [("truth", _labelled(truth)), *models]
    chosen = _chosen(kind, truth, samples["none"] if ran in samples.get("none", {}) else models[0][1])
    figure, images = _sheet(truth, len(cells), len(chosen))
    used: dict[int, str] = {}
    for n, axes in zip(chosen, images, strict=False):
        for axis, (title, arrays) in zip(axes, cells, strict=False):
            used |= _paint(axis, kind, n, arrays, truth)
            axis.set_title(fill(title, _MOST_LETTERS), fontsize=8, pad=3)
    if used and kind != "instances":
        handles = [Patch(color=_colour(index), label=used[index]) for index in sorted(used)]
        figure.set_figheight(figure.get_figheight() + 0.2 * (len(handles) // legend_columns(handles)))
        figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(handles), handlelength=1)
    again = f"Colours repeat after {len(PALETTE)} classes. " if len(used) > len(PALETTE) else ""
    yield Drawn(
        f"detections-{table.pair}",
        f"Predictions of the models, {table.title}",
        f"{_chosen_words(truth, len(images))}, as labelled (truth) and as each model predicts them, a method's first seed. {_CAPTIONS[kind]} "
        f"{again.strip()}".strip(),
        figure,
        "png",
    )


def _labelled(truth: Arrays) -> Arrays:
    """Return the ground truth under the names of predictions."""
    return {name.removeprefix("true_"): values for name, values in truth.items() if name.startswith("true_")}


def _chosen(kind: Kind, truth: Arrays, baseline: Arrays) -> list[int]:
    """Return the images that are shown: the one in the middle by the baseline's error, and that of the greatest."""
    num_images = sum(name.startswith("image_") for name in truth)
    by_error = sorted(range(num_images), key=lambda n: error(kind, n, baseline, truth))
    return list(dict.fromkeys((by_error[(num_images - 1) // 2], by_error[-1])))


def _chosen_words(truth: Arrays, num_shown: int) -> str:
    num_images = sum(name.startswith("image_") for name in truth)
    if num_images == 1:
        return "An image of the test split"
    which = (
        "evenly spaced over the test split" if "true_labels_0" in truth else "of the test split with the most labelled objects"
    )
    shown = "the one in the middle by the baseline's error" + (", and that of the greatest error" if num_shown > 1 else "")
    return f"Of the {num_images} images {which}: {shown}"


def error(kind: Kind, n: int, found: Arrays, truth: Arrays) -> float:
    """Error of one model on one image, 0-1.

    Of boxes the fraction of objects without a box of their class (IoU >= 0.5) among as many of the highest scores as there are objects,
    less a hundredth of the right ones' mean score, which orders equals; of regions the fraction of labelled pixels of another class;
    of instances the difference of numbers.
    """
    if kind == "regions":
        true = truth[f"true_labels_{n}"]
        counted = true != _IGNORED
        return float((found[f"labels_{n}"] != true)[counted].mean()) if counted.any() else 0.0
    of_truth = truth["true_boxes"][:, 0] == n
    objects, labels = truth["true_boxes"][of_truth, 1:], truth["true_box_labels"][of_truth]
    if not len(objects):
        return 0.0
    if kind == "instances":
        numbers = found.get(f"labels_{n}")
        return min(1.0, abs(len(objects) - (0 if numbers is None else int(numbers.max()))) / len(objects))
    of_found = found["boxes"][:, 0] == n
    boxes, classes = found["boxes"][of_found, 1:], found["box_labels"][of_found]
    surest = np.argsort(-boxes[:, 4], kind="stable")[: len(objects)]
    scores = [
        max((float(boxes[k, 4]) for k in surest if classes[k] == label and _iou(boxes[k, :4], one) >= _RIGHT), default=0.0)
        for one, label in zip(objects, labels, strict=True)
    ]
    right = [score for score in scores if score > 0]
    return 1 - len(right) / len(scores) - (sum(right) / len(right) / 100 if right else 0.0)


def _iou(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """IoU of two boxes, each (4,) xyxy."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.clip(sides, 0, None).prod())
    return common / (float((one[2:] - one[:2]).prod()) + float((other[2:] - other[:2]).prod()) - common)


def _sheet(truth: Arrays, num_cells: int, num_images: int) -> tuple[Figure, list[list[Axes]]]:
    """Axes by image, as many images as a page has room for."""
    height, width = truth["image_0"].shape[:2]
    most = min(_COLUMNS, math.ceil(_COLUMNS * height / width))
    lines = math.ceil(num_cells / most)
    columns = max(min(_FEWEST, most), math.ceil(num_cells / lines))
    block = lines * (WIDTH_INCHES / columns * height / width + _TITLE_INCHES)
    num_shown = max(1, min(num_images, int((TALLEST_INCHES - 0.3) / block)))
    figure = Figure((WIDTH_INCHES, num_shown * block + 0.3), layout="constrained")
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.02, h_pad=0.01, wspace=0, hspace=0)  # type: ignore[call-arg]
    axes = figure.subplots(num_shown * lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, [list(axes[n * lines : (n + 1) * lines].flat) for n in range(num_shown)]


def _paint(axis: Axes, kind: Kind, n: int, arrays: Arrays, truth: Arrays) -> dict[int, str]:
    """Draw one image as one model predicts it; return the classes that it shows, by index."""
    image, classes = truth[f"image_{n}"], truth["classes"]
    labels = arrays.get(f"labels_{n}")
    if labels is None:
        axis.imshow(image)
        most = max(1, int((truth["true_boxes"][:, 0] == n).sum())) if "true_boxes" in truth else 1
        return _boxes(axis, n, arrays, classes, most) if "boxes" in arrays else {}
    # A street's two megapixels, in each of many cells, would be kept in memory until all is drawn.
    step = max(1, labels.shape[1] // _MOST_PX)
    image, labels = image[::step, ::step], labels[::step, ::step]
    grey = np.repeat(image.mean(2, keepdims=True), 3, axis=2) / 255
    if kind == "instances":
        axis.imshow(_blended(grey, {int(rank): labels == rank for rank in np.unique(labels) if rank}))
        return {}
    names = {index: str(name) for index, name in enumerate(classes) if name != "background" and (labels == index).any()}
    axis.imshow(_blended(grey, {index: labels == index for index in names}))
    for index in sorted(names, key=lambda index: -int((labels == index).sum()))[:_MOST_NAMED]:
        inside = np.argwhere(labels == index)
        if len(inside) >= _LEAST_NAMED * labels.size:
            # The pixel of the region that is nearest to its middle: a ring's middle is not its own.
            y, x = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
            _name(axis, float(x), float(y), names[index], ha="center", va="center")
    return names


def _blended(grey: npt.NDArray[Any], regions: Mapping[int, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Each region (H, W) in its colour over the grey image (H, W, 3), 0-1."""
    blended = grey.copy()
    for index, inside in regions.items():
        blended[inside] = (1 - _OPACITY) * grey[inside] + _OPACITY * np.array(to_rgb(_colour(index)))
    return blended


def _boxes(axis: Axes, n: int, arrays: Arrays, classes: npt.NDArray[Any], most: int) -> dict[int, str]:
    """Draw the boxes of the highest scores, the highest on top; the truth's have no score."""
    of_image = arrays["boxes"][:, 0] == n
    boxes, labels = arrays["boxes"][of_image, 1:].astype(float), arrays["box_labels"][of_image]
    order = (np.argsort(boxes[:, 4], kind="stable") if boxes.shape[1] > 4 else np.arange(len(boxes)))[-most:]  # noqa: PLR2004 (the fifth column is the confidence)
    for rank, k in zip(range(len(order) - 1, -1, -1), order, strict=True):
        left, top, right, bottom = boxes[k, :4] - 0.5
        edge = [withStroke(linewidth=2.6, foreground="black")]
        colour = _colour(int(labels[k]))
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=colour, lw=1.4, path_effects=edge))
        if rank < _MOST_NAMED:
            score = "".join(f" {value:.2f}".replace(" 0.", " .") for value in boxes[k, 4:])
            # Every other name at the foot: boxes of one object overlap.
            y, side = (top, "top") if rank % 2 == 0 else (bottom, "bottom")
            _name(axis, left, y, f"{classes[labels[k]]}{score}", ha="left", va=side)
    return {int(label): str(classes[label]) for label in labels[order]}


def _name(axis: Axes, x: float, y: float, text: str, **where: Any) -> None:
    """Write text on the image, moved to the left where it would not end on it."""
    if where["ha"] == "left":
        left, right = axis.get_xlim()
        inches = WIDTH_INCHES / axis.get_gridspec().ncols  # type: ignore[union-attr]
        x = max(left, min(x, right - (right - left) * _LETTER_INCHES * len(text) / inches))
    axis.text(x, y, text, fontsize=8, clip_on=True, bbox=CLEAR, **where)


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]
