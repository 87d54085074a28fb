"""Mixing: MixUp and CutMix with their labels, AugMix and PixMix against what their papers define."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import one_hot

from hardy.augmentations import MIXINGS, augment
from hardy.augmentations.chains import augmix, random_operation
from hardy.augmentations.mixing import cutmix, mixup, symmetric_beta
from hardy.augmentations.pixmix import PICTURES, mixing_set, pixmix
from hardy.rng import Randomness
from hardy.training import Recipe, Split, fit


def pictures(count: int = 20, channels: int = 2, height: int = 28, width: int = 28) -> Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def streams(count: int = 20) -> Randomness:
    return Randomness(0, torch.arange(count), ("mixing",))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0, 10.0])
def test_weights_are_beta_distributed(alpha: float) -> None:
    weights = symmetric_beta(streams(5000).uniform(2), alpha)
    assert stats.kstest(weights.numpy(), "beta", (alpha, alpha)).pvalue > 1e-3
    assert set(symmetric_beta(streams(50).uniform(2), 0.0).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", MIXINGS)
def test_images_are_mixed_with_the_one_before(name: str) -> None:
    images = pictures()
    mix = MIXINGS[name](images, streams(), alpha=1.0)
    assert mix.partner.tolist() == [19, *range(19)]
    assert mix.images.shape == images.shape
    assert float(mix.weight.min()) >= 0.0
    assert float(mix.weight.max()) <= 1.0
    assert len(mix.weight.unique()) > 10
    again = MIXINGS[name](images, streams(), alpha=1.0)
    assert torch.equal(again.images, mix.images)
    fewer = MIXINGS[name](images[:7], streams(7), alpha=1.0)
    torch.testing.assert_close(fewer.weight, mix.weight[:7])
    torch.testing.assert_close(fewer.images[1:], mix.images[1:7])


def test_mixup_is_the_weighted_mean() -> None:
    images = pictures()
    mix = mixup(images, streams(), alpha=1.0)
    weight = mix.weight.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(mix.images, weight * images + (1 - weight) * images.roll(1, 0))


@pytest.mark.parametrize(("height", "width"), [(28, 28), (10, 30)])
def test_cutmix_weighs_labels_by_area(height: int, width: int) -> None:
    black_and_white = torch.zeros(200, 1, height, width)
    black_and_white[::2] = 1.0
    mix = cutmix(black_and_white, streams(200), alpha=1.0)
    own = mix.images == black_and_white
    torch.testing.assert_close(own.float().mean((1, 2, 3)), mix.weight)
    for cut in ~own[:, 0]:
        rows, columns = cut.any(1).nonzero(), cut.any(0).nonzero()
        # What is cut is one rectangle: as large as its rows times its columns.
        assert int(cut.sum()) == len(rows) * len(columns)


@pytest.mark.parametrize("name", MIXINGS)
def test_labels_mix_as_images_do_and_sum_to_one(name: str) -> None:
    images, labels, rng = pictures(), torch.arange(20) % 10, streams()
    hard = one_hot(labels, 10).float()
    mixed, targets = augment(images, hard, rng, {name: {"alpha": 1.0}})
    mix = MIXINGS[name](images, rng.fold(name), alpha=1.0)
    assert torch.equal(mixed, mix.images)
    torch.testing.assert_close(targets.sum(1), torch.ones(20))
    for row, soft in enumerate(targets):
        weight = float(mix.weight[row])
        assert float(soft[labels[row]]) == pytest.approx(weight)
        assert float(soft[labels[row - 1]]) == pytest.approx(1 - weight)


def test_twice_mixed_labels_are_those_of_three_images() -> None:
    hard = one_hot(torch.arange(20) % 10, 10).float()
    _, targets = augment(pictures(), hard, streams(), {"mixup": {"alpha": 1.0}, "cutmix": {"alpha": 1.0}})
    torch.testing.assert_close(targets.sum(1), torch.ones(20))
    assert {int((row > 0).sum()) for row in targets} == {3} or max((row > 0).sum() for row in targets) == 3


def test_with_a_probability_some_images_are_mixed_among_themselves() -> None:
    hard = one_hot(torch.arange(200) % 10, 10).float()
    images = pictures(200, 1, 8, 8)
    mixed, targets = augment(images, hard, streams(200), {"mixup": {"alpha": 1.0, "probability": 0.4}})
    untouched = (mixed == images).flatten(1).all(1)
    assert 0.4 < float(untouched.float().mean()) < 0.8
    assert torch.equal(targets[untouched], hard[untouched])


@pytest.mark.parametrize("name", MIXINGS)
def test_training_takes_soft_labels(name: str, quick: Recipe, some_digits: Split, validation_digits: Split) -> None:
    recipe = replace(quick, augmentation={name: {"alpha": 1.0, "probability": 0.5}})
    assert fit(recipe, some_digits, validation_digits, 10, seed=0).accuracy > 0.7
    soft = Split(some_digits.images, one_hot(some_digits.labels, 10).float())
    hard_accuracy = fit(quick, some_digits, validation_digits, 10, seed=0).accuracy
    assert fit(quick, soft, validation_digits, 10, seed=0).accuracy == pytest.approx(hard_accuracy, abs=0.02)


def test_every_operation_of_augmix_comes_about_equally_often() -> None:
    # Halves of two grays: a move shows at the border, a stretch in the levels.
    images = torch.full((400, 1, 9, 9), 0.6)
    images[:, :, 4, 4] = 0.7
    changed = random_operation(images, streams(400).uniform(3), severity=10.0)
    stretched = (changed.amin((1, 2, 3)) == 0.0) & (changed.amax((1, 2, 3)) == 1.0)
    assert float(stretched.float().mean()) == pytest.approx(1 / 8, abs=0.05)


def test_augmix_blends_with_the_image() -> None:
    images = pictures(50, 1)
    difference = (augmix(images, streams(50), severity=3.0) - images).abs().mean((1, 2, 3))
    assert float(difference.min()) >= 0.0
    assert float(difference.max()) < float((images - images.flip(0)).abs().mean())
    gentle = (augmix(images, streams(50), severity=0.0) - images).abs().mean((1, 2, 3))
    # At severity 0 only rounding to 8 bits and stretching are left, and random images fill the range already.
    assert float(gentle.max()) < 0.01


def test_the_mixing_set_is_always_the_same_and_has_structure() -> None:
    pictures = mixing_set(1, 28, 28, device=torch.device("cpu"))
    assert pictures.shape == (PICTURES, 1, 28, 28)
    assert pictures is mixing_set(1, 28, 28, device=torch.device("cpu"))
    mixing_set.cache_clear()
    assert torch.equal(pictures, mixing_set(1, 28, 28, device=torch.device("cpu")))
    assert float(pictures.min()) == 0.0
    assert float(pictures.max()) == 1.0
    assert len(pictures.flatten(1).unique(dim=0)) == PICTURES
    spread = pictures.flatten(1).std(1)
    assert float(spread.min()) > 0.02
    # Neighbours are more alike than pixels at random: these are pictures and no noise.
    neighbours = (pictures[..., 1:] - pictures[..., :-1]).abs().flatten(1).mean(1)
    assert float((neighbours / spread).median()) < 0.7
    assert mixing_set(3, 12, 20, device=torch.device("cpu")).shape == (PICTURES, 3, 12, 20)


def test_pixmix_mixes_less_the_higher_beta_is() -> None:
    images = pictures(100, 1) * 0.5
    changes = [
        float((pixmix(images, streams(100), beta=beta, severity=0.0) - images).abs().mean())
        for beta in (1.0, 3.0, 20.0)
    ]
    assert changes == sorted(changes, reverse=True)
