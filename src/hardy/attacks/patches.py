"""The patches of Square in l2 and l1, and how they are measured.

Andriushchenko et al., ECCV 2020, arXiv:1912.00049; l1 after Croce and Hein, ICML 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hardy.threats import ThreatModel

_TINY = 1e-12


def patch_pair(side: int, threat: ThreatModel, device: torch.device) -> Tensor:
    """(2, side * side): a patch of norm 1, one half positive and one negative, lying and upright."""
    power = 2 if threat.norm == "l2" else 1
    patch = torch.cat([_peak(side // 2, side, power), -_peak(side - side // 2, side, power)])
    patch = patch / length_of(patch.flatten(), power)
    return torch.stack([patch, patch.T]).flatten(1).to(device)


def _peak(height: int, width: int, power: int) -> Tensor:
    """Norm 1, the highest in the middle, falling with the distance from it."""
    reach = max(height, width) // 2 + 1
    terms = torch.arange(1, reach + 1, dtype=torch.float32) ** (-2.0 if power == 2 else -4.0)
    heights = terms.flip(0).cumsum(0).flip(0)
    down, across = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    peak = heights[torch.maximum(down[:, None], across)]
    return peak / length_of(peak.flatten(), power)


def mass_of(values: Tensor, power: int) -> Tensor:
    return (values.square() if power == 2 else values.abs()).sum(-1, keepdim=True)


def length_of(values: Tensor, power: int) -> Tensor:
    return (mass_of(values, power) ** (1.0 / power)).clamp_min(_TINY)
