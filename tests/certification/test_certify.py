"""Verdicts: the ladder agrees with itself, branch and bound is complete where it is small, and calls are checked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.certifying import SHAPE, build, randomize, sampled
from torch import nn

import hardy
from hardy.certification import VERDICTS, bounds, certify
from hardy.certification.bounds import Ball
from hardy.threats import ThreatModel


def small(seed: int, inputs: int = 4) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    randomize(model, torch.Generator().manual_seed(seed), 1.5)
    return model.eval()


def labels_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_branching_decides_small_networks_as_exhaustive_sampling_does(norm: str) -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for seed in range(4):
        model, images = small(seed), torch.rand(10, 1, 2, 2, generator=generator)
        labels = labels_of(model, images)
        found = certify(model, images, labels, eps=0.15, norm=norm, iterations=0, refined=0, nodes=400, seed=seed)
        seen |= set(found.verdict)
        assert (found.verdict != "unknown").mean() >= 0.9
        ball = Ball(images, ThreatModel(norm, 0.15))  # type: ignore[arg-type]
        with torch.no_grad():
            fooled = torch.stack([model(it).argmax(1) != labels for it in sampled(ball, generator, 400)]).any(0).numpy()
        assert not (found.certified & fooled).any()
        broken = found.verdict == "falsified"
        assert (labels_of(model, found.images)[broken] != labels[broken]).all()
        assert ball.threat.contains(found.images, images).all()
    assert "branching" in seen


def test_more_effort_certifies_no_less() -> None:
    model, images = small(5), torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = labels_of(model, images)
    lower = [
        bounds(model, images, labels, eps=0.1, iterations=iterations, refined=refined).margins
        for iterations, refined in [(0, 0), (0, 50), (30, 50)]
    ]
    assert all((after >= before - 1e-5).all() for before, after in pairwise(lower))
    assert (lower[-1] > lower[0] + 1e-3).any()


def test_the_batch_does_not_matter() -> None:
    model, images = build("residual"), torch.rand(5, *SHAPE)
    labels = torch.arange(5) % 4
    whole, one_by_one = (bounds(model, images, labels, eps=0.03, batch_size=it).margins for it in (5, 1))
    np.testing.assert_allclose(whole, one_by_one, rtol=1e-3, atol=1e-4)


def test_an_image_that_is_answered_wrongly_is_said_to_be() -> None:
    model, images = small(6), torch.rand(6, 1, 2, 2)
    found = certify(model, images, (labels_of(model, images) + 1) % 3, eps=0.05)
    assert set(found.verdict) == {"wrong"}
    assert set(found.verdict) <= set(VERDICTS)
    assert not found.certified.any()


def test_calls_that_make_no_sense_are_refused() -> None:
    model, images = small(0), torch.rand(2, 1, 2, 2)
    with pytest.raises(hardy.UsageError, match="no bound is known in norm 'l0'"):
        bounds(model, images, torch.tensor([0, 1]), eps=1, norm="l0")
    with pytest.raises(hardy.UsageError, match="unknown method 'ibp'"):
        bounds(model, images, torch.tensor([0, 1]), eps=0.1, method="ibp")  # type: ignore[arg-type]
    with pytest.raises(hardy.UsageError, match="one integer per image, from 0 to 2"):
        bounds(model, images, torch.tensor([0, 3]), eps=0.1)
    with pytest.raises(hardy.UsageError, match=r"type 0\.03"):
        bounds(model, images, torch.tensor([0, 1]), eps=8)
