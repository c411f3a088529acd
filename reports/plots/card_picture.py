"""Picture of a model card: the first test images as labelled, and below as the model predicts them."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from reports.plots.predictions import PALETTE
from reports.plots.visualizations import Arrays

_MOST_IMAGES = 4
_WIDTH_PX, _GAP_PX, _LINE_PX = 240, 6, 2
_OPACITY = 0.65  # of a label over its image


def card_picture(truth: Arrays, found: Arrays) -> Image.Image | None:
    """Return the picture of a model's samples beside the teacher's, which have images and labels; None where either has none."""
    labelled = {name.removeprefix("true_"): values for name, values in truth.items() if name.startswith("true_")}
    numbers = [n for n in range(_MOST_IMAGES) if f"image_{n}" in truth]
    if not numbers or not (_has(found, numbers) and _has(labelled, numbers)):
        return None
    rows = [[_painted(n, arrays, truth) for n in numbers] for arrays in (labelled, found)]
    height = max(tile.height for tile in rows[0])
    sheet = Image.new("RGB", (len(numbers) * (_WIDTH_PX + _GAP_PX) - _GAP_PX, 2 * height + _GAP_PX), "white")
    for line, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (column * (_WIDTH_PX + _GAP_PX), line * (height + _GAP_PX)))
    return sheet


def _has(arrays: Arrays, numbers: list[int]) -> bool:
    return "boxes" in arrays or all(f"labels_{n}" in arrays for n in numbers)


def _painted(n: int, arrays: Arrays, truth: Arrays) -> Image.Image:
    """One image with its labels or boxes, in the picture's size."""
    image = Image.fromarray(truth[f"image_{n}"])
    scale = _WIDTH_PX / image.width
    size = _WIDTH_PX, max(1, round(image.height * scale))
    labels = arrays.get(f"labels_{n}")
    if labels is None:
        tile = image.resize(size, Image.Resampling.BICUBIC)
        _draw_boxes(ImageDraw.Draw(tile), scale, *_boxes(n, arrays, truth), truth["classes"])
        return tile
    colours = _colours(labels, truth["classes"])
    grey = np.repeat(truth[f"image_{n}"].mean(2, keepdims=True), 3, axis=2)
    inside = (colours >= 0).all(2, keepdims=True)
    blended = np.where(inside, (1 - _OPACITY) * grey + _OPACITY * colours, grey)
    return Image.fromarray(blended.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def _colours(labels: npt.NDArray[np.uint8], classes: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Colours (H, W, 3) of labels (H, W); -1 for background and what is no class."""
    shown = np.full((*labels.shape, 3), -1.0)
    for index, name in enumerate(classes):
        if name != "background":
            shown[labels == index] = _rgb(index)
    return shown


def _boxes(n: int, arrays: Arrays, truth: Arrays) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Boxes (K, 4 or 5) and classes (K): as many as the image has labelled objects, the highest score last."""
    of_image = arrays["boxes"][:, 0] == n
    boxes, classes = arrays["boxes"][of_image, 1:].astype(float), arrays["box_labels"][of_image]
    num = max(1, int((truth["true_boxes"][:, 0] == n).sum()))
    order = np.argsort(boxes[:, -1], kind="stable")[-num:] if arrays["boxes"].shape[1] > 5 else np.arange(len(boxes))  # noqa: PLR2004 (with a score)
    return boxes[order], classes[order]


def _draw_boxes(
    draw: ImageDraw.ImageDraw,
    scale: float,
    boxes: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    classes: npt.NDArray[np.str_],
) -> None:
    for box, label in zip(boxes, labels, strict=True):
        left, top, right, bottom = (float(side) * scale for side in box[:4])
        colour = _rgb(int(label))
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour, width=_LINE_PX)
        text = " ".join([str(classes[label]), *(f"{score:.2f}" for score in box[4:])])
        frame = draw.textbbox((left + _LINE_PX, top + _LINE_PX), text)
        draw.rectangle(frame, fill="white")
        draw.text(frame[:2], text, fill="black", anchor="lt")


def _rgb(index: int) -> tuple[int, int, int]:
    digits = PALETTE[index % len(PALETTE)].removeprefix("#")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
