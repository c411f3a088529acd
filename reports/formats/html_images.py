"""Figures as data URIs, so that a page asks nothing of a network."""

import base64
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

_MEDIA = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_SVG_SAFE = " !$()*+,-./:;<=>?@[]^_`{|}~'"  # allowed in an attribute between double quotes; base64 would take a third more


def data_uri(path: Path) -> str | None:
    """A figure as a data URI for an attribute between double quotes; None where it is missing or of another kind."""
    media = _MEDIA.get(path.suffix.lower())
    if media is None or not path.is_file():
        return None
    if path.suffix.lower() == ".svg":
        text = path.read_text().replace('"', "'").replace("\n", " ")
        # Every sign that could end the attribute, or begin an entity, is quoted.
        return Markup(f"data:{media},{quote(text, safe=_SVG_SAFE)}")  # noqa: S704
    return f"data:{media};base64,{base64.b64encode(path.read_bytes()).decode()}"
