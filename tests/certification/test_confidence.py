"""No image of a ball is answered with more confidence than the bound says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.certifying import ball_of, build, ensemble_of, randomize, sampled

import hardy
from hardy.certification import confidence_bounds


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


def test_norms_without_bounds_are_refused() -> None:
    with pytest.raises(hardy.UsageError, match="no bound is known in norm 'l0'"):
        confidence_bounds(build("relu"), torch.rand(1, 1, 6, 6), eps=1, norm="l0")
