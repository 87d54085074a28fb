"""Corruptions: what happens to images that nobody means harm with. The 15 families of MNIST-C, and validation ones.

Mu and Gilmer, "MNIST-C: a robustness benchmark for computer vision", arXiv:1906.02337, after Hendrycks and Dietterich,
"Benchmarking neural network robustness to common corruptions and perturbations", arXiv:1903.12261. Families and
settings are those of their code; the held-out families are those that it defines and the published set leaves out. Its
pictures of frost and of snow, and its pessimal noise, need data that is not here.
"""

from __future__ import annotations

import torch

from hardy.corruptions.blur import DEFOCUS_BLUR, GAUSSIAN_BLUR, GLASS_BLUR, MOTION_BLUR, ZOOM_BLUR
from hardy.corruptions.corruption import Corruption
from hardy.corruptions.drawing import DOTTED_LINE, LINE, STRIPE, ZIGZAG
from hardy.corruptions.geometry import ELASTIC_TRANSFORM, ROTATE, SCALE, SHEAR, TRANSLATE, turned, warp
from hardy.corruptions.noise import GAUSSIAN_NOISE, IMPULSE_NOISE, SHOT_NOISE, SPECKLE_NOISE
from hardy.corruptions.tones import (
    BRIGHTNESS,
    CANNY_EDGES,
    CONTRAST,
    INVERSE,
    JPEG_COMPRESSION,
    PIXELATE,
    QUANTIZE,
    SATURATE,
)
from hardy.corruptions.weather import FOG, SPATTER
from hardy.errors import UsageError, unknown
from hardy.rng import Randomness
from hardy.validation import Images, check_images

__all__ = [
    "CORRUPTIONS",
    "VALIDATION",
    "PUBLISHED",
    "Corruption",
    "corrupt",
    "get_corruption",
    "turned",
    "warp",
]

CORRUPTIONS: dict[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        SHOT_NOISE,
        IMPULSE_NOISE,
        GLASS_BLUR,
        MOTION_BLUR,
        SHEAR,
        SCALE,
        ROTATE,
        BRIGHTNESS,
        TRANSLATE,
        STRIPE,
        FOG,
        SPATTER,
        DOTTED_LINE,
        ZIGZAG,
        CANNY_EDGES,
        GAUSSIAN_NOISE,
        SPECKLE_NOISE,
        GAUSSIAN_BLUR,
        DEFOCUS_BLUR,
        ZOOM_BLUR,
        ELASTIC_TRANSFORM,
        CONTRAST,
        SATURATE,
        JPEG_COMPRESSION,
        PIXELATE,
        QUANTIZE,
        LINE,
        INVERSE,
    )
}
PUBLISHED = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.published)
"""The 15 families of MNIST-C."""

VALIDATION = tuple(name for name, corruption in CORRUPTIONS.items() if not corruption.published)
"""The families that are in its authors' code and not in the set."""

# Images at once: the largest intermediate results, of glass blur, then have about 10 MiB.
_BATCH = 512


def get_corruption(name: str) -> Corruption:
    """The corruption of that name; dashes may stand for underscores.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    name = name.replace("-", "_")
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    return CORRUPTIONS[name]


def corrupt(images: Images, name: str, severity: int | None, rng: Randomness, *, quantized: bool = False) -> Images:
    """Corrupt images.

    Args:
        images: float32 (N, C, H, W) in [0, 1]; left as they are.
        name: the family.
        severity: from 1 to as many as the family has; None for its default.
        rng: the images' random streams. A severity uses the same ones as another, so severities compare.
        quantized: round the result to the 256 values of 8 bits, as an image file would.

    Returns:
        float32 (N, C, H, W) in [0, 1], on the same device. An image's corruption does not depend on the others.

    Raises:
        ContractError: images outside the contract, NaN among them.
        UsageError: unknown family or severity; a family that is not defined for such images; streams of other images.
    """
    corruption = get_corruption(name)
    severity = corruption.default if severity is None else severity
    corruption.check_severity(severity)
    check_images(images)
    reason = corruption.reason_undefined(tuple(images.shape[1:]))
    if reason:
        raise UsageError(f"corruption '{corruption.name}': {reason}")
    if len(rng) != len(images):
        raise UsageError(f"corruption '{corruption.name}': {len(rng)} random streams for {len(images)} images")
    rng = rng.fold("corruption", corruption.name)
    rows = torch.arange(len(images), device=rng.examples.device).split(_BATCH)
    found = [
        corruption.function(images[part], rng.select(part), **corruption.settings[severity - 1]).clamp(0.0, 1.0)
        for part in rows
        if len(part)
    ]
    corrupted = torch.cat(found) if found else images.clone()
    return torch.round(corrupted * 255) / 255 if quantized else corrupted
