"""Small classifiers for tests."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hardy.data import load_dataset
from hardy.training import Recipe
from hardy.validation import Images, Logits

TINY = Recipe(
    "tiny",
    "learns the tiny data in a moment",
    model_arguments={"width": 2, "size": 8},
    batch_size=16,
    epochs=4,
    learning_rate=0.03,
)


def write_tiny_data(folder: Path) -> Path:
    """A dataset file of three classes, 8x8: noise with one bright third. 400 images to train on, 60 to test on."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 400), ("test", 60)):
        labels = rng.integers(0, 3, count)
        images = 0.7 * rng.random((count, 8, 8), dtype=np.float32)
        for label in range(3):
            images[labels == label, 3 * label : 3 * label + 2] += 0.3
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(folder / "tiny.npz", **arrays)
    return folder / "tiny.npz"


class Linear(nn.Module):
    """Logits linear in the pixels, so that the best attack is known in closed form."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, images: Images) -> Logits:
        return nn.functional.linear(images.flatten(1), self.weight, self.bias)


class SmallNet(nn.Module):
    """One convolution with batch norm, and a linear head; for images (N, 1, 28, 28) of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 5, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 12 * 12, 10)

    def features(self, images: Images) -> Tensor:
        return nn.functional.relu(self.norm(self.convolution(images))).flatten(1)

    def forward(self, images: Images) -> Logits:
        return self.head(self.features(images))


def small_classifier() -> SmallNet:
    """A fresh copy of a classifier of MNIST that is right on about 90 % of the test images, in training mode."""
    return copy.deepcopy(_fitted())


class Rounded(nn.Module):
    """Sees eight levels of gray; rounding has a gradient of zero."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Images) -> Logits:
        return self.classifier(torch.round(images * 7) / 7)


def rounded_classifier() -> nn.Module:
    """One that looks robust to whoever follows its gradient."""
    return Rounded(small_classifier())


@cache
def _fitted() -> SmallNet:
    validation = load_dataset("mnist/validation")
    images, labels = validation.floats(), validation.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SmallNet()
    with torch.no_grad():
        before = model.convolution(images)
        assert model.norm.running_mean is not None
        assert model.norm.running_var is not None
        model.norm.running_mean.copy_(before.mean((0, 2, 3)))
        model.norm.running_var.copy_(before.var((0, 2, 3)))
        features = model.eval().features(images).double()
        centre = features.mean(0)
        features = features - centre
        wanted = 10.0 * nn.functional.one_hot(labels, 10).double() - 1.0
        # Ridge regression: a head in closed form, the same on every machine up to rounding.
        gram = features.T @ features + 3000.0 * torch.eye(features.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(gram, features.T @ wanted).T
        model.head.weight.copy_(weight)
        model.head.bias.copy_(wanted.mean(0) - weight @ centre)
    return model.train()


def seeded_linear(classes: int = 3, side: int = 6, seed: int = 0) -> Linear:
    """A linear classifier of images (N, 1, side, side) with normal weights."""
    generator = torch.Generator().manual_seed(seed)
    return Linear(torch.randn(classes, side * side, generator=generator), torch.randn(classes, generator=generator))


@cache
def some_digits(count: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and indices of some of MNIST's test images."""
    test = load_dataset("mnist/test")
    indices = test.measuring_order()[:count]
    return test.floats(indices), test.labels[indices], indices
