"""Drawing: lines over the digit, and stripes. Places count from 0; the published ones are those of 28x28 pixels."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from hardy.corruptions.corruption import corruption
from hardy.rng import Randomness
from hardy.validation import Images

# Pixels from a line's middle to where its brightness, 1 + log(1 - distance / REACH), would be gone for good.
REACH = 2.3


@corruption("the left and the right quarter inverted", published=True, smallest=4)
def stripe(images: Images, rng: Randomness) -> Images:  # noqa: ARG001
    """Invert the leftmost and the rightmost quarter of the columns: of 28, 0 to 6 and 21 to 27."""
    width = images.shape[3]
    column = torch.arange(width, device=images.device)
    outer = (column < width // 4) | (column >= width - width // 4)
    return torch.where(outer, 1.0 - images, images)


@corruption("a line from left to right", smallest=12)
def line(images: Images, rng: Randomness) -> Images:
    """Draw a line from one of the columns 0 to 4 to one of the columns W-6 to W-2."""
    height, width = images.shape[2:]
    start, end = rng.fold("columns").integers(5, 2).T
    return images + _drawn(images, start, _row(rng, height, 0), width - 6 + end, _row(rng, height, 1))


@corruption("a dashed line from the left edge to the right", published=True, smallest=4)
def dotted_line(images: Images, rng: Randomness) -> Images:
    """Draw a line from the left to the right of which every other two columns are left out, the first two first."""
    height, width = images.shape[2:]
    none = torch.zeros(len(images), device=images.device)
    drawn = _drawn(images, none, _row(rng, height, 0), none + (width - 1), _row(rng, height, 1))
    shown = torch.arange(width, device=images.device) // 2 % 2 == 1
    return images + drawn * shown


@corruption("a zigzag line from left to right", published=True, smallest=12)
def zigzag(images: Images, rng: Randomness) -> Images:
    """Draw a zigzag from column 2 to column W-3 that rises or falls by up to 5 rows.

    Half a tooth is two pixels long and two high. At the end the line comes back towards its middle, as far as the
    authors' formula takes it.
    """
    height, width = images.shape[2:]
    length = width - 5.0
    fall = rng.fold("fall").integers(10).float() - 5.0
    angle = torch.atan(fall / length)
    along, across = _corners(length / angle.cos())
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    columns = 2.0 + along * cos - across * sin
    rows = _row(rng, height, 0)[:, None] + along * sin + across * cos
    corners = list(zip(columns.T, rows.T, strict=True))
    drawn = torch.zeros_like(images[:, :1])
    for (c0, r0), (c1, r1) in pairwise(corners):
        drawn += _drawn(images, c0, r0, c1, r1)
    return images + drawn


def _corners(length: Tensor) -> tuple[Tensor, Tensor]:
    """Where a zigzag turns, (N, corners) along and across a line of ``length`` (N,); with fewer teeth the last repeats.

    From 0 to tooth after tooth at 2, 6, 10, …, and at the end of the line.
    """
    teeth = ((length - 2.0) // 4.0).long() + 1
    tooth = torch.arange(int(teeth.max()), device=length.device)
    kept = torch.minimum(tooth, teeth[:, None] - 1)
    along, across = 2.0 + 4.0 * kept, 2.0 - 4.0 * (kept % 2)
    over = length - 4.0 * (length // 4.0)
    last = across[:, -1] / (2.0 * torch.where(over > 0, over, torch.inf))
    # A line that ends at a whole number of teeth ends with its last one.
    end = torch.where(over > 0, length, along[:, -1]), torch.where(over > 0, last, across[:, -1])
    none = torch.zeros_like(length)[:, None]
    return (
        torch.cat([none, along, end[0][:, None]], dim=1),
        torch.cat([none, across, end[1][:, None]], dim=1),
    )


def _row(rng: Randomness, height: int, draw: int) -> Tensor:
    """A row each, from 0 to the last but one, float32 (N,)."""
    return rng.fold("rows").integers(height - 1, draw=draw).float()


def _drawn(images: Images, c0: Tensor, r0: Tensor, c1: Tensor, r1: Tensor) -> Tensor:
    """Lines from column ``c0`` and row ``r0`` to ``c1`` and ``r1``, (N,) each, without the end column: (N, 1, H, W).

    Distances are measured along the column, so a steep line looks thicker. A line without length is not drawn.
    """
    height, width = images.shape[2:]
    c0, r0, c1, r1 = (place.float() for place in (c0, r0, c1, r1))
    column = torch.arange(width, device=images.device).float()
    row = torch.arange(height, device=images.device).float()
    slope = (r1 - r0) / torch.where(c1 == c0, torch.ones_like(c0), c1 - c0)
    middle = slope[:, None] * (column - c0[:, None]) + r0[:, None]
    crossed = (column >= c0.floor()[:, None]) & (column < c1.ceil()[:, None]) & (c1 != c0)[:, None]
    distance = (row[:, None] - middle[:, None, :]).abs()
    # Where the logarithm falls below -1 there is nothing to see.
    bright = (torch.log1p(-(distance / REACH).clamp(max=1.0 - math.exp(-1.0))) + 1.0).clamp(min=0.0)
    return (bright * crossed[:, None, :])[:, None]
