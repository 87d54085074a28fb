"""What is made of an image that keeps its strokes and loses what it shows: mirrored, turned, spliced, overlaid.

Each is ``(images, rng) -> images``, float32 (N, C, H, W) in [0, 1]. The second image that splicing and overlaying take
is the image itself, turned or mirrored, so that what becomes of an example depends on that example alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.rng import Randomness
from hardy.validation import Images


def mirrored(images: Images, rng: Randomness) -> Images:  # noqa: ARG001
    """Left for right or upside down, whichever is less like the image: a 0 or an 8 is turned into itself."""
    return _least_alike(images, torch.stack([images.flip(-1), images.flip(-2)]))


def turned(images: Images, rng: Randomness) -> Images:
    """Turned by 60 to 120 degrees to either side, about the middle."""
    angle = rng.uniform(low=math.pi / 3, high=2 * math.pi / 3) * rng.signs(draw=1)
    return _rotated(images, angle)


def spliced(images: Images, rng: Randomness) -> Images:
    """One half of the image beside the other half of it mirrored, upside down or moved; cut along any line."""
    height, width = images.shape[2:]
    y = torch.linspace(-1.0, 1.0, height, device=images.device)[:, None]
    x = torch.linspace(-1.0, 1.0, width, device=images.device)
    angle = rng.uniform(1, 1, high=2 * math.pi)
    side = (x * angle.cos() + y * angle.sin() > rng.uniform(1, 1, low=-0.1, high=0.1, draw=1))[:, None]
    quarter = max(1, min(height, width) // 5)
    others = torch.stack(
        [
            images.flip(-1),
            images.flip(-2),
            images.roll((quarter, 0), (-2, -1)),
            images.roll((0, quarter), (-2, -1)),
            _rotated(images, torch.full((len(images),), math.pi / 2, device=images.device)),
        ]
    )
    chosen = rng.integers(len(others), draw=2).reshape(-1)
    other = others[chosen, torch.arange(len(images), device=images.device)]
    return torch.where(side, images, other)


def overlaid(images: Images, rng: Randomness) -> Images:
    """The image with itself, turned by 50 to 130 degrees, drawn over it."""
    angle = rng.uniform(low=0.28 * math.pi, high=0.72 * math.pi) * rng.signs(draw=1)
    return torch.maximum(images, _rotated(images, angle))


def _rotated(images: Images, angle: Tensor) -> Images:
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos()
    theta[:, 1, 0] = angle.sin()
    theta[:, 0, 1] = -angle.sin()
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False).clamp(0.0, 1.0)


def _least_alike(images: Images, changed: Tensor) -> Images:
    alike = torch.minimum(images, changed).flatten(2).sum(2)
    return changed[alike.argmin(0), torch.arange(len(images), device=images.device)]
