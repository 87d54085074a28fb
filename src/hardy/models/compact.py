"""hardy's own networks: small enough that two cores train, attack and measure them in seconds."""

from __future__ import annotations

import torch
from torch import nn

from hardy.validation import Images, Logits


class Compact(nn.Module):
    """Three convolutions with batch norm and pooling, then two linear layers.

    Each convolution is followed by pooling before its activation, which leaves a quarter of the values to normalise and
    activate. Images of any size of at least 8x8 and any number of channels.
    """

    def __init__(self, classes: int = 10, *, channels: int = 1, width: int = 32, size: int = 28) -> None:
        super().__init__()
        side = size // 2 // 2 // 2
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
        self.hidden = nn.Linear(2 * width * side * side, 128)
        self.head = nn.Linear(128, classes)

    def forward(self, images: Images) -> Logits:
        x = self.features(2.0 * (images - 0.5))
        return self.head(nn.functional.relu(self.hidden(torch.flatten(x.contiguous(), 1))))


class Strided(nn.Module):
    """Two convolutions of stride 2 and two linear layers, without batch norm: 839,018 parameters for ten classes.

    The network that adversarial training is quickest with: no pooling to search through, no statistics to disturb.
    """

    def __init__(self, classes: int = 10, *, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        side = size // 2 // 2
        self.conv1 = nn.Conv2d(channels, 32, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2, padding=1)
        self.hidden = nn.Linear(64 * side * side, 256)
        self.head = nn.Linear(256, classes)

    def forward(self, images: Images) -> Logits:
        x = nn.functional.relu(self.conv1(images))
        x = nn.functional.relu(self.conv2(x))
        # Channels last: in that layout nothing is copied, and the gradient comes back in the order that it went.
        return self.head(nn.functional.relu(self.hidden(x.permute(0, 2, 3, 1).flatten(1))))
