"""Synthetic outliers: images that belong to no class, for exposure in training, for fitting detectors and for tests.

A family is a function ``(images, rng) -> images``. It takes float32 (N, C, H, W) in [0, 1], of which some families use
no more than the shape, and gives as many outliers of that shape. What it makes of an example depends on that example
and its random streams alone. Families have names, so that some can be held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hardy.errors import UsageError
from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.synthetic.glyphs import EXPOSURE_FONTS, drawn_letter
from hardy.synthetic.rearranged import mirrored, overlaid, spliced, turned
from hardy.synthetic.shapes import blots, doodles, dots, edges, ellipses, polygons
from hardy.validation import Images

EXPOSURE_CHARACTERS = "KLMNPRTUVWXYaefhkmrtwx&%#@?+="
"""Neither the letters A to J, which detection is measured on, nor what looks like a digit (O, S, Z, I)."""

_GRID = 4
_GLYPH_SIDE = 64
_CURVES, _POINTS = 3, 32
_SCALES = (1, 2, 4, 7)


class Outliers(NamedTuple):
    """A family of synthetic outliers: its name, function and description, and whether it is held out from fitting."""

    name: str
    function: Callable[[Images, Randomness], Images]
    description: str
    held_out: bool = False


def pieces(images: Images, rng: Randomness) -> Images:
    """The image cut into 4x4 pieces, which are turned over and put together in another order."""
    _, channels, height, width = images.shape
    tall, wide = -(-height // _GRID), -(-width // _GRID)
    padded = F.pad(images, (0, _GRID * wide - width, 0, _GRID * tall - height))
    cut = F.unfold(padded, (tall, wide), stride=(tall, wide)).transpose(1, 2)
    order = rng.uniform(_GRID * _GRID).argsort(dim=1)
    shuffled = cut.gather(1, order[:, :, None].expand_as(cut)).reshape(len(images), -1, channels, tall, wide)
    turned = torch.where(
        rng.integers(2, shuffled.shape[1], draw=1)[:, :, None, None, None] == 1, shuffled.flip(-1), shuffled
    )
    flat = turned.reshape(len(images), cut.shape[1], cut.shape[2]).transpose(1, 2)
    whole = F.fold(flat, padded.shape[2:], (tall, wide), stride=(tall, wide))
    return whole[:, :, :height, :width]


def strokes(images: Images, rng: Randomness) -> Images:
    """Three curves of a pen, of random course and width; anywhere, so seldom a digit."""
    _, channels, height, width = images.shape
    device = images.device
    corners = rng.uniform(_CURVES, 4, 2, low=-0.1, high=1.1)
    along = torch.linspace(0.0, 1.0, _POINTS, device=device)
    # A cubic Bézier curve: weights of its four corners at each point.
    weights = torch.stack([(1 - along) ** 3, 3 * along * (1 - along) ** 2, 3 * along**2 * (1 - along), along**3], dim=1)
    points = torch.einsum("pk,nckd->ncpd", weights, corners).flatten(1, 2)
    rows = (torch.arange(height, device=device) + 0.5) / height
    columns = (torch.arange(width, device=device) + 0.5) / width
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
    distance = torch.cdist(place.expand(len(images), -1, -1), points).amin(2) * min(height, width)
    pen = rng.uniform(1, low=0.8, high=2.5, draw=1)
    ink = (pen + 0.5 - distance).clamp(0.0, 1.0)
    return ink.reshape(-1, 1, height, width).expand(-1, channels, -1, -1)


def textures(images: Images, rng: Randomness) -> Images:
    """Two waves of random direction and length, added; every second one cut to black and white."""
    _, channels, height, width = images.shape
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)[None, :]
    angle, phase = (2 * math.pi * rng.uniform(2, 1, 1, draw=draw) for draw in (0, 1))
    frequency = rng.uniform(2, 1, 1, low=0.15, high=1.6, draw=2)
    waves = torch.sin(frequency * (x * angle.cos() + y * angle.sin()) + phase).sum(1)
    soft = 0.5 + 0.25 * waves
    sharp = (rng.integers(2, 1, 1, draw=3) == 1) & torch.ones_like(soft, dtype=torch.bool)
    return torch.where(sharp, (waves > 0).float(), soft)[:, None].expand(-1, channels, -1, -1)


def noise(images: Images, rng: Randomness) -> Images:
    """Gaussian noise of a random grain, from single pixels to patches of seven, of random mean and contrast."""
    _, channels, height, width = images.shape
    made = torch.zeros_like(images)
    grain = rng.integers(len(_SCALES), 1).squeeze(1)
    for number, scale in enumerate(_SCALES):
        chosen = grain == number
        if chosen.any():
            mine = rng.select(chosen)
            coarse = mine.fold("grain").normal(channels, -(-height // scale) + 1, -(-width // scale) + 1)
            field = F.interpolate(coarse, scale_factor=scale, mode="bilinear")[:, :, :height, :width]
            mean = mine.uniform(1, 1, 1, low=0.1, high=0.7, draw=1)
            contrast = mine.uniform(1, 1, 1, low=0.1, high=0.6, draw=2)
            made[chosen] = (mean + contrast * field).clamp(0.0, 1.0)
    return made


def gray_crops(images: Images, rng: Randomness) -> Images:
    """A small part of the image, enlarged three to seven times, on a gray ground."""
    share = 1.0 / rng.uniform(1, low=3.0, high=7.0)
    center = rng.uniform(2, low=-0.5, high=0.5, draw=1)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = share.squeeze(1)
    theta[:, :, 2] = center
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    crop = F.grid_sample(images, grid, align_corners=False)
    ground = rng.uniform(1, 1, 1, low=0.1, high=0.6, draw=2)
    return ground + (1.0 - ground) * rng.uniform(1, 1, 1, low=0.2, high=1.0, draw=3) * crop


def permuted_pixels(images: Images, rng: Randomness) -> Images:
    """The image's own pixels in random order: what it is made of, and nothing of what it shows."""
    order = rng.uniform(images[0, 0].numel()).argsort(dim=1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, order).reshape(images.shape)


def glyphs(images: Images, rng: Randomness) -> Images:
    """Letters and signs in the fonts that the dataset ``glyphs`` does not use, turned, of random size, off center.

    Raises:
        DataError: Pillow or matplotlib is not installed.
    """
    bank = _glyph_bank().to(images.device)
    _, channels, height, width = images.shape
    chosen = bank[rng.integers(len(bank), 1).squeeze(1)].float().div(255)[:, None]
    angle = rng.uniform(1, low=-0.4, high=0.4, draw=1).squeeze(1)
    # How much of the field a glyph fills: as much as MNIST's digits, more or less.
    size = rng.uniform(1, low=0.5, high=0.85, draw=2).squeeze(1)
    theta = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).reshape(-1, 2, 2)
    shift = rng.uniform(2, 1, low=-0.15, high=0.15, draw=3)
    affine = torch.cat([theta, shift], dim=2) / size[:, None, None]
    # Twice as fine, then halved: a sample of single points would break thin lines.
    grid = F.affine_grid(affine, [len(images), 1, 2 * height, 2 * width], align_corners=False)
    return (
        F.avg_pool2d(F.grid_sample(chosen, grid, align_corners=False), 2).clamp(0.0, 1.0).expand(-1, channels, -1, -1)
    )


@cache
def _glyph_bank() -> Tensor:
    """uint8 (G, 64, 64): each character of each font, as large as its field."""
    drawn = [drawn_letter(font, letter, _GLYPH_SIDE) for font in EXPOSURE_FONTS for letter in EXPOSURE_CHARACTERS]
    return torch.from_numpy(np.stack(drawn))


OUTLIERS: Registry[Outliers] = Registry(
    "family of outliers",
    (
        Outliers("pieces", pieces, "the image's own pieces in another order"),
        Outliers("strokes", strokes, "curves of a pen", held_out=True),
        Outliers("textures", textures, "waves, smooth or black and white"),
        Outliers("noise", noise, "Gaussian noise of many grains"),
        Outliers("gray_crops", gray_crops, "enlarged parts of the image on gray"),
        Outliers("permuted_pixels", permuted_pixels, "the image's pixels in random order"),
        Outliers("glyphs", glyphs, "letters and signs in fonts that the dataset glyphs does not use"),
        Outliers("ellipses", ellipses, "filled discs and ellipses"),
        Outliers("blots", blots, "filled blots"),
        Outliers("doodles", doodles, "scribbles, zigzags and spirals"),
        Outliers("edges", edges, "edges, strips, corners and frames"),
        Outliers("mirrored", mirrored, "the image mirrored or upside down"),
        Outliers("spliced", spliced, "a half of the image with another half of it mirrored, turned or moved"),
        Outliers("polygons", polygons, "filled polygons and stars", held_out=True),
        Outliers("dots", dots, "one to five filled dots", held_out=True),
        Outliers("turned", turned, "the image turned by 60 to 120 degrees", held_out=True),
        Outliers("overlaid", overlaid, "the image with itself, turned, over it", held_out=True),
    ),
)

EXPOSURE_FAMILIES = ("pieces", "strokes", "textures", "noise", "gray_crops", "permuted_pixels", "glyphs")
"""What a training that is exposed to outliers draws from."""

FITTING_FAMILIES = tuple(name for name, it in OUTLIERS.items() if not it.held_out)
"""What detectors are fitted on and a score is chosen by; the others are for reporting, and strokes are measured on."""

OF_NO_CLASS = ("pieces", "textures", "noise", "gray_crops", "permuted_pixels", "glyphs", "strokes", "spliced")
"""What belongs to no class whatever the classes are; a disc, or an image turned or mirrored, may well belong to one."""


def make_outliers(images: Images, rng: Randomness, families: Sequence[str] = EXPOSURE_FAMILIES) -> Images:
    """Outliers of these families, one per image; which family is drawn for each example.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        rng: the random streams of these examples.
        families: names in ``OUTLIERS``.

    Returns:
        float32 (N, C, H, W) in [0, 1].

    Raises:
        UsageError: an unknown family, or none.
    """
    if not families:
        raise UsageError(f"no family of outliers is named; known: {', '.join(OUTLIERS)}")
    made = torch.zeros_like(images)
    drawn = rng.fold("family").integers(len(families), 1).squeeze(1)
    for number, name in enumerate(families):
        chosen = drawn == number
        family = OUTLIERS.find(name)
        if chosen.any():
            made[chosen] = family.function(images[chosen], rng.select(chosen).fold(name))
    return made


def outliers_by_family(
    images: Images, rng: Randomness, families: Sequence[str] = FITTING_FAMILIES
) -> dict[str, Images]:
    """Outliers of each of these families, as many as there are images, float32 (N, C, H, W) in [0, 1]."""
    return {name: OUTLIERS.find(name).function(images, rng.fold(name)) for name in families}
