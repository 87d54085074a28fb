"""Attacks on classifiers as people write them: scaled, without gradient, untraceable, float32 only."""

from __future__ import annotations

import pytest
import torch
from helpers.attacking import answers, grey_images, linf, rng_of, run, undecided
from torch import Tensor, nn

from hardy.attacks import ATTACKS, run_attack
from hardy.threats import Norm, ThreatModel


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.inner = undecided(3)
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.inner(images)


@pytest.mark.parametrize("name", ["fast-gradient", "pgd"])
@pytest.mark.parametrize("scale", [1e-3, 100.0, 1e5])
def test_scaled_logits_do_not_look_more_robust(name: str, scale: float) -> None:
    """Beyond a lead of 17 the probabilities round to 0 and 1, and the cross-entropy has no gradient."""
    threats = linf(0.05)
    plain = run(ATTACKS[name], threats, Scaled(1.0)).min_norm.isfinite()
    scaled = run(ATTACKS[name], threats, Scaled(scale)).min_norm.isfinite()
    assert plain.float().mean() > 0.5
    assert scaled.float().mean() >= plain.float().mean() - 0.02


class Flat(nn.Module):
    """Has an answer, but no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = undecided(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images).round() + 0.0 * images.sum()


@pytest.mark.parametrize("name", ["fast-gradient", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_gradient_of_0_gives_no_nan(name: str, norm: Norm) -> None:
    if norm not in ATTACKS[name].norms:
        pytest.skip(f"{name} does not work in {norm}")
    result = run(ATTACKS[name], [ThreatModel(norm, 0.1)], Flat())
    assert result.images.isfinite().all()
    assert not result.min_norm.isnan().any()


class Viewing(nn.Module):
    """Flattens by ``view``, as many do, and branches, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(1, 3, 3)
            self.second = nn.Conv2d(3, 4, 2)
            self.norm = nn.BatchNorm2d(4)
            self.dropout = nn.Dropout(0.5)
            self.head = nn.Linear(4 * 9, 3)

    def forward(self, images: Tensor) -> Tensor:
        assert len(images), "this classifier takes no empty batch"
        features = self.norm(self.second(self.first(images).relu())).relu()
        return self.head(self.dropout(features.view(-1, 4 * 9)))


def test_a_classifier_that_views_and_branches_can_be_attacked() -> None:
    assert run(ATTACKS["pgd"], linf(1.0), Viewing()).min_norm.isfinite().any()


class Normalising(nn.Module):
    """Keeps its constants as plain tensors, which no change of its dtype reaches, and branches."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = undecided(3)
        self.mean = torch.full((1, 1, 1), 0.5)

    def forward(self, images: Tensor) -> Tensor:
        assert len(images), "this classifier takes no empty batch"
        return self.inner((images - self.mean) / 0.25)


@pytest.mark.parametrize("precision", ["auto", "bf16", "float32"])
def test_a_classifier_that_computes_in_float32_only_can_be_attacked(precision) -> None:
    classifier, images = Normalising(), grey_images()
    labels = answers(classifier, images)
    attack = ATTACKS["pgd"]
    result = run_attack(classifier, images, labels, attack, linf(0.3), rng=rng_of(), precision=precision)
    assert result.min_norm.isfinite().any()


@pytest.mark.parametrize("training", [True, False])
def test_the_classifier_is_left_as_it_was(training: bool) -> None:
    classifier, images = Viewing(), grey_images()
    labels = answers(classifier, images)
    classifier.train(training).head.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    run_attack(classifier, images, labels, ATTACKS["pgd"], linf(0.1), rng=rng_of())
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert {module.training for module in classifier.modules()} == {training}
    assert [name for name, one in classifier.named_parameters() if not one.requires_grad] == ["head.bias"]
    assert all(parameter.grad is None for parameter in classifier.parameters())


@pytest.mark.parametrize("name", ["fast-gradient", "pgd"])
@pytest.mark.parametrize("kept", [0, 1])
def test_no_example_and_one_example_are_enough(name: str, kept: int) -> None:
    classifier, images = Viewing(), grey_images()[:kept]
    labels = answers(classifier, grey_images())[:kept]
    result = run(ATTACKS[name], linf(0.3), classifier, images, labels)
    assert len(result.min_norm) == len(result.prediction) == len(result.images) == kept
