"""Filters: each image convolved with a small kernel of its own; the border's pixels go on outside."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from hardy.rng import Randomness
from hardy.validation import Images

_KERNEL = 5


def _convolve(images: Images, kernels: Tensor) -> Tensor:
    """``kernels`` is float32 (N, h, w), with odd sides; the channels of an image share its kernel."""
    count, channels, height, width = images.shape
    down, right = kernels.shape[1] // 2, kernels.shape[2] // 2
    padded = pad(images, (right, right, down, down), mode="replicate")
    weight = kernels.repeat_interleave(channels, 0)[:, None]
    return conv2d(padded.reshape(1, count * channels, *padded.shape[2:]), weight, groups=count * channels).reshape(
        count, channels, height, width
    )


def blur(images: Images, rng: Randomness, *, deviation: float) -> Images:
    """Gaussian blur, of standard deviations uniform in [0, ``deviation``] pixels, one down and one across."""
    radius = max(1, math.ceil(3 * deviation))
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    spread = (deviation * rng.uniform(2)).clamp_min(1e-3)
    profiles = torch.exp(-0.5 * (places / spread[:, :, None]) ** 2)
    profiles = profiles / profiles.sum(2, keepdim=True)
    down = _convolve(images, profiles[:, 0, :, None])
    return _convolve(down, profiles[:, 1, None, :]).clamp(0.0, 1.0)


def random_convolution(images: Images, rng: Randomness, *, weight: float) -> Images:
    """Blend with the answer of a random kernel of 5x5, of a share uniform in [0, ``weight``] (at most 1).

    The weights are normal and fall off from the middle by a random width; half of the kernels answer to edges alone
    (their weights have the sum 0) and half of the answers are taken without their sign. The answer is stretched to
    [0, 1]. After Xu et al., ICLR 2021, arXiv:2007.13003.
    """
    draws = rng.uniform(4)
    places = torch.arange(_KERNEL, device=images.device, dtype=torch.float32) - _KERNEL // 2
    fall_off = torch.exp(-(places**2)[None] / (2 * (0.5 + 1.5 * draws[:, :1]) ** 2))
    kernels = rng.fold("kernel").normal(_KERNEL, _KERNEL) * fall_off[:, :, None] * fall_off[:, None, :]
    edges = (draws[:, 1] < 0.5).reshape(-1, 1, 1)
    kernels = torch.where(edges, kernels - kernels.mean((1, 2), keepdim=True), kernels)
    answer = _convolve(images, kernels)
    answer = torch.where((draws[:, 2] < 0.5).reshape(-1, 1, 1, 1), answer.abs(), answer)
    low, high = answer.amin((1, 2, 3), keepdim=True), answer.amax((1, 2, 3), keepdim=True)
    stretched = (answer - low) / (high - low).clamp_min(1e-6)
    return torch.lerp(images, stretched, weight * draws[:, 3].reshape(-1, 1, 1, 1)).clamp(0.0, 1.0)
