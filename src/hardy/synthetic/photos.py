"""Synthetic photographs: one printed character on paper, with a shadow, noise and blur, anywhere and of any size.

They measure what becomes of real pictures, from the file to the answer. Digits should be answered; letters, blank
photos and noise should be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardy.errors import DataError
from hardy.rng import host_generator

if TYPE_CHECKING:
    from PIL import ImageFont

DIGITS = "0123456789"

SIDES = (96, 128, 192, 256)

_LARGEST_TURN = 12.0


class Photos(NamedTuple):
    """Photos of one kind.

    Attributes:
        pictures: uint8 (H, W) each, of different sizes.
        characters: what is drawn on each; "" where nothing is.
        fonts: what it is drawn in.
    """

    pictures: list[NDArray[np.uint8]]
    characters: list[str]
    fonts: list[str]


def drawn_photos(characters: str, fonts: Sequence[str], each: int, seed: int) -> Photos:
    """Each character in each font, ``each`` times: dark ink on light paper, turned by up to 12 degrees, off center.

    Raises:
        DataError: Pillow or matplotlib is not installed, or matplotlib has lost a font.
    """
    pictures, drawn, used = [], [], []
    for font in fonts:
        for character in characters:
            rng = host_generator(seed, "pages", font, character)
            for _ in range(each):
                pictures.append(_photographed(_inked(character, font, rng), rng))
                drawn.append(character)
                used.append(font)
    return Photos(pictures, drawn, used)


def blank_photos(count: int, seed: int) -> Photos:
    """Paper with a shadow and noise, and nothing on it."""
    rng = host_generator(seed, "blank pages")
    pictures = []
    for _ in range(count):
        side = int(rng.choice(SIDES))
        pictures.append(_photographed(np.zeros((side, side), np.float32), rng))
    return Photos(pictures, [""] * count, [""] * count)


def noise_photos(count: int, seed: int) -> Photos:
    """Noise of a random grain: uniform, normal around a random gray, or salt and pepper."""
    rng = host_generator(seed, "noise pages")
    pictures = []
    for number in range(count):
        side, grain = int(rng.choice(SIDES)), int(rng.choice((1, 2, 4, 8, 16)))
        cells = -(-side // grain)
        kind = number % 3
        if kind == 0:
            values = rng.uniform(0, 1, (cells, cells))
        elif kind == 1:
            values = rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.05, 0.3), (cells, cells))
        else:
            values = rng.uniform(0, 1, (cells, cells)) < rng.uniform(0.05, 0.5)
        grown = np.kron(values, np.ones((grain, grain)))[:side, :side]
        pictures.append(_bytes(grown))
    return Photos(pictures, [""] * count, [""] * count)


def _inked(character: str, font: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """How much ink lies where, from 0 to 1."""
    from PIL import Image, ImageDraw

    side = int(rng.choice(SIDES))
    height = int(side * rng.uniform(0.3, 0.7))
    large = Image.new("L", (2 * side, 2 * side))
    ImageDraw.Draw(large).text((side, side), character, fill=255, font=_font(font, round(height * 1.4)), anchor="mm")
    large = large.rotate(float(rng.uniform(-_LARGEST_TURN, _LARGEST_TURN)), resample=Image.Resampling.BICUBIC)
    left, top, right, bottom = large.getbbox()  # type: ignore[misc]
    # Somewhere on the paper, with a margin that keeps the whole character on it.
    margin = max(2, side // 20)
    free = side - 2 * margin
    cut = large.crop((left, top, right, bottom))
    cut.thumbnail((free, free))
    page = Image.new("L", (side, side))
    page.paste(
        cut,
        (
            margin + int(rng.integers(0, free - cut.width, endpoint=True)),
            margin + int(rng.integers(0, free - cut.height, endpoint=True)),
        ),
    )
    return np.asarray(page, np.float32) / np.float32(255)


def _photographed(ink: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    from PIL import Image, ImageFilter

    side = len(ink)
    y, x = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    turn, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.2)
    paper = rng.uniform(0.7, 1.0)
    light = 1 - depth * (1 + np.cos(turn) * x + np.sin(turn) * y) / 2 - rng.uniform(0, 0.1) * (x * x + y * y) / 2
    picture = light * paper * (1 - ink * rng.uniform(0.6, 1.0))
    soft = Image.fromarray(_bytes(picture)).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, side / 150))))
    noise = rng.normal(0, rng.uniform(0, 0.04), picture.shape)
    return _bytes(np.asarray(soft, np.float32) / 255 + noise)


def _bytes(values: NDArray) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        import matplotlib
        from PIL import ImageFont
    except ImportError as error:
        raise DataError("drawn photos need Pillow and matplotlib; 'pip install pillow matplotlib'") from error
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    try:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"drawn photos need the font {path}, which this version of matplotlib does not have") from error
