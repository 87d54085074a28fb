"""Attacks that step along the gradient of the cross-entropy: fast gradient and projected gradient descent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.attacks.attack import Attack, steepest, value_and_gradient
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


def fast_gradient(
    classifier: Classifier,  # noqa: ARG001
    images: Images,
    labels: Labels,  # noqa: ARG001
    threat: ThreatModel,
    *,
    rng: Randomness,  # noqa: ARG001
    clean_gradient: Tensor,
) -> Images:
    """One step of length eps in the steepest direction."""
    return images + threat.eps * steepest(clean_gradient, threat.norm)


def projected_gradient(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int,
    rel_step_size: float,
    warm_share: float,
    clean_gradient: Tensor | None = None,
    start: Images | None = None,
) -> Images:
    """``steps`` steps of length ``rel_step_size`` times eps, each projected into the ball.

    From ``start``, with ``warm_share`` of the steps, or from the images themselves where the ``clean_gradient`` is
    given, else from a random start. An image that is fooled leaves the batch with the perturbation that fooled it.
    """
    if start is not None:
        current, clean_gradient, steps = start, None, math.ceil(warm_share * steps)
    else:
        current = threat.random_start(images, rng) if clean_gradient is None else images
    result = current.clone()
    standing = torch.arange(len(images), device=images.device)
    for step in range(steps):
        if step == 0 and clean_gradient is not None:
            gradient, still = clean_gradient, torch.ones_like(standing, dtype=torch.bool)
        else:
            logits, gradient = value_and_gradient(classifier, current, labels[standing])
            still = logits.argmax(1) == labels[standing]
        result[standing] = current
        if not still.all():
            standing, current, gradient = standing[still], current[still], gradient[still]
        if not len(standing):
            return result
        moved = current + rel_step_size * threat.eps * steepest(gradient, threat.norm)
        current = threat.project(moved, images[standing])
    result[standing] = current
    return result


def smoothed_gradient(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,
    steps: int,
    rel_step_size: float,
    samples: int,
    deviation: float,
) -> Images:
    """Projected gradient descent on the mean gradient over ``samples`` noisy copies of each image.

    Where a classifier's own gradients are shattered, those of its neighbourhood still point somewhere.
    """
    current = threat.random_start(images, rng)
    repeated = labels.repeat_interleave(samples)
    for step in range(steps):
        noise = deviation * rng.fold("noise").normal(samples, *images.shape[1:], draw=step)
        _, gradient = value_and_gradient(classifier, (current[:, None] + noise).flatten(0, 1), repeated)
        mean = gradient.unflatten(0, (-1, samples)).mean(1)
        current = threat.project(current + rel_step_size * threat.eps * steepest(mean, threat.norm), images)
    return current


FAST_GRADIENT = Attack(
    name="fast-gradient",
    title="fast gradient",
    function=fast_gradient,
    norms=("linf", "l2"),
    reference="Goodfellow, Shlens and Szegedy, ICLR 2015, arXiv:1412.6572",
    clean_gradient=True,
)
PGD = Attack(
    name="pgd",
    title="projected gradient descent, 40 steps",
    function=projected_gradient,
    norms=("linf", "l2", "l1"),
    reference="Madry et al., ICLR 2018, arXiv:1706.06083",
    settings={"steps": 40, "rel_step_size": 1 / 30, "warm_share": 0.125},
    warm_start=True,
)
SMOOTHED_PGD = Attack(
    name="smoothed-pgd",
    title="projected gradient descent on gradients smoothed over noise",
    function=smoothed_gradient,
    norms=("linf", "l2"),
    reference="Athalye, Carlini and Wagner, ICML 2018, arXiv:1802.00420",
    settings={"steps": 20, "rel_step_size": 0.1, "samples": 8, "deviation": 0.1},
)
