"""Searches that are aborted because they would not succeed."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import small_classifier, some_digits

from hardy.attacks import ATTACKS, Attack, run_attack
from hardy.attacks.objectives import cannot_succeed_in_time
from hardy.rng import Randomness
from hardy.threats import ThreatModel


def test_what_would_not_get_there_in_time_is_aborted() -> None:
    value, before = torch.tensor([-1.0, -1.0, -1.0, -0.1, 0.5]), torch.tensor([-1.0, -1.04, -1.06, -0.2, 0.4])
    # Two periods are left: ten times as fast as in the last one, they would bring 0, 0.8, 1.2, 2 and 2.
    assert cannot_succeed_in_time(value, before, periods_left=2.0, abort_factor=10.0).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert not cannot_succeed_in_time(value, before, periods_left=2.0, abort_factor=torch.inf).any()


@pytest.mark.parametrize("attack", [ATTACKS["apgd-t"], ATTACKS["square"]], ids=lambda it: it.name)
def test_aborting_saves_queries_and_no_image(attack: Attack) -> None:
    classifier, (images, labels, indices) = small_classifier(), some_digits(60)
    found = {}
    for factor in (attack.settings["abort_factor"], torch.inf):
        given = attack.with_settings(abort_factor=factor)
        found[factor] = run_attack(
            classifier, images, labels, given, [ThreatModel("linf", 0.06)], rng=Randomness(0, indices)
        )
    early, late = found.values()
    assert 0.2 < early.min_norm.isinf().double().mean() < 0.9
    assert torch.equal(early.min_norm.isinf(), late.min_norm.isinf())
    assert early.count.queries < 0.8 * late.count.queries
