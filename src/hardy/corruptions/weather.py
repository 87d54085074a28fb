"""Weather: fog before the digit, mud on the lens."""

from __future__ import annotations

import torch
from torch import Tensor

from hardy.corruptions.corruption import corruption, each
from hardy.corruptions.filters import gaussian_filter
from hardy.rng import Randomness
from hardy.validation import Images

MAP = 256
"""Side of the map of fog, whose corner covers the image: a power of 2."""

MUD = 63 / 255
"""The gray of mud."""

# Maps at once: four MiB.
_MAPS = 64


@corruption(
    "cloudy gray before the digit, which fades",
    each("thickness decay", (1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    default=5,
    published=True,
    largest=MAP,
)
def fog(images: Images, rng: Randomness, *, thickness: float, decay: float) -> Images:
    """Add ``thickness`` times a cloudy pattern from 0 to 1, and darken so that the brightest pixel may stay as it was.

    The pattern is the corner of a fractal map of 256x256; the larger ``decay``, the smoother it is.
    """
    height, width = images.shape[2:]
    brightest = images.amax((1, 2, 3), keepdim=True)
    maps = [
        plasma_corner(rng.select(rows), decay, height, width)
        for rows in torch.arange(len(images), device=images.device).split(_MAPS)
    ]
    return (images + thickness * torch.cat(maps)[:, None]) * brightest / (brightest + thickness)


def plasma_corner(rng: Randomness, decay: float, height: int, width: int) -> Tensor:
    """The corners, float32 (N, height, width), of maps of 256x256 whose values reach from 0 to 1.

    The diamond-square algorithm on a torus: points half as far apart are set to the mean of their four neighbours plus
    uniform noise, whose width falls from one halving to the next by ``decay`` squared. Fournier, Fussell and Carpenter,
    CACM 1982. The last halving is done in the corner alone, so lowest and highest are those of 128x128 points: what
    that misses is less than one of 255 grays, and it saves three quarters of the work.
    """
    half = MAP // 2
    numbers = rng.many(half**2 - 1)
    maps = numbers.new_zeros(len(numbers), 1, 1)
    used, strength = 0, 1.0
    while maps.shape[1] < half:
        side = maps.shape[1]
        noise = strength * numbers[:, used : used + 3 * side**2].reshape(-1, 3, side, side)
        pairs = maps + maps.roll(-1, 1)
        center = noise[:, 0] + (pairs + pairs.roll(-1, 2)) / 4
        right = noise[:, 1] + (center + center.roll(1, 1) + maps + maps.roll(-1, 2)) / 4
        down = noise[:, 2] + (center + center.roll(1, 2) + pairs) / 4
        maps = _interlaced(maps, right, down, center)
        used, strength = used + 3 * side**2, strength / decay**2
    lowest, highest = (bound[:, None, None] for bound in torch.aminmax(maps.flatten(1), dim=1))
    rows, columns = (height + 1) // 2, (width + 1) // 2
    finest = strength * rng.fold("finest").uniform(3, rows + 1, columns + 1, low=-1.0, high=1.0)
    return (_refined_corner(maps, finest)[:, :height, :width] - lowest) / (highest - lowest)


def _refined_corner(maps: Tensor, noise: Tensor) -> Tensor:
    """One more halving of the corner of torus maps; ``noise`` is (N, 3, rows + 1, columns + 1) of its points."""
    side, (rows, columns) = maps.shape[1], noise.shape[2:]
    # From the point before the corner, which lies on the other side of the torus, to the one after it.
    down_to, right_to = (torch.arange(-1, count, device=maps.device) % side for count in (rows, columns))
    near = maps[:, down_to][:, :, right_to]
    center = noise[:, 0] + (near[:, :-1, :-1] + near[:, 1:, :-1] + near[:, :-1, 1:] + near[:, 1:, 1:]) / 4
    own, beside, below = near[:, 1:-1, 1:-1], near[:, 1:-1, 2:], near[:, 2:, 1:-1]
    right = noise[:, 1, 1:, 1:] + (center[:, :-1, 1:] + center[:, 1:, 1:] + own + beside) / 4
    down = noise[:, 2, 1:, 1:] + (center[:, 1:, :-1] + center[:, 1:, 1:] + own + below) / 4
    return _interlaced(own, right, down, center[:, 1:, 1:])


def _interlaced(corner: Tensor, right: Tensor, down: Tensor, center: Tensor) -> Tensor:
    """Four maps of (N, H, W) as one of (N, 2H, 2W), in which each takes one place of each square of four."""
    count, height, width = corner.shape
    fine = corner.new_empty(count, 2 * height, 2 * width)
    fine[:, ::2, ::2], fine[:, ::2, 1::2], fine[:, 1::2, ::2], fine[:, 1::2, 1::2] = corner, right, down, center
    return fine


@corruption(
    "gray spots of mud",
    each(
        "mean deviation smooth cut edge",
        (0.65, 0.3, 4.0, 0.69, 0.6),
        (0.65, 0.3, 3.0, 0.68, 0.6),
        (0.65, 0.3, 2.0, 0.68, 0.5),
        (0.65, 0.3, 1.0, 0.65, 1.5),
        (0.67, 0.4, 1.0, 0.65, 1.5),
    ),
    default=4,
    published=True,
)
def spatter(
    images: Images,
    rng: Randomness,
    *,
    mean: float,
    deviation: float,
    smooth: float,
    cut: float,
    edge: float,
) -> Images:
    """Throw mud: spots where smoothed normal noise is above ``cut``.

    The noise has ``mean`` and ``deviation`` and is smoothed by a Gaussian of standard deviation ``smooth``; the spots
    by one of ``edge``, and what of them is then below 0.8 is gone.
    """
    noise = mean + deviation * rng.normal(1, *images.shape[2:])
    spots = (gaussian_filter(noise, smooth) > cut).to(images.dtype)
    cover = gaussian_filter(spots, edge)
    cover = torch.where(cover < 0.8, torch.zeros_like(cover), cover)
    return images * (1.0 - cover) + MUD * cover
