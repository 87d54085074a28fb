"""Geometric augmentations: where the pixels go. What comes in from outside is 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate, pad

from hardy.rng import Randomness
from hardy.validation import Images

# One knot of an elastic field every so many pixels: about the width of a digit's stroke and its gap.
_KNOT_SPACING = 5


def warp(images: Images, matrix: Tensor) -> Images:
    """``matrix``, float32 (N, 2, 3), maps places of the result to places of the image, both in [-1, 1]; bilinear."""
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def warp_about_center(images: Images, linear: Tensor, move: Tensor) -> Images:
    """``linear``, float32 (N, 2, 2), maps (x, y) in pixels about the center; ``move``, (N, 2), shares of the size."""
    height, width = images.shape[2:]
    # Places run from -1 to 1 along both sides, however long they are.
    stretch = images.new_tensor([[1.0, height / width], [width / height, 1.0]])
    return warp(images, torch.cat([linear * stretch, 2 * move[:, :, None]], dim=2)).clamp(0.0, 1.0)


def rotate(images: Images, rng: Randomness, *, degrees: float) -> Images:
    """Turn each image about its center by an angle uniform in ±``degrees``; what comes in from outside is 0."""
    angle = rng.uniform(low=-math.radians(degrees), high=math.radians(degrees))
    matrix = images.new_zeros(len(images), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    height, width = images.shape[2:]
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin() * (height / width), angle.sin() * (width / height)
    return warp(images, matrix)


def translate(images: Images, rng: Randomness, *, fraction: float) -> Images:
    """Move each image by up to ``fraction`` of its width and of its height; what comes in from outside is 0."""
    matrix = images.new_zeros(len(images), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0
    matrix[:, :, 2] = rng.uniform(2, low=-2 * fraction, high=2 * fraction)
    return warp(images, matrix)


def shift(images: Images, rng: Randomness, *, pixels: int) -> Images:
    """Move each image by whole pixels, up to ``pixels`` each way; what comes in from outside is 0."""
    count, channels, height, width = images.shape
    offset = rng.integers(2 * int(pixels) + 1, 2)
    padded = pad(images, (int(pixels),) * 4)
    rows = (offset[:, :1] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (offset[:, 1:] + torch.arange(width, device=images.device))[:, None, None, :]
    example = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[example, channel, rows, columns]


def scale(images: Images, rng: Randomness, *, fraction: float) -> Images:
    """Scale each image about its center by a factor uniform in 1 ± ``fraction`` (below 1)."""
    return affine(images, rng, degrees=0.0, shear=0.0, scale=fraction, fraction=0.0)


def shear(images: Images, rng: Randomness, *, degrees: float) -> Images:
    """Slant each image sideways about its center by an angle uniform in ±``degrees`` (below 90)."""
    return affine(images, rng, degrees=0.0, shear=degrees, scale=0.0, fraction=0.0)


def affine(images: Images, rng: Randomness, *, degrees: float, shear: float, scale: float, fraction: float) -> Images:
    """Turn, slant, scale and move each image, with one interpolation.

    The angle is uniform in ±``degrees``, the slant in ±``shear`` degrees, the factor in 1 ± ``scale``, the move in
    ±``fraction`` of each side.
    """
    draws = rng.uniform(5, low=-1.0)
    angle, slant = math.radians(degrees) * draws[:, 0], torch.tan(math.radians(shear) * draws[:, 1])
    cosine, sine = angle.cos(), angle.sin()
    rows = [torch.stack([cosine, cosine * slant - sine], 1), torch.stack([sine, sine * slant + cosine], 1)]
    # However large the setting, an image neither vanishes nor is turned inside out.
    factor = (1.0 + scale * draws[:, 2]).clamp_min(0.05)
    linear = torch.stack(rows, 1) / factor.reshape(-1, 1, 1)
    return warp_about_center(images, linear, fraction * draws[:, 3:])


def elastic(images: Images, rng: Randomness, *, pixels: float) -> Images:
    """Move each pixel by a smooth random field of standard deviation ``pixels`` at its knots, one every 5 pixels.

    Between knots the field is a cubic spline. After Simard, Steinkraus and Platt, ICDAR 2003, who smooth a field drawn
    for every pixel.
    """
    count, _, height, width = images.shape
    knots = [2 + side // _KNOT_SPACING for side in (height, width)]
    field = interpolate(rng.normal(2, *knots), size=(height, width), mode="bicubic", align_corners=True)
    identity = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
    grid = affine_grid(identity, list(images.shape), align_corners=False)
    in_places = field.movedim(1, 3) * images.new_tensor([2 * pixels / width, 2 * pixels / height])
    return grid_sample(images, grid + in_places, align_corners=False).clamp(0.0, 1.0)
