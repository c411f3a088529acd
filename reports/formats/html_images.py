"""Figures as data URIs, so that a page makes no network request."""

import base64
import re
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

_QUALITY = 60  # of WebP; lossless PNG takes five times as much
_SAFE = " !$()*+,-./:;<=>?@[]^_`{|}~'"  # in an SVG between double quotes; base64 would take a third more


def data_uri(path: Path) -> str | None:
    """Return a figure as a data URI for a double-quoted attribute, pixels as WebP; None where it is missing or of another kind.

    Raises:
        PIL.UnidentifiedImageError: a PNG file is none.
    """
    if not path.is_file() or path.suffix not in (".svg", ".png"):
        return None
    if path.suffix == ".svg":
        text = re.sub(r"""="([^"']*)\"""", r"='\1'", path.read_text()).replace("\n", " ")
        # Every sign that could end the attribute, or begin an entity, is quoted.
        return Markup(f"data:image/svg+xml,{quote(text, safe=_SAFE)}")  # noqa: S704 (it is quoted)
    buffer = BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
