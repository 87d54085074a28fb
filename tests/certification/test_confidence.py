"""No image of a ball is answered with more confidence, or gets a lower OOD score, than the bound says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.certifying import ball_of, build, ensemble_of, randomize, sampled

import hardy
from hardy.certification import BOUNDED_SCORES, confidence_bounds, score_bounds
from hardy.models import Ensemble
from hardy.ood import SCORES, detector


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["relu", "residual", "ensemble"])
def test_no_image_is_answered_with_more_confidence(name: str, norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        model = ensemble_of(generator) if name == "ensemble" else build(name)
        if name != "ensemble":
            randomize(model, generator)
        ball = ball_of(generator, norm)
        bound = confidence_bounds(model, ball.images, eps=ball.threat.eps, norm=norm)
        with torch.no_grad():
            confidence = torch.stack([model(it).softmax(1).amax(1) for it in sampled(ball, generator, 200)])
        assert (confidence.double().numpy() <= bound).all()
        assert (bound <= 1).all()


def test_without_a_radius_the_bound_is_the_confidence() -> None:
    model, images = build("relu"), torch.rand(4, 1, 6, 6)
    with torch.no_grad():
        exact = model(images).softmax(1).amax(1).numpy()
    np.testing.assert_allclose(confidence_bounds(model, images, eps=0.0), exact, atol=1e-3)


def scores_of(model: torch.nn.Module, images: torch.Tensor) -> dict[str, np.ndarray]:
    """By the functions that detectors are made of; of an ensemble, two of them look at the mean logits."""
    with torch.no_grad():
        logits = model(images).numpy()
        sizes = model.member_logits(images).mean(0).numpy() if isinstance(model, Ensemble) else logits
    return {name: SCORES[name](logits if name == "max_softmax" else sizes) for name in BOUNDED_SCORES}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["relu", "gelu", "residual", "ensemble"])
def test_no_image_looks_more_familiar_than_its_bound(name: str, norm: str) -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (0.5, 3.0):
        model = ensemble_of(generator) if name == "ensemble" else build(name)
        if name != "ensemble":
            randomize(model, generator, scale)
        ball = ball_of(generator, norm)
        bounds = score_bounds(model, ball.images, eps=ball.threat.eps, norm=norm)
        # The residual network answers log probabilities, of which no logits are known.
        assert set(bounds) == ({"max_softmax"} if name == "residual" else set(BOUNDED_SCORES))
        for images in sampled(ball, generator, 100):
            scores = scores_of(model, images)
            assert all((scores[it] >= bound).all() for it, bound in bounds.items())


@pytest.mark.parametrize("name", ["relu", "ensemble"])
def test_without_a_radius_the_bounds_are_the_scores_of_the_detectors(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    model = ensemble_of(generator) if name == "ensemble" else build(name)
    images = torch.rand(5, 1, 6, 6, generator=generator)
    for score, bound in score_bounds(model, images, eps=0.0).items():
        np.testing.assert_allclose(bound, detector(score, model)(images), atol=1e-3)


def test_a_sure_answer_keeps_its_order() -> None:
    """Odds whose probability rounds to 1 are told apart, as the detectors do."""
    model = build("linear")
    with torch.no_grad():
        model[1].weight.zero_()  # type: ignore[union-attr]
        model[1].weight[0] = 3.0  # type: ignore[union-attr]
        model[1].bias.zero_()  # type: ignore[union-attr]
    images = torch.stack([torch.full((1, 6, 6), 0.5), torch.full((1, 6, 6), 0.6)])
    bounds = score_bounds(model, images, eps=0.01)["max_softmax"]
    assert 0 < bounds[1] < bounds[0]


def test_norms_without_bounds_are_refused() -> None:
    with pytest.raises(hardy.UsageError, match="no bound is known in norm 'l0'"):
        confidence_bounds(build("relu"), torch.rand(1, 1, 6, 6), eps=1, norm="l0")
