"""Searches that are given up because they would not succeed."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import small_classifier, some_digits

from hardy.attacks import Attack, get_attack, run_attack, with_settings
from hardy.attacks.objectives import hopeless
from hardy.rng import Randomness
from hardy.threats import ThreatModel


def test_what_would_not_get_there_in_time_is_given_up() -> None:
    value, before = torch.tensor([-1.0, -1.0, -1.0, -0.1, 0.5]), torch.tensor([-1.0, -1.04, -1.06, -0.2, 0.4])
    # Two periods are left: ten times as fast as in the last one, they would bring 0, 0.8, 1.2, 2 and 2.
    assert hopeless(value, before, periods_left=2.0, factor=10.0).tolist() == [True, True, False, False, False]
    assert not hopeless(value, before, periods_left=2.0, factor=torch.inf).any()


@pytest.mark.parametrize("attack", [get_attack("apgd-t"), get_attack("square")], ids=lambda it: it.name)
def test_giving_up_saves_queries_and_no_image(attack: Attack) -> None:
    classifier, (images, labels, indices) = small_classifier(), some_digits(60)
    found = {}
    for give_up in (attack.settings["give_up"], torch.inf):
        given = with_settings(attack, give_up=give_up)
        found[give_up] = run_attack(
            classifier, images, labels, given, [ThreatModel("linf", 0.06)], rng=Randomness(0, indices)
        )
    early, late = found.values()
    assert 0.2 < early.norm.isinf().double().mean() < 0.9
    assert torch.equal(early.norm.isinf(), late.norm.isinf())
    assert early.count.queries < 0.8 * late.count.queries
