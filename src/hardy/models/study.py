"""The networks of the study that hardy grew from: its small CNN, and the simple networks of An et al. 2020.

S. An, M. Lee, S. Park, H. Yang and J. So, "An ensemble of simple convolutional neural network models for MNIST digit
recognition", arXiv:2008.10400.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from hardy.models.compact import Size, sides
from hardy.validation import Images, Logits

Activation = Literal["gelu", "relu"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}

# Kernel size and channels of the convolutions. The study also trained shallower variants of the first two without
# saying how shallow: these keep the widths and stop after seven and after four convolutions.
SIMPLE_NETS: dict[str, tuple[int, tuple[int, ...]]] = {
    "kernel3": (3, (32, 48, 64, 80, 96, 112, 128, 144, 160, 176)),
    "kernel5": (5, (32, 64, 96, 128, 160)),
    "kernel7": (7, (48, 96, 144, 192)),
    "kernel3-shallow": (3, (32, 48, 64, 80, 96, 112, 128)),
    "kernel5-shallow": (5, (32, 64, 96, 128)),
}


class StudyCNN(nn.Module):
    """Two convolutions and two linear layers with dropout; 21,840 parameters for ten classes of 28x28.

    ``dropout_left_on`` keeps dropout active in evaluation mode, the mistake that the study's figures look like. The
    classifier is then random, so the door refuses it unless told otherwise.
    """

    def __init__(self, classes: int = 10, *, dropout_left_on: bool = False, channels: int = 1, size: Size = 28) -> None:
        super().__init__()
        pixels = math.prod(sides(size, lambda side: ((side - 4) // 2 - 4) // 2))
        self.conv1 = nn.Conv2d(channels, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.fc1 = nn.Linear(20 * pixels, 50)
        self.fc2 = nn.Linear(50, classes)
        self.dropout_left_on = dropout_left_on

    def forward(self, images: Images) -> Logits:
        drop = self.training or self.dropout_left_on
        x = nn.functional.relu(nn.functional.max_pool2d(self.conv1(images), 2))
        x = nn.functional.dropout2d(self.conv2(x), training=drop)
        x = nn.functional.relu(nn.functional.max_pool2d(x, 2))
        x = nn.functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(nn.functional.dropout(x, training=drop))


class SimpleNet(nn.Module):
    """Unpadded convolutions, each with batch norm and activation, then one linear layer with batch norm."""

    def __init__(
        self,
        kernel: int,
        channels: Sequence[int],
        *,
        activation: Activation = "gelu",
        classes: int = 10,
        inputs: int = 1,
        size: Size = 28,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([inputs, *channels], channels, strict=False):
            layers += [nn.Conv2d(before, after, kernel), nn.BatchNorm2d(after), ACTIVATIONS[activation]()]
        pixels = math.prod(sides(size, lambda side: side - (kernel - 1) * len(channels)))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1] * pixels, classes, bias=False)
        self.norm = nn.BatchNorm1d(classes)

    def forward(self, images: Images) -> Logits:
        x = self.features(2.0 * (images - 0.5))
        # Channels last: in that layout nothing is copied, and the gradient comes back in the order that it went.
        return self.norm(self.head(x.permute(0, 2, 3, 1).flatten(1)))
