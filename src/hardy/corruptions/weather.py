"""Weather: fog before the digit, mud on the lens."""

from __future__ import annotations

import torch
from torch import Tensor

from hardy.contracts import Images
from hardy.corruptions.corruption import Corruption
from hardy.corruptions.filters import gaussian_filter
from hardy.randomness import Randomness

MAP = 256
"""Side of the map of fog, whose corner covers the image: a power of 2."""

MUD = 63 / 255
"""The grey of mud."""

# Maps at once: few enough for a core's cache.
_MAPS = 8


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
    CACM 1982.
    """
    noise = rng.many(MAP * MAP)
    corner = noise.new_zeros(len(noise), 1, 1)
    used, strength = 0, 1.0
    while True:
        side = corner.shape[1]
        parts = strength * noise[:, used : used + 3 * side**2].reshape(-1, 3, side, side)
        pairs = corner + corner.roll(-1, 1)
        centre = parts[:, 0].add_(pairs, alpha=0.25).add_(pairs.roll(-1, 2), alpha=0.25)
        right = parts[:, 1].add_(centre + centre.roll(1, 1) + corner + corner.roll(-1, 2), alpha=0.25)
        down = parts[:, 2].add_(centre + centre.roll(1, 2) + pairs, alpha=0.25)
        if 2 * side == MAP:
            break
        corner = _interlaced(corner, right, down, centre)
        used, strength = used + 3 * side**2, strength / decay**2
    # The whole finest map is needed for its extremes alone.
    everything = [corner.flatten(1), parts.flatten(1)]
    lowest, highest = (
        bound(torch.stack([bound(part, 1) for part in everything]), 0)[:, None, None]
        for bound in (torch.amin, torch.amax)
    )
    rows, columns = (height + 1) // 2, (width + 1) // 2
    shown = _interlaced(*(part[:, :rows, :columns] for part in (corner, right, down, centre)))
    return (shown[:, :height, :width] - lowest) / (highest - lowest)


def _interlaced(corner: Tensor, right: Tensor, down: Tensor, centre: Tensor) -> Tensor:
    """Four maps of (N, H, W) as one of (N, 2H, 2W), in which each takes one place of each square of four."""
    count, height, width = corner.shape
    fine = corner.new_empty(count, 2 * height, 2 * width)
    fine[:, ::2, ::2], fine[:, ::2, 1::2], fine[:, 1::2, ::2], fine[:, 1::2, 1::2] = corner, right, down, centre
    return fine


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


FOG = Corruption(
    name="fog",
    description="cloudy grey before the digit, which fades",
    function=fog,
    settings=tuple(
        {"thickness": thickness, "decay": decay}
        for thickness, decay in ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
    ),
    default=5,
    published=True,
    largest=MAP,
)
SPATTER = Corruption(
    name="spatter",
    description="grey spots of mud",
    function=spatter,
    settings=tuple(
        {"mean": mean, "deviation": deviation, "smooth": smooth, "cut": cut, "edge": edge}
        for mean, deviation, smooth, cut, edge in (
            (0.65, 0.3, 4.0, 0.69, 0.6),
            (0.65, 0.3, 3.0, 0.68, 0.6),
            (0.65, 0.3, 2.0, 0.68, 0.5),
            (0.65, 0.3, 1.0, 0.65, 1.5),
            (0.67, 0.4, 1.0, 0.65, 1.5),
        )
    ),
    default=4,
    published=True,
)
