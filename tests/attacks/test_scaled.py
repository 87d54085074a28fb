"""Logits times a constant make no classifier look more robust, whatever attacks it."""

from __future__ import annotations

from functools import cache

import pytest
from helpers.cheap import cheaper
from helpers.classifiers import some_digits
from helpers.zoo import Around

from hardy.attacks import ATTACKS, run_attack
from hardy.rng import Randomness
from hardy.threats import NORMS, Norm, ThreatModel

COUNT = 40
# Radii at which about half of the images fall to most attacks.
RADIUS: dict[Norm, float] = {"linf": 0.07, "l2": 0.8, "l1": 8.0, "l0": 10}
# One image may hang on rounding, or on how sharply the softmax weighs the wrong classes.
TOLERATED = 1


@cache
def felled(name: str, norm: Norm, factor: float) -> int:
    images, labels, indices = some_digits(COUNT)
    classifier = Around(after=lambda logits: factor * logits).eval()
    threats, rng = [ThreatModel(norm, RADIUS[norm])], Randomness(0, indices)
    result = run_attack(classifier, images, labels, cheaper(ATTACKS[name]), threats, rng=rng, precision="float32")
    return int(result.broken.sum())


@pytest.mark.parametrize("factor", [1e-3, 100.0, 1e4])
@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name in ATTACKS for norm in NORMS if norm in ATTACKS[name].norms]
)
def test_logits_times_a_constant_fall_alike(name: str, norm: Norm, factor: float) -> None:
    assert abs(felled(name, norm, factor) - felled(name, norm, 1.0)) <= TOLERATED
