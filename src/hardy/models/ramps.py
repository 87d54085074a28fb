"""Input layers that an linf ball cannot move far: clipped ramps, and levels that are set right beyond the ball only."""

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


class InputLevels(nn.Module):
    """Take a bright background away and stretch a faint image, but only as far as no attack within the ball could go.

    The background is the morphological opening: what is left of the image after the minimum and then the maximum over
    square windows that are wider than a stroke. What of it exceeds ``margin`` is taken away; then an image whose
    brightest value is below 1 - ``margin`` is multiplied until it is there. Around a digit of full
    contrast on black both change nothing within an linf ball of radius ``margin``: the layer is the identity there and
    gives an attacker nothing. But fog, gray paper and faint ink become a digit again.

    Args:
        margin: radius of the ball.
        window: side of the windows, odd; cut off at the border.
        gain: by which a faint image is multiplied at most.
    """

    def __init__(self, margin: float, *, window: int = 11, gain: float = 5.0) -> None:
        super().__init__()
        self.margin, self.window, self.gain = margin, window, gain

    def forward(self, images: Images) -> Images:
        background = self._highest(-self._highest(-images))
        lowered = images - nn.functional.relu(background - self.margin)
        brightest = lowered.amax((1, 2, 3), keepdim=True)
        return lowered * ((1 - self.margin) / brightest.clamp_min(1e-6)).clamp(1.0, self.gain)

    def _highest(self, images: Images) -> Images:
        side, reach = self.window, self.window // 2
        rows = nn.functional.max_pool2d(images, (side, 1), 1, (reach, 0))
        return nn.functional.max_pool2d(rows, (1, side), 1, (0, reach))


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
