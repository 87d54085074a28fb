"""What every registered score, recipe, augmentation and dataset has to keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.classifiers import some_digits

from hardy.augmentations import AUGMENTATIONS, augment
from hardy.ood import SCORES
from hardy.rng import Randomness

scores = pytest.mark.parametrize("name", SCORES)


@scores
def test_a_score_is_higher_the_less_there_is_to_go_by(name: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 10)).astype(np.float32)
    found = SCORES[name](logits)
    assert found.shape == (50,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    rising = np.stack([size * np.eye(10)[3] for size in (0.0, 1.0, 5.0, 30.0, 200.0)]).astype(np.float32)
    assert (np.diff(SCORES[name](rising)) < 0).all()


@scores
def test_a_score_of_an_example_is_its_own(name: str) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    alone = np.concatenate([SCORES[name](logits[row : row + 1]) for row in range(20)])
    assert np.allclose(SCORES[name](logits), alone, rtol=1e-12)
    assert SCORES[name](logits[:0]).shape == (0,)


@scores
def test_a_score_says_what_it_is(name: str) -> None:
    assert (SCORES[name].__doc__ or "").startswith("(N,): ")


AUGMENTED = {
    "rotate": {"degrees": 20.0},
    "translate": {"fraction": 0.2},
    "shift": {"pixels": 2},
    "scale": {"fraction": 0.2},
    "shear": {"degrees": 15.0},
    "affine": {"degrees": 10.0, "shear": 10.0, "scale": 0.1, "fraction": 0.1},
    "elastic": {"pixels": 1.0},
    "gaussian_noise": {"deviation": 0.3},
    "uniform_noise": {"amount": 0.3},
    "impulse_noise": {"amount": 0.1},
    "erase": {"area": 0.3},
    "invert_part": {"area": 0.5},
    "strokes": {"count": 2, "width": 3.0},
    "contrast": {"loss": 0.7},
    "invert": {"probability": 0.5},
    "shade": {"weight": 0.7},
    "blur": {"deviation": 1.5},
    "random_convolution": {"weight": 0.9},
    "augmix": {"severity": 3.0},
    "pixmix": {"beta": 3.0, "severity": 3.0},
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_stays_in_range_and_belongs_to_the_example(name: str) -> None:
    assert name in AUGMENTED, "add settings for the new augmentation to AUGMENTED"
    images, labels, indices = some_digits()
    rng, steps = Randomness(0, indices, ("training", 1)), {name: AUGMENTED[name]}
    augmented = augment(images, labels, rng, steps)[0]
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert augmented.isfinite().all()
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    assert not torch.equal(augmented, images)
    assert torch.equal(augment(images, labels, rng, steps)[0], augmented)
    some = torch.tensor([7, 3, 11])
    assert torch.allclose(augment(images[some], labels[some], rng.select(some), steps)[0], augmented[some], atol=1e-6)
    assert not torch.equal(augment(images, labels, Randomness(0, indices, ("training", 2)), steps)[0], augmented)
