"""The standard suite against the published AutoAttack, component by component, on the same images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from hardy.attacks.apgd import APGD_CE, APGD_TARGETED
from hardy.attacks.attack import Attack
from hardy.attacks.engine import run_attack
from hardy.attacks.fab import FAB_TARGETED
from hardy.attacks.square import SQUARE
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.training import Split

COUNT = 60
# Square draws other patches than the reference, on which it depends whether the last few fall.
TOLERANCE = 2


@pytest.mark.slow
@pytest.mark.parametrize("attack", [APGD_CE, APGD_TARGETED, FAB_TARGETED, SQUARE], ids=lambda attack: attack.name)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.8), ("l1", 6.0)])
def test_no_fewer_images_fall_than_to_the_reference(
    attack: Attack, norm: Norm, eps: float, digit_classifier: nn.Module, validation_digits: Split
) -> None:
    images, labels = validation_digits.images[:COUNT] / 255.0, validation_digits.labels[:COUNT]
    reference = AutoAttack(digit_classifier, norm=norm.capitalize(), eps=eps, seed=0)  # type: ignore[arg-type]
    reference.verbose = False
    reference.attacks_to_run = [attack.name]  # type: ignore[list-item]
    if attack is SQUARE:
        reference.square.n_queries, attack = 1000, replace(SQUARE, settings={**SQUARE.settings, "queries": 1000})
    theirs, _ = reference.run_standard_evaluation(images, labels, batch_size=COUNT)
    with torch.no_grad():
        fallen_theirs = int((digit_classifier(theirs).argmax(1) != labels).sum())
    rng = Randomness(0, torch.arange(COUNT))
    outcome = run_attack(
        digit_classifier, images, labels, attack, [ThreatModel(norm, eps)], rng=rng, precision="float32"
    )
    wrong_already = int((outcome.norm == 0).sum())
    assert fallen_theirs >= wrong_already + 10, "the radius lets too few fall to tell"
    assert fallen_theirs <= COUNT - 10, "the radius lets too few stand to tell"
    assert int((outcome.norm <= eps).sum()) >= fallen_theirs - TOLERANCE
