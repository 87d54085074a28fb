"""Projected gradient descent, from a random start or, as the basic iterative method, from the image itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.objectives import is_wrong, log_odds_against
from hardy.attacks.public import register
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


@register(
    title="projected gradient descent, 40 steps",
    norms=("linf", "l2", "l1"),
    reference="Madry et al., ICLR 2018, arXiv:1706.06083",
)
def pgd(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    start: Images | None = None,
    steps: int = 40,
    rel_step_size: float = 1 / 30,
) -> Images:
    """Steps up the cross-entropy from a random start, each projected into the ball.

    An image that is broken leaves the batch with the perturbation that broke it.

    Args:
        steps: how many.
        rel_step_size: length of a step, as a multiple of eps.
    """
    if start is not None:
        return _climb(classifier, images, labels, threat, start, math.ceil(steps / 8), rel_step_size)
    return _climb(classifier, images, labels, threat, threat.random_start(images, rng), steps, rel_step_size)


@register(
    title="basic iterative method, 10 steps",
    norms=("linf", "l2"),
    reference="Kurakin, Goodfellow and Bengio, ICLR workshops 2017, arXiv:1607.02533",
)
def basic_iterative(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    start: Images | None = None,
    clean_gradient: Tensor,
    steps: int = 10,
    rel_step_size: float = 0.2,
) -> Images:
    """Steps up the cross-entropy from the image itself, each projected into the ball.

    An image that is broken leaves the batch with the perturbation that broke it.

    Args:
        steps: how many.
        rel_step_size: length of a step, as a multiple of eps.
    """
    if start is not None:
        return _climb(classifier, images, labels, threat, start, math.ceil(steps / 4), rel_step_size)
    return _climb(classifier, images, labels, threat, images, steps, rel_step_size, clean_gradient)


def highest_loss(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int = 40,
    rel_step_size: float = 1 / 30,
) -> Images:
    """The images with the highest loss of all steps of PGD and the images themselves, whether they are broken or not.

    An attack stops where an image is broken, so at the boundary, where confidence is low by construction.
    """
    result, most = images.clone(), log_odds_against(classifier(images), labels)
    current = threat.random_start(images, rng)
    for step in range(steps + 1):
        logits, gradient = value_and_gradient(classifier, current, labels, log_odds_against)
        loss = log_odds_against(logits, labels)
        better = loss > most
        result[better], most[better] = current[better], loss[better]
        if step < steps:
            moved = current + rel_step_size * threat.eps * steepest(gradient, threat.norm)
            current = threat.project(moved, images)
    return result


def _climb(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    current: Images,
    steps: int,
    rel_step_size: float,
    first_gradient: Tensor | None = None,
) -> Images:
    result = current.clone()
    active = torch.arange(len(images), device=images.device)
    for step in range(steps):
        if step == 0 and first_gradient is not None:
            gradient, still = first_gradient, torch.ones_like(active, dtype=torch.bool)
        else:
            logits, gradient = value_and_gradient(classifier, current, labels[active])
            still = ~is_wrong(logits.argmax(1), labels[active])
        result[active] = current
        if not still.all():
            active, current, gradient = active[still], current[still], gradient[still]
        if not len(active):
            return result
        moved = current + rel_step_size * threat.eps * steepest(gradient, threat.norm)
        current = threat.project(moved, images[active])
    result[active] = current
    return result
