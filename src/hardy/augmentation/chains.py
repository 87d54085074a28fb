"""Chains of random operations: AugMix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.augmentation.geometry import warp_about_centre
from hardy.contracts import Images
from hardy.randomness import Randomness

_CHAINS = 3
_DEPTH = 3
_GEOMETRIC = 5
_OPERATIONS = 8
_HIGHEST_SEVERITY = 10


def random_operation(images: Images, rng: Randomness, *, severity: float, draw: int = 0) -> Images:
    """One of AugMix's operations on each image: turn, slant (two ways), move (two ways), posterize, solarize, stretch.

    ``severity``, from 0 to 10, bounds how much: 3 degrees, a slant of 0.03 and a thirtieth of the side for each unit;
    four bits less and a threshold of 0 at 10. Equalizing is left out: most of a digit's pixels are of one grey.
    """
    draws = rng.uniform(3, draw=draw)
    operation = (draws[:, 0] * _OPERATIONS).long()
    level = min(severity, _HIGHEST_SEVERITY) / _HIGHEST_SEVERITY * draws[:, 1]
    signed = torch.where(draws[:, 2] < 0.5, -level, level)
    return torch.where(
        (operation < _GEOMETRIC).reshape(-1, 1, 1, 1),
        _geometric(images, operation, signed),
        _tonal(images, operation, level.reshape(-1, 1, 1, 1)),
    )


def _geometric(images: Images, operation: Tensor, signed: Tensor) -> Images:
    angle, slant_x, slant_y, move_x, move_y = (signed * (operation == number) for number in range(_GEOMETRIC))
    angle = math.radians(30.0) * angle
    cosine, sine = angle.cos(), angle.sin()
    rows = [torch.stack([cosine, 0.3 * slant_x - sine], 1), torch.stack([0.3 * slant_y + sine, cosine], 1)]
    return warp_about_centre(images, torch.stack(rows, 1), torch.stack([move_x, move_y], 1) / 3)


def _tonal(images: Images, operation: Tensor, level: Tensor) -> Images:
    posterize, solarize = ((operation == number).reshape(-1, 1, 1, 1) for number in (_GEOMETRIC, _GEOMETRIC + 1))
    steps = 2.0 ** (8 - (4 * level).round()) - 1
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    stretched = ((images - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0)
    solarized = torch.where(images > 1.0 - level, 1.0 - images, images)
    return torch.where(posterize, (images * steps).round() / steps, torch.where(solarize, solarized, stretched))


def augmix(images: Images, rng: Randomness, *, severity: float) -> Images:
    """Each image blended with a random mean of three chains of one to three operations.

    The chains' weights are Dirichlet(1), the share of their mean is uniform. ``severity`` is from 0 to 10, 3 in the
    paper. Hendrycks et al., ICLR 2020, arXiv:1912.02781; without its consistency loss.
    """
    draws = rng.uniform(2 * _CHAINS + 1)
    weights = -torch.log1p(-draws[:, :_CHAINS]) + 1e-6
    weights = weights / weights.sum(1, keepdim=True)
    depth = 1 + (draws[:, _CHAINS:-1] * _DEPTH).long()
    mean = torch.zeros_like(images)
    for number in range(_CHAINS):
        current, chain = images, rng.fold("chain", number)
        for place in range(_DEPTH):
            going_on = (depth[:, number] > place).nonzero()[:, 0]
            if len(going_on):
                operated = random_operation(current[going_on], chain.select(going_on), severity=severity, draw=place)
                current = current.index_copy(0, going_on, operated)
        mean = mean + weights[:, number].reshape(-1, 1, 1, 1) * current
    return torch.lerp(images, mean, draws[:, -1:].reshape(-1, 1, 1, 1)).clamp(0.0, 1.0)
