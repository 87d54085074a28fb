"""Occlusion: parts of the image covered, crossed out or inverted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.rng import Randomness
from hardy.validation import Images

# The sides of a random rectangle differ up to this factor, as in random erasing.
_ASPECT = 1 / 0.3


def rectangle(images: Images, center: Tensor, sides: Tensor) -> Tensor:
    """bool (N, 1, H, W), true inside; ``center`` and ``sides``, float32 (N, 2), are shares of height and width."""
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        low = ((center[:, axis] - sides[:, axis] / 2) * length).round()
        high = ((center[:, axis] + sides[:, axis] / 2) * length).round()
        places = torch.arange(length, device=images.device)
        inside.append((places >= low[:, None]) & (places < high[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def _random_rectangle(images: Images, draws: Tensor, area: float) -> Tensor:
    size = (area * draws[:, 0]).sqrt()
    aspect = torch.exp(math.log(_ASPECT) * (draws[:, 1] - 0.5))
    sides = torch.stack([size * aspect, size / aspect], 1)
    return rectangle(images, draws[:, 2:4], sides)


def erase(images: Images, rng: Randomness, *, area: float) -> Images:
    """Cover a rectangle of up to a share ``area`` of the image with one gray.

    Size, place, proportions and gray are random; what lies outside the image is lost. Zhong et al., AAAI 2020,
    arXiv:1708.04896.
    """
    draws = rng.uniform(5)
    return torch.where(_random_rectangle(images, draws, area), draws[:, 4].reshape(-1, 1, 1, 1), images)


def invert_part(images: Images, rng: Randomness, *, area: float) -> Images:
    """Invert a rectangle of up to a share ``area`` of the image, of random size, place and proportions."""
    return torch.where(_random_rectangle(images, rng.uniform(4), area), 1.0 - images, images)


def strokes(images: Images, rng: Randomness, *, count: int, width: float) -> Images:
    """Draw 0 to ``count`` straight lines between random places, each up to ``width`` pixels wide and of one gray."""
    height, length = images.shape[2:]
    rows = torch.arange(height, device=images.device, dtype=torch.float32).reshape(1, -1, 1)
    columns = torch.arange(length, device=images.device, dtype=torch.float32).reshape(1, 1, -1)
    draws = rng.uniform(int(count) + 1, 6)
    drawn = (draws[:, 0, 0] * (int(count) + 1)).floor()
    for number in range(int(count)):
        y, x, down, right, thickness, gray = (it.reshape(-1, 1, 1) for it in draws[:, number + 1].unbind(1))
        y, x, down, right = y * height, x * length, (down - y) * height, (right - x) * length
        # How far along the line each pixel's nearest point lies.
        along = (((rows - y) * down + (columns - x) * right) / (down**2 + right**2).clamp_min(1e-6)).clamp(0.0, 1.0)
        distance = torch.hypot(rows - y - along * down, columns - x - along * right)
        ink = (width * thickness / 2 + 0.5 - distance).clamp(0.0, 1.0) * (width > 0)
        ink = ink * (drawn > number).reshape(-1, 1, 1)
        images = torch.lerp(images, gray[:, None].expand_as(images), ink[:, None].expand_as(images))
    return images.clamp(0.0, 1.0)
