"""Letters drawn from the fonts that matplotlib ships, in the shape of MNIST's digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import DataError
from hardy.rng import host_generator

if TYPE_CHECKING:
    from PIL import Image

SIDE = 28
BOX = 20
"""MNIST's digits lie in a box of 20x20 pixels, inside a field of 28x28, whose center is their center of mass."""

LETTERS = "ABCDEFGHIJ"

TEST_FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"cm{style}10" for style in ("b", "ti", "tt")),
)
"""The half of the text fonts that matplotlib ships which the dataset ``glyphs`` is drawn with."""

EXPOSURE_FONTS = (
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"cm{style}10" for style in ("mi", "r", "ss")),
)
"""The other half, which synthetic outliers are drawn with: what is measured on stays unseen, font by font."""

VARIANTS = 18
"""How often each letter of each font is drawn."""

_DRAWN_SIDE = 160
"""Letters are drawn large, turned, and then made small, so that they get the gray edges of MNIST's digits."""


class Glyphs(NamedTuple):
    """uint8 (N, 28, 28), white on black, and int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def letter_glyphs() -> Glyphs:
    """1,980 letters A to J: 11 fonts, each letter drawn 18 times, turned by up to 15 degrees, 14 to 20 pixels large.

    Like notMNIST in kind (Bulatov 2011), and small and centered like MNIST; not the same images as notMNIST's. The
    pixels may differ a little between versions of Pillow and of FreeType.

    Raises:
        DataError: Pillow or matplotlib is not installed; matplotlib has lost one of the fonts.
    """
    folder = _font_folder()
    from PIL import Image

    rng = host_generator(0, "glyphs")
    images, labels = [], []
    for font in TEST_FONTS:
        for label, letter in enumerate(LETTERS):
            drawn = _drawn_large(folder / f"{font}.ttf", letter)
            for _ in range(VARIANTS):
                angle = float(rng.uniform(-15.0, 15.0))
                side = int(rng.integers(14, BOX, endpoint=True))
                turned = drawn.rotate(angle, resample=Image.Resampling.BICUBIC)
                images.append(centered_by_mass(_fitted(turned, side)))
                labels.append(label)
    return Glyphs(np.stack(images), np.array(labels, dtype=np.int64))


def drawn_letter(font: str, letter: str, side: int) -> NDArray[np.uint8]:
    """uint8 (side, side): a letter of one of matplotlib's fonts, white on black, as large as the field.

    Raises:
        DataError: see :func:`letter_glyphs`.
    """
    picture = _fitted(_drawn_large(_font_folder() / f"{font}.ttf", letter), side)
    top, left = ((side - length) // 2 for length in picture.shape)
    field = np.zeros((side, side), np.uint8)
    field[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return field


def centered_by_mass(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Place a picture, uint8 (H, W) of at most 28x28, in a black 28x28 field so that its center of mass is in the
    middle, up to half a pixel, or as near as it gets without losing a row or a column.
    """
    weights = picture.astype(np.int64)
    field = np.zeros((SIDE, SIDE), np.uint8)
    height, width = picture.shape
    top = _offset(weights.sum(1), height)
    left = _offset(weights.sum(0), width)
    field[top : top + height, left : left + width] = picture
    return field


def _font_folder() -> Path:
    try:
        import matplotlib
        import PIL  # noqa: F401
    except ImportError as error:
        raise DataError("glyphs needs Pillow and matplotlib; 'pip install pillow matplotlib'") from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _offset(mass: NDArray[np.int64], length: int) -> int:
    total, moment = int(mass.sum()), int((mass * np.arange(length)).sum())
    # In whole numbers: the field's middle, 13.5, less the center of mass, rounded half up.
    offset = (14 * total - moment) // total if total else (SIDE - length) // 2
    return min(max(offset, 0), SIDE - length)


def _drawn_large(path: Path, letter: str) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    try:
        font = ImageFont.truetype(path, _DRAWN_SIDE // 2, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"glyphs needs the font {path}, which this version of matplotlib does not have") from error
    image = Image.new("L", (_DRAWN_SIDE, _DRAWN_SIDE))
    ImageDraw.Draw(image).text((_DRAWN_SIDE // 2, _DRAWN_SIDE // 2), letter, fill=255, font=font, anchor="mm")
    return image


def _fitted(image: Image.Image, side: int) -> NDArray[np.uint8]:
    from PIL import Image

    cropped = image.crop(image.getbbox())
    scale = side / max(cropped.size)
    size = (max(1, round(cropped.width * scale)), max(1, round(cropped.height * scale)))
    return np.asarray(cropped.resize(size, Image.Resampling.BOX))
