"""Choosing the best epoch, going back where robustness is lost, and noticing a collapse."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers.classifiers import Linear
from torch import Tensor, nn

from hardy.errors import HardyError
from hardy.models import Compact, Ensemble
from hardy.threats import ThreatModel
from hardy.training import Objective, Recipe, Split, fit
from hardy.training.losses import Batch
from hardy.training.selection import check_collapse, robust_accuracy

replace = dataclasses.replace
FAST = Objective("adversarial", {"eps": 0.1, "steps": 1, "step_size": 0.125})


def scripted(
    monkeypatch: pytest.MonkeyPatch, name: str, values: list[float], *, one_step: float = 0.0
) -> list[dict[str, Tensor]]:
    """Give these values in turn in place of a measurement; the weights that it was asked about."""
    seen: list[dict[str, Tensor]] = []

    def measured(_model: nn.Module, weights: dict[str, Tensor], *_others: Any, steps: int = 20) -> float:
        if steps == 1:
            return one_step
        seen.append({name: value.clone() for name, value in weights.items()})
        return values[len(seen) - 1]

    monkeypatch.setattr(f"hardy.training.loop.{name}", measured)
    return seen


def test_an_adversarial_recipe_keeps_the_epoch_that_is_most_accurate_under_attack(
    quick: Recipe, some_digits: Split, validation_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(quick, epochs=4, batch_size=500, objectives=(FAST,))
    scripted(monkeypatch, "validation_accuracy", [0.9, 0.91, 0.99, 0.92])
    seen = scripted(monkeypatch, "robust_accuracy", [0.5, 0.7, 0.6, 0.7])
    fitted = fit(recipe, some_digits, validation_digits, 10, seed=0)
    assert (fitted.robust_accuracy, fitted.accuracy) == (0.7, 0.92)
    assert [row["robust_accuracy"] for row in fitted.history] == [0.5, 0.7, 0.6, 0.7]
    assert torch.equal(fitted.weights["head.weight"], seen[3]["head.weight"])


def test_training_goes_back_where_robustness_is_lost_and_on_with_more_steps(
    quick: Recipe, some_digits: Split, validation_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(
        quick, epochs=4, batch_size=500, objectives=(FAST,), averaging=0.0, learning_rate=0.0, weight_decay=0.0
    )
    scripted(monkeypatch, "validation_accuracy", [0.9] * 4)
    seen = scripted(monkeypatch, "robust_accuracy", [0.6, 0.8, 0.1, 0.7])
    batches: list[Batch] = []
    function = Objective("adversarial").loss
    from hardy.training.losses import LOSSES

    kept = LOSSES[function]

    def spying(model: nn.Module, batch: Batch, **settings: Any) -> Tensor:
        batches.append(batch)
        return kept.function(model, batch, **settings)

    spy = replace(kept, function=spying)
    monkeypatch.setattr(type(spy), "parameters", kept.parameters)
    monkeypatch.setitem(LOSSES._items, function, spy)
    monkeypatch.setattr("hardy.training.objectives.check_settings", lambda *_: None)
    fitted = fit(recipe, some_digits, validation_digits, 10, seed=0)
    assert [batch.setbacks for batch in batches] == [0] * 12 + [1] * 4
    (note,) = fitted.notes
    assert "in epoch 3 accuracy under attack on validation images fell from 80.0% to 10.0%" in note
    assert "catastrophic overfitting" in note
    # At a rate of 0 only batch norm moves: after going back, from the statistics of epoch 2.
    name = "features.2.running_mean"
    back, on, gone = ((seen[place][name] - seen[1][name]).norm() for place in (1, 3, 2))
    assert back == 0.0 < on
    assert gone > 0


def test_robustness_against_single_steps_alone_is_noticed_once_the_radius_has_grown(
    quick: Recipe, some_digits: Split, validation_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramped = replace(FAST, settings={**FAST.settings, "ramp": 0.4})
    recipe = replace(quick, epochs=4, batch_size=500, objectives=(ramped,))
    scripted(monkeypatch, "validation_accuracy", [0.9] * 4)
    scripted(monkeypatch, "robust_accuracy", [0.1, 0.3, 0.6, 0.6], one_step=0.8)
    (note,) = fit(recipe, some_digits, validation_digits, 10, seed=0).notes
    assert "in epoch 2 accuracy on validation images was 80.0% under an attack of one step and 30.0% under" in note
    assert "with 2 times as many, shorter steps" in note


def test_accuracy_under_attack_is_that_of_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(36, generator=generator)
    model = Linear(torch.stack([weight, -weight]), torch.zeros(2))
    images = 0.5 + 0.05 * torch.randn(200, 1, 6, 6, generator=generator).clamp(-3, 3)
    margin = 2 * images.flatten(1) @ weight
    labels = (margin < 0).long()
    split, state = Split(images, labels), dict(model.state_dict())
    assert robust_accuracy(model, state, split, ()) == 1.0
    # Radii at which some four in ten images are left.
    radius = margin.abs().quantile(0.6) / 2
    linf, l2 = ThreatModel("linf", float(radius / weight.abs().sum())), ThreatModel("l2", float(radius / weight.norm()))
    falls = {linf: 2 * linf.eps * weight.abs().sum(), l2: 2 * l2.eps * weight.norm()}
    for threats in ((linf,), (l2,), (linf, l2)):
        left = torch.stack([margin.abs() > falls[threat] for threat in threats]).all(0)
        assert robust_accuracy(model, state, split, threats) == pytest.approx(float(left.float().mean()), abs=0.03)


def test_logits_that_are_large_do_not_look_robust() -> None:
    weight = torch.randn(36, generator=torch.Generator().manual_seed(0))
    images = torch.full((50, 1, 6, 6), 0.5)
    model = Linear(1e4 * torch.stack([weight, -weight]), torch.zeros(2))
    split = Split(images, model(images).argmax(1))
    assert robust_accuracy(model, dict(model.state_dict()), split, (ThreatModel("linf", 0.4),)) == 0.0


@pytest.mark.parametrize(("ramp", "change"), [(0.0, "let eps grow at first: set ramp to 0.3"), (0.3, "raise warm_up")])
def test_a_collapse_is_noticed_after_one_epoch_of_a_hundred_steps(ramp: float, change: str) -> None:
    recipe = Recipe(
        "r", "", epochs=9, objectives=(Objective("adversarial", {"eps": 1, "steps": 1, "step_size": 1, "ramp": ramp}),)
    )
    labels = torch.arange(100) % 10
    with pytest.raises(HardyError, match=rf"at chance after 1 epochs; lower learning_rate \(now 0.001\) or {change}"):
        check_collapse(0.1, 0, labels, recipe, 1, 100)
    assert check_collapse(0.1, 0, labels, recipe, 1, 40) == 1
    assert check_collapse(0.5, 1, labels, recipe, 2, 40) == 0
    with pytest.raises(HardyError, match="at chance after 2 epochs"):
        check_collapse(0.1, 1, labels, recipe, 2, 40)


def test_members_are_trained_jointly_on_attacks_of_the_whole(
    quick: Recipe, some_digits: Split, validation_digits: Split
) -> None:
    members = tuple(replace(quick, name=name, model_arguments={"width": 4}) for name in ("one", "two"))
    whole = replace(quick, name="whole", members=members, joint=True, objectives=(FAST,), epochs=1)
    assert whole.networks == (whole,)
    assert whole.with_settings({"epochs": "3"}).epochs == 3
    fitted = fit(whole, some_digits, validation_digits, 10, seed=0)
    ensemble = Ensemble([Compact(width=4), Compact(width=4)])
    ensemble.load_state_dict(fitted.weights)
    assert not torch.equal(fitted.weights["members.0.head.weight"], fitted.weights["members.1.head.weight"])
    assert fitted.robust_accuracy is not None
