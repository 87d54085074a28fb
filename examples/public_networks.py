"""Hardened MNIST networks of other authors, measured beside the robust accuracy that was published of them.

``python examples/public_networks.py FOLDER`` looks in a folder for ``fast_adversarial.safetensors``,
``trades.safetensors`` and ``madry.safetensors``, whatever follows the name, and attacks each by AutoAttack's standard
version at linf 0.3. The published figures are of all 10,000 test images, so each should lie in the interval of fewer.
As classifiers for ``hardy attack`` and ``hardy evaluate`` they are named, from this folder, as in
``public_networks:trades --weights FILE``.

Published: the table of AutoAttack's authors (Croce and Hein, ICML 2020, arXiv:2003.01690), for MNIST.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import hardy
from hardy.metrics import share_interval
from hardy.models.weights import load_weights

EPS = 0.3


def fast_adversarial() -> nn.Module:
    """Of github.com/locuslab/fast_adversarial (Wong et al., ICLR 2020, arXiv:2001.03994)."""
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


class Trades(nn.Module):
    """Of github.com/yaodongyu/TRADES (Zhang et al., ICML 2019, arXiv:1901.08573); parameters are named as there."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extractor = nn.Sequential()
        channels = (1, 32, 32, 64, 64)
        for number, (before, after) in enumerate(pairwise(channels), start=1):
            self.feature_extractor.add_module(f"conv{number}", nn.Conv2d(before, after, 3))
            self.feature_extractor.add_module(f"relu{number}", nn.ReLU())
            if number % 2 == 0:
                self.feature_extractor.add_module(f"maxpool{number // 2}", nn.MaxPool2d(2))
        self.classifier = nn.Sequential()
        for number, (before, after) in enumerate(((1024, 200), (200, 200), (200, 10)), start=1):
            self.classifier.add_module(f"fc{number}", nn.Linear(before, after))
            if number < 3:
                self.classifier.add_module(f"relu{number}", nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.feature_extractor(images).flatten(1))


def trades() -> nn.Module:
    """The small network of TRADES."""
    return Trades()


def madry() -> nn.Module:
    """Of github.com/MadryLab/mnist_challenge (Madry et al., ICLR 2018, arXiv:1706.06083), its features (C, H, W)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


class Published(NamedTuple):
    """How a network is built, and what was published of it, as shares of all test images."""

    build: Callable[[], nn.Module]
    clean: float
    robust: float


NETWORKS = {
    "fast_adversarial": Published(fast_adversarial, 0.9850, 0.8293),
    "trades": Published(trades, 0.9948, 0.9281),
    "madry": Published(madry, 0.9853, 0.8850),
}


class Row(NamedTuple):
    """What was measured of one network."""

    file: Path
    published: Published
    clean: float
    robust: float
    low: float
    high: float

    @property
    def agrees(self) -> bool:
        """Whether the published robust accuracy lies in the 95 % interval."""
        return self.low <= self.published.robust <= self.high


def found_in(folder: Path) -> Iterator[tuple[Path, Published]]:
    """The files of a folder that are called by a known network's name."""
    for file in sorted(folder.glob("*.safetensors")):
        for name, published in NETWORKS.items():
            if file.stem.startswith(name):
                yield file, published


def measured(file: Path, published: Published, count: int, seed: int = 0) -> Row:
    """AutoAttack's standard version on so many test images, in the dataset's measuring order."""
    network, test = published.build().eval(), hardy.load_dataset("mnist/test")
    load_weights(network, file)
    chosen = test.measuring_order()[:count]
    result = hardy.attacks.autoattack(network, test.floats(chosen), test.labels[chosen], eps=EPS, seed=seed)
    standing, right = int((~result.broken).sum()), int((result.min_norm > 0).sum())
    interval = share_interval(standing, len(chosen))
    return Row(file, published, right / len(chosen), standing / len(chosen), interval.low, interval.high)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    rows = [measured(*each, arguments.images) for each in found_in(arguments.folder)]
    if not rows:
        parser.error(f"{arguments.folder} holds none of {', '.join(f'{name}*.safetensors' for name in NETWORKS)}")
    for it in rows:
        place = "in" if it.agrees else "outside"
        print(
            f"{it.file.name}: clean {it.clean:.2%} (published {it.published.clean:.2%}), linf {EPS} {it.robust:.2%}, "
            f"95 % interval {it.low:.2%} to {it.high:.2%}; published {it.published.robust:.2%}, {place} the interval"
        )


if __name__ == "__main__":
    main()
