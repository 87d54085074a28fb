"""Scores as functions of images: the values of NumPy's own code, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.classifiers import small_classifier

from hardy.models import Ensemble
from hardy.ood import DETECTORS, Detector, extract, fit_combination, fit_detector, fit_exposed
from hardy.ood.features import Features, record
from hardy.ood.recorded import Recorded

IMAGES = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(60) % 3
STEP = 1e-3


@pytest.fixture(scope="module")
def ensemble() -> torch.nn.Module:
    return Ensemble([small_classifier().eval(), small_classifier().eval()]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(ensemble: torch.nn.Module) -> Features:
    return extract(ensemble, IMAGES)


@pytest.fixture(scope="module")
def detectors(features: Features) -> dict[str, Detector]:
    names = [name for name, it in DETECTORS.items() if it.of_training and not it.of_mistakes]
    found = {name: fit_detector(name, features.select(slice(0, 40)), LABELS[:40]) for name in names}
    found["discriminator"] = fit_exposed(features.select(slice(0, 30)), [features.select(slice(30, 60))])
    parts = [found[name] for name in ("energy", "layers")]
    found["combination"] = fit_combination(parts, features.select(slice(0, 30)), features.select(slice(30, 60)))
    return found


def scored(detector: Detector, ensemble: torch.nn.Module, images: torch.Tensor, like: Features) -> torch.Tensor:
    return detector.scores(record(ensemble, images, like)).tensor  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name, it in DETECTORS.items() if not it.of_mistakes and name != "odin"])
def test_a_score_of_recorded_features_is_the_score_with_its_gradient(
    name: str, ensemble: torch.nn.Module, features: Features, detectors: dict[str, Detector]
) -> None:
    detector, images = detectors[name], IMAGES[45:49].clone().requires_grad_(True)
    values = scored(detector, ensemble, images, features)
    assert values.detach().numpy() == pytest.approx(detector.scores(features)[45:49], rel=1e-4, abs=1e-4)
    (gradient,) = torch.autograd.grad(values.sum(), images)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    if name != "combination":
        way = gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        ahead, behind = (scored(detector, ensemble, images.detach() + sign * STEP * way, features) for sign in (1, -1))
        slope = ((ahead - behind) / (2 * STEP)).detach()
        assert slope.numpy() == pytest.approx((gradient * way).flatten(1).sum(1).numpy(), rel=0.1, abs=1e-3)


def test_ranks_are_steps_whose_slope_is_that_of_the_line_between_them() -> None:
    table = np.array([0.0, 1.0, 3.0, 3.5])
    given = torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64, requires_grad=True)
    places = np.searchsorted(table, Recorded(given)).tensor  # type: ignore[call-overload]
    assert places.tolist() == [1.0, 2.0, 4.0]
    (slopes,) = torch.autograd.grad(places.sum(), given)
    assert slopes.tolist() == pytest.approx([1.0, 0.5, 4 / 3.5])


def test_what_numpy_cannot_hand_over_is_an_error_and_no_wrong_number() -> None:
    values = Recorded(torch.ones(3))
    for call in (np.asarray, np.fft.fft, np.arctan, np.cumsum):
        with pytest.raises(TypeError):
            call(values)  # type: ignore[operator]
