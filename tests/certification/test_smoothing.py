"""Randomized smoothing: against closed forms and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm
from torch import Tensor, nn

import hardy
from hardy.certification import smooth
from hardy.certification.smoothing import certified_radius, lower_confidence

SHAPE = (1, 3, 3)


def half_space(gap: float, generator: torch.Generator) -> tuple[nn.Module, Tensor]:
    """A linear classifier, and an image of class 0 whose distance to the boundary is ``gap``."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    weight = torch.randn(9, generator=generator)
    weight /= weight.norm()
    image = torch.full((1, *SHAPE), 0.5)
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([weight, -weight]) / 2)  # type: ignore[union-attr]
        shift = (gap - image.flatten() @ weight) / 2
        model[1].bias.copy_(torch.stack([shift, -shift]))  # type: ignore[union-attr]
    return model, image


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (10, 10), (990, 1000)])
def test_the_confidence_bound_is_clopper_and_pearsons(hits: int, n: int) -> None:
    exact = binomtest(hits, n, alternative="greater").proportion_ci(0.999, method="exact").low
    assert lower_confidence(hits, n, 0.001) == pytest.approx(exact, abs=1e-12)


def test_the_radius_is_that_of_the_paper() -> None:
    assert certified_radius(100, 100, 0.001, 0.5) == pytest.approx(0.5 * norm.ppf(0.001 ** (1 / 100)))
    assert certified_radius(50, 100, 0.001, 0.5) == 0.0


@pytest.mark.parametrize("gap", [0.1, 0.4])
def test_the_radius_of_a_half_space_approaches_its_distance_from_below(gap: float) -> None:
    model, image = half_space(gap, torch.Generator().manual_seed(0))
    found = smooth(model, image, sigma=0.25, samples=20_000)
    assert found.prediction[0] == 0
    assert 0.9 * gap < found.radius[0] <= gap


def test_certificates_fail_at_most_as_often_as_stated() -> None:
    """Of many certificates at a failure probability of 10 %, those beyond the true distance."""
    model, image = half_space(0.2, torch.Generator().manual_seed(1))
    found = smooth(model, image.repeat(300, 1, 1, 1), sigma=0.25, samples=200, failure=0.1)
    wrong = int((found.radius > 0.2).sum())
    assert binomtest(wrong, 300, 0.1, alternative="greater").pvalue > 1e-4


def test_what_is_undecided_gets_no_answer_and_is_not_sampled_to_the_end() -> None:
    model, image = half_space(0.0, torch.Generator().manual_seed(2))
    found = smooth(model, image, sigma=0.5, samples=5000)
    assert (found.prediction[0], found.radius[0], found.abstentions) == (-1, 0.0, 1)
    assert found.certified_accuracy(torch.tensor([0]), 0.0) == 0.0
    assert smooth(model, image, sigma=0.5, samples=5000, radius=0.5).samples[0] < 5000


def test_sampling_stops_when_the_radius_is_reached() -> None:
    model, image = half_space(1.0, torch.Generator().manual_seed(3))
    whole = smooth(model, image, sigma=0.5, samples=5000)
    asked = smooth(model, image, sigma=0.5, samples=5000, radius=0.3)
    assert asked.radius[0] >= 0.3
    assert asked.samples[0] < whole.samples[0] == 5100
    assert asked.certified_accuracy(torch.tensor([0]), 0.3) == 1.0
    assert asked.certified_accuracy(torch.tensor([1]), 0.3) == 0.0


def test_a_black_box_is_certified_and_an_image_depends_on_its_index_alone() -> None:
    def answers(images: Tensor) -> Tensor:
        return torch.stack([images.mean((1, 2, 3)), 0.5 + 0 * images.mean((1, 2, 3))], 1)

    images = torch.linspace(0.3, 0.8, 4).reshape(4, 1, 1, 1).expand(4, *SHAPE)
    whole = smooth(answers, images, sigma=0.5, samples=1000, seed=3)
    part = smooth(answers, images[[2]], sigma=0.5, samples=1000, seed=3, indices=[2], batch_size=77)
    assert (part.prediction[0], part.radius[0]) == (whole.prediction[2], whole.radius[2])
    other = smooth(answers, images[[2]], sigma=0.5, samples=1000, seed=4, indices=[2])
    assert math.isfinite(other.radius[0])
    assert other.radius[0] != part.radius[0] or other.samples[0] != part.samples[0] or whole.abstentions


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(hardy.UsageError, match="sigma is above 0"):
        smooth(nn.Flatten(), torch.rand(1, *SHAPE), sigma=0.0)
    with pytest.raises(hardy.UsageError, match="radius -1"):
        smooth(nn.Flatten(), torch.rand(1, *SHAPE), sigma=0.1, radius=-1)


def test_the_mode_of_a_network_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(9, 2)).train()
    first, second = (smooth(model, torch.rand(1, *SHAPE), sigma=0.1, samples=50) for _ in range(2))
    assert model.training
    np.testing.assert_array_equal(first.samples, second.samples)
