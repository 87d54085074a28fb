"""Noise: each pixel for itself."""

from __future__ import annotations

import torch

from hardy.corruptions.corruption import corruption, each
from hardy.rng import Randomness
from hardy.validation import Images


@corruption("normal noise on every pixel", each("deviation", 0.08, 0.12, 0.18, 0.26, 0.38), default=5)
def gaussian_noise(images: Images, rng: Randomness, *, deviation: float) -> Images:
    """Add normal noise of standard deviation ``deviation``."""
    return images + deviation * rng.normal(*images.shape[1:])


@corruption(
    "the noise of counting few photons, stronger on bright pixels",
    each("photons", 60, 25, 12, 5, 3),
    default=5,
    published=True,
)
def shot_noise(images: Images, rng: Randomness, *, photons: int) -> Images:
    """Count photons: Poisson of mean ``photons`` times the pixel, divided by ``photons``; counts above are cut off."""
    uniform = rng.uniform(*images.shape[1:])
    mean = photons * images
    chance = torch.exp(-mean)
    below = chance.clone()
    counted = (uniform >= below).to(images.dtype)
    # Inverse of the distribution function: what is above ``photons`` is clipped, so nothing above is told apart.
    for count in range(1, photons):
        chance *= mean / count
        below += chance
        counted += uniform >= below
    return counted / photons


@corruption(
    "salt and pepper: some pixels black, some white",
    each("amount", 0.03, 0.06, 0.09, 0.17, 0.27),
    default=4,
    published=True,
)
def impulse_noise(images: Images, rng: Randomness, *, amount: float) -> Images:
    """Salt and pepper: each value becomes 0 or 1, as often the one as the other, with chance ``amount``."""
    uniform = rng.uniform(*images.shape[1:])
    salted = torch.where(uniform < amount, torch.ones_like(images), images)
    return torch.where(uniform < amount / 2, torch.zeros_like(images), salted)


@corruption("normal noise in proportion to the pixel", each("deviation", 0.15, 0.2, 0.35, 0.45, 0.6), default=5)
def speckle_noise(images: Images, rng: Randomness, *, deviation: float) -> Images:
    """Add normal noise of standard deviation ``deviation`` times the pixel."""
    return images * (1.0 + deviation * rng.normal(*images.shape[1:]))
