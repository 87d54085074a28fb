"""The training loop: it learns, says when it does not, and is a function of recipe, data and seed alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hardy.errors import HardyError, UsageError
from hardy.models import Compact
from hardy.training import Fitted, Objective, Recipe, Split, Stopped, Update, fit, validation_accuracy
from hardy.training.checkpoint import load_tensors
from hardy.training.optimization import Averaged, learning_rate, make_optimizer

replace = dataclasses.replace


def recipe(**settings: Any) -> Recipe:
    return Recipe(**{"name": "test", "description": "", "learning_rate": 0.1, **settings})


def equal(first: Fitted, second: Fitted) -> bool:
    return first.weights.keys() == second.weights.keys() and all(
        torch.equal(value, second.weights[name]) for name, value in first.weights.items()
    )


def test_loss_falls_and_validation_accuracy_rises(quick: Recipe, some_digits: Split, validation_digits: Split) -> None:
    updates: list[Update] = []
    fitted = fit(replace(quick, epochs=3), some_digits, validation_digits, 10, seed=0, report=updates.append)
    losses = [row["loss"] for row in fitted.history]
    accuracies = [row["validation_accuracy"] for row in fitted.history]
    assert losses[-1] < losses[0] < math.log(10)
    assert accuracies[0] < accuracies[-1]
    assert accuracies[-1] > 0.85
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3]

    assert [update.step for update in updates] == sorted({update.step for update in updates})
    assert updates[-1].step == updates[-1].steps == 60
    assert updates[-1].loss == losses[-1]
    assert updates[-1].accuracy == accuracies[-1]
    assert all(update.images_per_second > 0 for update in updates)


def test_the_best_epoch_is_kept(
    quick: Recipe, some_digits: Split, validation_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies, seen = [0.5, 0.9, 0.9, 0.7], []

    def scripted(_model: nn.Module, weights: dict[str, Tensor], *_others: Any) -> float:
        seen.append({name: value.clone() for name, value in weights.items()})
        return accuracies[len(seen) - 1]

    monkeypatch.setattr("hardy.training.loop.validation_accuracy", scripted)
    fitted = fit(replace(quick, epochs=4), some_digits, validation_digits, 10, seed=0)
    assert fitted.accuracy == 0.9
    assert [row["validation_accuracy"] for row in fitted.history] == accuracies
    for name, value in seen[1].items():
        assert torch.equal(fitted.weights[name], value)
    assert not torch.equal(fitted.weights["head.weight"], seen[2]["head.weight"])


def test_weights_depend_on_the_seed_and_not_on_the_global_generator(
    quick: Recipe, quickly_fitted: Fitted, some_digits: Split, validation_digits: Split
) -> None:
    torch.manual_seed(17)
    before = torch.get_rng_state()
    again = fit(quick, some_digits, validation_digits, 10, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert equal(again, quickly_fitted)
    assert again.history == quickly_fitted.history
    assert not equal(fit(quick, some_digits, validation_digits, 10, seed=1), quickly_fitted)


def test_stored_bytes_and_floats_train_alike(
    quick: Recipe, quickly_fitted: Fitted, some_digits: Split, validation_digits: Split
) -> None:
    train, validation = (Split(it.images.float() / 255, it.labels) for it in (some_digits, validation_digits))
    assert equal(fit(quick, train, validation, 10, seed=0), quickly_fitted)


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 0.02), ("adam", 0.02), ("sgd", 0.05)])
@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_every_optimiser_learns(
    quick: Recipe, some_digits: Split, validation_digits: Split, optimizer: Any, rate: float, averaging: float
) -> None:
    one = replace(quick, optimizer=optimizer, learning_rate=rate, averaging=averaging, gradient_clip=5.0)
    assert fit(one, some_digits, validation_digits, 10, seed=0).accuracy > 0.7


def test_a_gradient_is_clipped_to_its_largest_norm(
    quick: Recipe, some_digits: Split, validation_digits: Split, tmp_path: Path
) -> None:
    def after_one_step(name: str, **settings: float) -> Tensor:
        plain = replace(quick, optimizer="sgd", schedule="constant", weight_decay=0.0, batch_size=2000, **settings)
        path = tmp_path / name
        with pytest.raises(Stopped):
            fit(plain, some_digits, validation_digits, 10, seed=0, checkpoint=path, stop=lambda: True)
        weights = load_tensors(path)[0]["model"]
        return torch.cat([weights[key].flatten() for key, _ in Compact(width=8).named_parameters()])

    first = after_one_step("still", learning_rate=0.0)
    free = after_one_step("free", learning_rate=0.1) - first
    # Nesterov's first step is 1.9 times the gradient.
    norm = float(free.norm()) / 0.19
    clipped = after_one_step("clipped", learning_rate=0.1, gradient_clip=norm / 3) - first
    torch.testing.assert_close(clipped, free / 3, rtol=1e-3, atol=1e-6)
    loose = after_one_step("loose", learning_rate=0.1, gradient_clip=norm * 3) - first
    torch.testing.assert_close(loose, free)


def one_step(optimizer: Any, weight_decay: float = 0.1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases before one step at rate 0.1 along gradients of 2 and -3, and the changes."""
    model = nn.Linear(3, 2)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    model.weight.grad, model.bias.grad = torch.full((2, 3), 2.0), torch.full((2,), -3.0)
    make_optimizer(model, recipe(optimizer=optimizer, weight_decay=weight_decay)).step()
    return weight, bias, model.weight.detach() - weight, model.bias.detach() - bias


def test_the_first_adamw_step_is_the_rate_plus_decay_of_matrices_only() -> None:
    weight, _, weight_change, bias_change = one_step("adamw")
    torch.testing.assert_close(weight_change, -0.1 * torch.ones(2, 3) - 0.1 * 0.1 * weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(bias_change, torch.full((2,), 0.1), rtol=0, atol=1e-6)


def test_the_first_adam_step_is_the_rate_whatever_the_decay() -> None:
    _, _, weight_change, bias_change = one_step("adam")
    torch.testing.assert_close(weight_change, torch.full((2, 3), -0.1), rtol=0, atol=1e-6)
    torch.testing.assert_close(bias_change, torch.full((2,), 0.1), rtol=0, atol=1e-6)


def test_the_first_sgd_step_looks_ahead_as_nesterov_does() -> None:
    weight, _, weight_change, bias_change = one_step("sgd")
    torch.testing.assert_close(weight_change, -0.1 * 1.9 * (2.0 + 0.1 * weight), rtol=0, atol=1e-6)
    torch.testing.assert_close(bias_change, torch.full((2,), 0.1 * 1.9 * 3.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("steps", "warm_up"), [(100, 0.2), (429, 0.2), (7, 0.2), (1, 0.2), (10, 0.0), (10, 1.0)])
@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_rate_rises_in_a_line_to_its_highest_and_falls_towards_zero(
    schedule: Any, steps: int, warm_up: float
) -> None:
    one = recipe(schedule=schedule, warm_up=warm_up)
    rates = [learning_rate(one, step, steps, 10) for step in range(steps)]
    rise = max(1, round(warm_up * steps))
    assert max(rates) == pytest.approx(0.1) == rates[rise - 1]
    assert rates[:rise] == pytest.approx([0.1 * (step + 1) / rise for step in range(rise)])
    left = [(steps - step) / (steps - rise) for step in range(rise, steps)]
    share = left if schedule == "one_cycle" else [math.sin(math.pi / 2 * it) ** 2 for it in left]
    assert rates[rise:] == pytest.approx([0.1 * it for it in share])
    assert min(rates) > 0


def test_the_exponential_rate_falls_once_an_epoch_and_the_constant_one_does_not() -> None:
    falling = recipe(schedule="exponential", decay=0.5)
    rates = [learning_rate(falling, step, 30, 10) for step in range(30)]
    assert rates == pytest.approx([0.1] * 10 + [0.05] * 10 + [0.025] * 10)
    assert {learning_rate(recipe(schedule="constant"), step, 30, 10) for step in range(30)} == {0.1}


def test_averaging_is_an_exponential_moving_average_of_weights_and_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    averaged = Averaged(model, decay=0.5)
    state = model.state_dict()
    expected = {name: value.double() for name, value in state.items() if value.is_floating_point()}
    assert {"0.weight", "1.weight", "1.running_mean", "1.running_var"} <= expected.keys()
    for step in range(20):
        for name in expected:
            state[name].copy_(torch.rand(state[name].shape))
        averaged.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * state[name].double() for name, value in expected.items()}
    assert averaged.state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(averaged.state[name].double(), value, rtol=0, atol=1e-6)


def test_a_rate_that_is_far_too_high_is_a_collapse(quick: Recipe, some_digits: Split, validation_digits: Split) -> None:
    wild = replace(quick, optimizer="sgd", learning_rate=100.0, schedule="constant", epochs=3)
    state = torch.get_rng_state()
    with pytest.raises(HardyError, match=r"'quick' has collapsed: the loss is (nan|inf) at step .* \(now 100\)"):
        fit(wild, some_digits, validation_digits, 10, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "epochs"),
    [
        (lambda split: Split(torch.zeros_like(split.images), split.labels), 1),
        (lambda split: Split(split.images, (split.labels + 1) % 10), 5),
        (lambda split: Split(split.images, torch.full_like(split.labels, 3)), 5),
    ],
    ids=["no image", "labels of the next class", "one label"],
)
def test_accuracy_that_stays_at_chance_is_a_collapse(
    quick: Recipe, some_digits: Split, change: Callable[[Split], Split], epochs: int
) -> None:
    # Labels that tell nothing: what a network learns from wrong ones may map many classes right by luck.
    validation = Split(some_digits.images, some_digits.labels.roll(777))
    with pytest.raises(HardyError, match=f"at chance after {min(2, epochs)} epochs"):
        fit(replace(quick, epochs=epochs), change(some_digits), validation, 10, seed=0)


def test_two_very_unequal_classes_are_learned_without_a_false_alarm(
    quick: Recipe, some_digits: Split, validation_digits: Split
) -> None:
    train, validation = (Split(it.images, (it.labels == 0).long()) for it in (some_digits, validation_digits))
    assert float(validation.labels.double().mean()) < 0.12
    assert fit(quick, train, validation, 2, seed=0).accuracy > 0.96


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2001}, "2000 training images are fewer than one batch of 2001"),
        ({"objectives": (Objective("cross_entrpy"),)}, "unknown loss 'cross_entrpy'; did you mean cross_entropy"),
        ({"model": "compakt"}, "unknown model 'compakt'; did you mean compact"),
        ({"model_arguments": {"depth": 3}}, "model 'compact': .*'depth'"),
        ({"model_arguments": {"width": "wide"}}, r"does not suit images of shape \(1, 28, 28\)"),
        ({"model_arguments": {"channels": 3}}, r"does not suit images of shape \(1, 28, 28\) .*change model"),
        ({"model_arguments": {"size": 64}}, r"does not suit images of shape \(1, 28, 28\) .*change model"),
        ({"model_arguments": {"classes": 9}}, r"it gives \(1, 9\) instead of \(1, 10\)"),
    ],
)
def test_a_recipe_that_does_not_suit_the_images_is_refused(
    quick: Recipe, some_digits: Split, validation_digits: Split, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit(replace(quick, **changes), some_digits, validation_digits, 10, seed=0)


@pytest.mark.parametrize("batch_size", [1000, 2000])
def test_a_training_stops_when_it_is_asked_to_even_if_an_epoch_is_one_step(
    quick: Recipe, some_digits: Split, validation_digits: Split, batch_size: int
) -> None:
    with pytest.raises(Stopped, match=f"stopped at step 1 of {4000 // batch_size} of 'quick'"):
        fit(replace(quick, batch_size=batch_size), some_digits, validation_digits, 10, seed=0, stop=lambda: True)


def test_validation_accuracy_leaves_the_model_as_it_was(quickly_fitted: Fitted, validation_digits: Split) -> None:
    model = Compact(width=8)
    model.features[2].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    accuracy = validation_accuracy(model, quickly_fitted.weights, validation_digits)
    assert accuracy == quickly_fitted.accuracy
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
