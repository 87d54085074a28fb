"""Images as PNG inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.charts import Gallery, Picture

# The blue and the orange of the page's series, half-way between its light and its dark ones: a PNG has no variables.
DARKER, BRIGHTER = "#426fd6", "#d45a12"


def data_uri(picture: Picture, full: float) -> str:
    """A ``data:`` URI of a PNG, one pixel a pixel.

    Of a signed picture the colour gives the sign and the opacity the size, up to ``full``; so zero shows the page.
    """
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(_signed(picture.image, full) if picture.signed else _bytes(picture.image)).save(written, "PNG")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def full_scale(gallery: Gallery) -> float | None:
    """The largest change in the signed pictures of a gallery, which gets full colour; None where none is signed."""
    signed = [picture for row in gallery.rows for picture in row if picture.signed]
    if not signed:
        return None
    return max(float(np.abs(picture.image).max()) for picture in signed)


def _bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def _signed(image: NDArray[np.floating], full: float) -> NDArray[np.uint8]:
    # Of a colour image, the channel that changed most speaks for the pixel.
    if image.ndim == 3:
        most = np.abs(image).argmax(2)
        image = np.take_along_axis(image, most[..., None], 2)[..., 0]
    strength = np.abs(image) / full if full > 0 else np.zeros_like(image)
    darker, brighter = ([*bytes.fromhex(colour[1:])] for colour in (DARKER, BRIGHTER))
    colour = np.where((image < 0)[..., None], darker, brighter).astype(np.uint8)
    return np.concatenate([colour, _bytes(strength)[..., None]], axis=2)
