"""Attacks that search for a moment only, and budgets of few examples, few corruptions and quickly fitted detectors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardy.attacks import ATTACKS, Attack
from hardy.evaluation.budget import BUDGETS, Budget

_AT_MOST = {
    "steps": 3,
    "n_restarts": 1,
    "n_target_classes": 2,
    "repeats": 5,
    "binary_search_steps": 2,
    "samples": 2,
    "candidates": 3,
    "n_queries": 40,
}


def cheaper(attack: Attack) -> Attack:
    """The attack with fewer steps, restarts, targets, …"""
    return attack.with_settings(**_fewer(attack))


def _fewer(attack: Attack) -> dict[str, int]:
    fewer = {name: most for name, most in _AT_MOST.items() if name in attack.settings}
    return {name: min(most, attack.settings[name] or most) for name, most in fewer.items()}


def tiny(name: str = "quick") -> Budget:
    """A budget that takes a moment: the parts of the budget of that name, each on next to nothing."""
    budget = BUDGETS[name]
    few = ("shot_noise", "translate", "stripe")
    settings = {attack.name: _fewer(attack) for attack in ATTACKS.values()}
    return replace(
        budget,
        resamples=60,
        surrogate=False,
        around_queries=40,
        certificate_nodes=budget.certificate_nodes and 2,
        attack_settings={name: changed for name, changed in settings.items() if changed},
        corruptions=few if budget.corruptions else (*few, "gaussian_noise", "inverse"),
        detector_training=150,
        detector_validation=40,
        certified=budget.certified and 25,
        transformed=25,
        perturbed=budget.perturbed and 25,
        system=8,
        system_outliers=6,
        system_steps=2,
        system_targets=1,
        system_queries=5,
    )


def make_budgets_tiny(patch: pytest.MonkeyPatch) -> None:
    """Whoever names a budget gets the tiny one."""
    for name, budget in {name: tiny(name) for name in BUDGETS}.items():
        patch.setitem(BUDGETS, name, budget)
