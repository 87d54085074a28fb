"""What tests of attacks share: a linear classifier, grey images, and attacks made up for the purpose."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hardy.attacks import Attack, AttackResult, run_attack
from hardy.attacks.attack import value_and_gradient
from hardy.rng import Randomness
from hardy.threats import NORMS, Norm, ThreatModel
from helpers.classifiers import Linear

SIDE = 6
PIXELS = SIDE * SIDE
COUNT = 60


def undecided(classes: int) -> Linear:
    """A linear classifier with equal logits on the image that is grey all over."""
    weight = torch.randn(classes, PIXELS, generator=torch.Generator().manual_seed(1))
    return Linear(weight, -weight.sum(1) / 2)


def grey_images() -> Tensor:
    """Images so far from black and white that a change of 0.3 leaves no pixel outside [0, 1]."""
    return 0.4 + 0.2 * torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def rng_of(count: int = COUNT, seed: int = 0) -> Randomness:
    return Randomness(seed, torch.arange(count))


def linf(*radii: float) -> list[ThreatModel]:
    return [ThreatModel("linf", eps) for eps in radii]


def made(function: Callable[..., Tensor], norms: tuple[Norm, ...] = NORMS, **settings) -> Attack:
    return Attack("made", "made for a test", function, norms, "nowhere", gradients=False, **settings)


def returning(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _classifier, images, _labels, _threat, **_: change(images)


def answers(classifier: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return classifier.eval()(images).argmax(1)


def found_by(
    attack: Attack, classifier: nn.Module, images: Tensor, labels: Tensor, threat: ThreatModel, rng: Randomness
) -> Tensor:
    """What the attack's function returns, called as the engine calls it, before anything is judged."""
    given = dict(attack.settings) | ({"rng": rng} if attack.takes("rng") else {})
    if attack.takes("fast_model"):
        given["fast_model"] = classifier
    if attack.takes("clean_gradient"):
        given["clean_gradient"] = value_and_gradient(classifier, images, labels)[1]
    with torch.no_grad():
        return attack.function(classifier, images, labels, threat, **given)


def run(
    attack: Attack,
    threats: list[ThreatModel],
    classifier: nn.Module | None = None,
    images: Tensor | None = None,
    labels: Tensor | None = None,
) -> AttackResult:
    """Attack the classifier's own answers, so that every clean image is right, unless there are ``labels``."""
    classifier = classifier or undecided(2)
    images = grey_images() if images is None else images
    labels = answers(classifier, images) if labels is None else labels
    return run_attack(classifier, images, labels, attack, threats, rng=rng_of(len(images)), precision="float32")
