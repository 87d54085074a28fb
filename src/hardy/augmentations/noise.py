"""Noise: every pixel for itself, clipped to [0, 1]."""

from __future__ import annotations

import torch

from hardy.rng import Randomness
from hardy.validation import Images


def gaussian_noise(images: Images, rng: Randomness, *, deviation: float) -> Images:
    """Add normal noise of standard deviation ``deviation`` to every pixel, then clip to [0, 1]."""
    return (images + deviation * rng.normal(*images.shape[1:])).clamp(0.0, 1.0)


def uniform_noise(images: Images, rng: Randomness, *, amount: float) -> Images:
    """Add noise uniform in ±``amount`` to every pixel, then clip to [0, 1]."""
    return (images + rng.uniform(*images.shape[1:], low=-amount, high=amount)).clamp(0.0, 1.0)


def impulse_noise(images: Images, rng: Randomness, *, amount: float) -> Images:
    """Make a share ``amount`` of the pixels black or white (salt and pepper), all channels of a pixel alike."""
    draws = rng.uniform(1, *images.shape[2:])
    salt_or_pepper = (draws < amount / 2).to(images.dtype)
    return torch.where(draws < amount, salt_or_pepper, images)
