"""The iterative method with momentum."""

from __future__ import annotations

import torch

from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.public import register
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels


@register(
    title="momentum iterative method, 10 steps",
    norms=("linf", "l2"),
    reference="Dong et al., CVPR 2018, arXiv:1710.06081",
)
def momentum_iterative(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    steps: int = 10,
    rel_step_size: float = 0.2,
    decay: float = 1.0,
) -> Images:
    """Steps from the image itself along a sum of the gradients, each of l1 norm 1 when added.

    An image that is broken leaves the batch with the perturbation that broke it.

    Args:
        steps: how many.
        rel_step_size: length of a step, as a multiple of eps.
        decay: by what the sum is multiplied before a gradient is added.
    """
    current = images
    result = images.clone()
    momentum = torch.zeros_like(images)
    active = torch.arange(len(images), device=images.device)
    for _ in range(steps):
        logits, gradient = value_and_gradient(classifier, current, labels[active])
        still = logits.argmax(1) == labels[active]
        result[active] = current
        if not still.all():
            active, current, gradient, momentum = active[still], current[still], gradient[still], momentum[still]
        if not len(active):
            return result
        size = gradient.abs().sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        momentum = decay * momentum + gradient / size
        moved = current + rel_step_size * threat.eps * steepest(momentum, threat.norm)
        current = threat.project(moved, images[active])
    result[active] = current
    return result
