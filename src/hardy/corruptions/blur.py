"""Blur: what was sharp is spread."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from scipy.ndimage import correlate1d, zoom
from torch.nn.functional import conv2d, pad

from hardy.corruptions.corruption import corruption, each
from hardy.corruptions.filters import filter_both, gaussian_filter, gaussian_matrix, matrix_of
from hardy.rng import Randomness
from hardy.validation import Images


@corruption("blurred by a Gaussian", each("deviation", 1.0, 2.0, 3.0, 4.0, 6.0), default=2)
def gaussian_blur(images: Images, rng: Randomness, *, deviation: float) -> Images:  # noqa: ARG001
    """Blur by a Gaussian of standard deviation ``deviation``, in pixels."""
    return gaussian_filter(images, deviation)


@corruption(
    "pixels swapped with near ones, between two blurs along the height",
    each("deviation reach rounds", (0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    published=True,
    smallest=9,
)
def glass_blur(images: Images, rng: Randomness, *, deviation: float, reach: int, rounds: int) -> Images:
    """As behind uneven glass: blurred, pixels swapped with near ones, blurred again.

    In each of ``rounds`` the pixels, from the last to the first, are each swapped with chance 1/2 with one up to
    ``reach`` up or left of it, or up to ``reach`` - 1 down or right. The authors' code gives two-dimensional images to
    a filter that takes the last axis for channels, so it blurs along the height alone; so does this.
    """
    count, channels, height, width = images.shape
    blur = gaussian_matrix(height, deviation).to(images.device)
    levels = torch.floor(255 * (blur @ images)).clamp(0, 255) / 255
    places = _swap_order(reach, rounds, height, width)
    words = rng.bits(len(places)).cpu()
    # One word a swap: 15 bits for each direction, and one that says whether there is a swap at all.
    right = (((words & 0x7FFF) * (2 * reach)) >> 15) - reach
    down = ((((words >> 15) & 0x7FFF) * (2 * reach)) >> 15) - reach
    partners = torch.from_numpy(places) + torch.where(words >> 31 == 1, down * width + right, 0)
    order = _swapped(places, partners.numpy().T, height * width)
    index = torch.from_numpy(order.T).to(images.device)[:, None, :].expand(count, channels, -1)
    return blur @ levels.flatten(2).gather(2, index).reshape(images.shape)


def _swap_order(reach: int, rounds: int, height: int, width: int) -> np.ndarray:
    """The flat places (S,) that have their turn, one after another."""
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    return np.tile((rows[:, None] * width + columns).reshape(-1), rounds)


def _swapped(places: np.ndarray, partners: np.ndarray, pixels: int) -> np.ndarray:
    """Where each pixel comes from, int64 (pixels, N), after place s swapped with ``partners[s]``, (S, N), in turn."""
    count = partners.shape[1]
    order = np.repeat(np.arange(pixels)[:, None], count, axis=1)
    flat = order.reshape(-1)
    flat_partners = np.ascontiguousarray(partners * count + np.arange(count))
    for place, partner in zip(places, flat_partners, strict=True):
        here = order[place]
        there = flat[partner]
        flat[partner] = here
        order[place] = there
    return order


@corruption(
    "blurred by a disk, as a lens out of focus does",
    each("radius edge", (3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    smallest=11,
)
def defocus_blur(images: Images, rng: Randomness, *, radius: int, edge: float) -> Images:  # noqa: ARG001
    """Blur by a disk of ``radius`` pixels, its edge softened by a Gaussian of standard deviation ``edge``."""
    kernel = _disk(radius, edge)
    margin = kernel.shape[0] // 2
    channels = images.shape[1]
    weight = kernel.to(images.device).expand(channels, 1, -1, -1)
    return conv2d(pad(images, (margin,) * 4, mode="reflect"), weight, groups=channels)


def _disk(radius: int, edge: float) -> torch.Tensor:
    reach, softened = (8, 1) if radius <= 8 else (radius, 2)
    places = np.arange(-reach, reach + 1)
    disk = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float64)
    soft = np.exp(-(np.arange(-softened, softened + 1) ** 2) / (2 * edge**2))
    for axis in (0, 1):
        disk = correlate1d(disk, soft / soft.sum(), axis=axis, mode="mirror")
    return torch.from_numpy((disk / disk.sum()).astype(np.float32))


@corruption(
    "smeared along a direction within 45 degrees of the horizontal",
    each("radius deviation", (10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
    published=True,
)
def motion_blur(images: Images, rng: Randomness, *, radius: int, deviation: float) -> Images:
    """Smear along a direction within 45 degrees of the horizontal, as ImageMagick does.

    The mean of the next 2 ``radius`` pixels that way and the pixel itself, weighted by a half Gaussian of standard
    deviation ``deviation``; beyond the edge the edge goes on.
    """
    count, channels, height, width = images.shape
    angle = rng.uniform(low=-math.pi / 4, high=math.pi / 4).double()
    steps = torch.arange(2 * radius + 1, device=images.device)
    weights = torch.exp(-(steps.double() ** 2) / (2 * deviation**2))
    weights = (weights / weights.sum()).tolist()
    right = torch.ceil(angle.cos()[:, None] * steps - 0.5).long()
    down = torch.ceil(angle.sin()[:, None] * steps - 0.5).long()
    reach = math.ceil(2 * radius * math.sin(math.pi / 4))
    padded = pad(images, (0, 2 * radius, reach, reach), mode="replicate")
    wide = padded.shape[3]
    places = (torch.arange(height) + reach)[:, None] * wide + torch.arange(width)
    places = places.reshape(1, -1).to(images.device)
    moves = down * wide + right
    flat = padded.flatten(2)
    smeared = torch.zeros_like(images).flatten(2)
    for step, weight in enumerate(weights):
        index = (places + moves[:, step, None])[:, None, :].expand(count, channels, -1)
        smeared.add_(flat.gather(2, index), alpha=weight)
    return smeared.reshape(images.shape)


@corruption(
    "smeared outwards from the center",
    each("stop step", (1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    default=5,
    smallest=4,
)
def zoom_blur(images: Images, rng: Randomness, *, stop: float, step: float) -> Images:  # noqa: ARG001
    """The mean of the image and of enlargements of it, from 1 in steps of ``step`` up to ``stop``."""
    height, width = images.shape[2:]
    factors = np.arange(1, stop, step)
    total = images.clone()
    for factor in factors:
        rows, columns = (matrix_of(size, partial(_enlarged, factor=factor)) for size in (height, width))
        total += filter_both(images, rows, columns)
    return total / (len(factors) + 1)


def _enlarged(values: np.ndarray, factor: float) -> np.ndarray:
    """The middle of (size, M) enlarged along the first axis, cut to its size."""
    size = len(values)
    kept = math.ceil(size / factor)
    top = (size - kept) // 2
    large = np.asarray(zoom(values[top : top + kept], (factor, 1), order=1))
    cut = (len(large) - size) // 2
    return large[cut : cut + size]
