"""Distrust: classifiers whose gradients mislead are called out, and the black-box attack breaks them."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from helpers.cheap import tiny
from helpers.classifiers import small_classifier, some_digits
from torch import Tensor, nn

from hardy.attacks import ATTACKS, run_attack
from hardy.data import load_dataset
from hardy.evaluation.budget import BUDGETS
from hardy.evaluation.framework import EvaluationContext, Memo, Results, Shard
from hardy.evaluation.properties.adversarial.masking import masking_warnings, measure_masking
from hardy.evaluation.properties.adversarial.measure import masking_measurements
from hardy.rng import Randomness
from hardy.threats import ThreatModel

COUNT = 64


class Quantized(nn.Module):
    """Sees eight levels of gray; rounding has a gradient of zero."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.round(images * 7) / 7)


class Saturated(nn.Module):
    """Squashes its pixels so hard that float32 rounds almost every gradient to zero."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.sigmoid(400.0 * (images - 0.5)))


def results_of(classifier: nn.Module) -> Results:
    """The checks as an evaluation makes them, on few images, without training a surrogate."""
    test = load_dataset("mnist/test")
    budget = replace(BUDGETS["standard"], surrogate=False)
    context = EvaluationContext("mnist/test", None, (), {}, {"mnist/test": len(test)}, 10, budget, limit=COUNT)
    (measurement,) = masking_measurements(context)
    indices = test.measuring_order()[:COUNT]
    shard = Shard(test.floats(indices), test.labels[indices], indices)
    columns = measure_masking(classifier, shard, measurement, seed=0, batch_size=COUNT)
    assert all(len(column) == COUNT for column in columns.values())
    return Results(context, {measurement: pl.DataFrame(columns)}, lambda _: test, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "sign"), [(Quantized, "gradient is exactly zero"), (Saturated, "smoothed")])
def test_masked_gradients_are_flagged_and_the_black_box_breaks_them(mask, sign, digit_classifier) -> None:
    masked = mask(digit_classifier).eval()
    found = masking_warnings(results_of(masked))
    assert any(sign in warning for warning in found), found
    assert any("black-box" in warning for warning in found), found

    test = load_dataset("mnist/test")
    indices = test.measuring_order()[:COUNT]
    images, labels, rng = test.floats(indices), test.labels[indices], Randomness(0, indices)
    threat = [ThreatModel("linf", 0.3)]
    stands = {
        name: float((run_attack(masked, images, labels, attack, threat, rng=rng).min_norm > 0.3).double().mean())
        for name, attack in (("pgd", ATTACKS["pgd"]), ("square", ATTACKS["square"]))
    }
    assert stands["pgd"] > 0.5, stands
    # A threshold at 0.5 is robust to some degree, whatever its gradients.
    assert stands["square"] < (0.2 if mask is Quantized else 0.6), stands


@pytest.mark.slow
def test_honest_gradients_are_not_flagged(digit_classifier) -> None:
    assert masking_warnings(results_of(digit_classifier)) == []


def test_the_surrogate_belongs_to_one_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of one evaluation share it, another evaluation trains its own, and none outlives its evaluation."""
    alive: list[weakref.ref[nn.Module]] = []

    def trained(*_: object) -> nn.Module:
        surrogate = small_classifier().eval()
        alive.append(weakref.ref(surrogate))
        return surrogate

    monkeypatch.setattr("hardy.evaluation.properties.adversarial.masking._surrogate", trained)
    images, labels, indices = some_digits(4)
    classifier = small_classifier().eval()
    sizes, budget = {"mnist/test": 4}, replace(tiny("standard"), surrogate=True)
    (measurement,) = masking_measurements(EvaluationContext("mnist/test", None, (), {}, sizes, 10, budget))
    for expected in (1, 2):
        memo = Memo()
        for half in (slice(0, 2), slice(2, 4)):
            shard = Shard(images[half], labels[half], indices[half], memo=memo)
            measure_masking(classifier, shard, measurement, seed=0, batch_size=4)
        assert len(alive) == expected
    del memo, shard
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


def test_each_sign_of_masking_has_its_warning() -> None:
    context = EvaluationContext("mnist/test", None, (), {}, {"mnist/test": 100}, 10, BUDGETS["standard"], limit=100)
    (measurement,) = masking_measurements(context)
    quiet = {name: np.zeros(100, bool) for name in ("zero_gradient", "one_step", "smoothed", "black_box", "transfer")}
    quiet |= {name: np.ones(100, bool) for name in ("right", "many_steps", "hopeless")}

    def warnings(**changed: np.ndarray) -> list[str]:
        records = pl.DataFrame(quiet | changed)
        return masking_warnings(Results(context, {measurement: records}, load_dataset, 0))

    assert warnings() == []
    none, all_of_them = np.zeros(100, bool), np.ones(100, bool)
    for name, words in (
        ("one_step", "one step"),
        ("smoothed", "smoothed"),
        ("black_box", "Square"),
        ("transfer", "another network"),
    ):
        (warning,) = warnings(many_steps=none, **{name: all_of_them})
        assert words in warning
    assert "exactly zero" in warnings(zero_gradient=all_of_them)[0]
    assert "gray" in warnings(hopeless=none)[0]
    assert masking_measurements(replace(context, budget=BUDGETS["quick"])) == []
