"""Losses: each against a computation by hand, and a user's own."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.classifiers import seeded_linear
from torch import Tensor, nn

from hardy.errors import HardyError, UsageError
from hardy.models import Compact
from hardy.rng import Randomness
from hardy.training import Fitted, Objective, Recipe, Split, fit
from hardy.training.losses import (
    LOSSES,
    Batch,
    adversarial,
    cross_entropy,
    eat,
    free,
    mean_norm,
    msd,
    randomized_smoothing,
    register_loss,
    trades,
    views,
    worst_norm,
)

TRADES = {"eps": 0.2, "steps": 4, "step_size": 0.1, "beta": 3.0, "ramp": 0.5}
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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_mean_over_smoothed_labels(smoothing: float) -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    loss = cross_entropy(model, given, label_smoothing=smoothing)
    target = (1 - smoothing) * torch.eye(3)[given.targets] + smoothing / 3
    expected = -(target * model(given.images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("changes", [{"beta": 0.0}, {"eps": 0.0}, {"progress": 0.0}])
def test_trades_without_weight_or_radius_is_cross_entropy(changes: dict[str, Any]) -> None:
    given = batch(side=6, progress=changes.get("progress", 1.0))
    settings: dict[str, Any] = TRADES | {key: value for key, value in changes.items() if key != "progress"}
    loss = trades(seeded_linear(3, 6), given, **settings)
    torch.testing.assert_close(loss, cross_entropy(seeded_linear(3, 6), given))


@pytest.mark.parametrize(("progress", "eps"), [(0.1, 0.04), (0.25, 0.1), (0.5, 0.2), (0.9, 0.2)])
def test_trades_weighs_the_divergence_at_the_worst_image_within_the_ramped_radius(progress: float, eps: float) -> None:
    model, given = seeded_linear(3, 6), batch(side=6, progress=progress)
    seen = asked(model)
    loss = trades(model, given, **TRADES)  # type: ignore[arg-type]
    assert torch.equal(seen[0], given.images)
    worst = seen[-1]
    assert float((worst - given.images).abs().max()) == pytest.approx(eps, abs=1e-6)
    assert float(worst.min()) >= 0.0
    assert float(worst.max()) <= 1.0
    clean, moved = model(given.images).softmax(1).double(), model(worst).softmax(1).double()
    divergence = (clean * (clean.log() - moved.log())).sum(1).mean()
    natural = nn.functional.cross_entropy(model(given.images), given.targets)
    torch.testing.assert_close(loss.double(), natural.double() + 3.0 * divergence, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("progress", "eps"), [(0.25, 0.1), (1.0, 0.2)])
def test_a_single_step_of_twice_the_radius_reaches_the_worst_corner(progress: float, eps: float) -> None:
    model, given = seeded_linear(2, 6), batch(side=6, progress=progress)
    given = replace(given, images=0.3 + 0.4 * given.images, targets=torch.arange(6) % 2)
    seen = asked(model)
    loss = adversarial(model, given, eps=0.2, steps=1, step_size=0.4, ramp=0.5)
    direction = (model.weight[1] - model.weight[0]).sign().reshape(1, 1, 6, 6)
    corner = given.images + eps * torch.where(given.targets == 0, 1, -1).reshape(-1, 1, 1, 1) * direction
    torch.testing.assert_close(seen[-1], corner)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(model(corner), given.targets))


def test_views_are_augmented_and_the_images_of_other_losses_are_not() -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    seen = asked(model)
    loss = views(model, given, augmentation={"invert": {}})
    torch.testing.assert_close(seen[0], 1 - given.images)
    torch.testing.assert_close(loss, cross_entropy(model, replace(given, images=1 - given.images)))


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [({"blurr": {}}, "unknown augmentation 'blurr'"), ({"mixup": {"alpha": 1.0}}, "keep the label"), (3, "a mapping")],
)
def test_views_that_cannot_be_made_are_refused(augmentation: Any, message: str, some_digits: Split) -> None:
    recipe = replace(PLAIN, objectives=(Objective("views", {"augmentation": augmentation}),))
    with pytest.raises(UsageError, match=message):
        fit(recipe, some_digits, some_digits, 10, seed=0)


def test_free_training_takes_its_steps_with_the_gradients_of_training() -> None:
    model, given = seeded_linear(2, 6), batch(side=6)
    given = replace(given, images=0.3 + 0.4 * given.images, targets=torch.arange(6) % 2)
    seen = asked(model)
    for _ in range(3):
        free(model, given, eps=0.1, replays=3).backward()
    direction = (model.weight[1] - model.weight[0]).sign().reshape(1, 1, 6, 6)
    corner = given.images + 0.1 * torch.where(given.targets == 0, 1, -1).reshape(-1, 1, 1, 1) * direction
    assert torch.equal(seen[0], given.images)
    torch.testing.assert_close(seen[1], corner)
    torch.testing.assert_close(seen[2], corner)


@pytest.mark.parametrize("loss", [worst_norm, mean_norm, msd])
def test_losses_over_several_norms_are_between_and_above_those_over_one(loss: Any) -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    settings = {"steps": 10, "rel_step_size": 0.25}
    alone = [
        float(loss(model, given, **{"linf": 0.0, "l2": 0.0, "l1": 0.0, norm: eps}, **settings).detach())
        for norm, eps in (("linf", 0.1), ("l2", 0.5), ("l1", 2.0))
    ]
    together = float(loss(model, given, linf=0.1, l2=0.5, l1=2.0, **settings).detach())
    if loss is mean_norm:
        assert together == pytest.approx(sum(alone) / 3, rel=1e-4)
    else:
        # MSD is greedy: a step that is best now may end a little below the best of the norms alone.
        assert together >= (0.95 if loss is msd else 1.0) * max(alone) - 1e-4


def test_eat_draws_the_norms_by_their_running_errors() -> None:
    model, given = seeded_linear(3, 6), batch(side=6)
    state = {"errors": torch.tensor([0.0, 0.0, 1.0])}
    seen = asked(model)
    eat(model, replace(given, state=state), linf=0.1, l2=0.5, l1=2.0, steps=2)
    change = (seen[-1] - given.images).flatten(1)
    assert float(change.abs().sum(1).max()) <= 2.0 + 1e-4 < float(change.norm(dim=1).max()) * 6
    assert state["errors"][:2].tolist() == [0.0, 0.0]
    assert 0.0 < float(state["errors"][2]) <= 1.0


def test_trades_finds_the_worst_image_of_two_linear_classes() -> None:
    # With two classes the divergence grows with the change of the one margin, whose largest is a corner of the ball.
    model, given = seeded_linear(2, 6), replace(batch(side=6), targets=torch.arange(6) % 2)
    with torch.no_grad():
        model.weight.mul_(0.1)
    seen = asked(model)
    trades(model, given, eps=0.2, steps=10, step_size=0.1, beta=1.0, ramp=0.0)
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
    trades(model, batch(), **TRADES)  # type: ignore[arg-type]
    # Once on the images, once on the worst ones.
    assert int(model.state_dict()["features.2.num_batches_tracked"]) == 2


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("trades", {}, "loss 'trades': missing a required argument: 'eps'; its settings: eps, steps"),
        ("trades", TRADES | {"bta": 1.0}, "loss 'trades': .*'bta'"),
        ("trades", TRADES | {"steps": 1.5}, "loss 'trades': steps is 1.5; it is a whole number from 0 up"),
        ("trades", TRADES | {"eps": -0.3}, "loss 'trades': eps is -0.3; it is a number from 0 up"),
        ("cross_entropy", {"eps": 0.3}, "loss 'cross_entropy': .*'eps'; its settings: label_smoothing"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(
    some_digits: Split, name: str, settings: dict[str, float], message: str
) -> None:
    recipe = replace(PLAIN, objectives=(Objective(name, settings),))
    with pytest.raises(UsageError, match=message):
        fit(recipe, some_digits, some_digits, 10, seed=0)


def test_adversarial_training_resists_a_step_that_plain_training_does_not(
    quick: Recipe, quickly_fitted: Fitted, some_digits: Split, validation_digits: Split
) -> None:
    settings = {"eps": 0.15, "steps": 2, "step_size": 0.1, "beta": 3.0, "ramp": 0.3}
    hardened = fit(
        replace(quick, objectives=(Objective("trades", settings),)), some_digits, validation_digits, 10, seed=0
    )
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


def test_label_smoothing_is_passed_to_the_loss(some_digits: Split, validation_digits: Split) -> None:
    asked_for: list[float] = []

    @register_loss("spy")
    def spy(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
        asked_for.append(label_smoothing)
        return cross_entropy(model, batch, label_smoothing=label_smoothing)

    try:
        short = replace(PLAIN, objectives=(Objective("spy"),), batch_size=1000, model_arguments={"width": 2})
        for smoothing in (0.0, 0.2):
            asked_for.clear()
            recipe = replace(short, label_smoothing=smoothing)
            with contextlib.suppress(HardyError):
                fit(recipe, some_digits, validation_digits, 10, seed=0)
            assert set(asked_for) == {smoothing}
    finally:
        LOSSES.remove("spy")


def test_a_loss_that_does_not_smooth_labels_refuses_a_recipe_that_does(some_digits: Split) -> None:
    @register_loss("without")
    def without(model, batch, *, gamma=2):
        return cross_entropy(model, batch)

    try:
        recipe = replace(PLAIN, objectives=(Objective("without"),), label_smoothing=0.1)
        with pytest.raises(UsageError, match=r"label_smoothing is 0.1, and no objective takes it \(without\)"):
            fit(recipe, some_digits, some_digits, 10, seed=0)
        with pytest.raises(UsageError, match="there is a loss 'without' already"):
            register_loss("without")(without)
    finally:
        LOSSES.remove("without")


def test_randomized_smoothing_sees_noise_that_is_not_clipped() -> None:
    model, given = network(), batch(count=200)
    seen = asked(model)
    loss = randomized_smoothing(model, given, deviation=0.5)
    (noisy,) = seen
    noise = noisy - given.images
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(noisy.min()) < -0.5
    assert float(noisy.max()) > 1.5
    torch.testing.assert_close(loss, nn.functional.cross_entropy(model(noisy), given.targets))
    torch.testing.assert_close(randomized_smoothing(model, given, deviation=0.5), loss)


def test_the_copies_of_randomized_smoothing_are_to_be_answered_alike() -> None:
    model, given = network(), batch()
    seen = asked(model)
    loss = randomized_smoothing(model, given, deviation=0.5, copies=3, consistency=2.0)
    (noisy,) = seen
    with torch.no_grad():
        probabilities = model(noisy).softmax(1).reshape(6, 3, -1)
    mean = probabilities.mean(1)
    divergence = sum((mean * (mean / each).log()).sum(1).mean() for each in probabilities.unbind(1)) / 3
    entropy = -(mean * mean.log()).sum(1).mean()
    plain = nn.functional.cross_entropy(model(noisy), given.targets.repeat_interleave(3))
    torch.testing.assert_close(loss, plain + 2.0 * divergence + 0.5 * entropy)
    # Each image has its own draws.
    assert float((noisy.reshape(6, 3, -1) - given.images.flatten(1)[:, None]).std()) == pytest.approx(0.5, rel=0.1)
    assert len(noisy.flatten(1).unique(dim=0)) == 18
