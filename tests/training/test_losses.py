"""Losses: what every one has to keep, and each against a computation by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.classifiers import seeded_linear
from torch import Tensor, nn

from hardy.errors import UsageError
from hardy.models import Compact
from hardy.rng import Randomness
from hardy.training import Fitted, Recipe, Split, fit
from hardy.training.losses import LOSSES, Batch, trades
from hardy.training.recipes import RECIPES

TRADES = {"eps": 0.2, "steps": 4, "step_size": 0.1, "beta": 3.0, "ramp": 0.5}
SETTINGS: dict[str, dict[str, float]] = {"cross_entropy": {}, "trades": TRADES}
PLAIN = Recipe("plain", "")


def batch(count: int = 6, side: int = 28, progress: float = 1.0) -> Batch:
    images = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))
    return Batch(images, torch.arange(count) % 3, Randomness(0, torch.arange(count), ("training", 0)), progress)


def network() -> Compact:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Compact(width=4)


def asked(model: nn.Module) -> list[Tensor]:
    """The images that the model will be asked about."""
    seen: list[Tensor] = []
    model.register_forward_hook(lambda _model, inputs, _output: seen.append(inputs[0].detach().clone()))
    return seen


def test_every_loss_is_tested_here() -> None:
    assert SETTINGS.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_one_repeatable_number_that_trains_everything_and_leaves_modes_alone(name: str) -> None:
    def network_of_mixed_modes() -> Compact:
        made = network().train()
        made.features[2].eval()
        return made

    model = network_of_mixed_modes()
    modes = [module.training for module in model.modules()]
    images = batch().images.clone()
    loss = LOSSES[name](model, batch(), PLAIN, **SETTINGS[name])
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    assert [key for key, it in model.named_parameters() if it.grad is None or not it.grad.isfinite().all()] == []
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(batch().images, images)
    assert torch.equal(LOSSES[name](network_of_mixed_modes(), batch(), PLAIN, **SETTINGS[name]), loss)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_mean_surprise_at_smoothed_labels(smoothing: float) -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    loss = LOSSES["cross_entropy"](model, given, replace(PLAIN, label_smoothing=smoothing))
    target = (1 - smoothing) * torch.eye(3)[given.targets] + smoothing / 3
    expected = -(target * model(given.images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_weigh_the_surprise_of_each_class(name: str, smoothing: float) -> None:
    model, given, recipe = seeded_linear(3, 6), batch(side=6), replace(PLAIN, label_smoothing=smoothing)
    soft = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    loss = LOSSES[name](model, given._replace(targets=soft), recipe, **SETTINGS[name])
    # A loss is linear in its targets, so that of soft labels is the mean over the hard ones.
    hard = [
        LOSSES["cross_entropy"](model, Batch(image[None], torch.tensor([label]), given.rng, 1.0), recipe)
        for image in given.images
        for label in range(3)
    ]
    rest = LOSSES[name](model, given, recipe, **SETTINGS[name]) - LOSSES["cross_entropy"](model, given, recipe)
    torch.testing.assert_close(loss - rest, (torch.stack(hard).reshape(6, 3) * soft).sum(1).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_labels_are_labels(name: str) -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    one_hot = nn.functional.one_hot(given.targets, 3).float()
    loss = LOSSES[name](model, given._replace(targets=one_hot), PLAIN, **SETTINGS[name])
    torch.testing.assert_close(loss, LOSSES[name](model, given, PLAIN, **SETTINGS[name]))


@pytest.mark.parametrize("changes", [{"beta": 0.0}, {"eps": 0.0}, {"progress": 0.0}])
def test_trades_without_weight_or_radius_is_cross_entropy(changes: dict[str, Any]) -> None:
    given = batch(side=6, progress=changes.get("progress", 1.0))
    settings: dict[str, Any] = TRADES | {key: value for key, value in changes.items() if key != "progress"}
    loss = trades(seeded_linear(3, 6), given, PLAIN, **settings)
    torch.testing.assert_close(loss, LOSSES["cross_entropy"](seeded_linear(3, 6), given, PLAIN))


@pytest.mark.parametrize(("progress", "eps"), [(0.1, 0.04), (0.25, 0.1), (0.5, 0.2), (0.9, 0.2)])
def test_trades_weighs_the_divergence_at_the_worst_image_within_the_ramped_radius(progress: float, eps: float) -> None:
    model, given = seeded_linear(3, 6), batch(side=6, progress=progress)
    seen = asked(model)
    loss = trades(model, given, PLAIN, **TRADES)  # type: ignore[arg-type]
    assert torch.equal(seen[0], given.images)
    worst = seen[-1]
    assert float((worst - given.images).abs().max()) == pytest.approx(eps, abs=1e-6)
    assert float(worst.min()) >= 0.0
    assert float(worst.max()) <= 1.0
    clean, moved = model(given.images).softmax(1).double(), model(worst).softmax(1).double()
    divergence = (clean * (clean.log() - moved.log())).sum(1).mean()
    natural = nn.functional.cross_entropy(model(given.images), given.targets)
    torch.testing.assert_close(loss.double(), natural.double() + 3.0 * divergence, rtol=1e-4, atol=1e-6)


def test_trades_finds_the_worst_image_of_two_linear_classes() -> None:
    # With two classes the divergence grows with the change of the one margin, whose largest is a corner of the ball.
    model, given = seeded_linear(2, 6), batch(side=6)._replace(targets=torch.arange(6) % 2)
    with torch.no_grad():
        model.weight.mul_(0.1)
    seen = asked(model)
    trades(model, given, PLAIN, eps=0.2, steps=10, step_size=0.1, beta=1.0, ramp=0.0)
    found = seen[-1]
    direction = (model.weight[1] - model.weight[0]).sign().reshape(1, 1, 6, 6)
    corners = [(given.images + side * 0.2 * direction).clamp(0, 1) for side in (-1, 1)]
    clean = model(given.images).log_softmax(1)

    def divergence(images: Tensor) -> Tensor:
        return (clean.exp() * (clean - model(images).log_softmax(1))).sum(1)

    best = torch.stack([divergence(corner) for corner in corners]).amax(0)
    # The search climbs to the corner on the side of its start, for most images the better one.
    assert all(any(torch.allclose(found[i], corner[i], atol=1e-5) for corner in corners) for i in range(6))
    assert float((divergence(found) / best).detach().mean()) > 0.8


def test_the_search_of_trades_collects_no_statistics() -> None:
    model = network().train()
    trades(model, batch(), PLAIN, **TRADES)  # type: ignore[arg-type]
    # Once on the images, once on the worst ones.
    assert int(model.state_dict()["features.2.num_batches_tracked"]) == 2


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("trades", {}, "loss 'trades': missing a required argument: 'eps'; its settings: eps, steps"),
        ("trades", TRADES | {"bta": 1.0}, "loss 'trades': .*'bta'"),
        ("trades", TRADES | {"steps": 1.5}, "loss 'trades': steps is 1.5; it is a whole number from 0 up"),
        ("trades", TRADES | {"eps": -0.3}, "loss 'trades': eps is -0.3; it is a number from 0 up"),
        ("cross_entropy", {"eps": 0.3}, "loss 'cross_entropy': .*'eps'; its settings: none"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(
    some_digits: Split, name: str, settings: dict[str, float], message: str
) -> None:
    recipe = replace(PLAIN, loss=name, loss_settings=settings)
    with pytest.raises(UsageError, match=message):
        fit(recipe, some_digits, some_digits, 10, seed=0)


def test_adversarial_training_resists_a_step_that_plain_training_does_not(
    quick: Recipe, quickly_fitted: Fitted, some_digits: Split, validation_digits: Split
) -> None:
    settings = {"eps": 0.15, "steps": 2, "step_size": 0.1, "beta": 3.0, "ramp": 0.3}
    hardened = fit(replace(quick, loss="trades", loss_settings=settings), some_digits, validation_digits, 10, seed=0)
    right = []
    for fitted in (quickly_fitted, hardened):
        model = Compact(width=8).eval()
        model.load_state_dict(fitted.weights)
        images = (validation_digits.images.float() / 255).requires_grad_()
        nn.functional.cross_entropy(model(images), validation_digits.labels).backward()
        assert images.grad is not None
        moved = (images.detach() + 0.15 * images.grad.sign()).clamp(0, 1)
        right.append(float((model(moved).argmax(1) == validation_digits.labels).float().mean()))
    assert right[1] > right[0] + 0.1


def test_the_recipes_losses_have_their_settings() -> None:
    used = {part.loss for recipe in RECIPES.values() for part in recipe.parts}
    assert used == LOSSES.keys()
