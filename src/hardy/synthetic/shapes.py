"""Filled shapes, lines of a pen and edges, drawn from random numbers alone: float32 (N, C, H, W) in [0, 1].

Each is ``(images, rng) -> images`` and takes no more than the shape from the images that it is given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hardy.rng import Randomness
from hardy.validation import Images

_POINTS = 6
_CORNERS = 7
_DOTS = 5
_COARSE = 5


def ellipses(images: Images, rng: Randomness) -> Images:
    """A filled disc or ellipse; one of three has a smaller hole."""
    y, x = _turned(_places(images), rng)
    long = rng.uniform(1, 1, low=0.2, high=0.95, draw=2)
    short = long * rng.uniform(1, 1, low=0.35, high=1.0, draw=3)
    radius = torch.sqrt((x / long).square() + (y / short).square())
    hole = torch.where(rng.integers(3, 1, 1, draw=4) == 0, rng.uniform(1, 1, low=0.05, high=0.3, draw=5), 0.0)
    return _filled(images, torch.minimum((1 - radius) * short, (radius - hole) * short), rng)


def polygons(images: Images, rng: Randomness) -> Images:
    """A filled triangle, rectangle or other convex polygon; every second one is a star."""
    y, x = _turned(_places(images), rng)
    corners = 3 + rng.integers(_CORNERS - 2, 1, 1, draw=2)
    size = rng.uniform(1, 1, low=0.3, high=0.95, draw=3)
    dent = torch.where(rng.integers(2, 1, 1, draw=4) == 1, rng.uniform(1, 1, low=0.35, high=0.8, draw=5), 1.0)
    slice_ = math.pi / corners
    angle = torch.remainder(torch.atan2(y, x), 2 * slice_)
    angle = torch.minimum(angle, 2 * slice_ - angle)
    # Within half a slice, a straight side runs from a corner (at angle 0) to the middle of a side, or to a dent.
    inner = size * slice_.cos() * dent
    across, along = inner * slice_.sin(), size - inner * slice_.cos()
    radius = torch.hypot(x, y)
    inside = across * (size - radius * angle.cos()) - along * radius * angle.sin()
    return _filled(images, inside / torch.hypot(across, along), rng)


def blots(images: Images, rng: Randomness) -> Images:
    """A filled blot with a wavy outline, or several that run into each other."""
    y, x = _turned(_places(images), rng)
    angle, radius = torch.atan2(y, x), torch.hypot(x, y)
    waves = torch.arange(2, 7, device=images.device)[:, None]
    strength = rng.uniform(5, 1, high=0.5, draw=2) / waves
    phase = rng.uniform(5, 1, high=2 * math.pi, draw=3)
    outline = 1 + (strength * torch.cos(waves * angle + phase)).sum(1, keepdim=True)
    single = rng.uniform(1, 1, low=0.2, high=0.8, draw=4) * outline - radius
    height, width = images.shape[2:]
    coarse = rng.normal(1, _COARSE, _COARSE, draw=5)
    field = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False).flatten(2)
    several = 0.3 * (field + 0.5 - 1.5 * radius.square())
    return _filled(images, torch.where(rng.integers(2, 1, 1, draw=6) == 1, single, several), rng)


def dots(images: Images, rng: Randomness) -> Images:
    """One to five filled dots of random sizes."""
    y, x = _places(images)
    centers = rng.uniform(_DOTS, 2, low=-0.65, high=0.65)
    size = rng.uniform(_DOTS, 1, low=0.1, high=0.4, draw=1)
    there = torch.arange(_DOTS, device=images.device)[:, None] <= rng.integers(_DOTS, 1, 1, draw=2)
    inside = size - torch.hypot(x - centers[:, :, :1], y - centers[:, :, 1:])
    return _filled(images, torch.where(there, inside, -torch.inf).amax(1, keepdim=True), rng)


def doodles(images: Images, rng: Randomness) -> Images:
    """One line of a pen that does not lift: a scribble, a zigzag or a spiral."""
    along = torch.linspace(0.0, 1.0, 72, device=images.device)[:, None]
    knots = rng.uniform(_POINTS, 2, low=-0.75, high=0.75)
    spline = F.interpolate(knots.mT, size=len(along), mode="linear", align_corners=True).mT
    smooth = F.avg_pool1d(F.pad(spline.mT, (7, 7), mode="replicate"), 15, 1).mT
    teeth = 3 + rng.integers(5, 1, 1, draw=1)
    wave = (torch.remainder(along * teeth, 1.0) * 2 - 1).abs() * 2 - 1
    high = rng.uniform(1, 1, low=0.2, high=0.7, draw=2)
    zigzag = torch.cat([(1.5 * along - 0.75).expand(len(images), -1, -1), high * wave], dim=2)
    turns = rng.uniform(1, 1, low=1.6, high=3.5, draw=3) * 2 * math.pi * along
    spiral = 0.75 * along * torch.cat([turns.cos(), turns.sin()], dim=2)
    kind = rng.integers(4, 1, 1, draw=4)
    line = torch.where(kind == 0, spline, torch.where(kind == 1, smooth, torch.where(kind == 2, zigzag, spiral)))
    angle = rng.uniform(1, high=2 * math.pi, draw=5)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=-1).reshape(-1, 2, 2)
    y, x = _places(images)
    places = torch.stack([x.squeeze(0), y.squeeze(0)], dim=-1)
    distance = torch.cdist(places.expand(len(images), -1, -1), line @ turn).amin(2)
    return _filled(images, rng.uniform(1, low=0.05, high=0.16, draw=6)[:, None] - distance[:, None], rng)


def edges(images: Images, rng: Randomness) -> Images:
    """What a photograph shows beside a digit: the edge of a table, a strip, a corner or the rim of a frame."""
    y, x = _turned(_places(images), rng)
    at = rng.uniform(2, 1, low=-0.7, high=0.7, draw=2)
    wide = rng.uniform(1, 1, low=0.08, high=0.5, draw=3)
    half, corner = x - at[:, :1], torch.minimum(x - at[:, :1], y - at[:, 1:])
    strip, rim = wide - (x - at[:, :1]).abs(), wide - (1 - torch.maximum(x.abs(), y.abs()))
    kind = rng.integers(4, 1, 1, draw=4)
    inside = torch.where(kind == 0, half, torch.where(kind == 1, corner, torch.where(kind == 2, strip, rim)))
    return _filled(images, inside, rng)


def _places(images: Images) -> tuple[Tensor, Tensor]:
    """(1, 1, H·W) each: y and x of every pixel, from -1 to 1 along the shorter side."""
    height, width = images.shape[2:]
    shorter = min(height, width)
    y = (2 * torch.arange(height, device=images.device) + 1 - height) / shorter
    x = (2 * torch.arange(width, device=images.device) + 1 - width) / shorter
    both = torch.stack(torch.meshgrid(y, x, indexing="ij")).reshape(2, 1, 1, -1)
    return both[0], both[1]


def _turned(places: tuple[Tensor, Tensor], rng: Randomness) -> tuple[Tensor, Tensor]:
    """(N, 1, H·W) each: the places about a center of its own, turned by any angle."""
    y, x = places
    angle, center = rng.uniform(1, 1, high=2 * math.pi), rng.uniform(2, 1, low=-0.15, high=0.15, draw=1)
    y, x = y - center[:, :1], x - center[:, 1:]
    return y * angle.cos() - x * angle.sin(), y * angle.sin() + x * angle.cos()


def _filled(images: Images, inside: Tensor, rng: Randomness) -> Images:
    """White where ``inside``, (N, 1, H·W), how far within an outline, is above 0; some are gray and some are soft."""
    _, channels, height, width = images.shape
    soft = torch.where(
        rng.integers(3, 1, 1, draw=90) == 0, rng.uniform(1, 1, low=1.0, high=4.0, draw=91), torch.ones(1)
    )
    level = torch.where(rng.integers(3, 1, 1, draw=92) == 0, rng.uniform(1, 1, low=0.4, draw=93), torch.ones(1))
    ink = (inside * min(height, width) / 2 / soft + 0.5).clamp(0.0, 1.0) * level
    return ink.reshape(-1, 1, height, width).expand(-1, channels, -1, -1)
