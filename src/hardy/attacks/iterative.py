"""Iterative attacks without a random start: the basic iterative method, and the one with momentum."""

from __future__ import annotations

import torch

from hardy.attacks.attack import Attack, steepest, value_and_gradient
from hardy.attacks.gradient_steps import projected_gradient
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


def momentum_iterative(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,  # noqa: ARG001
    steps: int,
    rel_step_size: float,
    decay: float,
) -> Images:
    """``steps`` steps of length ``rel_step_size`` times eps along a sum of the gradients, each of l1 norm 1 when added.

    An image that is fooled leaves the batch with the perturbation that fooled it.
    """
    current = images
    result = images.clone()
    momentum = torch.zeros_like(images)
    standing = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        logits, gradient = value_and_gradient(classifier, current, labels[standing])
        still = logits.argmax(1) == labels[standing]
        result[standing] = current
        if not still.all():
            standing, current, gradient, momentum = standing[still], current[still], gradient[still], momentum[still]
        if not len(standing):
            return result
        size = gradient.abs().sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        momentum = decay * momentum + gradient / size
        moved = current + rel_step_size * threat.eps * steepest(momentum, threat.norm)
        current = threat.project(moved, images[standing])
    result[standing] = current
    return result


BASIC_ITERATIVE = Attack(
    name="basic-iterative",
    title="basic iterative method, 10 steps",
    function=projected_gradient,
    norms=("linf", "l2"),
    reference="Kurakin, Goodfellow and Bengio, ICLR workshops 2017, arXiv:1607.02533",
    settings={"steps": 10, "rel_step_size": 0.2, "warm_share": 0.25},
    warm_start=True,
    clean_gradient=True,
)
MOMENTUM_ITERATIVE = Attack(
    name="momentum-iterative",
    title="momentum iterative method, 10 steps",
    function=momentum_iterative,
    norms=("linf", "l2"),
    reference="Dong et al., CVPR 2018, arXiv:1710.06081",
    settings={"steps": 10, "rel_step_size": 0.2, "decay": 1.0},
)
