"""Attacks that search for a moment only, few corruptions and quickly fitted detectors, for tests of what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hardy.attacks import ATTACKS, SUITES, Attack
from hardy.evaluation.properties.adversarial import metrics as adversarial
from hardy.evaluation.properties.ood import measure as detecting
from hardy.evaluation.properties.shift import measure as corrupting

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
    fewer = {name: most for name, most in _AT_MOST.items() if name in attack.settings}
    return attack.with_settings(**{name: min(most, attack.settings[name] or most) for name, most in fewer.items()})


def make_attacks_cheaper(patch: pytest.MonkeyPatch) -> None:
    """Whatever looks an attack up by its name gets a cheap one; fewer radii; and no surrogate is trained."""
    for attack in list(ATTACKS.values()):
        patch.setitem(ATTACKS._items, attack.name, cheaper(attack))
    for suite in list(SUITES.values()):
        patch.setitem(SUITES._items, suite.name, replace(suite, attacks=tuple(map(cheaper, suite.attacks))))
    patch.setattr(adversarial, "STUDY", tuple(sweep._replace(eps=sweep.eps[:3]) for sweep in adversarial.STUDY))
    patch.setattr("hardy.evaluation.properties.adversarial.masking.BLACK_BOX", ATTACKS["repeated-noise"])
    patch.setattr("hardy.evaluation.properties.adversarial.masking._surrogate", lambda _data, _dataset, _device: None)


def make_shift_cheaper(patch: pytest.MonkeyPatch) -> None:
    """Three corruptions of MNIST-C, two validation ones on the larger budgets."""
    few = ("shot_noise", "translate", "stripe")
    more = (*few, "gaussian_noise", "inverse")
    patch.setattr(corrupting, "FAMILIES", {"quick": few, "standard": more, "full": more})


def make_detection_cheaper(patch: pytest.MonkeyPatch) -> None:
    """Detectors fitted on few images, as many made and moved outliers as tests take of other cells."""
    small = {"training": 150, "fitting": 40, "made": 25}
    for budget, size in list(detecting.SIZES.items()):
        patch.setitem(detecting.SIZES, budget, size._replace(**small, moved=min(size.moved, 25)))
