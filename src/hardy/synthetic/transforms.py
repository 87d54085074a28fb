"""What is made of an image to measure detection: gray, noise, its inverse, a half of it, or strokes over it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.synthetic.outliers import strokes
from hardy.validation import Images


def uniform_noise(images: Images, rng: Randomness) -> Images:
    return rng.uniform(*images.shape[1:])


def gaussian_noise(images: Images, rng: Randomness) -> Images:
    return (0.5 + 0.25 * rng.normal(*images.shape[1:])).clamp(0.0, 1.0)


def blank(images: Images, rng: Randomness) -> Images:
    return rng.uniform(1, 1, 1).expand_as(images)


def inverted(images: Images, rng: Randomness) -> Images:  # noqa: ARG001
    return 1.0 - images


def half(images: Images, rng: Randomness) -> Images:
    """The left, right, upper or lower half; the rest is black."""
    height, width = images.shape[2:]
    halves = torch.zeros(4, height, width, device=images.device)
    halves[0, : height // 2] = halves[1, height // 2 :] = 1.0
    halves[2, :, : width // 2] = halves[3, :, width // 2 :] = 1.0
    return images * halves[rng.integers(4, 1).squeeze(1)][:, None]


TRANSFORMS: Registry[Callable[[Images, Randomness], Images]] = Registry(
    "transform",
    (uniform_noise, gaussian_noise, blank, inverted, half, strokes),
    name_of=lambda function: function.__name__,
)
"""What is made of the test images for measuring: of even gray, of noise, inverted, halved, or drawn over."""
