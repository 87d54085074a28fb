"""hardy's own networks: small enough that two cores train, attack and measure them in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import nn

from hardy.models.ramps import InputLevels, InputRamps
from hardy.validation import Images, Logits

Size: TypeAlias = int | Sequence[int]
"""The side of square images, or their height and width."""

_GROUPS = 4


def sides(size: Size, shrunk: Callable[[int], int]) -> tuple[int, int]:
    """Height and width of what a network makes of images of a size, by what it makes of a side.

    Raises:
        ValueError: nothing is left of it.
    """
    height, width = (size, size) if isinstance(size, int) else size
    left = shrunk(height), shrunk(width)
    if min(left) < 1:
        raise ValueError(f"images of {width}x{height} are too small for this network")
    return left


class Compact(nn.Module):
    """Three convolutions with batch norm and pooling, then two linear layers.

    Each convolution is followed by pooling before its activation, which leaves a quarter of the values to normalise and
    activate. Images of any size of at least 8x8 and any number of channels.
    """

    def __init__(self, classes: int = 10, *, channels: int = 1, width: int = 32, size: Size = 28) -> None:
        super().__init__()
        pixels = math.prod(sides(size, lambda side: side // 8))
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.hidden = nn.Linear(2 * width * pixels, 128)
        self.head = nn.Linear(128, classes)

    def forward(self, images: Images) -> Logits:
        x = self.features(2.0 * (images - 0.5))
        return self.head(nn.functional.relu(self.hidden(torch.flatten(x.contiguous(), 1))))


class Strided(nn.Module):
    """Two convolutions of stride 2 and two linear layers, without batch norm: 839,018 parameters for ten classes.

    The network that adversarial training is quickest with: no pooling to search through, no statistics to disturb.

    Args:
        classes: K.
        channels: of the images.
        size: side of the images, or their height and width.
        width: channels after the first convolution; twice as many after the second.
        depth: further convolutions, of stride 1, after each of the two.
        hidden: width of the hidden linear layer.
        group_norm: normalize after each convolution, within an example, so that attacks and batches do not meet.
        ramps: centers of clipped ramps at the input, see :class:`InputRamps`; none by default.
        slope: of the ramps.
        learn_ramps: train the ramps' centers and slopes.
        levels: margin of an input layer before the ramps, see :class:`InputLevels`; 0 leaves it out.
        steady_boxes: begin with weights so small that interval bounds neither grow nor shrink from layer to layer,
            which training by such bounds starts from (Shi et al., NeurIPS 2021, arXiv:2103.11429).
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        channels: int = 1,
        size: Size = 28,
        width: int = 32,
        depth: int = 0,
        hidden: int = 256,
        group_norm: bool = False,
        ramps: Sequence[float] = (),
        slope: float = 2.0,
        learn_ramps: bool = False,
        levels: float = 0.0,
        steady_boxes: bool = False,
    ) -> None:
        super().__init__()
        pixels = math.prod(sides(size, lambda side: side // 4))
        self.ramps = InputRamps(ramps, slope=slope, learnable=learn_ramps) if ramps else nn.Identity()
        self.levels = InputLevels(levels) if levels else nn.Identity()
        self.conv1 = nn.Conv2d(channels * max(1, len(ramps)), width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.hidden = nn.Linear(2 * width * pixels, hidden)
        self.head = nn.Linear(hidden, classes)
        self.after1 = _further(width, depth, group_norm)
        self.after2 = _further(2 * width, depth, group_norm)
        if steady_boxes:
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())

    def forward(self, images: Images) -> Logits:
        x = self.after1(self.conv1(self.ramps(self.levels(images))))
        x = self.after2(self.conv2(x))
        # Channels last: in that layout nothing is copied, and the gradient comes back in the order that it went.
        return self.head(nn.functional.relu(self.hidden(x.permute(0, 2, 3, 1).flatten(1))))


def _further(width: int, depth: int, group_norm: bool) -> nn.Sequential:
    """What comes after a convolution: activation, and so many more convolutions with theirs."""
    layers: list[nn.Module] = []
    for number in range(1 + depth):
        layers += [nn.Conv2d(width, width, 3, padding=1)] if number else []
        layers += [nn.GroupNorm(_GROUPS, width)] if group_norm else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
