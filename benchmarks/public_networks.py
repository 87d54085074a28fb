"""The architectures of hardened networks whose weights others have published, to be loaded with --weights."""

from __future__ import annotations

from torch import nn


def fast_adversarial() -> nn.Module:
    """The MNIST network of github.com/locuslab/fast_adversarial (Wong et al., ICLR 2020, arXiv:2001.03994)."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
