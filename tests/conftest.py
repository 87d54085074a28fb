"""What several test files share: some digits, and a small classifier of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from hardy.data import load_dataset
from hardy.models import Compact
from hardy.training import Fitted, Recipe, Split, fit


def pytest_configure() -> None:
    # Tests compute little at a time: more threads only wait for each other, for long where the cores are shared.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _usual_signals() -> Iterator[None]:
    """The command line, called in this process, sets how signals are handled until the process ends."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def some_digits() -> Split:
    """2,000 training images of MNIST, uint8."""
    return _first("mnist/train", 2000)


@pytest.fixture(scope="session")
def validation_digits() -> Split:
    """500 validation images of MNIST, uint8."""
    return _first("mnist/validation", 500)


@pytest.fixture(scope="session")
def quick() -> Recipe:
    """Two epochs of 20 steps on ``some_digits``: above 85 %, in less than a second."""
    return Recipe(
        name="quick",
        description="learns some digits in a second",
        model_arguments={"width": 8},
        epochs=2,
        batch_size=100,
        learning_rate=0.02,
        averaging=0.9,
        augmentation={"shift": {"pixels": 1}},
        precision="float32",
    )


@pytest.fixture(scope="session")
def quickly_fitted(quick: Recipe, some_digits: Split, validation_digits: Split) -> Fitted:
    return fit(quick, some_digits, validation_digits, 10, seed=0)


@pytest.fixture
def digit_classifier(quickly_fitted: Fitted) -> nn.Module:
    """A fresh copy of the compact network that ``quick`` trains, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        model = Compact(width=8)
    model.load_state_dict(quickly_fitted.weights)
    return model.eval()


def _first(name: str, count: int) -> Split:
    dataset = load_dataset(name)
    return Split(dataset.images[:count], dataset.labels[:count])
