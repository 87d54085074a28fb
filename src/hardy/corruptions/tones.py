"""Tones: what becomes of a gray, and of its neighbourhood where it is coded anew."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hardy.corruptions.canny import edges
from hardy.corruptions.corruption import corruption, each
from hardy.corruptions.filters import filter_both, matrix_of
from hardy.rng import Randomness
from hardy.validation import Images


@corruption(
    "every pixel brighter by the same amount", each("added", 0.1, 0.2, 0.3, 0.4, 0.5), default=5, published=True
)
def brightness(images: Images, rng: Randomness, *, added: float) -> Images:  # noqa: ARG001
    """Add ``added`` to the value of each pixel's color, its largest channel; hue and saturation stay."""
    value = images.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1.0)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-12)), brighter)


@corruption("every pixel nearer to the mean", each("factor", 0.4, 0.3, 0.2, 0.1, 0.05), default=4)
def contrast(images: Images, rng: Randomness, *, factor: float) -> Images:  # noqa: ARG001
    """Multiply each channel's distance from its mean by ``factor``."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


@corruption(
    "darker at 1 and 2, brighter at 3 to 5",
    each("factor added", (0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
    default=5,
    gray=True,
)
def saturate(images: Images, rng: Randomness, *, factor: float, added: float) -> Images:  # noqa: ARG001
    """Multiply hue, saturation and value by ``factor``, add ``added``, clip each, and make the color gray again.

    A gray has hue and saturation 0, so both become ``added``, and the color's gray is a fixed share of its value.
    """
    value = (factor * images + added).clamp(0.0, 1.0)
    return value * _gray_share(added, added)


def _gray_share(hue: float, saturation: float) -> float:
    """The luminance of the color of value 1; ``hue`` and ``saturation`` in [0, 1]."""
    # Each channel falls from 1 as the hue turns away from it: Smith's hexagonal color model.
    away = (abs(hue * 6 - 3) - 1, 2 - abs(hue * 6 - 2), 2 - abs(hue * 6 - 4))
    channels = [1 - saturation * (1 - min(max(share, 0.0), 1.0)) for share in away]
    return sum(weight * channel for weight, channel in zip((0.2125, 0.7154, 0.0721), channels, strict=True))


@corruption("few gray values", each("bits", 5, 4, 3, 2, 1), default=5)
def quantize(images: Images, rng: Randomness, *, bits: int) -> Images:  # noqa: ARG001
    """Round to 2 ** ``bits`` evenly spaced values."""
    steps = 2**bits - 1
    return torch.round(images * steps) / steps


@corruption("black on white")
def inverse(images: Images, rng: Randomness) -> Images:  # noqa: ARG001
    """White becomes black, and black white."""
    return 1.0 - images


@corruption("large pixels", each("share", 0.6, 0.5, 0.4, 0.3, 0.25), default=3, smallest=4)
def pixelate(images: Images, rng: Randomness, *, share: float) -> Images:  # noqa: ARG001
    """Make the image smaller by Pillow's box filter, to ``share`` of its sides, and large again."""
    height, width = images.shape[2:]
    return filter_both(images, _coarse(height, share), _coarse(width, share))


def _coarse(size: int, share: float) -> Tensor:
    small = int(size * share)

    def filtered(values: np.ndarray) -> np.ndarray:
        columns = values.shape[1]
        picture = Image.fromarray(values.astype(np.float32))
        for rows in (small, size):
            picture = picture.resize((columns, rows), Image.Resampling.BOX)
        return np.asarray(picture)

    return matrix_of(size, filtered)


@corruption("the traces of strong JPEG compression", each("quality", 25, 18, 15, 10, 7), default=5)
def jpeg_compression(images: Images, rng: Randomness, *, quality: int) -> Images:  # noqa: ARG001
    """Write as JPEG of that ``quality``, and read back; pixels are rounded to 8 bits on the way."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    read = np.stack([_through_jpeg(image, quality) for image in pixels])
    return torch.from_numpy(read).to(images.device).permute(0, 3, 1, 2).to(torch.float32) / 255


def _through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    written = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(written, "JPEG", quality=quality)
    return np.asarray(Image.open(written)).reshape(image.shape)


@corruption("the outlines alone, as Canny's detector finds them", published=True, smallest=3, gray=True)
def canny_edges(images: Images, rng: Randomness) -> Images:  # noqa: ARG001
    """The edges that Canny's detector finds, white on black."""
    grays = images[:, 0].double().cpu().numpy()
    return torch.from_numpy(np.stack([edges(gray) for gray in grays])).to(images)[:, None]
