"""Geometry: where a pixel comes from. What comes in from outside the image is 0; values between pixels are bilinear."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from hardy.corruptions.corruption import corruption, each
from hardy.corruptions.filters import gaussian_filter
from hardy.rng import Randomness
from hardy.validation import Images


def warp(images: Images, matrix: Tensor, offset: Tensor | None = None) -> Images:
    """Take each pixel from where an affine map says.

    Args:
        images: float32 (N, C, H, W), at least 2x2.
        matrix: float32 (N, 2, 2) or (2, 2): from a place (right, down) of the result, in pixels from the image's
            center, to the place in the image.
        offset: float32 (N, 2) or (2,), added to that place, in pixels.
    """
    count, _, height, width = images.shape
    half = images.new_tensor([(width - 1) / 2, (height - 1) / 2])
    # Torch measures places from -1 to 1 between the centers of the outermost pixels.
    affine = images.new_zeros(count, 2, 3)
    affine[:, :, :2] = matrix.to(images.device) * half / half[:, None]
    if offset is not None:
        affine[:, :, 2] = offset.to(images.device) / half
    grid = affine_grid(affine, list(images.shape), align_corners=True)
    return grid_sample(images, grid, align_corners=True)


def turned(images: Images, radians: Tensor) -> Images:
    """Turn each image about its center by its angle, ``radians`` (N,)."""
    cos, sin = radians.cos(), radians.sin()
    return warp(images, torch.stack([cos, -sin, sin, cos], dim=-1).reshape(-1, 2, 2))


@corruption(
    "slanted to the left or to the right",
    each("radians", 0.2, 0.4, 0.6, 0.8, 1.0),
    default=2,
    published=True,
    smallest=2,
)
def shear(images: Images, rng: Randomness, *, radians: float) -> Images:
    """Slant each image to the left or to the right by ``radians``; it grows taller by 1 / cos as it slants."""
    angle = radians * rng.signs()
    one, none = torch.ones_like(angle), torch.zeros_like(angle)
    return warp(images, torch.stack([one, -angle.sin(), none, angle.cos()], dim=-1).reshape(-1, 2, 2))


@corruption(
    "made smaller about the center",
    each("factor", 1 / 0.9, 1 / 0.8, 1 / 0.7, 1 / 0.6, 1 / 0.5),
    default=3,
    published=True,
    smallest=2,
)
def scale(images: Images, rng: Randomness, *, factor: float) -> Images:  # noqa: ARG001
    """Make each image smaller by ``factor``."""
    return warp(images, factor * torch.eye(2))


@corruption(
    "turned about the center, one way or the other",
    each("radians", 0.2, 0.4, 0.6, 0.8, 1.0),
    default=2,
    published=True,
    smallest=2,
)
def rotate(images: Images, rng: Randomness, *, radians: float) -> Images:
    """Turn each image by ``radians``, one way or the other."""
    return turned(images, radians * rng.signs())


@corruption(
    "moved along both axes by whole pixels", each("pixels", 1, 2, 3, 4, 5), default=3, published=True, smallest=6
)
def translate(images: Images, rng: Randomness, *, pixels: int) -> Images:
    """Move each image by ``pixels`` to the left or right and by as much up or down."""
    height, width = images.shape[2:]
    padded = pad(images, (pixels,) * 4)
    signs = rng.signs(2)
    moved = torch.empty_like(images)
    for right, down in itertools.product((-1, 1), repeat=2):
        chosen = (signs[:, 0] == right) & (signs[:, 1] == down)
        top, left = pixels * (1 + down), pixels * (1 + right)
        moved[chosen] = padded[chosen, :, top : top + height, left : left + width]
    return moved


@corruption(
    "slanted and stretched a little, then deformed pixel by pixel; at 1 and 2 mostly slanted",
    settings=(
        {"strength": 2.0, "smooth": 0.7, "affine": 0.1},
        {"strength": 2.0, "smooth": 0.08, "affine": 0.2},
        {"strength": 0.05, "smooth": 0.01, "affine": 0.02},
        {"strength": 0.07, "smooth": 0.01, "affine": 0.02},
        {"strength": 0.12, "smooth": 0.01, "affine": 0.02},
    ),
    smallest=8,
)
def elastic_transform(images: Images, rng: Randomness, *, strength: float, smooth: float, affine: float) -> Images:
    """Deform each image: first three points of it move by up to ``affine``, then every pixel by smoothed noise.

    All settings are shares of the image's height: ``strength`` of the noise, uniform in ±``strength`` before it is
    smoothed by a Gaussian of standard deviation ``smooth``.
    """
    count, _, height, width = images.shape
    third = min(height, width) // 3
    middle = images.new_tensor([width // 2 - (width - 1) / 2, height // 2 - (height - 1) / 2])
    corners = middle + images.new_tensor([[third, third], [third, -third], [-third, -third]])
    moved = corners + affine * height * rng.uniform(3, 2, low=-1.0, high=1.0)
    # From where the points went to where they were: two sides of the triangle, and what is left over.
    sides = torch.stack([corners[0] - corners[1], corners[1] - corners[2]], dim=-1)
    moved_sides = torch.stack([moved[:, 0] - moved[:, 1], moved[:, 1] - moved[:, 2]], dim=-1)
    matrix = torch.linalg.solve(moved_sides.mT, sides.mT.expand(count, 2, 2)).mT
    images = warp(images, matrix, corners[0] - (matrix @ moved[:, 0, :, None])[..., 0])
    noise = rng.uniform(2, height, width, low=-1.0, high=1.0, draw=1)
    by = strength * height * gaussian_filter(noise, smooth * height, mode="reflect", truncate=3.0)
    grid = affine_grid(torch.eye(2, 3, device=images.device).expand(count, 2, 3), list(images.shape), True)
    pixel = images.new_tensor([2 / (width - 1), 2 / (height - 1)])
    return grid_sample(images, grid + by.permute(0, 2, 3, 1) * pixel, align_corners=True)
