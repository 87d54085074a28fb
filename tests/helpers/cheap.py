"""Attacks that search for a moment only, and budgets of few examples, few corruptions and quickly fitted detectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hardy.attacks import ATTACKS, Attack
from hardy.evaluation.budget import BUDGETS, Budget

_AT_MOST = {
    "steps": 3,
    "restarts": 1,
    "targets": 2,
    "repeats": 5,
    "searches": 2,
    "samples": 2,
    "candidates": 3,
    "queries": 40,
}


def cheaper(attack: Attack) -> Attack:
    """The attack with fewer steps, restarts, targets, …"""
    settings, refining = (
        None if given is None else {name: _cut(name, value) for name, value in given.items()}
        for given in (attack.settings, attack.refining)
    )
    return replace(attack, settings=settings, refining=refining)


def tiny(name: str = "quick") -> Budget:
    """A budget that takes a moment: the parts of the budget of that name, each on next to nothing."""
    budget = BUDGETS[name]
    few = ("shot_noise", "translate", "stripe")
    settings = {
        attack.name: {key: _cut(key, value) for key, value in attack.settings.items() if _cut(key, value) != value}
        for attack in ATTACKS.values()
    }
    return replace(
        budget,
        resamples=60,
        surrogate=False,
        attack_settings={name: changed for name, changed in settings.items() if changed},
        corruptions=few if budget.corruptions else (*few, "gaussian_noise", "inverse"),
        detector_training=150,
        detector_validation=40,
        transformed=25,
        perturbed=budget.perturbed and 25,
    )


def make_budgets_tiny(patch: pytest.MonkeyPatch) -> None:
    """Whoever names a budget gets the tiny one."""
    for name, budget in {name: tiny(name) for name in BUDGETS}.items():
        patch.setitem(BUDGETS, name, budget)


def _cut(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _cut(name, inner) for key, inner in value.items()}
    return min(value, _AT_MOST[name]) if name in _AT_MOST else value
