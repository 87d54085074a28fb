"""Training by interval bounds: the loss bounds every other of the ball, and a trained network is certified."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import hardy
from hardy.certification.bounds import Ball
from hardy.models import Strided
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.training import Batch, Objective, Recipe, Split, fit
from hardy.training.losses import cross_entropy, guaranteed_exposure, interval


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def batch(progress: float = 1.0) -> Batch:
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(8) % 3, Randomness(0, torch.arange(8), ("training", 0)), progress)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_image_of_the_ball_has_a_larger_loss(norm: str) -> None:
    model, given = small(), batch()
    bound = float(interval(model, given, eps=0.2, norm=norm).detach())
    ball = Ball(given.images, ThreatModel(norm, 0.2))  # type: ignore[arg-type]
    for draw in range(20):
        moved = ball.threat.random_start(given.images, Randomness(draw, torch.arange(8)))
        assert float(cross_entropy(model, Batch(moved, given.targets, given.rng, 1.0)).detach()) <= bound


def test_it_starts_as_the_clean_loss() -> None:
    model, given = small(), batch(progress=0.0)
    torch.testing.assert_close(
        interval(model, given, eps=0.2, ramp=0.5), cross_entropy(model, given), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_image_near_an_outlier_has_a_larger_lead(norm: str) -> None:
    model, given = small(), replace(batch(), outliers=batch().images.flip(3))
    assert given.outliers is not None
    bound = float(guaranteed_exposure(model, given, source="synthetic", eps=0.2, norm=norm).detach())
    threat = ThreatModel(norm, 0.2)  # type: ignore[arg-type]
    for draw in range(20):
        moved = threat.random_start(given.outliers, Randomness(draw, torch.arange(8)))
        with torch.no_grad():
            logits = model(moved)
        lead = logits.amax(1) - logits.amin(1)
        assert float(torch.log1p(0.5 * lead.square()).mean()) <= bound


def test_the_guarantee_on_outliers_is_what_it_trains() -> None:
    torch.manual_seed(0)
    model, given = small(), replace(batch(), outliers=batch().images.flip(3))
    assert given.outliers is not None
    before = hardy.certification.confidence_bounds(model, given.outliers, eps=0.1).mean()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        guaranteed_exposure(model, given, source="synthetic", eps=0.1).backward()
        optimizer.step()
    assert hardy.certification.confidence_bounds(model, given.outliers, eps=0.1).mean() < before - 0.05


def test_the_network_is_recorded_once_and_follows_its_weights() -> None:
    model, given = small(), batch()
    before = interval(model, given, eps=0.1)
    recorded = given.memo["recorded"]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    after = interval(model, given, eps=0.1)
    assert given.memo["recorded"] is recorded
    assert float(after.detach()) != float(before.detach())
    torch.testing.assert_close(after, interval(model, batch(), eps=0.1))


def test_boxes_neither_grow_nor_shrink_at_first() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 28, 28)
    spreads = {}
    for steady in (False, True):
        model = Strided(width=8, depth=2, hidden=64, steady_boxes=steady)
        found = hardy.certification.bounds(model, images, torch.zeros(4).long(), eps=0.1, method="intervals")
        spreads[steady] = -float(torch.tensor(found.margins[:, 1:]).mean())
    assert 0.01 < spreads[True] < 1.0


def test_training_by_bounds_certifies_what_plain_training_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(256) % 2
    images = 0.5 + 0.2 * torch.randn(256, 1, 4, 4, generator=generator)
    images[:, :, :, :2] += (0.5 * labels - 0.25)[:, None, None, None]
    split = Split(images.clamp(0, 1), labels)
    certified = {}
    for loss, settings in {"cross_entropy": {}, "interval": {"eps": 0.1, "ramp": 0.3}}.items():
        recipe = Recipe(
            "bounds", "for a test", model="tiny-dense", model_arguments={}, epochs=12, batch_size=32,
            learning_rate=0.01, objectives=(Objective(loss, settings),),
        )  # fmt: skip
        fitted = fit(recipe, split, split, 2, seed=0)
        model = hardy.build_model("tiny-dense")
        model.load_state_dict(fitted.weights)
        found = hardy.certification.bounds(model, split.images, labels, eps=0.1, method="intervals")
        certified[loss] = found.certified.mean()
    assert certified["interval"] > certified["cross_entropy"] + 0.1
    assert certified["interval"] > 0.5


@pytest.fixture(autouse=True)
def tiny_dense():
    @hardy.models.register(name="tiny-dense")
    def build(classes: int = 2) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, classes))

    yield build
    hardy.models.MODELS.remove("tiny-dense")
