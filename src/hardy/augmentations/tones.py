"""Tones: gray levels changed, and smooth light and shade over them."""

from __future__ import annotations

from torch.nn.functional import interpolate

from hardy.rng import Randomness
from hardy.validation import Images

# Random fields have so many knots a side: slow changes over the whole image, and quicker ones.
_KNOTS = (2, 3, 6)


def contrast(images: Images, rng: Randomness, *, loss: float) -> Images:
    """Squeeze the gray levels into a random part of the range, of width uniform in [1 - ``loss``, 1] (``loss`` ≤ 1)."""
    draws = rng.uniform(2)
    width = (1.0 - loss * draws[:, 0]).clamp_min(0.0)
    low = (1.0 - width) * draws[:, 1]
    return images * width.reshape(-1, 1, 1, 1) + low.reshape(-1, 1, 1, 1)


def invert(images: Images, rng: Randomness) -> Images:  # noqa: ARG001
    """Make black white and white black."""
    return 1.0 - images


def shade(images: Images, rng: Randomness, *, weight: float) -> Images:
    """Blend with a smooth random field, of a share uniform in [0, ``weight``] (at most 1)."""
    count, _, height, width = images.shape
    knots = rng.uniform(sum(side**2 for side in _KNOTS) + 1 + len(_KNOTS))
    share, loudness, knots = knots[:, :1], knots[:, 1 : 1 + len(_KNOTS)], knots[:, 1 + len(_KNOTS) :]
    loudness = loudness / loudness.sum(1, keepdim=True).clamp_min(1e-6)
    field = images.new_zeros(count, 1, height, width)
    for number, side in enumerate(_KNOTS):
        grid, knots = knots[:, : side**2].reshape(-1, 1, side, side), knots[:, side**2 :]
        smooth = interpolate(grid, size=(height, width), mode="bicubic", align_corners=True).clamp(0.0, 1.0)
        field += smooth * loudness[:, number].reshape(-1, 1, 1, 1)
    share = weight * share.reshape(-1, 1, 1, 1)
    return ((1.0 - share) * images + share * field).clamp(0.0, 1.0)
