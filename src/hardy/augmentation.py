"""Augmentation: batched, on the device of the images, seeded per example.

Each is a function ``(images, rng, **settings) -> images`` on float32 (N, C, H, W) in [0, 1], and stays in that range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from hardy.contracts import Images, check_settings
from hardy.errors import unknown
from hardy.randomness import Randomness

Augmentation: TypeAlias = Callable[..., Images]
Settings: TypeAlias = Mapping[str, float]


def _warp(images: Images, matrix: Tensor) -> Images:
    """``matrix``, float32 (N, 2, 3), maps places of the result to places of the image, both in [-1, 1]; bilinear."""
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def rotate(images: Images, rng: Randomness, *, degrees: float) -> Images:
    """Turn each image about its centre by an angle uniform in ±``degrees``; what comes in from outside is 0."""
    angle = rng.uniform(low=-math.radians(degrees), high=math.radians(degrees))
    matrix = images.new_zeros(len(images), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    # Places run from -1 to 1 along both sides, however long they are.
    height, width = images.shape[2:]
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin() * (height / width), angle.sin() * (width / height)
    return _warp(images, matrix)


def translate(images: Images, rng: Randomness, *, fraction: float) -> Images:
    """Move each image by up to ``fraction`` of its width and of its height; what comes in from outside is 0."""
    matrix = images.new_zeros(len(images), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
    matrix[:, :, 2] = rng.uniform(2, low=-2 * fraction, high=2 * fraction)
    return _warp(images, matrix)


def shift(images: Images, rng: Randomness, *, pixels: int) -> Images:
    """Move each image by whole pixels, up to ``pixels`` each way; what comes in from outside is 0."""
    count, channels, height, width = images.shape
    offset = rng.integers(2 * int(pixels) + 1, 2)
    padded = torch.nn.functional.pad(images, (int(pixels),) * 4)
    rows = (offset[:, :1] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (offset[:, 1:] + torch.arange(width, device=images.device))[:, None, None, :]
    example = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[example, channel, rows, columns]


def gaussian_noise(images: Images, rng: Randomness, *, deviation: float) -> Images:
    """Add normal noise of standard deviation ``deviation`` to every pixel, then clip to [0, 1]."""
    return (images + deviation * rng.normal(*images.shape[1:])).clamp(0.0, 1.0)


AUGMENTATIONS: dict[str, Augmentation] = {
    "rotate": rotate,
    "translate": translate,
    "shift": shift,
    "gaussian_noise": gaussian_noise,
}


def check_augmentation(steps: Mapping[str, Settings]) -> None:
    """Raise :class:`UsageError` for an unknown name or wrong settings, before anything is trained."""
    for name, settings in steps.items():
        if name not in AUGMENTATIONS:
            raise unknown("augmentation", name, AUGMENTATIONS)
        check_settings(f"augmentation '{name}'", AUGMENTATIONS[name], settings)


def augment(images: Images, rng: Randomness, steps: Mapping[str, Settings]) -> Images:
    """Apply the named augmentations in order, each with its own random streams."""
    for name, settings in steps.items():
        images = AUGMENTATIONS[name](images, rng.fold(name), **settings)
    return images
