"""Label maps: one value per pixel, the number of its class; 255 is ignored.  What is wrong with them, and which classes they have."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.faults import fault
from benchmarks.images import Facts, Seen, header_size, of_label_map

IGNORED = 255  # value of pixels that belong to no class


def label_map_faults(
    pairs: Sequence[tuple[Path, Path]], num_classes: int, sizes: dict[Path, tuple[int, int] | None], maps: dict[Path, Facts]
) -> list[str]:
    """Return the faults of label maps.

    Args:
        pairs: an image and its label map.
        num_classes: pixels must be below it, or 255.
        sizes: of the images, width and height in pixels.
        maps: facts of the label maps.
    """
    broken = [path for _, path in pairs if maps[path].size is None]
    whole = [(image, path) for image, path in pairs if maps[path].size is not None]
    coloured = [f"{path}, mode {maps[path].mode}," for _, path in whole if maps[path].mode not in ("L", "P")]
    other_size, too_high = [], []
    found: set[int] = set()
    for image, path in whole:
        shape, size, values = maps[path].size or (0, 0), sizes[image], maps[path].counts or {}
        found |= values.keys()
        if size is not None and shape != size:
            swapped = ", turned by a right angle" if shape == size[::-1] else ""
            other_size.append(f"{path} of {shape[0]}x{shape[1]} pixels, its image of {size[0]}x{size[1]}{swapped},")
        wrong = [value for value in sorted(values) if num_classes <= value < IGNORED]
        if wrong:
            too_high.append(f"{path}, value {', '.join(map(str, wrong[:5]))},")
    from_1 = "; classes are counted from 0, and no pixel is 0" if found - {IGNORED} and 0 not in found else ""
    return [
        *fault(broken, "cannot be read as an image", "copy or make it again"),
        *fault(coloured, "does not hold class indices", "save label maps as PNG with 8 bits a pixel, grey or palette"),
        *fault(other_size, "does not fit", "make both the same size"),
        *fault(
            too_high,
            f"is out of range 0-{num_classes - 1}{from_1}",
            f"name more classes, or set what is none of them to {IGNORED}",
        ),
    ]


def read_label_maps(pairs: Iterable[tuple[Path, Path]], num_classes: int) -> list[str]:
    """Return the faults of label maps after reading them all; of the images the headers are read."""
    pairs = list(pairs)
    maps = Seen(None).look([path for _, path in pairs], of_label_map, "label maps")
    return label_map_faults(pairs, num_classes, {image: header_size(image) for image, _ in pairs}, maps)


def pixels_by_value(maps: Iterable[Facts]) -> Counter[int]:
    """Return the number of pixels by value, over several label maps."""
    total: Counter[int] = Counter()
    for one in maps:
        total.update(one.counts or {})
    return total
