"""An input layer of clipped ramps: each pixel as how far it has come up each of several slopes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hardy.validation import Images


class InputRamps(nn.Module):
    """From each channel one per center: ``slope * (pixel - center) + 0.5``, cut to [0, 1].

    With a slope of 1 / (1 - 2 eps) and the center 0.5, black and white pixels within an linf ball of radius eps stay
    black and white. But where a ramp is cut it has no gradient: an attack inside training that follows gradients sees
    nothing there, and the network is trained on attacks that fail. :func:`straight_through` lets them pass; and what
    such a network is worth is measured by attacks that go around masked gradients.
    """

    def __init__(self, centers: Sequence[float], *, slope: float = 2.0, learnable: bool = False) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.tensor(centers, dtype=torch.float32), requires_grad=learnable)
        self.slopes = nn.Parameter(torch.full((len(centers),), slope), requires_grad=learnable)
        self.straight_through = False

    def forward(self, images: Images) -> Tensor:
        slopes, centers = (it.reshape(1, 1, -1, 1, 1) for it in (self.slopes, self.centers))
        ramps = (slopes * (images.unsqueeze(2) - centers) + 0.5).flatten(1, 2)
        cut = ramps.clamp(0.0, 1.0)
        return ramps + (cut - ramps).detach() if self.straight_through else cut


@contextmanager
def straight_through(model: nn.Module) -> Iterator[None]:
    """Gradients pass the cut parts of a model's input ramps as if they were not cut; its answers are the same."""
    ramps = [module for module in model.modules() if isinstance(module, InputRamps)]
    before = [module.straight_through for module in ramps]
    for module in ramps:
        module.straight_through = True
    try:
        yield
    finally:
        for module, was in zip(ramps, before, strict=True):
            module.straight_through = was
