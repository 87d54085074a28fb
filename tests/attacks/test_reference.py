"""The standard suite against the published AutoAttack, component by component, on the same images."""

from __future__ import annotations

import pytest
import torch
from pyautoattack import AutoAttack
from torch import nn

from hardy.attacks import ATTACKS
from hardy.attacks.attack import Attack
from hardy.attacks.engine import run_attack
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.training import Split

COUNT = 60
# Square draws other patches than the reference, on which it depends whether the last few fall.
TOLERANCE = 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [ATTACKS["apgd-ce"], ATTACKS["apgd-t"], ATTACKS["fab-t"], ATTACKS["square"]],
    ids=lambda attack: attack.name,
)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.8), ("l1", 6.0)])
def test_no_fewer_images_fall_than_to_the_reference(
    attack: Attack, norm: Norm, eps: float, digit_classifier: nn.Module, validation_digits: Split
) -> None:
    images, labels = validation_digits.images[:COUNT] / 255.0, validation_digits.labels[:COUNT]
    reference = AutoAttack(digit_classifier, norm=norm.capitalize(), eps=eps, seed=0)  # type: ignore[arg-type]
    reference.verbose = False
    reference.attacks_to_run = [attack.name]  # type: ignore[list-item]
    if attack is ATTACKS["square"]:
        reference.square.n_queries, attack = 1000, ATTACKS["square"].with_settings(n_queries=1000)
    theirs, _ = reference.run_standard_evaluation(images, labels, batch_size=COUNT)
    with torch.no_grad():
        broken_theirs = int((digit_classifier(theirs).argmax(1) != labels).sum())
    rng = Randomness(0, torch.arange(COUNT))
    result = run_attack(
        digit_classifier, images, labels, attack, [ThreatModel(norm, eps)], rng=rng, precision="float32"
    )
    wrong_already = int((result.min_norm == 0).sum())
    assert broken_theirs >= wrong_already + 10, "the radius lets too few fall to tell"
    assert broken_theirs <= COUNT - 10, "the radius lets too few stand to tell"
    assert int((result.min_norm <= eps).sum()) >= broken_theirs - TOLERANCE
