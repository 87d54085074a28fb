"""Mixing: two images of a batch become one, and so do their labels.

The partner of an image is the one before it in the batch, and the last for the first. Training shuffles, so that is any
image; it is the one thing about an augmentation that depends on the batch. Weights and places belong to the example.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from hardy.augmentations.occlusion import rectangle
from hardy.rng import Randomness
from hardy.validation import Images

_KNOTS = 1025


class Mix(NamedTuple):
    """What a mixing augmentation gives.

    Attributes:
        images: the mixed images.
        partner: int64 (N,), the row of the batch that each image was mixed with.
        weight: float32 (N,) in [0, 1], the share of the image's own label; its partner's has the rest.
    """

    images: Images
    partner: Tensor
    weight: Tensor


def mixup(images: Images, rng: Randomness, *, alpha: float) -> Mix:
    """Each image blended with its partner, of weight Beta(``alpha``, ``alpha``).

    Zhang et al., ICLR 2018, arXiv:1710.09412; with one weight per example.
    """
    partner, weight = _partner(images), symmetric_beta(rng.uniform(2), alpha)
    return Mix(torch.lerp(images[partner], images, weight.reshape(-1, 1, 1, 1)), partner, weight)


def cutmix(images: Images, rng: Randomness, *, alpha: float) -> Mix:
    """A rectangle of each image replaced by its partner's; the labels' weights are the shares of the area.

    The rectangle has the image's proportions and, before what lies outside is cut off, a share of the area that is
    one minus Beta(``alpha``, ``alpha``). Yun et al., ICCV 2019, arXiv:1905.04899.
    """
    draws = rng.uniform(4)
    side = (1.0 - symmetric_beta(draws[:, :2], alpha)).sqrt()
    inside = rectangle(images, draws[:, 2:], side[:, None].expand(-1, 2))
    partner = _partner(images)
    return Mix(torch.where(inside, images[partner], images), partner, 1.0 - inside.float().mean((1, 2, 3)))


def _partner(images: Images) -> Tensor:
    return torch.arange(len(images), device=images.device).roll(1)


def symmetric_beta(uniform: Tensor, alpha: float) -> Tensor:
    """float32 (N,): Beta(``alpha``, ``alpha``), from ``uniform``, (N, 2); 0 or 1 where ``alpha`` is 0."""
    below, above = uniform[:, 0], uniform[:, 1]
    if not alpha:
        return (above < 0.5).to(uniform.dtype)
    quantiles = _lower_half_of_beta(alpha).to(uniform.device)
    place = below * (_KNOTS - 1)
    knot = place.long().clamp_max(_KNOTS - 2)
    # Quantiles of x^alpha, which are nearly straight where those of x are steep.
    half = torch.lerp(quantiles[knot], quantiles[knot + 1], place - knot) ** (1.0 / alpha)
    return torch.where(above < 0.5, half, 1.0 - half)


@lru_cache(maxsize=16)
def _lower_half_of_beta(alpha: float) -> Tensor:
    """float32 (1025,): quantiles of x^alpha at 0, 1/1024, …, 1, where x is Beta(alpha, alpha) below one half.

    In t = x^alpha the density x^(alpha-1) (1-x)^(alpha-1) has no pole at 0: it is (1 - t^(1/alpha))^(alpha-1).
    """
    t = torch.linspace(0.0, 0.5**alpha, 1 << 16, dtype=torch.float64)
    density = (1.0 - t ** (1.0 / alpha)) ** (alpha - 1.0)
    cumulative = torch.cat([t.new_zeros(1), torch.cumsum((density[1:] + density[:-1]) / 2, 0)])
    levels = torch.linspace(0.0, 1.0, _KNOTS, dtype=torch.float64) * cumulative[-1]
    right = torch.searchsorted(cumulative, levels).clamp(1, len(t) - 1)
    step = cumulative[right] - cumulative[right - 1]
    return torch.lerp(t[right - 1], t[right], (levels - cumulative[right - 1]) / step).float()
