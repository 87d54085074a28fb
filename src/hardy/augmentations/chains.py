"""Chains of random operations: AugMix."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.augmentations.geometry import warp_about_center
from hardy.rng import Randomness
from hardy.validation import Images

_CHAINS = 3
_DEPTH = 3
_GEOMETRIC = 5
_OPERATIONS = 8
_HIGHEST_SEVERITY = 10


def random_operation(images: Images, draws: Tensor, *, severity: float) -> Images:
    """One of AugMix's operations on each image: turn, slant (two ways), move (two ways), posterize, solarize, stretch.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        draws: float32 (N, 3), uniform on [0, 1): which operation, how much, and in which direction.
        severity: from 0 to 10, bounds how much: 3 degrees, a slant of 0.03 and a thirtieth of the side for each unit;
            four bits less and a threshold of 0 at 10.

    Equalizing is left out: most of a digit's pixels are of one gray.
    """
    operation = (draws[:, 0] * _OPERATIONS).long()
    level = min(severity, _HIGHEST_SEVERITY) / _HIGHEST_SEVERITY * draws[:, 1]
    signed = torch.where(draws[:, 2] < 0.5, -level, level)
    changed = images.clone()
    for kind, operate in ((operation < _GEOMETRIC, _geometric), (operation >= _GEOMETRIC, _tonal)):
        rows = kind.nonzero()[:, 0]
        if len(rows):
            changed[rows] = operate(images[rows], operation[rows], level[rows], signed[rows])
    return changed


def _geometric(images: Images, operation: Tensor, _level: Tensor, signed: Tensor) -> Images:
    angle, slant_x, slant_y, move_x, move_y = (signed * (operation == number) for number in range(_GEOMETRIC))
    angle = math.radians(30.0) * angle
    cosine, sine = angle.cos(), angle.sin()
    rows = [torch.stack([cosine, 0.3 * slant_x - sine], 1), torch.stack([0.3 * slant_y + sine, cosine], 1)]
    return warp_about_center(images, torch.stack(rows, 1), torch.stack([move_x, move_y], 1) / 3)


def _tonal(images: Images, operation: Tensor, level: Tensor, _signed: Tensor) -> Images:
    level = level.reshape(-1, 1, 1, 1)
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
    draws, operations = rng.uniform(2 * _CHAINS + 1), rng.fold("operations").uniform(_DEPTH, _CHAINS, 3)
    weights = -torch.log1p(-draws[:, :_CHAINS]) + 1e-6
    weights = weights / weights.sum(1, keepdim=True)
    depth = (1 + (draws[:, _CHAINS:-1] * _DEPTH).long()).flatten()
    chains = images.repeat_interleave(_CHAINS, 0)
    for place in range(_DEPTH):
        going_on = (depth > place).nonzero()[:, 0]
        drawn = operations[:, place].flatten(0, 1)[going_on]
        chains[going_on] = random_operation(chains[going_on], drawn, severity=severity)
    mean = (chains.unflatten(0, (-1, _CHAINS)) * weights.reshape(*weights.shape, 1, 1, 1)).sum(1)
    return torch.lerp(images, mean, draws[:, -1:].reshape(-1, 1, 1, 1)).clamp(0.0, 1.0)
